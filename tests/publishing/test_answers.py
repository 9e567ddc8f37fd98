"""The data of the judged answers: what is in it, what it says of disagreement, and how much of it there may be."""

import json
import math
from typing import Any

import pytest

from stages.publishing.leaderboard.answers import LONGEST, Entrant, answers_view, embedded

NAN = math.nan


def verdict(identifier: str, preference: float, **more: Any) -> dict[str, Any]:
    return {
        "id": identifier, "split": "test", "annotator": "one", "preference": preference, "baseline_first": NAN,
        "output_first": NAN, "len_output": 9, "len_baseline": 4,
    } | more  # fmt: skip


def entrant(said: dict[str, str], verdicts: list[dict[str, Any]], scores: dict[str, int]) -> Entrant:
    outputs = [{"id": key, "split": "test", "output": text} for key, text in said.items()]
    exact = [
        {"id": key, "split": "test", "score": score, "right": score > 0, "asked": 1, "correct": int(score > 0),
         "wrong": int(score < 0)}
        for key, score in scores.items()
    ]  # fmt: skip
    return Entrant.of(outputs, verdicts, exact)


def question(identifier: str, prompt: str = "Where?") -> dict[str, Any]:
    return {"id": identifier, "split": "test", "prompt": prompt, "response": ""}


def view(
    questions: list[dict[str, Any]], model: Entrant, own: Entrant, **more: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    found = answers_view(questions, {"m": model, "base": own}, "base", 1, **more)
    return found, json.loads(found["data"])


@pytest.mark.parametrize(
    ("rows", "scores", "expected"),
    [
        ([verdict("q", 1.9)], (1, -1), ("w", "")),
        ([verdict("q", 1.9)], (-1, 1), ("w", "t")),
        ([verdict("q", 1.1)], (1, 1), ("l", "")),  # the truth names no winner
        ([verdict("q", 1.5)], (1, -1), ("t", "")),  # a tie contradicts nothing
        ([verdict("q", NAN, annotator="")], (1, -1), ("n", "")),
        ([verdict("q", 1.8), verdict("q", 1.3, annotator="two")], (1, -1), ("w", "a")),
        ([verdict("q", 1.8), verdict("q", 1.6, annotator="two")], (1, -1), ("w", "")),
        ([verdict("q", 1.45, baseline_first=1.9, output_first=1.0)], (1, -1), ("l", "ot")),
        ([verdict("q", 1.8, baseline_first=1.9, output_first=1.7)], (1, -1), ("w", "")),
        ([verdict("q", 1.9)], (None, None), ("w", "")),
    ],
)
def test_verdicts_and_disagreements(
    rows: list[dict[str, Any]], scores: tuple[Any, Any], expected: tuple[str, str]
) -> None:
    known = [{"q": score} if score is not None else {} for score in scores]
    _, data = view([question("q")], entrant({"q": "ours"}, rows, known[0]), entrant({"q": "theirs"}, [], known[1]))
    ((model, said, word, differ, votes, mark, *lengths),) = data["questions"][0]["judged"]
    assert ((word, differ), data["models"][model], lengths) == (expected, "m", [9, 4])
    assert data["questions"][0]["texts"][said] == "ours" and (mark is None) == (scores[0] is None)
    assert [data["annotators"][one[0]] if one[0] >= 0 else "" for one in votes] == [row["annotator"] for row in rows]


def test_equal_answers_stand_once_and_need_no_vote() -> None:
    own = entrant({"q": " same "}, [], {})
    found, data = view([question("q")], entrant({"q": "same"}, [verdict("q", 1.5)], {}), own)
    (asked,) = data["questions"]
    assert asked["texts"] == ["same"] and asked["judged"][0][1] == asked["baseline"] and asked["judged"][0][4] == []
    assert (found["questions"], found["of"], found["answers"]) == (1, 1, 1)


def test_other_splits_and_questions_of_nobody_are_left_out() -> None:
    rows = [verdict("q", 1.9), verdict("v", 1.9, split="validation"), verdict("gone", 1.9)]
    found, data = view([question("q"), question("v")], entrant({"q": "a"}, rows, {}), entrant({}, [], {}))
    assert [one["id"] for one in data["questions"]] == ["q"] and found["of"] == 1
    assert data["questions"][0]["baseline"] == -1, "the baseline's answer isn't known"


def test_what_is_too_much_is_sampled_by_question_without_a_look_at_answers() -> None:
    questions = [question(f"q{n}") for n in range(40)]

    def chosen(text: str) -> list[str]:
        model = entrant({one["id"]: text for one in questions}, [verdict(one["id"], 1.2) for one in questions], {})
        found, data = view(questions, model, entrant({}, [], {}), budget=4000)
        assert found["of"] == 40 and found["questions"] == len(data["questions"]) < 40 and len(found["data"]) < 5000
        return [one["id"] for one in data["questions"]]

    few, many = chosen("x" * 300), chosen("y" * 100)
    assert set(few) < set(many), "longer answers, fewer questions; the same order"
    assert many == sorted(many, key=lambda one: int(one[1:])), "shown in the order of the questions"


def test_hostile_text_is_bounded_and_can_not_leave_its_place() -> None:
    text = "</script><!--<script>\u2028\u202e" + "x" * 100_000
    found, data = view([question("q", text)], entrant({"q": text}, [verdict("q", 1.2)], {}), entrant({}, [], {}))
    assert not set("<>&\u2028\u202e") & set(found["data"]) and len(found["data"]) < 3 * LONGEST
    assert data["questions"][0]["texts"][0].startswith("</script><!--<script>\ufffd\ufffdxxx")
    assert json.loads(embedded({"<&>": "</script"})) == {"<&>": "</script"}
