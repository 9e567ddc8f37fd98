import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from stages.evaluation.calibration import (
    bin_numbers,
    decompose,
    expected_error,
    of_choices,
    of_events,
    reliability,
    softmax,
)

predictions = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=120)


def drawn(n: int, seed: int, off: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions that come true as often as they say, less `off`."""
    random = np.random.default_rng(seed)
    confidence = random.beta(3, 2, n)
    return confidence, random.random(n) < confidence - off


def naive_error(confidence: np.ndarray, hit: np.ndarray, number: np.ndarray) -> float:
    error = 0.0
    for bar in set(number.tolist()):
        inside = [i for i in range(len(hit)) if number[i] == bar]
        accuracy = sum(bool(hit[i]) for i in inside) / len(inside)
        mean = sum(float(confidence[i]) for i in inside) / len(inside)
        error += len(inside) / len(hit) * abs(accuracy - mean)
    return error


@given(predictions, st.integers(1, 20))
def test_error_and_bars_equal_a_naive_loop(rows, bins) -> None:
    confidence, hit = (np.array(column) for column in zip(*rows, strict=True))
    number = bin_numbers(confidence, bins)
    assert expected_error(confidence, hit, bins=bins).ece == pytest.approx(naive_error(confidence, hit, number))
    bars = reliability(confidence, hit, bins)
    assert sum(bar.count for bar in bars) == len(rows) and len(bars) <= bins
    assert all(a.confidence < b.confidence for a, b in pairwise(bars))
    for value in confidence:  # equal confidences stand in one bin
        assert len(set(number[confidence == value])) == 1


def test_bars_equal_those_of_sklearn() -> None:
    confidence, hit = drawn(3000, 1)
    share, mean = calibration_curve(hit, confidence, n_bins=15, strategy="quantile")
    bars = reliability(confidence, hit)
    assert [bar.accuracy for bar in bars] == pytest.approx(share, abs=2e-3)
    assert [bar.confidence for bar in bars] == pytest.approx(mean, abs=2e-3)


@given(predictions, st.integers(1, 20))
def test_brier_terms_add_up_exactly(rows, bins) -> None:
    forecast, outcome = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    found = decompose(forecast, outcome, len(rows), bins)
    assert found.brier == pytest.approx(float(np.mean((forecast - outcome) ** 2)))
    assert found.reliability - found.resolution + found.uncertainty == pytest.approx(found.brier, abs=1e-9)


def test_brier_equals_that_of_sklearn() -> None:
    confidence, hit = drawn(500, 2, off=0.1)
    found = of_events(confidence, hit, None)
    assert found.brier == pytest.approx(brier_score_loss(hit, confidence))
    assert found.uncertainty == pytest.approx(hit.mean() * (1 - hit.mean()))


@pytest.mark.parametrize(("n", "off"), [(100, 0.0), (1000, 0.0), (1000, 0.15)])
def test_intervals_hold_the_truth(n, off) -> None:
    """95 % is promised."""
    confidence, hit = drawn(400_000, 0, off)
    number = bin_numbers(confidence)
    truth = naive_of_many(confidence, hit, number) if off else 0.0
    found = [expected_error(*drawn(n, 1 + i, off)) for i in range(60)]
    assert np.mean([one.low <= truth <= one.high for one in found]) > 0.88
    assert np.mean([one.low > 0 for one in found]) > 0.99 if off else True
    if not off:  # what is called chance is what a calibrated model shows
        mean = np.mean([one.ece for one in found])
        assert np.mean([one.by_chance for one in found]) == pytest.approx(mean, rel=0.12)


def naive_of_many(confidence: np.ndarray, hit: np.ndarray, number: np.ndarray) -> float:
    return sum(abs((confidence - hit)[number == bar].sum()) for bar in range(number.max() + 1)) / len(hit)


def test_predictions_of_one_document_are_not_independent() -> None:
    """Documents whose predictions all miss together: resampling predictions would call that calibration's fault."""
    random = np.random.default_rng(0)
    owners = np.repeat(np.arange(30), 100)
    found = []
    for _ in range(30):
        confidence = random.uniform(0.3, 0.7, 3000)
        hit = random.random(3000) < confidence + random.normal(0, 0.2, 30)[owners]
        found.append((expected_error(confidence, hit, owners), expected_error(confidence, hit)))
    clustered, plain = (np.mean([one[k].low == 0 for one in found]) for k in (0, 1))
    assert clustered >= 0.9 > 0.8 > plain


def test_choices() -> None:
    """By hand: two items of two and three choices, one right."""
    logprobs = [[np.log(0.3), np.log(0.1)], [np.log(0.2), np.log(0.2), np.log(0.6)]]
    found = of_choices(logprobs, [0, 0])
    assert softmax(logprobs[0]) == pytest.approx([0.75, 0.25])
    assert found.n == 2
    assert found.ece == pytest.approx(abs((0.75 + 0.6) / 2 - 0.5))  # one bin
    assert found.brier == pytest.approx((2 * 0.25**2 + 0.8**2 + 0.2**2 + 0.6**2) / 2)
    entropies = [0.75 * np.log(4 / 3) + 0.25 * np.log(4), 2 * 0.2 * np.log(5) + 0.6 * np.log(1 / 0.6)]
    assert found.entropy == pytest.approx(np.mean(entropies))


@settings(max_examples=30)
@given(st.lists(st.lists(st.floats(-300, 0), min_size=2, max_size=5), min_size=2, max_size=40), st.floats(-500, 0))
def test_only_differences_among_the_choices_count(logprobs, shift) -> None:
    answers = [len(row) // 2 for row in logprobs]
    a, b = of_choices(logprobs, answers), of_choices([[x + shift for x in row] for row in logprobs], answers)
    assert a.brier == pytest.approx(b.brier, abs=1e-6)
    assert a.entropy == pytest.approx(b.entropy, abs=1e-6)


def test_one_prediction_has_no_interval() -> None:
    found = of_events(np.array([0.5]), np.array([True]), None)
    assert (found.ece, found.low, found.high) == (0.5, None, None)


@pytest.mark.filterwarnings("error")
def test_choices_that_are_all_impossible_are_equally_so() -> None:
    assert softmax([-math.inf] * 4).tolist() == [0.25] * 4
    assert softmax([-math.inf, -1.0]).tolist() == [0.0, 1.0]
