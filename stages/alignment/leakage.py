"""leakage: which training rows hold a question that models are tested on; they are left out of what is learned.

Tests are the tasks of the pipeline and the validation and test splits of the instructions. A row leaks a question

- by its **prompt**, where that is the question;
- by an **overlap**, where prompt or answers hold 13 words of it in a row (Brown et al. 2020, appendix C), or the whole
  of one that is shorter. What two questions have in common is a template, or a passage, and tells no row.

Case, punctuation, accents and characters without width don't count.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.alignment.data.records import LEAK, LEAKAGE
from stages.base.artifacts import read_instructions, read_questions
from stages.base.conversation import Asked, messages_of
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import StageRun, stage

# Scripts without spaces, of which each character counts as a word.
SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
WORD = re.compile(rf"[{SPACELESS}]|[^\W_{SPACELESS}]+")
UNSEEN = {"Mn", "Mc", "Cf"}  # categories of Unicode: accents, vowel signs, what has no width
TESTED = ("validation", "test")  # splits
QUESTIONS = pa.schema([("test", pa.string()), ("id", pa.string()), ("texts", pa.list_(pa.string()))])
FACTOR, MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xFF51AFD7ED558CCD)
BLOCK = 4096  # rows searched at once
NAMED = 5  # leaks in an error


class LeakageParams(Section):
    ngram: Annotated[int, Field(ge=2)]
    """Words in a row that make an overlap."""
    min_words: Annotated[int, Field(ge=1)]
    """Shorter questions are looked for as whole prompts only: within other texts they are too common."""
    max_leak: Annotated[float, Field(ge=0, le=1)]
    """Highest share of the training rows of a source that may be left out; more is an error that names some."""


PARAMS = {"alignment.leakage": LeakageParams}


@dataclass(frozen=True)
class HeldOut:
    """A question that models are tested on. `texts`: what is asked; several where it is a conversation."""

    test: str  # key of the task, or instructions/<key of the source>
    id: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Trained:
    """What a training row shows a model."""

    id: str
    asked: Asked
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Leak:
    """`row`: index of the row that holds the question; `words`: what they share."""

    row: int
    question: HeldOut
    kind: Literal["prompt", "overlap"]
    words: str

    def __str__(self) -> str:
        return f"{self.question.test}/{self.question.id} ({self.kind})"


def words_of(text: str) -> list[str]:
    """As a reader compares them."""
    text = text.casefold()
    if not text.isascii():
        seen = (c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c) not in UNSEEN)
        text = unicodedata.normalize("NFKC", "".join(seen))
    return WORD.findall(text)


def said(asked: Asked) -> tuple[str, ...]:
    """The messages that are a question: those of a system are told to all."""
    return tuple(message["content"] for message in messages_of(asked) if message["role"] != "system")


class Search:
    """Finds questions in training rows; built once for all of them.

    ngram, min_words: as of LeakageParams. Of questions of one test that are alike, a row has one leak.
    """

    def __init__(self, questions: Iterable[HeldOut], ngram: int, min_words: int) -> None:
        self._ids: dict[str, int] = {}  # of the questions' words, from 1; 0 is any other, and what parts texts
        self._alike: dict[tuple[int, ...], list[HeldOut]] = {}
        parts: dict[tuple[int, ...], list[list[int]]] = {}
        for question in questions:
            numbered = [[self._ids.setdefault(w, len(self._ids) + 1) for w in words_of(t)] for t in question.texts]
            if whole := tuple(number for part in numbered for number in part):
                self._alike.setdefault(whole, []).append(question)
                parts[whole] = numbered
        self._words = ["", *self._ids]
        self._needles: dict[int, dict[tuple[int, ...], list[tuple[tuple[int, ...], tuple[int, ...]]]]] = {}
        for whole, run in _runs(parts, ngram, min_words):
            start = run[:ngram]  # by which it is found
            self._needles.setdefault(len(start), {}).setdefault(start, []).append((run, whole))

    def leaks(self, rows: Sequence[Trained]) -> list[Leak]:
        """In the order of the rows."""
        found: dict[tuple[int, str, tuple[int, ...]], Leak] = {}
        for first in range(0, len(rows), BLOCK):
            block = rows[first : first + BLOCK]
            for index, row in enumerate(block, first):
                for whole in self._asked_by(row):
                    self._note(found, index, whole, "prompt", whole)
            for index, whole, run in self._held_by(block):
                self._note(found, first + index, whole, "overlap", run)
        return sorted(found.values(), key=lambda leak: leak.row)

    def _note(
        self,
        found: dict[tuple[int, str, tuple[int, ...]], Leak],
        row: int,
        whole: tuple[int, ...],
        kind: Literal["prompt", "overlap"],
        run: Sequence[int],
    ) -> None:
        shared = " ".join(self._words[number] for number in run)
        for question in self._alike[whole]:
            found.setdefault((row, question.test, whole), Leak(row, question, kind, shared))

    def _numbers(self, text: str) -> list[int]:
        return [self._ids.get(word, 0) for word in words_of(text)]

    def _asked_by(self, row: Trained) -> set[tuple[int, ...]]:
        """Questions that the row's conversation is, or its last message."""
        numbered = [self._numbers(text) for text in said(row.asked)]
        candidates = {tuple(number for part in numbered for number in part), tuple(numbered[-1] if numbered else ())}
        return {whole for whole in candidates if whole in self._alike}

    def _held_by(self, rows: Sequence[Trained]) -> Iterator[tuple[int, tuple[int, ...], tuple[int, ...]]]:
        """(Index of a row, a question, the run of words of it that the row holds)."""
        numbers: list[int] = []
        ends = []
        for row in rows:
            for text in (*(message["content"] for message in messages_of(row.asked)), *row.answers):
                numbers += [*self._numbers(text), 0]
            ends.append(len(numbers))
        held = np.array(numbers, np.uint64)
        for length, needles in self._needles.items():
            hashes = np.unique(_hashes(np.array(list(needles), np.uint64))[:, 0])
            for place in np.flatnonzero(np.isin(_hashes(held[None], length)[0], hashes)).tolist():
                for run, whole in needles.get(tuple(numbers[place : place + length]), ()):
                    if tuple(numbers[place : place + len(run)]) == run:
                        yield int(np.searchsorted(ends, place, side="right")), whole, run


def _runs(
    parts: Mapping[tuple[int, ...], list[list[int]]], ngram: int, min_words: int
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(Question, a run of its words that tells it): those that no other has, or, where it has none, the whole of it."""
    owner: dict[tuple[int, ...], tuple[int, ...] | None] = {}
    for whole, texts in parts.items():
        for text in texts:
            for start in range(len(text) - ngram + 1):
                run = tuple(text[start : start + ngram])
                if owner.setdefault(run, whole) != whole:
                    owner[run] = None
    own = [(whole, run) for run, whole in owner.items() if whole is not None]
    told = {whole for whole, _ in own}
    return own + [(whole, whole) for whole in parts if whole not in told and len(whole) >= min_words]


def _hashes(numbers: np.ndarray, length: int | None = None) -> np.ndarray:
    """uint64 [rows, columns - length + 1] of the runs of `length` numbers of uint64 [rows, columns]; by default of all
    columns."""
    length = length or numbers.shape[1]
    count = max(0, numbers.shape[1] - length + 1)
    mixed = (numbers ^ (numbers >> np.uint64(15))) * MIX
    found = np.zeros((numbers.shape[0], count), np.uint64)
    for step in range(length):
        found = found * FACTOR + mixed[:, step : step + count]
    return found


def held_out(tasks: Iterable[Mapping[str, Any]], instructions: Iterable[Mapping[str, Any]]) -> list[HeldOut]:
    """Questions of TASK and INSTRUCTION rows that are tested; the examples of a few-shot prompt aren't."""
    asked = [row for row in tasks if row["split"] in TESTED]
    common = Counter((row["set"], row["question"]) for row in asked)
    found = []
    for row in asked:
        text, right = row["question"], _right(row)
        if row["contexts"]:
            text = f"{row['contexts'][row['answer']]} {right}"
        elif common[row["set"], text] > 1:  # several items ask so and are told apart by what they offer
            text = f"{text} {right}"
        found.append(HeldOut(row["set"], row["id"], (text,)))
    return found + [
        HeldOut(f"instructions/{row['origin']}", row["id"], said(row["messages"] or row["prompt"]))
        for row in instructions
        if row["split"] in TESTED
    ]


def _right(row: Mapping[str, Any]) -> str:
    """The first right answer, "" where an item has none."""
    if row["targets"]:
        return row["targets"][0]
    return row["choices"][row["answer"]] if row["choices"] and row["answer"] >= 0 else ""


def read_held_out(run: StageRun[Any]) -> list[HeldOut]:
    """As this stage has written them."""
    rows = run.read_table(f"{LEAKAGE}/questions.parquet", QUESTIONS).to_pylist()
    return [HeldOut(row["test"], row["id"], tuple(row["texts"])) for row in rows]


def left_out(rows: Sequence[Trained], leaks: Sequence[Leak], max_leak: float, what: str) -> dict[int, str]:
    """Index of each row that leaks → kind of its first leak. Raises InputError, naming some, where they are a larger
    share than `max_leak` of the rows."""
    found: dict[int, str] = {}
    for leak in leaks:
        found.setdefault(leak.row, leak.kind)
    if len(found) > max_leak * len(rows):
        named = ", ".join(f"`{rows[leak.row].id}` has {leak}" for leak in leaks[:NAMED])
        raise InputError(
            f"{len(found)} of {len(rows)} {what} hold test questions, more than `alignment.leakage.max_leak` "
            f"({max_leak:.1%}) allows: {named}; take them out of the source, or raise the bound"
        )
    return found


def counts(leaks: Iterable[Leak]) -> dict[str, int]:
    """Rows that leak, by test and kind: `<test>_<kind>`."""
    pairs = {(leak.question.test, leak.kind, leak.row) for leak in leaks}
    return dict(sorted(Counter(f"{test}_{kind}" for test, kind, _ in pairs).items()))


def leaks_of(rows: Sequence[Trained], leaks: Sequence[Leak]) -> pa.Table:
    """LEAK rows."""
    return pa.Table.from_pylist(
        [
            {
                "id": rows[leak.row].id, "test": leak.question.test, "question": leak.question.id, "kind": leak.kind,
                "words": leak.words,
            }
            for leak in leaks
        ],
        schema=LEAK,
    )  # fmt: skip


def main() -> None:
    with stage("alignment.leakage", LeakageParams) as run:
        params, instructions = run.params, read_instructions(run)
        questions = held_out(read_questions(run).to_pylist(), instructions)
        search = Search(questions, params.ngram, params.min_words)
        learned = [row for row in instructions if row["split"] not in TESTED]
        rows = [Trained(row["id"], row["messages"] or row["prompt"], (row["response"],)) for row in learned]
        leaks = search.leaks(rows)
        run.write_table("leaks.parquet", leaks_of(rows, leaks), LEAK)
        listed = [{"test": one.test, "id": one.id, "texts": list(one.texts)} for one in questions]
        run.write_table("questions.parquet", pa.Table.from_pylist(listed, schema=QUESTIONS), QUESTIONS)
        out: dict[int, str] = {}
        for origin in dict.fromkeys(row["origin"] for row in learned):
            own = [index for index, row in enumerate(learned) if row["origin"] == origin]
            place = {index: number for number, index in enumerate(own)}
            of_own = [Leak(place[one.row], one.question, one.kind, one.words) for one in leaks if one.row in place]
            found = left_out([rows[i] for i in own], of_own, params.max_leak, f"training rows of source `{origin}`")
            out |= {own[number]: kind for number, kind in found.items()}
        metrics = {"rows": len(rows), "questions": len(questions), "left_out": len(out), **counts(leaks)}
        run.write_json("metrics.json", metrics)
        if len(out) < len(rows):
            run.rows(len(rows), len(rows) - len(out), Counter(out.values()), max_drop=1.0)


if __name__ == "__main__":
    main()
