"""The rows that alignment works on, typed, and how stages read them from all sources."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from stages.annotators.truth import Truth
from stages.base import artifacts
from stages.base.conversation import Asked, Message
from stages.base.errors import InputError
from stages.base.record import StageRun

LEAKAGE = "data/alignment/leakage"
LEAK = pa.schema(
    [
        ("id", pa.string()),  # of the instruction or the pair
        ("test", pa.string()),  # key of the task, or instructions/<key of the source>
        ("question", pa.string()),  # its id there
        ("kind", pa.string()),  # prompt, overlap
        ("words", pa.string()),  # that both have
    ]
)


@dataclass(frozen=True)
class Instruction:
    """A row of `schemas.INSTRUCTION`."""

    id: str
    split: str
    origin: str
    entity: str
    attributes: list[str]
    prompt: str
    response: str
    messages: list[Message] = field(default_factory=list)

    @property
    def asked(self) -> Asked:
        """What a model is given."""
        return self.messages or self.prompt


@dataclass(frozen=True)
class Preference:
    """A row of `schemas.PREFERENCE`."""

    id: str
    prompt: str
    chosen: str
    rejected: str
    preference: float
    chosen_score: int | None
    rejected_score: int | None
    annotator: str
    messages: list[Message] = field(default_factory=list)

    @property
    def asked(self) -> Asked:
        """What a model is given."""
        return self.messages or self.prompt


def table_of(rows: Iterable[Instruction | Preference], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)


def read_instructions(run: StageRun[Any]) -> list[Instruction]:
    """Of all sources, in order, without the training rows that hold a test question (alignment.leakage)."""
    leaking = set(run.read_table(f"{LEAKAGE}/leaks.parquet", LEAK).column("id").to_pylist())
    return [Instruction(**row) for row in artifacts.read_instructions(run) if row["id"] not in leaking]


def read_preferences(run: StageRun[Any]) -> list[Preference]:
    """Of all sources, in order. Raises InputError where there is none."""
    rows = [Preference(**row) for row in artifacts.read_preferences(run)]
    if not rows:
        raise InputError("no preferences; name a source under `alignment.preferences.sources`")
    return rows


def read_truth(run: StageRun[Any]) -> Truth:
    """What is known of the entities that instructions ask about; nothing, where no source knows more than its text."""
    return Truth.from_json(artifacts.read_truth(run))


def of_split(rows: Iterable[Instruction], split: str) -> list[Instruction]:
    """Raises InputError where there is none."""
    found = [row for row in rows if row.split == split]
    if not found:
        raise InputError(
            f'no instruction of the {split} split; give some rows of a source `"split": "{split}"`, or set its '
            "`splits` (alignment.instructions.sources)"
        )
    return found
