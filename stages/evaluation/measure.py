"""One task as it is asked: its questions, the examples before them, its setting; and what an engine makes of it."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.base.contracts.evaluation import Accuracy, TaskResult
from stages.base.errors import InputError
from stages.evaluation.protocols.protocol import EvaluationProtocol
from stages.evaluation.protocols.registry import PROTOCOLS, find_protocol
from stages.evaluation.protocols.variants import variants
from stages.evaluation.results import accuracy, task_result
from stages.evaluation.run import ROLLING, Row, ask, ask_rolling
from stages.evaluation.scoring.requests import Engine
from stages.evaluation.store import AnswerStore
from stages.evaluation.tasks.declaration import TaskFile, setting, variant
from stages.evaluation.tasks.item import Item, item_of
from stages.evaluation.tasks.loading import draws_from_others, load
from stages.evaluation.tasks.shots import Examples

PLAIN: dict[str, Any] = {
    "output_type": "multiple_choice",
    "subject": "subject",
    "fewshot_config": {"sampler": "first_n"},
}
"""Of a table of questions without a file of its own: examples are the first development questions of the subject."""


@dataclass(frozen=True)
class Task:
    """`items` are all that its source gave, `asked` those that models are asked."""

    key: str
    file: TaskFile
    items: Sequence[Item]
    asked: Sequence[Item]
    reworded: Callable[[str], "Task"] | None = None  # the same in another of its file's wordings
    _examples: list[Examples] = field(default_factory=list, compare=False)

    @property
    def is_rolling(self) -> bool:
        return self.file.output_type == "loglikelihood_rolling"

    @property
    def has_template(self) -> bool:
        """Whether a file says how the task is worded, so that the protocol `task` can ask it."""
        return any(item.prompt for item in self.asked)

    def protocols(self) -> list[str]:
        """Those that it is asked under where none are named."""
        if self.is_rolling:
            return [ROLLING]
        if self.file.protocols:
            return list(self.file.protocols)
        return ["task"] if self.has_template else ["original", "cloze"]

    def shots(self, n: int) -> Callable[[Item], Sequence[Item]]:
        """n examples before an item, as the task's file chooses them; the first n of a subject that has fewer are all
        that it has."""
        if not self._examples:
            self._examples.append(Examples(self.file, self.items))
        examples = self._examples[0]
        pools: dict[str, list[Item]] = defaultdict(list)
        for item in self.items:
            if item.split == "development":
                pools[item.subject if self.file.subject else ""].append(item)
        if self.file.fewshot_config.sampler != "first_n" or not pools:
            return lambda item: examples.choose(item, n)
        return lambda item: pools[item.subject if self.file.subject else ""][:n]

    def measured(
        self,
        engine: Engine,
        protocol: str,
        n: int,
        store: AnswerStore | None = None,
        *,
        others: bool = False,
        label: str = "",
    ) -> "Measured":
        """What the engine makes of it under a protocol (a name in the registry, or `rolling`) with n examples.

        others: also under the other wordings, of the protocol and of the task's file, with all items of each. label:
        before the task's name in progress.
        """
        label = f"{label}{self.key}, {protocol}"
        if self.is_rolling:
            rows = ask_rolling(engine, self.asked, _stride(engine), store, label=label)
            return Measured(rows, {}, accuracy(rows))
        plain = find_protocol(protocol)
        rows = self._ask(engine, plain, n, store, "", label)
        spread: dict[str, list[Row]] = {}
        if others and protocol in PROTOCOLS and any(row.answer for row in rows):  # a single wording has no others
            worded = {name: one for name, one in variants(plain).items() if name}
            spread = {name: self._ask(engine, one, n, store, name, f"{label}-{name}") for name, one in worded.items()}
            if protocol == "task" and self.reworded is not None:
                for name in self.file.prompts:
                    spread[name] = self.reworded(name)._ask(engine, plain, n, store, name, f"{label}-{name}")
        return Measured(rows, spread, accuracy(rows, spread))

    def _ask(
        self, engine: Engine, protocol: EvaluationProtocol, n: int, store: AnswerStore | None, name: str, label: str
    ) -> list[Row]:
        return ask(engine, self.asked, self.shots(n), protocol, setting(self.file), store, variant=name, label=label)

    def result(self, found: Mapping[str, Accuracy], split: str) -> TaskResult:
        return task_result(
            self.asked,
            dict(found),
            output_type=self.file.output_type,
            split=split,
            version=str(self.file.metadata.get("version", "")),
            chance=self.file.chance,
        )


@dataclass(frozen=True)
class Measured:
    """A task under one protocol: its rows, those of other wordings by name, and what they are worth together."""

    rows: list[Row]
    variants: dict[str, list[Row]]
    accuracy: Accuracy

    def why_unasked(self) -> str:
        """Why no item at all could be asked, or ""."""
        return "" if self.accuracy.answered or not self.rows else self.rows[0].left_out


def _stride(engine: Engine) -> int:
    """As the LM Evaluation Harness reads long texts: windows of the whole context that don't overlap."""
    return engine.limit


def open_task(file: TaskFile, limit: int | None = None, key: str = "") -> Task:
    """A task of its file, of which the first `limit` items are asked. Raises InputError naming what can't be asked."""
    name = key or file.task
    # Where examples are drawn from the items that are asked, they are drawn from all of them.
    items = load(file, name, limit if draws_from_others(file) else None)

    def reworded(wording: str) -> Task:
        return open_task(variant(file, wording), limit, name)

    return Task(name, file, items, [item for item in items if item.split == "test"][:limit], reworded)


def built_task(key: str, rows: Sequence[Mapping[str, Any]], split: str, limit: int, file: TaskFile | None) -> Task:
    """A task that the stage `task` has built: rows of schema TASK. At most `limit` of one split are asked, in order of
    id (hashes: a random sample)."""
    items = [item_of(row) for row in rows]
    asked = sorted((item for item in items if item.split == split), key=lambda item: item.id)[:limit]
    if not asked:
        there = ", ".join(sorted({item.split for item in items}))
        raise InputError(
            f"{key}: no questions in split `{split}` (there are: {there}); see `evaluation.evaluate.split`"
        )
    return Task(key, file or TaskFile(task=key, **PLAIN), items, asked)
