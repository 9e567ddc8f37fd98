"""Words that rules give, on outcomes whose truth is known."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from stages.base.contracts.claim import Verdict
from stages.base.errors import InputError, ParamError
from stages.experiment.declaration import declare
from stages.experiment.summary import changes, outlook
from stages.experiment.verdict import decide, over_suite

ARMS = {"a": {}, "b": {}}
CLAIM = {"claim": "c", "metric": "dpo/right", "arms": ARMS, "seeds": 3, "rule": "b > a"}


def table(
    effects: dict[str, float], seeds: int = 3, items: int = 40, noise: float = 0.3, draw: int = 0
) -> pd.DataFrame:
    """Items and seeds are the same in every arm; what is left differs."""
    rng = np.random.default_rng(draw)
    item, seed = rng.normal(size=items), 0.3 * rng.normal(size=seeds)
    return pd.DataFrame(
        [
            {"arm": arm, "seed": s + 1, "item": f"q{i}", "value": effect + item[i] + seed[s] + noise * rng.normal()}
            for arm, effect in effects.items()
            for s in range(seeds)
            for i in range(items)
        ]
    )


def runs(values: dict[str, list[float]]) -> pd.DataFrame:
    """One number a run."""
    rows = [{"arm": arm, "seed": s, "value": v} for arm, some in values.items() for s, v in enumerate(some, 1)]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("effect", "changes", "word"),
    [
        (1.0, {}, "supported"),
        (-1.0, {}, "contradicted"),
        (0.0, {}, "undecided"),
        (0.0, {"margin": 0.5}, "equivalent"),
        (0.2, {"margin": 0.5}, "equivalent"),
        (1.0, {"rule": "b < a"}, "contradicted"),
        (1.0, {"rule": "b > a + 0.5"}, "supported"),
        (1.0, {"rule": "b > a + 2"}, "contradicted"),
        (-0.5, {"rule": "b > a - 1"}, "supported"),
        (0.0, {"rule": "a = b ± 0.5"}, "supported"),
        (1.0, {"rule": "a = b ± 0.5"}, "contradicted"),
        (0.0, {"rule": "a = b ± 0.001"}, "undecided"),
        (0.3, {}, "supported"),
        (0.3, {"pair": ["item"]}, "undecided"),  # seeds of their own in each arm
        (0.3, {"pair": ["seed"]}, "undecided"),  # questions of their own in each arm
    ],
)
def test_words_of_two_arms(effect: float, changes: dict[str, Any], word: str) -> None:
    found = decide(CLAIM | changes, table({"a": 0.0, "b": effect}))
    assert found.verdict == word
    assert found.sentence.startswith(word.capitalize()) and "\n" not in found.sentence
    assert found.n_seeds == 3 and found.n_items == 40 and found.estimator


def test_numbers_are_the_t_tests_and_every_table_is_read() -> None:
    values = {"a": [1.0, 1.4, 0.8, 1.1], "b": [1.6, 1.9, 1.8, 1.3]}
    frame = runs(values)
    claim = CLAIM | {"seeds": 4}
    found = decide(claim, frame)
    theirs = stats.ttest_rel(values["b"], values["a"])
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)), rel=1e-9)
    for other in (pa.Table.from_pandas(frame), frame.to_dict("records"), frame.to_dict("list"), frame.sample(frac=1)):
        assert decide(claim, other) == found
    assert decide(declare(claim), frame) == found
    assert Verdict.model_validate_json(found.model_dump_json()) == found


def test_arms_of_independent_seeds_are_welch() -> None:
    values = {"a": [1.0, 1.4, 0.8], "b": [1.6, 1.9, 2.8]}
    theirs = stats.ttest_ind(values["b"], values["a"], equal_var=False)
    assert decide(CLAIM | {"pair": ["item"]}, table({"a": 0.0, "b": 1.0})).estimator.count("Welch") == 1
    assert decide(CLAIM | {"pair": []}, runs(values)).p == pytest.approx(theirs.pvalue, rel=1e-9)
    frame = runs(values)
    frame.loc[frame.arm == "b", "seed"] += 10  # no seed in common: nothing to pair by
    assert decide({"rule": "b > a"}, frame).p == pytest.approx(theirs.pvalue, rel=1e-9)


def test_identical_arms_are_not_different() -> None:
    frame = table({"a": 0.0, "b": 0.0}, noise=0.0)
    found = decide(CLAIM, frame)
    assert (found.verdict, found.effect, found.p) == ("undecided", 0.0, 1.0)
    assert "gave the same values" in found.notes[0]
    assert decide(CLAIM | {"rule": "a = b ± 0.1"}, frame).verdict == "supported"
    assert decide(CLAIM, frame.assign(value=0.1)).verdict == "undecided"


def test_one_seed() -> None:
    frame = table({"a": 0.0, "b": 1.0}, seeds=1)
    claim = CLAIM | {"seeds": 1}
    assert decide(claim, frame).verdict == "inadmissible"
    only_items = decide(claim | {"pair": ["item"]}, frame)
    assert only_items.verdict == "supported" and "not a rerun" in only_items.notes[0]
    d = frame[frame.arm == "b"].value.to_numpy() - frame[frame.arm == "a"].value.to_numpy()
    assert only_items.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue, rel=1e-9)
    for rule in ("a = b ± 1", "b > a"):
        assert decide(claim | {"rule": rule}, runs({"a": [1.0], "b": [2.0]})).verdict == "inadmissible"


def test_two_seeds_are_read_with_care() -> None:
    """Equal arms whose seeds differ: called different no more often than alpha says, as it would be if the spread of
    two seeds were believed where it happens to be small."""
    rng, called = np.random.default_rng(5), 0
    for _ in range(300):
        seeds, items = 0.5 * rng.normal(size=(2, 2, 1)), 0.2 * rng.normal(size=(2, 1, 40))
        values = seeds + items + rng.normal(size=(2, 2, 40))
        rows = {
            "arm": np.repeat(["a", "b"], 80), "seed": np.tile(np.repeat([1, 2], 40), 2), "item": np.tile(range(40), 4),
            "value": values.ravel(),
        }  # fmt: skip
        called += decide({"rule": "b > a"}, pd.DataFrame(rows)).verdict != "undecided"
    assert called <= 24


def test_runs_that_are_missing_are_waited_for_by_name() -> None:
    frame = table({"a": 0.0, "b": 1.0})
    some = frame[~((frame.arm == "b") & (frame.seed == 2))]
    assert decide(CLAIM, some).sentence == "Undecided: waits for arm b, seed 2."
    assert decide({"rule": "b > a"}, some).verdict == "undecided"
    assert "arm b, seeds 1, 2, 3" in decide(CLAIM, frame[frame.arm == "a"]).sentence
    failed = decide(CLAIM, [], waits=["arm b, seed 2 (dpo failed: no memory)"])
    assert failed.verdict == "undecided" and "dpo failed: no memory" in failed.sentence
    listed = decide(CLAIM | {"seeds": [1, 2, 3, 9]}, frame)
    assert listed.sentence == "Undecided: waits for arm b, seed 9; arm a, seed 9."
    extra = decide(CLAIM | {"seeds": 2}, frame)
    assert extra.verdict == "inadmissible" and "2 are declared" in extra.sentence


def test_what_comes_before_the_rule() -> None:
    frame = table({"a": 0.0, "b": 1.0})
    everything = {"deviated": "alpha was .05", "refused": ["`margin`: too small"], "waits": ["arm b, seed 2"]}
    words = []
    while everything:
        words.append(decide(CLAIM, frame, **everything).verdict)  # type: ignore[arg-type]
        everything.pop(next(iter(everything)))
    assert words == ["deviated", "inadmissible", "undecided"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f.assign(value=f.value.where(f.index != 45, np.nan)), "arm a, seed 2, item q5: value is nan"),
        (lambda f: f.assign(value=f.value.where(f.index != 45, np.inf)), "arm a, seed 2, item q5"),
        (lambda f: pd.concat([f, f.iloc[[45]]]), "arm a, seed 2, item q5 is given twice"),
        (lambda f: f.drop(columns="seed"), "no column `seed`"),
        (lambda f: f.iloc[:0], "no rows"),
        (lambda f: f.drop(index=range(60, 80)), r"20 of 40 items lack a value .* arm a, seed 2, item q20"),
        (lambda f: f.assign(item=f.arm + f["item"]), "share no item"),
        (lambda f: f.assign(cluster=f.seed.astype(str)), "in the clusters 1 and 2"),
        (lambda f: f.assign(value=f.value.astype(str) + "x"), "not a number"),
    ],
)
def test_bad_outcomes_are_refused_by_name(change: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        decide(CLAIM, change(table({"a": 0.0, "b": 1.0})))


def test_bad_rules_and_arms_are_refused() -> None:
    frame = table({"a": 0.0, "b": 1.0})
    with pytest.raises(ParamError, match="`rule` is missing"):
        decide({"claim": "c"}, frame)
    with pytest.raises(ParamError, match="arm `c` isn't declared"):
        decide(CLAIM | {"rule": "c > a"}, frame)
    assert "one number a run" in decide(CLAIM | {"pair": ["seed", "item"]}, runs({"a": [1, 2], "b": [1, 3]})).sentence
    # Few gaps are left out of both arms, and said.
    found = decide(CLAIM, frame.drop(index=45))
    assert found.n_items == 39 and "1 of 40 items" in found.notes[0]


def test_clusters_widen_the_interval_and_can_be_what_pairs() -> None:
    rng = np.random.default_rng(3)
    frame = table({"a": 0.0, "b": 0.3}, items=40)
    frame["cluster"] = "e" + (frame["item"].str[1:].astype(int) // 5).astype(str)
    frame.loc[frame.arm == "b", "value"] += frame[frame.arm == "b"].cluster.map(
        dict(zip(sorted(set(frame.cluster)), rng.normal(size=8), strict=True))
    )
    alone, grouped = decide(CLAIM, frame.drop(columns="cluster")), decide(CLAIM, frame)
    assert grouped.high - grouped.low > alone.high - alone.low  # type: ignore[operator]
    assert grouped.comparisons[0].n_clusters == 8 and "8 clusters" in grouped.sentence
    means = decide(CLAIM | {"pair": ["seed", "cluster"]}, frame)
    assert means.n_items == 8 and means.effect == pytest.approx(grouped.effect)
    one = decide(CLAIM, frame.assign(cluster="e1"))
    assert one.verdict == "inadmissible" and "one cluster" in one.sentence
    assert "2 clusters" in decide(CLAIM, frame.assign(cluster=np.where(frame.index % 40 < 20, "x", "y"))).notes[0]


def test_orderings_hold_pair_by_pair() -> None:
    claim = CLAIM | {"arms": {"a": {}, "b": {}, "c": {}}, "rule": "c > b > a"}
    assert decide(claim, table({"a": 0.0, "b": 1.0, "c": 2.0})).verdict == "supported"
    found = decide(claim, table({"a": 0.0, "b": 2.0, "c": 1.0}))
    assert found.verdict == "contradicted" and "c and b are in the opposite order" in found.sentence
    assert found.effect == pytest.approx(-1, abs=0.3) and len(found.comparisons) == 2
    close = decide(claim, table({"a": 0.0, "b": 1.0, "c": 1.0}))
    assert close.verdict == "undecided" and close.comparisons[0].label == "c − b"
    assert decide(claim | {"rule": "a < b < c"}, table({"a": 0.0, "b": 1.0, "c": 2.0})).verdict == "supported"


def test_trends_use_levels() -> None:
    arms = {name: {} for name in "abc"}
    claim = CLAIM | {"arms": arms, "rule": "increasing", "levels": {"a": 1, "b": 2, "c": 10}}
    found = decide(claim, table({"a": 0.1, "b": 0.2, "c": 1.0}))
    assert found.verdict == "supported" and found.effect == pytest.approx(0.1, abs=0.02)
    assert decide(claim | {"rule": "decreasing"}, table({"a": 0.1, "b": 0.2, "c": 1.0})).verdict == "contradicted"
    bent = decide(claim | {"levels": {}}, table({"a": 0.0, "b": 2.0, "c": 1.0}))
    assert bent.verdict == "supported" and "don't all follow" in bent.notes[-1]


def test_arms_that_the_rule_leaves_out_are_reported_with_holm() -> None:
    arms = {name: {} for name in ("baseline", "b", "c", "d")}
    found = decide(CLAIM | {"arms": arms, "rule": "b > baseline"}, table({"baseline": 0, "b": 1, "c": 1, "d": 0}))
    assert [row.label for row in found.comparisons] == ["b − baseline", "c − baseline", "d − baseline"]
    assert found.comparisons[1].adjusted_p == pytest.approx(2 * found.comparisons[1].p)


def ladders(multiplier: float, seeds: int, steeper: float = 1.0) -> list[dict[str, Any]]:
    """b needs `multiplier` times less compute than a, and its exponent is `steeper` times a's."""
    rng = np.random.default_rng(4)
    return [
        {
            "arm": arm, "seed": s, "item": f"{c:.0e}", "compute": c,
            "value": (1.5 + 2 * (c * m / 1e13) ** (-0.2 * x)) * np.exp(0.003 * rng.normal()),
        }
        for arm, m, x in (("a", 1.0, 1.0), ("b", multiplier, steeper))
        for s in range(seeds)
        for c in np.geomspace(1e13, 1e15, 5)
    ]  # fmt: skip


def test_scaling_rules() -> None:
    claim = {"metric": "ladder/loss", "rule": "multiplier(b, a) > 1.2"}
    found = decide(claim, ladders(1.8, 3))
    assert found.verdict == "supported" and found.null == 1.2
    assert found.low < 1.8 < found.high and found.effect == pytest.approx(1.8, rel=0.15)  # type: ignore[operator]
    assert {row.label for row in found.comparisons} >= {"slope of a", "slope of b", "compute where the laws cross"}
    assert decide(claim, ladders(1.0, 3)).verdict == "contradicted"
    assert decide(claim | {"rule": "multiplier(a, b) > 1.2"}, ladders(1.8, 3)).verdict == "contradicted"
    assert decide(claim | {"rule": "slope(b) < slope(a)"}, ladders(1.8, 3)).verdict == "undecided"
    one = decide(claim, ladders(1.8, 1))
    assert one.verdict == "supported" and "One seed an arm" in one.notes[-1]
    with pytest.raises(InputError, match="no column `compute`"):
        decide(claim, [{**row, "compute": None} for row in ladders(1.8, 3)])
    assert decide(claim | {"rule": "slope(b) < slope(a)"}, ladders(1.0, 3, steeper=2.0)).verdict == "supported"


def test_predictions_are_held_against_what_was_reached() -> None:
    frame = runs({"a": [2.01, 2.03, 1.99, 2.0], "b": [2.0, 2.0, 2.02, 1.98]})
    claim = {"rule": "reached = predicted ± 0.05", "metric": "pretrain/loss"}
    found = decide(claim, frame.assign(predicted=2.0))
    gap = np.array([0.01, 0.03, -0.01, 0.0])
    assert found.verdict == "supported" and len(found.comparisons) == 2
    assert found.p == pytest.approx(stats.ttest_1samp(gap, 0.05, alternative="less").pvalue, rel=1e-9)
    assert decide(claim, frame.assign(predicted=np.where(frame.arm == "a", 2.0, 1.0))).verdict == "contradicted"
    with pytest.raises(InputError, match="no column `predicted`"):
        decide(claim, frame)


def test_looks_decide_early_on_their_own_seeds_and_wait_between() -> None:
    claim = CLAIM | {"seeds": 8, "looks": {"at": [3, 5, 8], "spending": "obrien_fleming"}}
    big = table({"a": 0.0, "b": 5.0}, seeds=8)
    early = decide(claim, big)
    assert early.verdict == "supported" and early.look and early.look.number == 1
    assert early == decide(claim, big[big.seed <= 3])  # later runs change nothing
    waiting = decide(claim, table({"a": 0.0, "b": 0.0}, seeds=4))
    assert waiting.verdict == "undecided" and "next look is at 5 seeds, 1 of 3" in waiting.sentence
    last = decide(claim, table({"a": 0.0, "b": 0.0}, seeds=8))
    assert last.look and (last.look.number, last.look.at) == (3, 8) and last.level == 1 - last.look.level
    assert decide(claim | {"rule": "a = b ± 1"}, big).verdict == "inadmissible"


def test_undecided_says_what_would_be_seen() -> None:
    found = decide(CLAIM | {"margin": 0.01}, table({"a": 0.0, "b": 0.0}))
    assert "with power 0.8; to see the margin of 0.01 takes" in found.notes[-1]


def test_a_suite_adjusts_p_and_keeps_the_rules_word() -> None:
    one = decide(CLAIM, runs({"a": [0.0, 0.1, 0.0], "b": [0.5, 0.8, 0.9]}))
    assert one.p is not None and 0.01 < one.p < 0.05
    found = over_suite({f"c{i}": one for i in range(5)} | {"waits": decide(CLAIM, [], waits=["arm b, seed 1"])})
    assert found["c0"].verdict == "supported" and found["c0"].adjusted_p == pytest.approx(5 * one.p)
    assert "Among 5 claims" in found["c0"].notes[-1] and found["waits"].adjusted_p is None


@pytest.mark.parametrize("rule", ["increasing", "c > a"])
def test_seeds_that_would_show_what_was_seen_are_statsmodels(rule: str) -> None:
    """One number a run, paired by seed: a slope or a difference is a one-sample t test of each seed's own."""
    values = {arm: np.random.default_rng(place).normal(0.25 * place, 1, 6).tolist() for place, arm in enumerate("abc")}
    claim = declare({**CLAIM, "arms": {key: {} for key in "abc"}, "seeds": 6, "rule": rule})
    verdict = decide(claim, runs(values))
    known = outlook(claim, verdict)
    own = (np.array(values["c"]) - values["a"]) / (2 if rule == "increasing" else 1)
    sd, test = float(own.std(ddof=1)), TTestPower()
    assert verdict.verdict == "undecided" and known is not None and known.seeds is not None
    assert known.gap == pytest.approx(abs(own.mean()))
    assert known.visible == pytest.approx(sd * test.solve_power(nobs=6, alpha=0.05, power=0.8), rel=1e-5)
    enough, few = (test.power(known.gap / sd, n, 0.05) for n in (known.seeds, known.seeds - 1))
    assert few < 0.8 <= enough
    assert any(f"by {known.seeds} seeds" in line for line in changes(claim, verdict))


def test_there_is_no_outlook_without_spread_or_numbers() -> None:
    claim = declare(CLAIM)
    assert outlook(claim, decide(claim, None, waits=["arm a, seed 1"])) is None
    exact = decide(claim, runs({"a": [1.0, 2.0, 3.0], "b": [2.0, 3.0, 4.0]}))
    assert exact.verdict == "supported" and outlook(claim, exact) is None
