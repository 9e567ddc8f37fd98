"""Asking and keeping: an engine made of arithmetic, so that every number is known."""

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.base.errors import InputError, ResourceError
from stages.evaluation.protocols.protocol import Answer, Overflow, Setting
from stages.evaluation.run import ABSENT, ask, ask_rolling
from stages.evaluation.scoring.requests import Choices, Generate, Generated, Likelihood, NoRoom, Rolling, Unanswered
from stages.evaluation.store import AnswerStore
from stages.evaluation.tasks.item import Item

SETTING = Setting()


@dataclass
class Arithmetic:
    """log p of a continuation is minus the number of its characters; `limit` counts characters."""

    limit: int = 1000
    asked: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    broken: str = ""  # continuation whose log p is NaN
    refused: str = ""  # context that alone has no answer
    absent: bool = False
    name: str = "arithmetic"

    def length(self, request: Choices | Generate) -> int:
        return len(self.sent(request))

    def sent(self, request: Choices | Generate) -> str:
        return request.contexts[0] if isinstance(request, Choices) else request.context

    def _of(self, text: str) -> float:
        return math.nan if text == self.broken else ABSENT if self.absent else -float(len(text))

    def likelihoods(self, requests: Sequence[Choices], truncation: str) -> list[list[Likelihood]]:
        for place, one in enumerate(requests):
            if len(one.contexts[0]) > self.limit and truncation == "refuse":
                raise NoRoom("too long", place)
        self.batches.append(len(requests))
        self.asked += [one.contexts[0] for one in requests]
        found = [[Likelihood(self._of(text), 1, False) for text in one.continuations] for one in requests]
        why = {place: "flagged" for place, one in enumerate(requests) if one.contexts[0] == self.refused}
        if why:
            raise Unanswered([None if place in why else one for place, one in enumerate(found)], why)
        return found

    def generate(self, requests: Sequence[Generate], truncation: str) -> list[Generated]:
        self.asked += [one.context for one in requests]
        return [Generated(one.context.upper(), 3, True) for one in requests]

    def rolling(self, texts: Sequence[str], stride: int) -> list[Rolling]:
        self.asked += list(texts)
        return [Rolling(2.0 * len(text), len(text), len(text.encode())) for text in texts]


@dataclass(frozen=True)
class Shortest:
    """The shortest choice is the answer."""

    overflow: Overflow = "fewer_shots"
    version: int = 1
    name: str = "shortest"
    generates: bool = False

    def why_not(self, item: Item) -> str:
        return "" if item.choices else "it has no choices"

    def render(self, item: Item, shots: Sequence[Item], setting: Setting) -> Choices | Generate:
        context = "".join(f"[{shot.question}]" for shot in shots) + item.question
        return Generate(context, (), 5) if self.generates else Choices((context,), item.choices)

    def read(self, item: Item, setting: Setting, found: Sequence[Likelihood] | Generated) -> Answer:
        if isinstance(found, Generated):
            return Answer(-1, found.text, {"exact_match": float(found.text == item.target.upper())})
        choice = max(range(len(found)), key=lambda place: found[place].nats)
        return Answer(choice, "", {"acc": float(choice == item.answer)})


def item(index: int, **fields: object) -> Item:
    given = {"question": f"question {index}", "choices": ("long one", "no", "longer"), "answer": index % 3} | fields
    return Item(f"i{index}", "made_up", "general", "test", **given)


ITEMS = [item(i) for i in range(70)]
SHOTS = [item(100 + i, question="s" * 10) for i in range(3)]


def test_a_row_an_item_in_order_with_what_was_sent() -> None:
    rows = ask(Arithmetic(), ITEMS, lambda _: SHOTS, Shortest(), SETTING)
    assert [row.item for row in rows] == ITEMS
    assert all((row.answer.choice, row.shots, row.left_out) == (1, 3, "") for row in rows)
    assert rows[7].prompt == f"{'[ssssssssss]' * 3}question 7" and len(rows[7].prompt_digest) == 64
    assert [row.answer.scores["acc"] for row in rows[:4]] == [0.0, 1.0, 0.0, 0.0]
    assert [one.nats for one in rows[0].likelihoods] == [-8.0, -2.0, -6.0]


@pytest.mark.parametrize(
    ("overflow", "limit", "expected"),
    [("fewer_shots", 36, (2, False, "")), ("fewer_shots", 5, (0, False, "too_long")), ("left", 36, (3, True, "")),
     ("refuse", 36, (0, False, "too_long"))],
)  # fmt: skip
def test_prompts_that_have_no_room(overflow: Overflow, limit: int, expected: tuple) -> None:
    (row,) = ask(Arithmetic(limit), ITEMS[:1], lambda _: SHOTS, Shortest(overflow), SETTING)
    assert (row.shots, row.truncated, row.left_out) == expected


def test_what_a_protocol_cant_ask_is_left_out_and_says_why() -> None:
    rows = ask(Arithmetic(), [item(0, choices=()), item(1)], lambda _: [], Shortest(), SETTING)
    assert [row.left_out for row in rows] == ["it has no choices", ""] and rows[0].answer is None


def test_one_request_without_an_answer_costs_no_other() -> None:
    rows = ask(Arithmetic(refused="question 3"), ITEMS[:5], lambda _: [], Shortest(), SETTING)
    assert [row.left_out for row in rows] == ["", "", "", "flagged", ""]


def test_a_number_that_is_none_is_an_error_and_not_kept(tmp_path: Path) -> None:
    with AnswerStore(tmp_path / "a.jsonl", "m") as store:
        with pytest.raises(InputError, match=r"item i0 of made_up, protocol shortest: .* no log-probability"):
            ask(Arithmetic(broken="no"), ITEMS[:1], lambda _: [], Shortest(), SETTING, store)
        assert len(store) == 0


def test_letters_that_no_server_names_are_no_answer() -> None:
    (row,) = ask(Arithmetic(absent=True), ITEMS[:1], lambda _: [], Shortest(), SETTING)
    assert (row.answer.choice, row.answer.scores, row.answer.flags) == (-1, {"acc": 0.0}, ("no_answer",))


def test_a_rerun_asks_only_for_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "answers" / "m.jsonl"
    first = Arithmetic()
    with AnswerStore(path, "m") as store:
        before = ask(first, ITEMS[:40], lambda _: SHOTS, Shortest(), SETTING, store)
    second = Arithmetic()
    with AnswerStore(path, "m") as store:
        after = ask(second, ITEMS, lambda _: SHOTS, Shortest(), SETTING, store)
    assert len(first.asked) == 40 and len(second.asked) == 30 and after[:40] == before
    whole = ask(Arithmetic(), ITEMS, lambda _: SHOTS, Shortest(), SETTING)
    assert after == whole


@pytest.mark.parametrize(
    "change",
    [{"model": "other"}, {"shots": 2}, {"version": 2}, {"overflow": "left"}, {"generates": True}, {"question": "new"},
     {"variant": "terse"}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_whatever_makes_another_answer_is_asked_anew(tmp_path: Path, change: dict) -> None:
    with AnswerStore(tmp_path / "a.jsonl", "m") as store:
        ask(Arithmetic(), ITEMS[:3], lambda _: SHOTS, Shortest(), SETTING, store)
    engine = Arithmetic()
    protocol = Shortest(**{key: value for key, value in change.items() if key in ("version", "overflow", "generates")})
    asked = [item(i, question=change.get("question", f"question {i}")) for i in range(3)]
    with AnswerStore(tmp_path / "a.jsonl", change.get("model", "m")) as store:
        shots = SHOTS[: change.get("shots", 3)]
        ask(engine, asked, lambda _: shots, protocol, SETTING, store, variant=change.get("variant", ""))
    assert len(engine.asked) == 3


def test_damaged_and_torn_lines_are_found_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with AnswerStore(path, "m") as store:
        whole = ask(Arithmetic(), ITEMS[:10], lambda _: [], Shortest(), SETTING, store)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"-8.0", b"-1.0")
    lines[5] = b"\xff\xfe garbage\n"
    path.write_bytes(b"".join(lines)[:-20])
    engine = Arithmetic()
    with AnswerStore(path, "m") as store:
        assert store.damaged == [3, 6, 10]
        assert ask(engine, ITEMS[:10], lambda _: [], Shortest(), SETTING, store) == whole
    assert len(engine.asked) == 3
    with AnswerStore(path, "m") as store:
        assert len(store) == 10


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 400))
def test_no_damage_is_ever_taken_for_an_answer(tmp_path: Path, changes: list[tuple[int, int]], cut: int) -> None:
    path = tmp_path / "a.jsonl"
    path.unlink(missing_ok=True)
    with AnswerStore(path, "m") as store:
        ask(Arithmetic(), ITEMS[:4], lambda _: [], Shortest(), SETTING, store)
        whole = dict(store._found)
    content = bytearray(path.read_bytes())
    for place, byte in changes:
        content[place % len(content)] = byte
    path.write_bytes(content[: len(content) - cut])
    with AnswerStore(path, "m") as store:
        assert store._found.items() <= whole.items()
        rows = ask(Arithmetic(), ITEMS[:4], lambda _: [], Shortest(), SETTING, store)
    assert [row.answer.choice for row in rows] == [1] * 4
    with AnswerStore(path, "m") as store:
        assert store._found == whole


def test_a_whole_line_of_another_version_is_asked_again(tmp_path: Path) -> None:
    text = b'{"key": "k", "answer": 3}'
    (tmp_path / "a.jsonl").write_bytes(hashlib.sha256(text).hexdigest()[:16].encode() + b" " + text + b"\n")
    with AnswerStore(tmp_path / "a.jsonl", "m") as store:
        assert (store.damaged, len(store)) == ([1], 0)


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [[-1.0, 1, False]] * 2},
        {"choices": [["-1.0", 1, False]] * 3},
        {"choices": [[5.0, 1, False]] * 3},
        {"choices": [[math.nan, 1, False]] * 3},
        {"choices": [[-1e308, 1, False]] * 3},
        {"choices": [[-1.0, 1]] * 3},
        {"choices": "abc"},
        {"generated": ["text", 1, True]},
        {"rolling": [1.0, 2, 3]},
    ],
)
def test_a_kept_answer_to_something_else_is_damaged_and_asked_again(answer: dict, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with AnswerStore(path, "m") as store:
        whole = ask(Arithmetic(), ITEMS[:3], lambda _: [], Shortest(), SETTING, store)
    lines = path.read_bytes().splitlines(keepends=True)
    row = {name: value for name, value in json.loads(lines[1][17:]).items() if name != "choices"} | answer
    text = json.dumps(row).encode()
    path.write_bytes(b"".join([lines[0], hashlib.sha256(text).hexdigest()[:16].encode(), b" ", text, b"\n", lines[2]]))
    engine = Arithmetic()
    with AnswerStore(path, "m") as store:
        assert ask(engine, ITEMS[:3], lambda _: [], Shortest(), SETTING, store) == whole
        assert store.damaged == [2] and len(engine.asked) == 1
    with AnswerStore(path, "m") as store:
        assert ask(engine, ITEMS[:3], lambda _: [], Shortest(), SETTING, store) == whole
    assert len(engine.asked) == 1


def test_infinite_and_odd_values_come_back_as_they_were(tmp_path: Path) -> None:
    odd = item(0, question="\ud800 \u2028 \x85", choices=("é", "no\n"))
    with AnswerStore(tmp_path / "a.jsonl", "m") as store:
        rows = ask(Arithmetic(), [odd], lambda _: [], Shortest(generates=True), SETTING, store)
    engine = Arithmetic()
    with AnswerStore(tmp_path / "a.jsonl", "m") as store:
        assert ask(engine, [odd], lambda _: [], Shortest(generates=True), SETTING, store) == rows
    assert engine.asked == []


def test_two_processes_cant_write_one_file(tmp_path: Path) -> None:
    with (
        AnswerStore(tmp_path / "a.jsonl", "m"),
        pytest.raises(ResourceError, match="another process is writing answers here"),
    ):
        AnswerStore(tmp_path / "a.jsonl", "m")


def test_whole_texts_are_kept_too(tmp_path: Path) -> None:
    texts = [item(i, choices=(), answer=-1, question=f"text {i}") for i in range(5)]
    with AnswerStore(tmp_path / "a.jsonl", "m") as store:
        rows = ask_rolling(Arithmetic(), texts, 16, store)
        again, other = Arithmetic(), Arithmetic()
        assert ask_rolling(again, texts, 16, store) == rows and again.asked == []
        ask_rolling(other, texts, 32, store)
    assert len(other.asked) == 5 and rows[2].found == Rolling(12.0, 6, 6) and rows[2].answer is None


def test_a_killed_process_loses_the_batch_under_way_at_most(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from stages.evaluation.run import ask
        from stages.evaluation.store import AnswerStore
        from tests.evaluation.test_run import SETTING, ITEMS, Arithmetic, Shortest

        class Slow(Arithmetic):
            def likelihoods(self, requests, truncation):
                if self.batches:
                    print("second", flush=True)
                    time.sleep(60)
                return super().likelihoods(requests, truncation)

        with AnswerStore(Path(sys.argv[1]), "m") as store:
            ask(Slow(), ITEMS, lambda _: [], Shortest(), SETTING, store)
    """)
    path = tmp_path / "a.jsonl"
    with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "second\n"
        os.kill(process.pid, signal.SIGKILL)
    kept = path.read_bytes().splitlines()
    assert len(kept) == 32 and json.loads(kept[0].partition(b" ")[2])["task"] == "made_up"
    engine = Arithmetic()
    with AnswerStore(path, "m") as store:
        rows = ask(engine, ITEMS, lambda _: [], Shortest(), SETTING, store)
    assert len(engine.asked) == len(ITEMS) - 32 and all(row.answer for row in rows)
