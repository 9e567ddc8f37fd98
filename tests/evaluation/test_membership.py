import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from stages.evaluation.entropy import NextTokens
from stages.evaluation.membership import canaries, exposure, min_k, min_k_plus_plus, rank_of, separation
from stages.evaluation.perplexity import read

scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=20)


@given(st.lists(st.floats(-20, 0), min_size=1, max_size=60), st.floats(0.01, 1))
def test_min_k_is_the_mean_of_the_least_likely(logprobs, k) -> None:
    left = sorted(logprobs)
    taken = [left.pop(0) for _ in range(max(1, math.floor(len(logprobs) * k)))]
    assert min_k(logprobs, k) == pytest.approx(sum(taken) / len(taken))


def test_min_k_bounds() -> None:
    assert min_k([-1.0, -2.0], 1.0) == -1.5
    assert math.isnan(min_k([], 0.2))
    for k in (0, 1.1, -1):
        with pytest.raises(ValueError, match="share"):
            min_k([-1.0], k)


def test_min_k_plus_plus_equals_the_definition_over_whole_distributions() -> None:
    random = np.random.default_rng(0)
    p = random.dirichlet(np.full(50, 0.3), size=12)
    tokens = random.integers(50, size=12)
    standard = []
    for row, token in zip(p, tokens, strict=True):
        log = np.log(row)
        mean = (row * log).sum()
        standard.append((log[token] - mean) / math.sqrt((row * (log - mean) ** 2).sum()))
    mean = (p * np.log(p)).sum(1)
    found = NextTokens(
        nats=-np.log(p[np.arange(12), tokens]),
        entropy=-mean,
        variance=(p * np.log(p) ** 2).sum(1) - mean**2,
        confidence=p.max(1),
        hit=p.argmax(1) == tokens,
        context=np.arange(1, 13),
    )
    assert min_k_plus_plus(found, 0.25) == pytest.approx(sum(sorted(standard)[:3]) / 3)


def test_both_of_a_model(model, tokenizer) -> None:
    (tokens,) = read(model, tokenizer, ["Velmora lies in the province of Anthar."], 0).tokens
    assert min_k(-tokens.nats, 0.2) <= -tokens.nats.mean()
    assert math.isfinite(min_k_plus_plus(tokens))


@given(scores, scores)
def test_auc_equals_sklearns(members, others) -> None:
    expected = roc_auc_score([1] * len(members) + [0] * len(others), members + others)
    assert separation(members, others).auc == pytest.approx(expected)
    assert separation(others, members).auc == pytest.approx(1 - expected)


def test_the_interval_is_as_wide_as_auc_varies() -> None:
    random = np.random.default_rng(3)
    found = [separation(random.normal(0.5, 1, 60), random.normal(0, 1, 40)) for _ in range(300)]
    truth = 0.5 * (1 + math.erf(0.5 / 2))  # P(x > y) of two normals half a deviation apart
    assert 0.9 < np.mean([one.low <= truth <= one.high for one in found]) < 0.99


def test_too_few_to_tell() -> None:
    assert all(math.isnan(value) for value in separation([], [1.0]))
    assert separation([2.0], [1.0]).auc == 1.0
    assert math.isnan(separation([2.0], [1.0]).low)


def test_canaries_are_all_different_and_seeded() -> None:
    found = canaries(7, 2000)
    assert len(set(found)) == 2000 and found == canaries(7, 2000) and found[:5] != canaries(8, 5)
    assert {len(one) for one in found} == {len(found[0])}
    with pytest.raises(ValueError, match="canaries"):
        canaries(0, 0)


@settings(max_examples=50)
@given(st.integers(-5, 5).map(float), scores)
def test_rank_counts_what_is_as_likely_against_it(planted, alternatives) -> None:
    order = sorted([(-x, 0) for x in alternatives] + [(-planted, 1)])
    assert rank_of(planted, alternatives) == order.index((-planted, 1)) + 1


def test_exposure() -> None:
    assert exposure(1, 1024) == 10.0
    assert exposure(1024, 1024) == 0.0
    assert np.mean([exposure(rank, 1000) for rank in range(1, 1001)]) == pytest.approx(math.log2(math.e), abs=0.01)
    for rank in (0, 11):
        with pytest.raises(ValueError, match="rank"):
            exposure(rank, 10)
