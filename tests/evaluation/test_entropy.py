import numpy as np
import pytest
import torch
from scipy import stats

from stages.base.errors import InputError
from stages.evaluation.entropy import expectations, joined, next_tokens
from stages.lm.build import build_model
from tests.evaluation.conftest import make_model

SEQUENCES = [([5, 9, 9, 200, 31, 7, 8, 400], 3), ([1, 2], 1), ([447, 3, 77, 12, 12], 1)]


@pytest.mark.parametrize("arch", ["model", "lstm"])
def test_equals_one_forward_pass_a_token_in_double_precision(arch, request) -> None:
    model = request.getfixturevalue(arch)
    for (ids, start), found in zip(SEQUENCES, next_tokens(model, SEQUENCES, batch_tokens=16), strict=True):
        assert found.context.tolist() == list(range(start, len(ids)))
        for place, t in enumerate(range(start, len(ids))):
            with torch.no_grad():
                p = torch.softmax(model(torch.tensor([ids[:t]]))[0, -1].double(), -1).numpy()
            mean, second = (p * np.log(p)).sum(), (p * np.log(p) ** 2).sum()
            assert found.nats[place] == pytest.approx(-np.log(p[ids[t]]), abs=2e-5)
            assert found.entropy[place] == pytest.approx(stats.entropy(p), abs=2e-5)
            assert found.entropy[place] == pytest.approx(-mean, abs=2e-5)
            assert found.variance[place] == pytest.approx(second - mean**2, abs=2e-4)
            assert found.confidence[place] == pytest.approx(p.max(), abs=1e-6)
            assert found.hit[place] == (p.argmax() == ids[t])


def test_a_fresh_model_is_as_unsure_as_can_be(model) -> None:
    vocabulary = model.config.vocab_size
    found = joined(next_tokens(build_model(model.config, 0).eval(), SEQUENCES))  # its head is zero
    assert found.entropy == pytest.approx(np.log(vocabulary), rel=1e-6)
    assert found.confidence == pytest.approx(1 / vocabulary, rel=1e-6)
    assert found.variance == pytest.approx(0.0, abs=1e-6)
    assert found.hit.tolist() == [ids[t] == 0 for ids, start in SEQUENCES for t in range(start, len(ids))]


def test_large_logits_lose_nothing() -> None:
    """Two of three tokens are certain to halves, far from zero."""
    hidden, weight = torch.ones(1, 1), torch.tensor([[4000.0], [4000.0], [-4000.0]])
    (row,) = expectations(hidden, weight, torch.tensor([1])).tolist()
    assert row == pytest.approx([np.log(2), np.log(2), 0.0, 0.5, 0.0], abs=1e-6)


def test_batches_and_order_change_nothing(model) -> None:
    alone = [next_tokens(model, [one])[0] for one in SEQUENCES]
    for together, one in zip(next_tokens(model, SEQUENCES[::-1])[::-1], alone, strict=True):
        assert together.nats == pytest.approx(one.nats, abs=1e-5)
        assert together.entropy == pytest.approx(one.entropy, abs=1e-5)


def test_a_damaged_model_is_named(tokenizer) -> None:
    model = make_model()
    with torch.no_grad():
        next(iter(model.parameters()))[:] = float("nan")
    with pytest.raises(InputError, match=r"broken: its probabilities"):
        next_tokens(model, SEQUENCES, "broken")


def test_nothing_to_score(model) -> None:
    assert next_tokens(model, []) == []
    assert len(joined([])) == 0
