"""Repeated data and excess parameters, against the published figures of Muennighoff et al. 2023."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scaling.data_constrained import DataConstrained, optimal_size
from stages.base.errors import InputError
from stages.scaling.budget.repetition import DATA_DECAY, Stream, worth
from stages.scaling.laws.law import Law
from tests.contracts import tokens

# Appendix A, equation 17: their law on C4.
PUBLISHED = Law(math.exp(6.255414), math.exp(7.3049974), math.exp(0.6254804), 0.3526596, 0.3526596)


def geometric(unique: float, repeats: int, decay: float) -> float:
    """The series that their exponential approximates (appendix A, equations 10 to 13), summed term by term: each
    repetition of a token teaches the share 1 - δ of what the one before taught, δ = 1/(1 + R*).
    """
    kept = decay / (1 + decay)
    return unique * (1 + sum(kept**k for k in range(1, repeats + 1)))


@pytest.mark.parametrize("repeats", [0, 1, 3, 7, 15, 100])
def test_worth_follows_the_geometric_series(repeats: int) -> None:
    assert float(worth(1e9, 1e9 * (repeats + 1), DATA_DECAY)) == pytest.approx(
        geometric(1e9, repeats, DATA_DECAY), rel=0.025
    )


def test_nothing_repeated_loses_nothing_and_repeating_ends_at_a_ceiling() -> None:
    assert worth(100.0, [10.0, 100.0], DATA_DECAY).tolist() == [10.0, 100.0]
    assert float(worth(1.0, 1e6, DATA_DECAY)) == pytest.approx(16.39, abs=5e-3)  # "no better than U + U·R*", sec. 3.1


def test_their_optimal_size_for_unique_tokens() -> None:
    assert float(optimal_size(PUBLISHED, 1.0)) == pytest.approx(0.051, abs=5e-5)  # U_N = .051·U_D, equation 17


def test_four_epochs_cost_little() -> None:
    """Section 6: 8.7 B parameters, 178 B tokens: four epochs of 44 B end .5 % above one epoch; their law says .7 %."""
    one = DataConstrained(PUBLISHED, 178e9).predict(8.7e9, 178e9)
    four = DataConstrained(PUBLISHED, 44e9).predict(8.7e9, 178e9)
    assert float(four / one - 1) == pytest.approx(0.007, abs=5e-4)


def test_constrained_data_want_smaller_models_read_more_often() -> None:
    """Section 5, 25 B unique tokens at 9.3e21 FLOPs: 8.67 B x 178 B tokens by Chinchilla, 6.34 B x 242 B by theirs."""
    C = 6 * 8.67e9 * 178e9
    free, bound = PUBLISHED.optimum(C), DataConstrained(PUBLISHED, 25e9).optimum(C)
    assert pytest.approx(8.67e9, rel=0.03) == free.N
    assert pytest.approx(6.34e9, rel=0.08) == bound.N and pytest.approx(242e9, rel=0.08) == bound.D
    law = DataConstrained(PUBLISHED, 25e9)
    assert law.predict(*bound) < law.predict(6.34e9, 242e9) < law.predict(8.67e9, 178e9)


def test_with_data_enough_it_is_the_law_itself() -> None:
    law = DataConstrained(PUBLISHED, 1e15)
    assert pytest.approx(PUBLISHED.optimum(1e21).N, rel=1e-3) == law.optimum(1e21).N
    assert float(law.predict(1e9, 1e11)) == pytest.approx(float(PUBLISHED.predict(1e9, 1e11)))


def test_a_stream_without_repeats_is_priced_as_the_paper_does() -> None:
    stream = Stream(1000.0, ((600.0, 600.0), (400.0, 400.0)))
    for total in (10.0, 1000.0, 4000.0, 1e5):
        assert float(stream.fresh(total)) == pytest.approx(float(worth(1000.0, total, DATA_DECAY)))


def test_a_source_read_six_times_a_pass_is_worn_out_sooner() -> None:
    """Two passes: the source of one epoch gains its second reading, the other its seventh to twelfth."""
    stream = Stream(1600.0, ((1000.0, 1000.0), (600.0, 100.0)))
    gain = [float(worth(u, 2 * s, DATA_DECAY) / worth(u, s, DATA_DECAY)) for s, u in stream.sources]
    assert gain[1] < gain[0] < 2
    assert float(stream.fresh(3200.0)) == pytest.approx(1000 * gain[0] + 600 * gain[1])
    assert float(stream.fresh(1600.0)) == 1600.0


@given(passes=st.floats(0.01, 30), share=st.floats(0.05, 0.95), epochs=st.floats(1, 12))
def test_reading_and_worth_are_inverse(passes: float, share: float, epochs: float) -> None:
    stream = Stream(1e6, ((share * 1e6, share * 1e6), ((1 - share) * 1e6, (1 - share) * 1e6 / epochs)))
    fresh = stream.fresh(passes * 1e6)
    assert fresh <= passes * 1e6 * (1 + 1e-12)
    assert float(stream.read(fresh)) == pytest.approx(passes * 1e6, rel=1e-6)


def test_what_no_number_of_passes_is_worth_is_infinite() -> None:
    assert np.isinf(Stream(1e6, ((1e6, 1e6),)).read(17e6))


def test_a_pack_without_sources_is_refused() -> None:
    whole = tokens.pack().train.model_dump()
    for sources in ({}, {"a": {"tokens": 1, "unique_tokens": 2, "unique_bytes": 2}}):
        with pytest.raises(InputError, match=r"run tokens\.pack again"):
            Stream.of(tokens.pack(train=whole | {"sources": sources}), DATA_DECAY)
