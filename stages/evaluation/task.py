"""The questions of one task as schema TASK, ready before the corpus that is cleaned of them: `… task <key>`.

Kinds: `file` is a task's YAML, `library` a shipped one on local data (`tasks/`); `truth` asks for single facts of a
source that knows them, `mmlu` reads a folder as Hendrycks et al. 2021 publish it, `table` a parquet or csv file of
questions. `task.json` says how they are asked: a `TaskFile`.
"""

import csv
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from stages.base import schemas
from stages.base.artifacts import TASKS
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.base.seeds import derive
from stages.evaluation.protocols.choices import LETTERS, problem_of, statements
from stages.evaluation.tasks.declaration import TaskFile
from stages.evaluation.tasks.item import row_of
from stages.evaluation.tasks.loading import load
from stages.evaluation.tasks.yaml_file import find_in_library, read_task_file

Row = dict[str, Any]
SPLITS = ("development", "validation", "test")
ENTITY_SPLITS = {"development": "sft", "validation": "validation", "test": "test"}
MMLU_FOLDERS = {"development": "dev", "validation": "val", "test": "test"}
OPTIONAL = ("id", "subject", "split")  # columns of a csv that are no choices, beside `question` and `answer`


class Limits(Section):
    """Questions of each split, at the most."""

    development: Annotated[int, Field(ge=1)]
    """Examples that are shown before a question."""
    validation: Annotated[int, Field(ge=1)]
    """For choices."""
    test: Annotated[int, Field(ge=1)]
    """For the tables."""


class TruthTask(Section):
    """One question a fact, with other values of the same attribute to choose from."""

    kind: Literal["truth"]
    path: str
    """Folder of a source that knows the truth: its questions.parquet and truth.json."""
    choices: Annotated[int, Field(ge=2, le=26)]
    """Answers to choose from, so that chance is 1 / choices."""
    limits: Limits


class MmluTask(Section):
    """Four-choice questions by subject."""

    kind: Literal["mmlu"]
    path: str
    """Folder with dev/, val/ and test/, each of files `<subject>_<split>.csv`: question, choices, letter."""


class TableTask(Section):
    """Questions of one's own."""

    kind: Literal["table"]
    path: str
    """A parquet file with question, choices and answer (index), or a csv file with a header: question, a column each
    choice, answer (letter, or index from 0). id, subject and split (development, validation, test) may be left out."""


class FileTask(Section):
    """A task as its own YAML says (docs/tasks.md)."""

    kind: Literal["file"]
    path: str
    """The YAML, or a folder that holds one and its data. DVC sees changes of what is there, not of a hub's dataset."""


class LibraryTask(Section):
    """A shipped task on documents of one's own."""

    kind: Literal["library"]
    task: str
    """Its name (docs/tasks.md has them all)."""
    path: str
    """Folder or file with its documents, in place of the hub's."""


TaskParams: Any = Annotated[TruthTask | MmluTask | TableTask | FileTask | LibraryTask, Field(discriminator="kind")]
PARAMS: dict[str, Any] = {"evaluation.tasks.*": TaskParams}


def truth_questions(questions: list[Row], truth: Row, params: TruthTask, seed: int) -> list[Row]:
    """One row a question about a single attribute, `limits` of them drawn a split.

    Distractors are other values of the same attribute, drawn without replacement, so that chance is 1 / choices and no
    choice can be ruled out by its kind. Raises InputError if an attribute has too few values.
    """
    rows = []
    for split, entities in ENTITY_SPLITS.items():
        singles = [q for q in questions if q["split"] == entities and q["kind"] == "single"]
        if not singles:
            raise InputError(f"{params.path}/questions.parquet: no question about one fact of a `{entities}` entity")
        singles.sort(key=lambda q: q["id"])
        order = np.random.default_rng(derive(seed, split)).permutation(len(singles))
        chosen = [singles[int(i)] for i in order[: getattr(params.limits, split)]]
        rows += [_truth_row(question, split, truth, params, seed) for question in chosen]
    return rows


def _truth_row(question: Row, split: str, truth: Row, params: TruthTask, seed: int) -> Row:
    (attribute,) = question["attributes"]
    right = truth["entities"][question["entity"]]["facts"][attribute]
    others = [value for value in truth["attributes"][attribute] if value != right]
    if len(others) < params.choices - 1:
        raise InputError(
            f"{params.path}/truth.json: attribute `{attribute}` has {len(others) + 1} values, {params.choices} choices "
            "need as many; lower the task's `choices` or have the source know more values"
        )
    rng = np.random.default_rng(derive(seed, "choices", question["id"]))
    choices = [others[int(i)] for i in rng.choice(len(others), size=params.choices - 1, replace=False)]
    answer = int(rng.integers(0, params.choices))
    choices.insert(answer, right)
    return {
        "id": question["id"],
        "subject": attribute,
        "split": split,
        "question": question["prompt"],
        "choices": choices,
        "answer": answer,
        "statements": statements(choices, answer, question["reference"]),
    }


def mmlu_questions(folder: Path) -> list[Row]:
    """Every question of the folder, subjects in alphabetical order, in the order of the files.

    Raises InputError where there is none, naming file and line of one that can't be asked.
    """
    rows = []
    for split, name in MMLU_FOLDERS.items():
        for file in sorted(folder.glob(f"{name}/*_{name}.csv")):
            subject = file.name.removesuffix(f"_{name}.csv")
            rows += [
                _checked({"subject": subject, "split": split, **_answered(cells, place)}, place)
                for place, cells in _cells(file)
                if (cells[0], cells[-1]) != ("question", "answer")  # the header of some mirrors
            ]
    if not rows:
        raise InputError(f"{folder}: no questions in dev/*_dev.csv, val/*_val.csv or test/*_test.csv")
    return rows


def table_questions(file: Path) -> list[Row]:
    """The rows of a parquet or csv file. Raises InputError for missing columns, naming the row of a bad question."""
    return list(_parquet_rows(file) if file.suffix == ".parquet" else _csv_rows(file))


def _parquet_rows(file: Path) -> Iterator[Row]:
    try:
        table = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file}: not a readable parquet file: {error}") from None
    if missing := [name for name in ("question", "choices", "answer") if name not in table.column_names]:
        raise InputError(f"{file}: no column `{missing[0]}`; a task needs question, choices and answer (index)")
    for number, row in enumerate(table.to_pylist()):
        if not isinstance(row["choices"], list) or isinstance(row["answer"], bool):
            raise InputError(f"{file}: row {number}: choices must be a list of texts, and answer an index from 0")
        yield _checked(row, f"{file}: row {number}")


def _csv_rows(file: Path) -> Iterator[Row]:
    header: list[str] = []
    names: list[str] = []
    for place, cells in _cells(file):
        if not header:
            header = [cell.strip() for cell in cells]
            if "question" not in header or "answer" not in header:
                raise InputError(f"{place}: the header must name `question`, the choices and `answer`")
            if "" in header:
                raise InputError(f"{place}: column {header.index('') + 1} has no name; leave an index out of the file")
            if twice := next((name for name in header if header.count(name) > 1), None):
                raise InputError(f"{place}: column `{twice}` stands twice; give each choice a name of its own")
            names = [name for name in header if name not in ("question", "answer", *OPTIONAL)]
            continue
        if len(cells) != len(header):
            raise InputError(f"{place}: {len(cells)} cells, the header has {len(header)}")
        named = dict(zip(header, cells, strict=True))
        own = {name: named[name] for name in OPTIONAL if named.get(name)}
        row = _answered([named["question"], *(named[name] for name in names), named["answer"]], place)
        yield _checked(own | _without_blanks(row, place), place)


def _without_blanks(row: Row, place: str) -> Row:
    """Without the empty cells of a row that has fewer choices than the header; the answer names a cell of the file."""
    filled = [index for index, choice in enumerate(row["choices"]) if choice]
    if row["answer"] not in filled:
        raise InputError(f"{place}: the answer names an empty choice")
    return row | {"choices": [row["choices"][index] for index in filled], "answer": filled.index(row["answer"])}


def _cells(file: Path) -> Iterator[tuple[str, list[str]]]:
    """(`file:line`, cells) of each row that isn't empty."""
    with file.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle)
        try:
            yield from ((f"{file}:{reader.line_num}", cells) for cells in reader if cells)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{file}:{reader.line_num}: not readable as csv: {error}") from None


def _answered(cells: list[str], place: str) -> Row:
    """Of question, choices and the right one's letter, or its index from 0 as some mirrors of MMLU have it."""
    question, *choices, said = cells if len(cells) > 1 else [*cells, ""]
    known = {str(n): n for n in range(len(choices))} | {LETTERS[n]: n for n in range(len(choices))}
    if said.strip().upper() not in known:
        last = LETTERS[max(len(choices) - 1, 0)]
        raise InputError(f"{place}: the answer must be a letter from A to {last} or an index from 0, got {said[:40]!r}")
    return {"question": question, "choices": choices, "answer": known[said.strip().upper()]}


def _checked(row: Row, place: str) -> Row:
    if problem := problem_of(row):
        raise InputError(f"{place}: {problem}")
    if row.get("split") and row["split"] not in SPLITS:
        raise InputError(f"{place}: split {row['split']!r} is none of {', '.join(SPLITS)}")
    return row


def complete(rows: list[Row], key: str, path: str) -> list[Row]:
    """Rows of schema TASK with what may be left out: id (a hash of task and place), subject, split, statements.

    Raises InputError where there is no question, none of the splits that models are scored on, or one id twice.
    """
    if not any(row.get("split") != "development" for row in rows):
        raise InputError(f"{path}: no questions but few-shot examples" if rows else f"{path}: no questions")
    found: dict[str, Row] = {}
    for number, row in enumerate(rows):
        split, subject = row.get("split") or "test", row.get("subject") or key
        own = hashlib.sha256(f"{key}\x1f{split}\x1f{subject}\x1f{number}".encode()).hexdigest()[:16]
        filled = {
            "id": str(row.get("id") or own),
            "set": key,
            "subject": subject,
            "split": split,
            "question": row["question"],
            "prompt": "",
            "choices": list(row["choices"]),
            "answer": int(row["answer"]),
            "targets": [],
            "contexts": [],
            "statements": list(row.get("statements") or []),
            "cluster": "",
            "description": "",
            "labels": [],
            "counted": "",
        }
        if found.setdefault(filled["id"], filled) is not filled:
            raise InputError(f"{path}: two questions have the id `{filled['id']}`")
    return list(found.values())


QUESTIONS: dict[str, Any] = {
    "output_type": "multiple_choice",
    "subject": "subject",
    "fewshot_config": {"sampler": "first_n"},
}
"""How questions without a file are asked: examples are the first development questions of their subject."""


def read_task(run: StageRun[Any], key: str) -> tuple[list[Row], TaskFile]:
    """The questions of the kind that params name, and how they are asked."""
    params = run.params
    path = run.input(params.path) if not isinstance(params, TruthTask) else Path(params.path)
    match params:
        case FileTask():
            task = read_task_file(path)
        case LibraryTask():
            task = find_in_library(params.task, params.path)
        case TruthTask():
            questions = run.read_table(path / "questions.parquet", schemas.QUESTION).to_pylist()
            if not questions:
                raise InputError(f"{path}/questions.parquet: no questions, as that source knows no truth; remove it")
            rows = truth_questions(questions, run.read_json(path / "truth.json"), params, run.seed)
            return complete(rows, key, params.path), TaskFile(task=key, **QUESTIONS)
        case _:
            rows = table_questions(path) if isinstance(params, TableTask) else mmlu_questions(path)
            return complete(rows, key, params.path), TaskFile(task=key, **QUESTIONS)
    if task.data_dir is not None and not Path(task.data_dir).is_relative_to(path):
        run.input(task.data_dir)
    return [row_of(item) for item in load(task, key)], task.model_copy(update={"task": key})


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.evaluation.task <a key of evaluation.tasks>")
    key = sys.argv[1]
    with stage("evaluation.task", TaskParams, item=key, section=f"evaluation.tasks.{key}", seed="corpus.seed") as run:
        rows, task = read_task(run, key)
        run.write_table("questions.parquet", pa.Table.from_pylist(rows, schema=schemas.TASK), schemas.TASK)
        built = f"{TASKS}/{key}/questions.parquet"
        run.write_contract("task.json", task.model_copy(update={"data_dir": None, "built": built}))
        run.rows(len(rows), len(rows), dropped={}, max_drop=0.0)


if __name__ == "__main__":
    main()
