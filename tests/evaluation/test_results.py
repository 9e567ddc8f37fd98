"""From rows to numbers, against plain arithmetic and the aggregations of `tasks.groups`."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from stages.evaluation.protocols.protocol import Answer
from stages.evaluation.results import Part, accuracy, digest, group_result, samples, task_result
from stages.evaluation.run import ROLLING, TOO_LONG, Row
from stages.evaluation.scoring.requests import Generated, Likelihood, Rolling
from stages.evaluation.tasks.groups import Group, TaskScore, aggregate
from stages.evaluation.tasks.item import Item


def row(index: int, scores: dict[str, float], **fields: object) -> Row:
    item = Item(f"i{index}", "t", "a" if index % 2 else "b", "test", f"q{index}", choices=("x", "yy", "z"), answer=0)
    found = (Likelihood(-1.0, 1, True), Likelihood(-2.0 - index, 1, False), Likelihood(-3.0, 1, False))
    given = {"shots": 2, "prompt": f"prompt {index}", "found": found, "answer": Answer(0, "", scores)}
    return replace(Row(item, "cloze", 3), **(given | fields))


def test_every_metric_has_its_score_and_what_was_left_out_its_reason() -> None:
    rows = [row(i, {"acc": float(i < 5), "acc_norm": float(i < 3)}, shots=i % 3, truncated=i == 2) for i in range(8)]
    lost = [Row(row(9, {}).item, "cloze", 3, left_out=why) for why in (TOO_LONG, TOO_LONG, "flagged")]
    flagged = row(8, {"acc": 0.0, "acc_norm": 0.0}, answer=Answer(-1, "", {"acc": 0.0, "acc_norm": 0.0},
                                                                  flags=("no_answer", "repeated_options")))  # fmt: skip
    found = accuracy([*rows, flagged, *lost])
    assert (found.metric, found.version, found.answered, found.too_long) == ("acc", 3, 9, 2)
    assert (found.acc, found.scores["acc_norm"].mean) == (5 / 9, 3 / 9)
    exact = scipy_stats.binomtest(5, 9).proportion_ci(method="exact")
    assert (found.main.low, found.main.high) == pytest.approx((exact.low, exact.high))
    assert found.left_out == {TOO_LONG: 2, "flagged": 1}
    assert (found.truncated, found.unread, found.repeated) == (1, 1, 1)
    assert found.shots == np.mean([*(i % 3 for i in range(8)), 2])
    assert {name: one.n for name, one in found.subjects.items()} == {"a": 4, "b": 5}
    assert found.calibration is not None and found.calibration.n == 9


def test_nothing_answered_is_no_score() -> None:
    found = accuracy([Row(row(0, {}).item, "cloze", 1, left_out=TOO_LONG)])
    assert (found.main, found.shots, found.scores, found.left_out) == (None, None, {}, {TOO_LONG: 1})


def test_a_perplexity_is_of_the_mean_log_likelihood() -> None:
    nats = [-1.0, -2.5, -4.0, -0.5]
    rows = [row(i, {"perplexity": value, "acc": 1.0}) for i, value in enumerate(nats)]
    score = accuracy(rows).scores["perplexity"]
    low, high = scipy_stats.t.interval(0.95, 3, -np.mean(nats), scipy_stats.sem(nats))
    assert score.mean == pytest.approx(math.exp(2.0))
    assert (score.low, score.high) == pytest.approx((math.exp(max(low, 0)), math.exp(high)))
    hopeless = accuracy([row(i, {"perplexity": -900.0 - i}) for i in range(3)]).scores["perplexity"]
    assert hopeless.mean is None


def test_whole_texts_by_word_and_byte_as_the_harness_has_it() -> None:
    """word_perplexity = exp(−Σ ll / Σ words), byte_perplexity = exp(−Σ ll / Σ bytes), bits_per_byte = −Σ ll / Σ bytes /
    ln 2 (lm_eval.api.metrics.weighted_perplexity, bits_per_byte)."""
    texts = ["one two three", "é ü", "a longer text of seven words here"]
    rows = []
    for i, text in enumerate(texts):
        item = replace(row(i, {}).item, question=text, choices=())
        rows.append(Row(item, ROLLING, 1, prompt=text, found=Rolling(-3.0 * len(text), len(text), len(text.encode()))))
    found = accuracy(rows)
    total = sum(3.0 * len(text) for text in texts)
    size, words = sum(len(text.encode()) for text in texts), sum(len(text.split()) for text in texts)
    assert found.metric == "bits_per_byte" and found.scores["bits_per_byte"].mean == pytest.approx(
        total / size / math.log(2)
    )
    assert found.scores["byte_perplexity"].mean == pytest.approx(math.exp(total / size))
    assert found.scores["word_perplexity"].mean == pytest.approx(math.exp(total / words))
    assert found.scores["bits_per_byte"].low < found.scores["bits_per_byte"].mean < found.scores["bits_per_byte"].high


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.lists(st.booleans(), min_size=2, max_size=9), st.sampled_from([0.0, 0.25, 0.5])),
        min_size=1,
        max_size=4,
    )
)
def test_aggregations_are_those_of_groups(tasks: list[tuple[list[bool], float]]) -> None:
    parts = {f"t{i}": Part([float(v) for v in values], [""] * len(values), chance)
             for i, (values, chance) in enumerate(tasks)}  # fmt: skip
    found = group_result("g", "cloze", parts).scores
    scores = {"m": {name: TaskScore(float(np.mean(part.values)), part.chance, len(part.values))
                    for name, part in parts.items()}}  # fmt: skip
    for how, score in found.items():
        group = Group.model_validate({"group": "g", "task": list(parts), "aggregation": how})
        assert score.mean == pytest.approx(aggregate(group, scores)["m"], abs=1e-12)
        assert score.low is None or score.low <= score.mean + 1e-9 <= score.high + 1e-8


def test_the_interval_of_a_mean_of_tasks_is_that_of_independent_parts() -> None:
    rng = np.random.default_rng(0)
    parts = {name: Part((rng.random(n) < 0.5).astype(float).tolist(), [""] * n, 0.0) for name, n in
             (("a", 40), ("b", 60))}  # fmt: skip
    score = group_result("g", "cloze", parts).scores["mean"]
    error = math.sqrt(sum(np.var(part.values, ddof=1) / len(part.values) / 4 for part in parts.values()))
    assert (score.high - score.low) / 2 / error == pytest.approx(1.98, abs=0.02)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_task_without_a_right_answer_is_not_known_exactly(value: float) -> None:
    """Coverage of the mean of two tasks, one of which has a right answer once in fifty."""
    one = group_result("g", "cloze", {"a": Part([value] * 10, [""] * 10, 0.0), "b": Part([value] * 10, [""] * 10, 0.0)})
    assert one.scores["mean"].high - one.scores["mean"].low > 0.05
    rng, inside = np.random.default_rng(5), 0
    for _ in range(300):
        drawn = {name: (rng.random(20) < p).astype(float) for name, p in (("a", 0.02), ("b", 0.5))}
        if value:
            drawn = {name: 1 - values for name, values in drawn.items()}
        parts = {name: Part(values.tolist(), [""] * 20, 0.0) for name, values in drawn.items()}
        score = group_result("g", "cloze", parts).scores["mean"]
        inside += score.low <= abs(value - 0.26) <= score.high
    assert inside >= 275  # 95 % of 300, less two standard errors


def test_guessing_and_always_the_same_letter() -> None:
    items = [replace(row(i, {}).item, id=str(i), answer=i % 2) for i in range(4)]
    items.append(replace(items[0], id="twice", choices=("x", "x", "z")))
    found = task_result(items, {}, output_type="multiple_choice", split="test")
    assert found.chance_acc == pytest.approx((4 / 3 + 2 / 3) / 5) and found.constant_acc == 3 / 5
    assert found.digest == digest(items[::-1]) != digest(items[1:])
    said = task_result(items, {}, output_type="multiple_choice", split="test", chance=0.1)
    generated = [replace(items[0], choices=(), answer=-1, targets=("7",))]
    nothing = task_result(generated, {}, output_type="generate_until", split="test")
    assert (said.chance_acc, nothing.chance_acc, nothing.constant_acc) == (0.1, None, None)


def test_samples_don_t_depend_on_the_answers_nor_break_a_file() -> None:
    rows = [row(i, {"acc": 1.0}) for i in range(50)]
    wrong = [replace(one, answer=Answer(1, "", {"acc": 0.0})) for one in reversed(rows)]
    assert [one.id for one in samples(rows)] == [one.id for one in samples(wrong)] and len(samples(rows)) == 20
    item = replace(rows[0].item, choices=(), targets=("\ud800",))
    odd = Row(item, "generate", 1, prompt="\ud800?", found=Generated("\udfff", 1, True),
              answer=Answer(-1, "\udfff", {"exact_match": 0.0}))  # fmt: skip
    (one,) = samples([odd])
    assert one.model_dump_json() and (one.prompt, one.right, one.logprobs) == ("??", False, [])
