"""Test items as the tests for contamination see them, in the order in which they were published."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stages.evaluation.items import writable
from stages.evaluation.tasks.item import Item, item_of


@dataclass(frozen=True)
class Example:
    """A test item as the tests here see it."""

    id: str
    question: str  # what overlap looks for
    answer: str  # as text; "" where there is none
    subject: str = ""
    choice: int = -1  # index of the right choice

    @property
    def text(self) -> str:
        """As a leaked test file would show it."""
        return f"Question: {self.question}\nAnswer: {self.answer}\n\n" if self.answer else f"{self.question}\n\n"


def task_examples(table: pa.Table) -> list[Example]:
    """The items of a task's test split in file order: the order that was published."""
    return [example_of(item_of(row)) for row in table.to_pylist() if row["split"] == "test"]


def example_of(item: Item) -> Example:
    answer = item.target if item.choices or item.targets else ""
    return Example(writable(item.id), item.question, answer, item.subject, item.answer)


def instruction_examples(rows: Iterable[Mapping[str, Any]], *, test: bool) -> list[Example]:
    """Instructions that ask one thing at the most, of the test split or of all others, with their answers."""
    return [
        Example(row["id"], row["prompt"], row["response"])
        for row in rows
        if len(row["attributes"] or ()) <= 1 and (row["split"] == "test") == test
    ]
