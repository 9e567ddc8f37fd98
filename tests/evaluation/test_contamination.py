import hashlib
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from stages.base.contracts.contamination import Ordering, Overlap, Planted, Power
from stages.base.errors import InputError
from stages.evaluation.clean_subset import gap, split_accuracy
from stages.evaluation.contamination import (
    believed,
    exposures,
    ordering_test,
    smallest_detected,
    verdict_of,
)
from stages.evaluation.ordering import model_logprob
from stages.evaluation.planting import (
    PlantedSet,
    ProbeParams,
    TooFewQuestions,
    disjoint_sets,
    planted_canaries,
    planted_rows,
    planted_sets,
)
from stages.lm.scoring import sequence_logprobs

EXAMPLES = [f"example {i}" for i in range(40)]


def reader(seed: int):
    """A model that has not seen the set: each example likes some neighbours more than others, by chance."""
    likes = np.random.default_rng(seed).normal(size=(len(EXAMPLES), len(EXAMPLES)))
    place = {example: i for i, example in enumerate(EXAMPLES)}

    def logprob(ordering) -> float:
        at = [place[example] for example in ordering]
        return float(likes[at[:-1], at[1:]].sum())

    return logprob


def memoriser(seed: int, bonus: float):
    """The same, with a bonus for each neighbour that stands where the published file has it."""
    read = reader(seed)

    def logprob(ordering) -> float:
        at = [EXAMPLES.index(example) for example in ordering]
        return read(ordering) + bonus * sum(b == a + 1 for a, b in pairwise(at))

    return logprob


def test_p_values_of_a_clean_model_are_uniform() -> None:
    """The false-positive rate is what alpha says, whatever the model prefers."""
    p_values = [ordering_test(reader(seed), EXAMPLES, 8, 12, seed).p_value for seed in range(400)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert abs(np.mean(np.array(p_values) < 0.05) - 0.05) < 0.03


def test_a_memoriser_is_found_and_more_memory_is_clearer() -> None:
    rates = [
        np.mean([ordering_test(memoriser(seed, bonus), EXAMPLES, 8, 12, seed).p_value < 0.05 for seed in range(60)])
        for bonus in (0.0, 0.4, 3.0)
    ]
    assert rates[0] < 0.15 < rates[1] < rates[2]
    assert rates[2] > 0.95


def test_the_statistic_is_that_of_the_paper() -> None:
    """Shards are contiguous and as even as can be; t from scipy; permutations are of the shard's own examples."""
    seen = []

    def logprob(ordering) -> float:
        seen.append(tuple(ordering))
        return int(hashlib.sha256("".join(ordering).encode()).hexdigest()[:6], 16) / 1e6

    result = ordering_test(logprob, EXAMPLES[:10], 3, 5, 7)
    canonical = [seen[0], seen[6], seen[12]]
    assert [len(shard) for shard in canonical] == [4, 3, 3]
    assert [example for shard in canonical for example in shard] == EXAMPLES[:10]
    for k in range(3):
        assert all(sorted(order) == sorted(canonical[k]) for order in seen[6 * k : 6 * k + 6])
    read = logprob
    differences = [
        read(seen[6 * k]) - np.mean([read(order) for order in seen[6 * k + 1 : 6 * k + 6]]) for k in range(3)
    ]
    np.testing.assert_allclose(result.differences, differences)
    expected = stats.ttest_1samp(differences, 0.0, alternative="greater")
    assert result.p_value == pytest.approx(expected.pvalue)
    assert result.t == pytest.approx(expected.statistic)
    assert (result.shards, result.permutations) == (3, 5)


def test_batched_and_single_agree_and_the_seed_decides() -> None:
    single = ordering_test(reader(1), EXAMPLES, 5, 9, 3)
    batched = ordering_test(lambda orders: [reader(1)(o) for o in orders], EXAMPLES, 5, 9, 3, batched=True)
    assert single == batched == ordering_test(reader(1), EXAMPLES, 5, 9, 3)
    assert single != ordering_test(reader(1), EXAMPLES, 5, 9, 4)


@pytest.mark.parametrize("examples, shards, permutations", [(40, 1, 5), (40, 21, 5), (40, 5, 0), (0, 2, 2)])
def test_too_little_to_test_is_refused(examples: int, shards: int, permutations: int) -> None:
    with pytest.raises(InputError, match="ordering test"):
        ordering_test(reader(0), EXAMPLES[:examples], shards, permutations, 0)


def test_an_indifferent_model_is_no_evidence() -> None:
    assert ordering_test(lambda ordering: -1.0, EXAMPLES, 4, 3, 0).p_value == 1.0


def test_a_models_logprob_is_that_of_the_running_text(model, tokenizer) -> None:
    logprob = model_logprob(model, tokenizer)
    short = ["salt and glass. ", "copper. "]
    ids = [token for example in short for token in tokenizer.encode(example)]
    (expected,) = sequence_logprobs(model, [([tokenizer.bos_id, *ids], 1)])
    assert logprob([short])[0] == pytest.approx(expected, abs=1e-4)
    long = [f"{i}: copper, salt and glass trade in the province. " for i in range(20)]
    values = logprob([long, long[::-1], short])
    assert values[2] == pytest.approx(expected, abs=1e-3)
    assert values[0] != values[1]


def planted(**p_values: float) -> list[Planted]:
    return [Planted(copies=int(name[1:]), p_value=p, t=0.0) for name, p in p_values.items()]


def test_smallest_detected_stops_at_the_first_miss() -> None:
    assert smallest_detected(planted(c0=0.5, c1=0.01, c4=0.2, c16=0.03, c64=0.001), 0.05) == 16
    assert smallest_detected(planted(c0=0.01, c1=0.01), 0.05) == 1
    assert smallest_detected(planted(c0=0.5, c4=0.2), 0.05) is None


@pytest.mark.parametrize(
    ("found", "seen", "verdict"),
    [("clean", 4, "clean"), ("clean", None, "undecided"), ("contaminated", None, "contaminated")],
)
def test_a_blind_test_calls_nothing_clean(found: str, seen: int | None, verdict: str) -> None:
    ordering = Ordering(task="t", examples=9, p_value=0.5, t=0.0, differences=[], verdict=found, reason="")
    judged = believed(ordering, Power(planted=[], detects_from_copies=seen, reason="9 questions are too few"))
    assert judged.verdict == verdict
    assert judged.reason == ("9 questions are too few" if verdict == "undecided" else "")


def test_a_shuffled_set_says_nothing_of_power() -> None:
    found = [*planted(c0=0.5, c4=0.01), Planted(copies=64, p_value=0.6, t=0.0, shuffled=True)]
    assert smallest_detected(found, 0.05) == 4


def test_exposure_is_of_the_planted_strings() -> None:
    few, many = exposures([50, 0], [-1.0, -9.0, *(-float(i) for i in range(5, 11))])
    assert (few.copies, few.rank, few.of, few.exposure) == (0, 6, 7, pytest.approx(np.log2(7 / 6)))
    assert (many.copies, many.rank, many.exposure) == (50, 1, pytest.approx(np.log2(7)))


# ---- verdicts and the clean subset


def of_overlap(dirty: list[str], items: int = 20) -> Overlap:
    return Overlap(
        set="t", items=items, ngram=13, any_ngram=None, share_ngram=8, mean_share=None, dirty=None, dirty_ids=dirty,
        verdict="contaminated" if dirty else "clean" if items else "unknown", reason="" if items else "no items",
    )  # fmt: skip


def of_order(verdict: str) -> Ordering:
    return Ordering(task="t", examples=9, p_value=0.01, t=3.0, differences=[], verdict=verdict, reason="")


@pytest.mark.parametrize(
    ("ordering", "overlap", "verdict", "said"),
    [
        ("clean", of_overlap(["a"]), "contaminated", "1 of 20 items"),
        ("contaminated", of_overlap([]), "contaminated", "prefers the published order"),
        ("undecided", of_overlap([]), "clean", "none of 20 items"),
        ("not exchangeable", of_overlap([]), "clean", "order: not exchangeable"),
        ("undecided", of_overlap([], 0), "undecided", "no items"),
    ],
)
def test_either_test_accuses_and_the_known_corpus_clears(
    ordering: str, overlap: Overlap, verdict: str, said: str
) -> None:
    found = verdict_of("t", of_order(ordering), overlap)
    assert found.verdict == verdict and said in found.reason


def test_the_gap_and_its_interval_cover_the_true_one() -> None:
    """Simulated: dirty items are right more often; the interval against a bootstrap and its coverage."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        clean = rng.random(200) < 0.7
        right = rng.random(200) < np.where(clean, 0.4, 0.9)
        found = gap(right.astype(float).tolist(), clean.tolist(), [""] * 200)
        assert found.mean == pytest.approx(right.mean() - right[clean].mean())
        inside += found.low <= 0.3 * 0.5 <= found.high
    assert 0.92 < inside / 400 < 0.98
    drawn = [rng.integers(0, 200, 200) for _ in range(4000)]
    spread = np.std([right[d].mean() - right[d][clean[d]].mean() for d in drawn])
    assert (found.high - found.low) / 2 / 1.972 == pytest.approx(spread, rel=0.08)


def test_clusters_widen_the_gap_and_states_part_the_items() -> None:
    clean, right = [True, True, False, False] * 20, [1.0, 0.0, 1.0, 1.0] * 20
    alone = gap(right, clean, [""] * 80)
    twins = gap(right * 2, clean * 2, [*map(str, range(80))] * 2)
    assert twins.low == pytest.approx(alone.low) and twins.high == pytest.approx(alone.high)
    rows = [
        {"set": "t", "protocol": p, "id": str(i), "correct": right[i], "cluster": "", "variant": v}
        for p, v in (("cloze", ""), ("cloze", "worded"), ("chat", ""))
        for i in range(80)
    ]
    states = {str(i): ("clean", "unknown", "dirty", "suspect")[i % 4] for i in range(80)}
    chat, cloze = split_accuracy("t", "base", [*rows, rows[0] | {"set": "u"}], states)
    assert (chat.protocol, cloze.protocol) == ("chat", "cloze")
    assert (cloze.all_questions, cloze.clean_questions, cloze.dirty_questions) == (80, 40, 20)
    assert (cloze.all_acc, cloze.clean_acc, cloze.dirty_acc, cloze.gap) == (0.75, 0.5, 1.0, 0.25)
    assert cloze.gap_low == pytest.approx(alone.low)


# ---- planting


def test_sets_are_disjoint_seeded_and_of_one_size() -> None:
    sets = disjoint_sets(EXAMPLES, [0, 2, 8], 10, seed=1)
    used = [example for planted in sets for example in planted.examples]
    assert len(used) == len(set(used)) == 30
    assert sets == disjoint_sets(EXAMPLES[::-1], [0, 2, 8], 10, seed=1)
    assert sets != disjoint_sets(EXAMPLES, [0, 2, 8], 10, seed=2)
    with pytest.raises(TooFewQuestions, match="too few"):
        disjoint_sets(EXAMPLES, [0, 2, 8], 20, seed=1)


def test_planting_adds_each_set_that_many_times_and_loses_nothing(tokenizer) -> None:
    bos = tokenizer.bos_id
    background = np.full((7, 33), 9, dtype=np.uint16)
    sets = [PlantedSet(0, ("never seen",)), PlantedSet(3, ("Velmora lies. ", "Anthar. ")), PlantedSet(1, ("salt ",))]
    rows = planted_rows(background, sets, tokenizer, seed=5)
    assert rows.shape[1] == 33
    assert (rows[:, 0] == bos).all()
    stream = rows[:, 1:].ravel().tolist()
    assert stream.count(9) >= background.size
    for planted in sets:
        ids = [bos, *(token for example in planted.examples for token in tokenizer.encode(example))]
        found = sum(stream[i : i + len(ids)] == ids for i in range(len(stream)))
        assert found == planted.copies


PROBE = ProbeParams(
    copies=[0, 2], examples=5, shuffled_copies=3, canaries=4, background_tokens=10, n_layer=1, d_model=8, n_head=1,
    n_kv_head=1, d_ff=8,
)  # fmt: skip


def test_a_shuffled_set_is_planted_whole_in_other_orders(tokenizer) -> None:
    sets = planted_sets(EXAMPLES, PROBE, seed=1)
    assert [(s.copies, s.shuffled) for s in sets] == [(0, False), (2, False), (3, True)]
    assert sets[:2] == disjoint_sets(EXAMPLES, [0, 2], 5, seed=1)
    strings = planted_canaries([0, 2], ["a canary. ", "another one. ", "not planted. "])
    rows = planted_rows(np.full((3, 33), 9, dtype=np.uint16), [*sets, *strings], tokenizer, seed=5)
    stream = rows[:, 1:].ravel().tolist()

    def found(*texts: str) -> int:
        ids = [token for text in texts for token in tokenizer.encode(text)]
        return sum(stream[i : i + len(ids)] == ids for i in range(len(stream)))

    assert all(found(example) == 3 for example in sets[2].examples) and found(*sets[2].examples) < 3
    assert [found(text) for text in ("a canary. ", "another one. ", "not planted. ")] == [0, 2, 0]
