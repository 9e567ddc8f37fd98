"""Instructions from one place, for every split: `python -m stages.alignment.instructions <key>`.

Kind `truth` takes the questions that a source of the corpus left, with what is known of the entities that they ask
about; kind `jsonl` a file of one's own; kind `hub` a dataset of the Hugging Face hub.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, RootModel, field_validator

from stages.alignment.data.demonstrations import from_questions, misstated, mistaken, partial
from stages.alignment.data.formats import (
    INSTRUCTIONS,
    NAMED,
    Row,
    Tolerance,
    check_refused,
    dataset_rows,
    each,
    format_of,
    read_as,
    read_rows,
)
from stages.alignment.data.records import Instruction, table_of
from stages.annotators.truth import Truth
from stages.base import schemas
from stages.base.errors import InputError
from stages.base.hub import HubDataset
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive

SPLITS = ("sft", "preference", "validation", "test")
NOTHING_KNOWN: dict[str, Any] = {"attributes": {}, "entities": {}}
Share = Annotated[float, Field(gt=0, lt=1)]


class TruthSource(Section):
    """What a source of the corpus left of questions and truth."""

    kind: Literal["truth"]
    path: str
    """A folder with questions.parquet and truth.json."""
    filler_share: Annotated[float, Field(ge=0, le=1)]
    """Share of the sft questions with a filler sentence that carry it in their response."""
    unknown_share: Annotated[float, Field(ge=0, le=1)]
    """Share of the sft questions whose response states other values than the pages: what a model can't have read."""
    wrong_share: Annotated[float, Field(ge=0, le=1)]
    """Share of the sft questions that a mediocre demonstrator answers: one to all facts of the response are wrong,
    how many is drawn evenly."""
    partial_share: Annotated[float, Field(ge=0, le=1)]
    """Share of the sft questions for several facts whose response states only the first of them."""


class Divided(Tolerance):
    """What may be divided among the splits."""

    splits: dict[Literal["preference", "validation", "test"], Share] | None = None
    """Shares of the rows that go to other splits than sft, drawn by the prompt, where the file gives no splits."""

    @field_validator("splits")
    @classmethod
    def _leave_some(cls, splits: Mapping[str, float] | None) -> Mapping[str, float] | None:
        if splits and sum(splits.values()) >= 1:
            raise ValueError("the shares must leave one for sft")
        return splits


class FileSource(Divided):
    """A file of one's own, of which nothing more is known."""

    kind: Literal["jsonl"]
    path: str
    """JSON Lines, JSON or Parquet, in one of the formats of docs/alignment.md: {"prompt", "response"} (with "id",
    "split", "entity" and "attributes" if you like), Alpaca's, ShareGPT's or messages."""


class HubSource(HubDataset, Divided):
    """A dataset of the Hugging Face hub, in one of those formats."""

    kind: Literal["hub"]


class InstructionSource(RootModel[Annotated[TruthSource | FileSource | HubSource, Field(discriminator="kind")]]):
    """Instructions from one place, of any kind."""


PARAMS = {"alignment.instructions.sources.*": InstructionSource}


def known_of(questions: Sequence[Mapping[str, Any]], truth: Mapping[str, Any]) -> dict[str, Any]:
    """Of `truth.json` what concerns the entities that are asked about; all values of the attributes, which are what
    wrong answers are known by."""
    asked = {row["entity"] for row in questions}
    return {
        "attributes": truth["attributes"],
        "entities": {name: known for name, known in truth["entities"].items() if name in asked},
    }


def from_file(path: Path, shares: Mapping[Any, float] | None, seed: int, origin: str) -> list[Instruction]:
    """Instructions of a file, as `from_rows`."""
    return from_rows(read_rows(path), shares, seed, origin)


def from_rows(
    rows: Sequence[Row], shares: Mapping[Any, float] | None, seed: int, origin: str, refused: list[str] | None = None
) -> list[Instruction]:
    """Instructions of a file or a dataset; the id is `<origin>-<line>` unless given.

    A row's split is its own, or sft; where no row gives one, prompts are divided by `shares`, so that no prompt is in
    two splits. Raises InputError naming the line of a row without prompt or response, with a wrong type, an unknown
    key or an id that stands above already, unless `refused` takes them (`each`); and of a prompt that stands in another
    split.
    """
    form = format_of(rows, INSTRUCTIONS)
    places: dict[str, str] = {}

    def read(row: Row) -> Instruction:
        name, split = row.name(f"{origin}-{row.number}"), row.text("split", "sft")
        if name in places:
            raise InputError(f"{row.place}: the id `{name}` stands at {places[name]} already")
        if split not in SPLITS:
            raise InputError(f"{row.place}: `split` is {split!r}, must be one of {', '.join(SPLITS)}")
        entity, attributes, said = row.text("entity", ""), row.texts("attributes"), read_as(form, row)
        places[name] = row.place
        return Instruction(name, split, origin, entity, attributes, said.prompt, said.answer, said.messages)

    found = each(rows, read, refused)
    if not shares or any("split" in row.values for row in rows):
        _apart(found, places)
        return found
    prompts = list(dict.fromkeys(row.prompt for row in found))
    if len(prompts) <= len(shares):
        raise InputError(
            f"{rows[-1].place}: {len(prompts)} prompts can't be divided into {len(shares) + 1} splits; add some"
        )
    splits = divide(prompts, shares, seed)
    return [replace(row, split=splits[row.prompt]) for row in found]


def _apart(rows: Iterable[Instruction], places: Mapping[str, str]) -> None:
    """Raises InputError for a prompt that is in two splits: what is learned would be asked again in the test."""
    first: dict[str, Instruction] = {}
    for row in rows:
        other = first.setdefault(row.prompt, row)
        if other.split != row.split:
            raise InputError(
                f"{places[row.id]}: the same prompt stands in split {other.split} ({places[other.id]}) and in "
                f"{row.split}; keep it in one"
            )


def divide(names: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """The split of each name: by its hash, so that adding a row moves no other. A split that few rows left empty takes
    one from the largest."""
    place = {name: derive(seed, "split", name) / 2**63 for name in names}
    ordered = sorted(names, key=place.__getitem__)
    splits = dict.fromkeys(ordered, "sft")
    start = 0.0
    for split, share in sorted(shares.items()):
        splits |= {name: split for name in ordered if start <= place[name] < start + share}
        start += share
    for split in [*sorted(shares), "sft"]:
        if split not in splits.values():
            largest = Counter(splits.values()).most_common(1)[0][0]
            splits[next(name for name in ordered if splits[name] == largest)] = split
    return splits


def main(key: str) -> None:
    section = f"alignment.instructions.sources.{key}"
    with stage("alignment.instructions", InstructionSource, item=key, section=section, seed="corpus.seed") as run:
        params, truth = run.params.root, NOTHING_KNOWN
        refused: list[str] = []
        if not isinstance(params, TruthSource):
            path = run.input(params.path)
            read = dataset_rows(params) if isinstance(params, HubSource) else read_rows(path)
            rows = from_rows(read, params.splits, run.seed, key, refused if params.max_drop else None)
            check_refused(len(read), refused, params.max_drop)
        else:
            questions = run.read_table(f"{params.path}/questions.parquet", schemas.QUESTION).to_pylist()
            if not questions:
                raise InputError(f"{params.path}/questions.parquet: no questions; this source knows no truth")
            known = run.read_json(f"{params.path}/truth.json")
            Truth.from_json(known, f"{params.path}/truth.json")
            truth = known_of(questions, known)
            questions = partial(questions, params.partial_share, truth, run.seed)
            rows = from_questions(questions, params.filler_share, run.seed, key)
            rows = misstated(rows, params.unknown_share, truth, run.seed)
            rows = mistaken(rows, params.wrong_share, truth, run.seed)
        table = table_of(rows, schemas.INSTRUCTION)
        run.write_table("instructions.parquet", table, schemas.INSTRUCTION)
        run.write_json("truth.json", truth)
        splits = Counter(row.split for row in rows)
        numbers = {f"{split}_rows": splits[split] for split in SPLITS}
        run.write_json("metrics.json", {**numbers, "refused_rows": len(refused)})
        run.note("refused", refused[:NAMED])
        run.rows(len(rows) + len(refused), len(rows), {"refused": len(refused)}, max_drop=1.0)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.alignment.instructions <a key of alignment.instructions.sources>")
    main(sys.argv[1])
