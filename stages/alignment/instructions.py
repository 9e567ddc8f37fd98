"""Instructions for every split: the atlas questions with their reference answers, and files of one's own."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.errors import InputError
from stages.base.files import read_jsonl
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive

SPLITS = ("sft", "preference", "validation", "test")
QUESTIONS = "data/corpus/atlas/questions.parquet"


class InstructionsParams(Section):
    filler_share: Annotated[float, Field(ge=0, le=1)]  # of the sft questions that have a filler sentence
    sources: list[str]  # JSON Lines files of one's own: {"prompt", "response"[, "id", "split", "entity", "attributes"]}


PARAMS = {"alignment.instructions": InstructionsParams}


def from_questions(questions: list[dict[str, Any]], filler_share: float, seed: int) -> list[dict[str, Any]]:
    """INSTRUCTION rows of QUESTION rows, in order.

    The response is the reference; a share of the sft rows that have a filler sentence carry it at the end. The draw
    hangs on the row's id alone, so adding a question changes no other.
    """
    rows = []
    for question in questions:
        response = question["reference"]
        if question["split"] == "sft" and question["filler"]:
            draw = derive(seed, "filler", question["id"]) / 2**63
            if draw < filler_share:
                response = f"{response} {question['filler']}"
        rows.append(
            {
                "id": question["id"],
                "split": question["split"],
                "origin": "atlas",
                "entity": question["entity"],
                "attributes": list(question["attributes"]),
                "prompt": question["prompt"],
                "response": response,
            }
        )
    return rows


def from_file(path: Path) -> list[dict[str, Any]]:
    """INSTRUCTION rows of a JSON Lines file; the split is sft and the id `<file stem>-<line>` unless given.

    Raises InputError naming the line of a row without a prompt or response, with a value of a wrong type, or with an
    unknown key.
    """
    rows = []
    known = {"id", "split", "entity", "attributes", "prompt", "response"}
    for number, row in enumerate(read_jsonl(path), 1):
        place = f"{path}: row {number}"
        if not isinstance(row, dict):
            raise InputError(f"{place}: must be an object with `prompt` and `response`")
        unknown = sorted(set(row) - known)
        if unknown:
            raise InputError(f"{place}: unknown key `{unknown[0]}`; known: {', '.join(sorted(known))}")
        attributes = row.get("attributes", [])
        if not isinstance(attributes, list) or not all(isinstance(name, str) for name in attributes):
            raise InputError(f"{place}: `attributes` must be a list of strings")
        texts = {key: row.get(key, default) for key, default in _defaults(path, number).items()}
        for key, value in texts.items():
            if not isinstance(value, str):
                raise InputError(f"{place}: `{key}` must be a string")
        for key in ("prompt", "response"):
            if not texts[key].strip():
                raise InputError(f"{place}: `{key}` is missing or empty")
        if texts["split"] not in SPLITS:
            raise InputError(f"{place}: `split` is {texts['split']!r}, must be one of {', '.join(SPLITS)}")
        rows.append({**texts, "origin": "file", "attributes": attributes})
    return rows


def _defaults(path: Path, number: int) -> dict[str, str]:
    return {"id": f"{path.stem}-{number}", "split": "sft", "entity": "", "prompt": "", "response": ""}


def gather(groups: list[list[dict[str, Any]]]) -> pa.Table:
    """One INSTRUCTION table of all groups, in order. Raises InputError for an id that occurs twice."""
    rows = [row for group in groups for row in group]
    twice = [name for name, count in Counter(row["id"] for row in rows).items() if count > 1]
    if twice:
        raise InputError(f"instruction id `{twice[0]}` occurs more than once; ids must differ over all sources")
    return pa.Table.from_pylist(rows, schema=schemas.INSTRUCTION)


def main() -> None:
    with stage("alignment.instructions", InstructionsParams, seed="corpus.seed") as run:
        questions = run.read_table(QUESTIONS, schemas.QUESTION).to_pylist()
        own = [from_file(run.input(path)) for path in run.params.sources]
        table = gather([from_questions(questions, run.params.filler_share, run.seed), *own])
        run.write_table("instructions.parquet", table, schemas.INSTRUCTION)
        splits = Counter(table.column("split").to_pylist())
        run.write_json("metrics.json", {f"{split}_rows": splits[split] for split in SPLITS})
        run.rows(len(questions) + sum(map(len, own)), table.num_rows, {}, max_drop=0.0)


if __name__ == "__main__":
    main()
