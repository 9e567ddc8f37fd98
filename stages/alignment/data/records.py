"""The rows that alignment works on, typed, and how stages read them from all sources."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from stages.annotators.truth import Truth
from stages.base import artifacts, schemas
from stages.base.conversation import Asked, Message
from stages.base.errors import InputError
from stages.base.record import StageRun

LEAKAGE = "data/alignment/leakage"
GENERATED_ROWS = "data/alignment/self_instruct/generated.parquet"
LEAK = pa.schema(
    [
        ("id", pa.string()),  # of the instruction or the pair
        ("test", pa.string()),  # key of the task, or instructions/<key of the source>
        ("question", pa.string()),  # its id there
        ("kind", pa.string()),  # prompt, overlap
        ("words", pa.string()),  # that both have
    ]
)

GENERATED = pa.schema(
    [
        *schemas.INSTRUCTION,
        ("generation", pa.int32()),  # from 1
        ("parents", pa.list_(pa.string())),  # ids of the examples that the writer was shown
        ("written_by", pa.string()),  # base model, or the teacher's name
        ("classification", pa.bool_()),  # null where nobody has said
        ("overlap", pa.float32()),  # highest ROUGE-L of the instruction to anything kept before
        ("logprob", pa.float32()),  # mean of a token of the response, by the writer; null where unknown
        ("agreement", pa.float32()),  # ROUGE-L of a second response to the first; null where none was written
        ("other_response", pa.string()),  # that one, "" where none was written
        ("edited_by", pa.string()),  # reviewer of a changed text; "" where it stands as written
        ("checked_by", pa.string()),  # reviewer who kept or changed it; "" where nobody looked
        ("reason", pa.string()),  # what the reviewer said
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


def read_generated(run: StageRun[Any]) -> list[Instruction]:
    """What alignment.self_instruct has left."""
    rows = run.read_table(GENERATED_ROWS, GENERATED).select(schemas.INSTRUCTION.names).to_pylist()
    return [Instruction(**row) for row in rows]


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
