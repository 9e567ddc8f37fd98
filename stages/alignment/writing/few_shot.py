"""The few-shot prompts of Self-Instruct, and what is read from their continuations (Wang et al. 2022, section 2.2).

Questions: a question and its answer are written at once. Tasks: first an instruction; then whether it is a
classification; then an instance of it, input first, or, for a classification, its label first: a model that writes an
input first would favour one label.

Labels at the beginning of a part ("Question:", "Task:") tell the parts. Those of a question may stand anywhere, since a
small model rarely keeps line breaks.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from stages.alignment.data.formats import INSTRUCTIONS, Row, format_of, read_as, read_rows
from stages.base.errors import InputError

Form = Literal["questions", "instructions"]
QUESTION = re.compile(r"\b(Question|Answer):")
TASK = re.compile(r"^[ \t]*(Task|Fixed labels|Label|Input|Output):", re.MULTILINE)
NOTHING = {"", "-", "none", "n/a", "<noinput>"}  # that a model says an input is
NO_INPUT = "-"
TASKS = "Tasks that people give to an assistant, each of another kind.\n\n"
KINDS = "Tasks, and whether each is answered by one of a few fixed labels.\n\n"
INSTANCES = "Tasks, each with an input, where it needs one, and its output.\n\n"
LABELLED = "Tasks that are answered by one of a few fixed labels, each with a label and an input that has it.\n\n"


@dataclass(frozen=True)
class Task:
    """An instruction, given or written, with one instance of it. `input` may be "".

    classification: whether one of a few labels answers it; None where nobody has said.
    """

    id: str
    instruction: str
    input: str
    output: str
    classification: bool | None = None

    @property
    def prompt(self) -> str:
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction


@dataclass(frozen=True)
class FewShot:
    """A text to continue: `cue` is what it ends with. Examples are left out from the front where they don't fit."""

    heading: str
    examples: tuple[str, ...]
    cue: str

    def text(self, skip: int = 0) -> str:
        return self.heading + "".join(self.examples[skip:]) + self.cue


class Writes(Protocol):
    def __call__(self, prompts: Sequence[FewShot], stream: str) -> list[str]:
        """A continuation of each prompt; `stream` names the draw."""


class Questions:
    """A question and its answer at once."""

    def drafts(self, write: Writes, groups: Sequence[Sequence[Task]], stream: str) -> list[Task]:
        """One candidate a group of examples, with "" for what isn't there."""
        prompts = [FewShot("", self._shown(group), "Question:") for group in groups]
        return [self.parse(text) for text in write(prompts, stream)]

    def completed(
        self, write: Writes, groups: Sequence[Sequence[Task]], tasks: Sequence[Task], stream: str
    ) -> list[Task]:
        """The answers have been written already."""
        return list(tasks)

    def asked_again(self, group: Sequence[Task], task: Task) -> FewShot:
        """That asks for another answer."""
        return FewShot("", self._shown(group), f"Question: {task.prompt}\nAnswer:")

    def answer(self, text: str) -> str:
        return " ".join(QUESTION.split(text, maxsplit=1)[0].split())

    @staticmethod
    def parse(continuation: str) -> Task:
        """Of what was written after "Question:"."""
        question, label, rest = (*QUESTION.split(continuation, maxsplit=1), "", "")[:3]
        response = QUESTION.split(rest, maxsplit=1)[0] if label == "Answer" else ""
        return Task("", " ".join(question.split()), "", " ".join(response.split()))

    @staticmethod
    def _shown(group: Sequence[Task]) -> tuple[str, ...]:
        return tuple(f"Question: {task.prompt}\nAnswer: {task.output}\n\n" for task in group)


class Tasks:
    """An instruction, its kind, an instance, one after the other.

    seeds: the kind is asked for where some of them say that they are classifications, and some that they aren't.
    """

    def __init__(self, seeds: Sequence[Task]) -> None:
        self.sorted = {task.classification for task in seeds} >= {True, False}

    def drafts(self, write: Writes, groups: Sequence[Sequence[Task]], stream: str) -> list[Task]:
        """Instructions without instances, one a group of examples."""
        prompts = [FewShot(TASKS, tuple(f"Task: {task.instruction}\n\n" for task in g), "Task:") for g in groups]
        return [Task("", self._first(text), "", "") for text in write(prompts, stream)]

    def completed(
        self, write: Writes, groups: Sequence[Sequence[Task]], tasks: Sequence[Task], stream: str
    ) -> list[Task]:
        """Each with its kind and an instance; `output` is "" where none was written."""
        kinds: list[bool | None] = [None] * len(tasks)
        if self.sorted:
            asked = [
                FewShot(KINDS, self._kinds(group), f"Task: {task.instruction}\nFixed labels:")
                for group, task in zip(groups, tasks, strict=True)
            ]
            kinds = [self._first(text).lower().startswith("yes") for text in write(asked, f"{stream}, kinds")]
        known = [replace(task, classification=kind) for task, kind in zip(tasks, kinds, strict=True)]
        prompts = [self._instance(group, task) for group, task in zip(groups, known, strict=True)]
        texts = write(prompts, f"{stream}, instances")
        return [self._with(task, text) for task, text in zip(known, texts, strict=True)]

    def asked_again(self, group: Sequence[Task], task: Task) -> FewShot:
        """That asks for another output, the input given."""
        cue = f"Task: {task.instruction}\nInput: {task.input or NO_INPUT}\nOutput:"
        return FewShot(INSTANCES, self._input_first(group), cue)

    def answer(self, text: str) -> str:
        return self._first(text)

    def _instance(self, group: Sequence[Task], task: Task) -> FewShot:
        if not task.classification:
            return FewShot(INSTANCES, self._input_first(group), f"Task: {task.instruction}\nInput:")
        shown = tuple(
            f"Task: {one.instruction}\nLabel: {one.output}\nInput: {one.input or NO_INPUT}\n\n"
            for one in group
            if one.classification
        )
        return FewShot(LABELLED, shown, f"Task: {task.instruction}\nLabel:")

    @staticmethod
    def _with(task: Task, text: str) -> Task:
        """The task with what was written after "Input:", or after "Label:"."""
        first, label, rest = (*TASK.split(text, maxsplit=1), "", "")[:3]
        second = (
            TASK.split(rest, maxsplit=1)[0].strip() if label == ("Input" if task.classification else "Output") else ""
        )
        given, output = (second, first.strip()) if task.classification else (first.strip(), second)
        return replace(task, input="" if given.lower() in NOTHING else given, output=output)

    @staticmethod
    def _kinds(group: Sequence[Task]) -> tuple[str, ...]:
        return tuple(
            f"Task: {task.instruction}\nFixed labels: {'yes' if task.classification else 'no'}\n\n"
            for task in group
            if task.classification is not None
        )

    @staticmethod
    def _input_first(group: Sequence[Task]) -> tuple[str, ...]:
        shown = [task for task in group if not task.classification] or group
        return tuple(
            f"Task: {task.instruction}\nInput: {task.input or NO_INPUT}\nOutput: {task.output}\n\n" for task in shown
        )

    @staticmethod
    def _first(text: str) -> str:
        """Up to the next label, or blank line."""
        part = TASK.split(text, maxsplit=1)[0].strip()
        return part.partition("\n\n")[0].strip()


def read_seeds(path: Path) -> list[Task]:
    """Tasks of a file: as Self-Instruct has its 175, `instruction`, `instances` of `input` and `output`, and
    `is_classification` (the first instance counts); or in any format of instructions. Raises InputError naming the line
    of one that is neither.
    """
    rows = read_rows(path)
    if "instances" in rows[0].values:
        return [_seed(row) for row in rows]
    form = format_of(rows, INSTRUCTIONS)
    told = [(row, read_as(form, row)) for row in rows]
    return [Task(row.name(f"seed-{row.number}"), said.prompt, "", said.answer) for row, said in told]


def _seed(row: Row) -> Task:
    instances, kind = row.values.get("instances"), row.values.get("is_classification")
    if not isinstance(instances, list) or not instances or not isinstance(instances[0], dict):
        raise InputError(f"{row.place}: `instances` must be a list of objects with `input` and `output`")
    if kind is not None and not isinstance(kind, bool):
        raise InputError(f"{row.place}: `is_classification` must be true or false, not {kind!r:.40}")
    instance = Row(f"{row.place}, instance 1", row.number, instances[0])
    return Task(
        row.name(f"seed-{row.number}"), row.text("instruction"), instance.text("input", "").strip(),
        instance.text("output"), kind,
    )  # fmt: skip
