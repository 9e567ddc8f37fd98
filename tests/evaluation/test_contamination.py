import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stages.base.contracts.contamination import Ordering, Planted, Power
from stages.base.errors import InputError
from stages.evaluation.contamination import believed, ordering_test, smallest_detected
from stages.evaluation.ordering import model_logprob
from stages.evaluation.overlap.exact import ngrams, shared_shares, words
from stages.evaluation.planting import PlantedSet, TooFewQuestions, disjoint_sets, planted_rows
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


# ---- overlap


def naive_shares(items: list[str], texts: list[str], n: int) -> list[float]:
    out = []
    for item in items:
        grams = ngrams(words(item), n)
        spaced = [f" {' '.join(words(text))} " for text in texts]
        hits = [any(f" {' '.join(gram)} " in text for text in spaced) for gram in grams]
        out.append(sum(hits) / len(grams) if grams else 0.0)
    return out


SENTENCE = st.lists(st.sampled_from(list("abcde")), max_size=12).map(" ".join)


@given(st.lists(SENTENCE, max_size=4), st.lists(SENTENCE, max_size=4), st.integers(1, 5))
def test_shares_equal_a_naive_search(items: list[str], texts: list[str], n: int) -> None:
    assert shared_shares(items, texts, n) == naive_shares(items, texts, n)


def test_overlap_sees_through_case_and_punctuation_but_not_across_texts() -> None:
    item = "In which province does Velmora lie? Anthar, of course, by the sea it is."
    leaked = "QUIZ: in which province -- does velmora lie; anthar of course by the sea, it is!"
    half, rest = leaked[: len(leaked) // 2], leaked[len(leaked) // 2 :]
    assert shared_shares([item], ["unrelated", leaked], 13) == [1.0]
    assert shared_shares([item], [half, rest], 13) == [0.0]


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
