"""Who is asked, in which order and how often; what votes come to; the pool's noise out of its votes."""

import math
from typing import Any

import numpy as np
import pytest

from stages.annotators.client import Pair
from stages.annotators.panel import VoteSettings, check_seats, vote
from stages.annotators.votes import Vote, matrix, measure, one_sided, tally
from stages.base.errors import ParamError
from tests.annotators.flaky_server import FlakyJudge, Scripted
from tests.annotators.judges import pool_settings, settings

NAN = math.nan


def of(
    each: int, disputed: int | None = None, max_extra: int | None = None, models: tuple[str, ...] = ()
) -> VoteSettings:
    return VoteSettings(each=each, disputed=disputed or each, max_extra=max_extra, models=list(models), max_missing=0.0)


def by_pair(votes: list[Vote], pairs: int) -> list[list[Vote]]:
    return [[one for one in votes if one.pair == place] for place in range(pairs)]


def test_each_pair_is_asked_of_different_annotators_in_turned_order(grader, pairs) -> None:
    pool = settings(pool_settings(annotators=5, noise=1.0, label_noise=0.3))
    votes = vote(pairs, pool, of(3), seed=1, grader=grader)
    asked = by_pair(votes, len(pairs))
    assert all(len({one.annotator for one in cast}) == 3 for cast in asked)
    assert len({one.annotator for one in votes}) == 5
    a_first = [[not math.isnan(one.a_first) for one in cast] for cast in asked]
    assert all(first == third != second for first, second, third in a_first)
    assert 60 < sum(first for first, _, _ in a_first) < 140  # the first order is drawn by the pair
    assert repr(votes) == repr(vote(pairs, pool, of(3), seed=1, grader=grader))


def test_the_first_vote_is_that_of_a_single_one(grader, pairs) -> None:
    pool = settings(pool_settings(annotators=5, noise=1.0, label_noise=0.3))
    one, three = (vote(pairs, pool, of(each), seed=1, grader=grader) for each in (1, 3))
    assert repr(one) == repr([cast[0] for cast in by_pair(three, len(pairs))])


def test_more_are_asked_where_annotators_disagree_and_could_still_turn_it(grader, pairs) -> None:
    pool = settings(pool_settings(annotators=9, label_noise=0.3))
    asked = by_pair(vote(pairs, pool, of(2, 7), seed=1, grader=grader), len(pairs))
    for cast in asked:
        sides = [one.preference > 1.5 for one in cast]
        leans = np.cumsum([one.preference - 1.5 for one in cast])
        if sides[0] == sides[1]:
            assert len(cast) == 2
            continue
        assert len(cast) > 2 and [one.extra for one in cast] == [n >= 2 for n in range(len(cast))]
        assert abs(leans[-1]) > 0.5 * (7 - len(cast)) or len(cast) == 7
        assert all(abs(leans[n - 1]) <= 0.5 * (7 - n) for n in range(2, len(cast)))
    # a disputed pair of two annotators that flip with .3: 2 · .3 · .7
    assert np.mean([len(cast) > 2 for cast in asked]) == pytest.approx(0.42, abs=0.1)


def test_a_budget_goes_to_the_closest_pairs(grader, pairs) -> None:
    pool = settings(pool_settings(annotators=9, noise=4.0, score_weight=0.3))
    free = by_pair(vote(pairs, pool, of(2, 3), seed=1, grader=grader), len(pairs))
    bound = by_pair(vote(pairs, pool, of(2, 3, max_extra=10), seed=1, grader=grader), len(pairs))
    asked_more = [place for place, cast in enumerate(bound) if len(cast) == 3]
    disputed = [place for place, cast in enumerate(free) if len(cast) == 3]
    lean = [abs(sum(one.preference - 1.5 for one in cast[:2])) for cast in free]
    assert sorted(disputed, key=lambda place: lean[place])[:10] == sorted(asked_more, key=lambda place: lean[place])


@pytest.mark.parametrize("flips", [0.1, 0.25])
def test_label_noise_comes_back_out_of_the_votes(grader, pairs, flips: float) -> None:
    """Two annotators that flip with p agree in (1 − p)² + p² of pairs; the better answers being balanced, κ and α are
    (1 − 2p)². A majority of five is wrong less often than one of them."""
    many = [Pair(f"{p.id}-{k}", p.prompt, p.output_a + " " * k, p.output_b + " " * k) for p in pairs for k in range(5)]
    turned = [Pair(p.id, p.prompt, p.output_b, p.output_a) if n % 2 else p for n, p in enumerate(many)]
    better = np.array([1.0 if n % 2 else 2.0 for n in range(len(many))])
    pool = settings(pool_settings(annotators=5, label_noise=flips))
    votes = vote(turned, pool, of(5), seed=3, grader=grader)
    found = measure(votes, [pair.id for pair in turned], better)
    assert found["agreement"] == pytest.approx((1 - flips) ** 2 + flips**2, abs=0.02)
    assert found["kappa"] == pytest.approx((1 - 2 * flips) ** 2, abs=0.04)
    assert found["alpha_low"] < (1 - 2 * flips) ** 2 < found["alpha_high"]
    binomial = sum(math.comb(5, k) * flips**k * (1 - flips) ** (5 - k) for k in range(3, 6))
    assert found["bias"] == pytest.approx(binomial, abs=0.02)
    assert found["usd_per_1000"] == 0 and found["seconds_per_1000"] is None


def test_votes_on_disputed_pairs_do_not_count_for_agreement(grader, pairs) -> None:
    """Else it would be lower the more is asked where annotators disagree."""
    pool = settings(pool_settings(annotators=9, label_noise=0.3))
    two, more = (vote(pairs, pool, votes, seed=1, grader=grader) for votes in (of(2), of(2, 7)))
    ids, better = [pair.id for pair in pairs], np.full(len(pairs), 2.0)
    alone, further = (measure(votes, ids, better) for votes in (two, more))
    for name in ("agreement", "kappa", "alpha", "alpha_low", "variance"):
        assert alone[name] == further[name]
    outvoted = sum(math.comb(5, k) * 0.3**k * 0.7 ** (5 - k) for k in range(3, 6))  # of five more, from one to one
    assert further["votes"] > alone["votes"]
    assert further["bias"] == pytest.approx(0.3**2 + 0.42 * outvoted, abs=0.06)


def test_length_bias_is_bias_and_no_variance(grader, pairs) -> None:
    """All of them like the longer, wrong answer: they agree, and are wrong together."""
    longer = [Pair(p.id, p.prompt, p.output_a + " " * 80, p.output_b) for p in pairs]
    pool = settings(pool_settings(annotators=5, length_bias=20.0))
    found = measure(vote(longer, pool, of(3), seed=1, grader=grader), [p.id for p in longer], np.full(len(longer), 2.0))
    assert (found["bias"], found["variance"], found["agreement"], found["disputed"]) == (1.0, 0.0, 1.0, 0)


def test_a_server_is_asked_by_the_names_of_its_models(start) -> None:
    judge = FlakyJudge(0.0, fates=())
    url = start(judge)
    pairs = [Pair(f"p{n}", f"Question {n}?", "short", "much longer") for n in range(6)]
    asked = settings(provider="openai", base_url=url, model="first", logprobs=False)
    votes = vote(pairs, asked, of(2, models=("second", "third")), seed=1)
    cast = by_pair(votes, 6)
    assert all(len({one.annotator for one in on}) == 2 for on in cast)
    assert {one.annotator for one in votes} == {"first", "second", "third"}
    assert all(one.usd > 0 and one.seconds >= 0 for one in votes)
    found = measure(votes, [pair.id for pair in pairs])
    assert found["usd_per_1000"] == pytest.approx(1000 * sum(one.usd for one in votes) / 12)
    assert found["seconds_per_1000"] is not None
    with pytest.raises(ParamError, match=r"3 different annotators .* there are 2.*votes\.models"):
        vote(pairs, asked, of(2, 3, models=("second",)), seed=1)
    with pytest.raises(ParamError, match="max_cost_usd"):
        vote(pairs, asked.model_copy(update={"max_cost_usd": 1e-9, "model": "fourth"}), of(1), seed=1)


def test_the_bound_on_costs_holds_for_all_rounds(start) -> None:
    """Models that contradict each other: a third is asked of every pair, with what the first two have left."""

    def script(body: dict[str, Any], number: int) -> tuple[int, dict[str, Any], str]:
        content = body["messages"][0]["content"]
        short_first = content.index('"short"') < content.index('"long"')
        said = "21"[short_first] if body["model"] == "first" else "12"[short_first]  # first: the short one
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
        usage = {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}
        return 200, {"model": body["model"], "choices": [choice], "usage": usage}, ""

    pairs = [Pair(f"p{n}", f"Question {n}?", "short", "long") for n in range(6)]
    judge = settings(provider="openai", base_url=start(Scripted(script)), model="first", logprobs=False)
    panel = of(2, 3, models=("second", "third"))
    votes = vote(pairs, judge.model_copy(update={"max_cost_usd": 0.02}), panel, seed=1)
    assert sum(one.extra for one in votes) > 0
    with pytest.raises(ParamError, match="max_cost_usd"):
        vote(pairs, judge.model_copy(update={"max_cost_usd": 0.0121}), panel, seed=2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"each": 1, "disputed": 3}, "one vote can't differ"),
        ({"models": ["x", "x"]}, "twice"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        VoteSettings(**({"each": 1, "disputed": 1, "max_extra": None, "models": [], "max_missing": 0.0} | changes))


@pytest.mark.parametrize(
    ("each", "disputed", "said"),
    [
        (99, 1, "`votes.each` asks 99 .* there are 5, as `annotator.pool.annotators` says"),
        (2, 99, "`votes.disputed` asks 99 .* there are 5"),
        (3, 2, "`votes.each` asks 3 .* set `disputed` to 3 or more, or `each` to 2"),
    ],
)
def test_more_votes_than_annotators_are_refused_by_the_key_that_asks(each: int, disputed: int, said: str) -> None:
    with pytest.raises(ParamError, match=said):
        check_seats(settings(pool_settings(annotators=5)), of(each, disputed))


def test_votes_are_counted_to_the_last() -> None:
    votes = [
        Vote(0, "x", 1.2), Vote(0, "y", 2.0), Vote(0, "z", 2.0),  # the mean
        Vote(1, "x", 1.0), Vote(1, "y", 2.0),  # a tie
        Vote(2, "x", NAN, "nonsense"), Vote(2, "y", 1.0),  # one answer counts
        Vote(3, "x", NAN, "nonsense"),
        Vote(4, "z", 1.0, version="z-2026"),
    ]  # fmt: skip
    found = tally(votes, 6, left_out={"z"})
    assert [one.reason for one in found] == ["", "tie", "", "no_preference", "one_sided", "no_preference"]
    assert found[0].preference == pytest.approx(1.6) and found[0].annotators == "x, y"
    assert tally(votes, 6)[4].annotators == "z-2026" and tally(votes, 6)[0].preference == pytest.approx(5.2 / 3)
    names, table = matrix(votes, 6)
    assert names == ["x", "y", "z"] and table[0].tolist() == [1, 2, 2] and np.isnan(table[5]).all()
    numbers = measure(votes, list("abcdef"))
    assert (numbers["votes"], numbers["votes_missing"], numbers["disputed"]) == (7, 2, 2)
    assert measure([], [])["votes"] == 0 and measure([], [])["alpha"] is None


def test_an_annotator_that_always_says_the_first_is_found() -> None:
    rng = np.random.default_rng(0)
    votes = []
    for place in range(60):
        shown, better = rng.random() < 0.5, 1.0 + (rng.random() < 0.5)
        for name, said in (("stuck", 1.0 if shown else 2.0), ("fair", better)):
            votes.append(Vote(place, name, said, a_first=said if shown else NAN, b_first=NAN if shown else said))
        votes.append(Vote(place, "both", 1.5, a_first=1.0, b_first=2.0))
        votes.append(Vote(place, "unknown", 1.0))  # no order is known: nothing can be said
    assert set(one_sided(votes)) == {"stuck", "both"} and one_sided(votes)["stuck"].share == 1
