"""Documents of a task: rows of local files, of the hub, or of a generator of ours, each with the place it is from."""

import csv
import io
import re
import string
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from stages.base.compressed import bare_suffix, read_whole
from stages.base.errors import InputError
from stages.base.files import json_lines, unique_names
from stages.base.hub import HubDataset, read_rows
from stages.evaluation.tasks import minimal_pairs
from stages.evaluation.tasks.declaration import TaskFile

GENERATORS = {"minimal_pairs": minimal_pairs.documents}
FORMATS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text"}
"""By suffix. A text file is one document a file, with the column `text`."""
NAMES = {"validation": ("validation", "val", "valid")}
"""Of a split, where folders call it otherwise."""
IGNORED = ("trust_remote_code", "streaming", "verification_mode")
"""Of `dataset_kwargs`: no code is run, and all is streamed."""
LOCAL = ("data_files", "column_names", "names", "header", "sep", "delimiter", *IGNORED)
"""What `dataset_kwargs` may say of local files."""
INTEGER = re.compile(r"-?(0|[1-9]\d*)")
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")


class Document(NamedTuple):
    place: str  # file and line, or dataset, split and row
    columns: dict[str, Any]


def documents(task: TaskFile, split: str | None, limit: int | None = None) -> list[Document]:
    """The first `limit` of a split; every one has the same columns, None where its row has none of a name.

    Raises InputError where there is no such file, split or dataset, and for what can't be read, with its place.
    """
    found = list(islice(_rows(task, split, limit), limit))
    names = dict.fromkeys(name for document in found for name in document.columns)
    return [Document(place, {**dict.fromkeys(names), **columns}) for place, columns in found]


def has_split(task: TaskFile, split: str | None) -> bool:
    """Whether local data has files of a split; of the hub it is what the file says."""
    root = _local_root(task)
    return root is None or root.is_file() or bool(_files_of(task, root, split))


def _rows(task: TaskFile, split: str | None, limit: int | None) -> Iterator[Document]:
    if (root := _local_root(task)) is not None:
        files = [root] if root.is_file() else _files_of(task, root, split)
        if not files:
            has = ", ".join(sorted(one.name for one in root.iterdir())[:8]) or "nothing"
            raise InputError(
                f"{task.file}: {root}: no files of the split `{split}`: neither {split}.jsonl (or .json, .csv, "
                f".parquet, .txt, also packed), nor {split}-*.parquet, nor files in {split}/; it has {has}"
            )
        return (row for file in files for row in _file_rows(file, None, task.dataset_kwargs))
    if task.dataset_path in GENERATORS:
        rows = GENERATORS[task.dataset_path](**task.dataset_kwargs)
        return (Document(f"{task.dataset_path} {number}", row) for number, row in enumerate(rows))
    if task.dataset_path in ("json", "csv", "parquet", "text"):
        return _declared_rows(task, split, limit)
    if not task.dataset_path:
        raise InputError(f"{task.file}: no `dataset_path` and no `data_dir`; say where the documents are")
    return _hub_rows(task, split, limit)


def _local_root(task: TaskFile) -> Path | None:
    if task.data_dir is not None:
        root = Path(task.data_dir)
        if not root.exists():
            raise InputError(f"{task.file}: {root}: not found; give a folder or file with the documents")
        return root
    looks_local = task.dataset_path.startswith((".", "/"))
    return Path(task.dataset_path) if looks_local or Path(task.dataset_path).is_dir() else None


def _files_of(task: TaskFile, root: Path, split: str | None) -> list[Path]:
    """Files of a split in a folder: in that of the dataset's configuration where there is one, and as snapshots of the
    hub (`data/test-00000-of-00001.parquet`) and the authors' folders (`test/anatomy_test.csv`) have them."""
    if split is None:
        raise InputError(f"{task.file}: {root} is a folder, and the task names no split; add `test_split`")
    named = root / task.dataset_name if task.dataset_name else root
    for folder in (named, root, named / "data", root / "data"):
        for name in NAMES.get(split, (split,)):
            inside = folder / name
            candidates = [
                *folder.glob(f"{name}.*"),
                *folder.glob(f"{name}-*.*"),
                *(inside.glob("*") if inside.is_dir() else ()),
            ]
            if files := sorted(path for path in candidates if path.is_file() and _format(path)):
                return files
    return []


def _format(path: Path) -> str | None:
    return FORMATS.get(bare_suffix(path.name))


def _declared_rows(task: TaskFile, split: str | None, limit: int | None) -> Iterator[Document]:
    """Of `data_files`, as `datasets.load_dataset(format, data_files=…)` takes them."""
    if unknown := [name for name in task.dataset_kwargs if name not in LOCAL]:
        raise InputError(f"{task.file}: dataset_kwargs.{unknown[0]}: not for local files; known: {', '.join(LOCAL)}")
    given = task.dataset_kwargs.get("data_files")
    by_split = given if isinstance(given, dict) else {"train": given}
    wanted = by_split.get(split or next(iter(by_split)))
    if not wanted:
        raise InputError(f"{task.file}: dataset_kwargs.data_files has no split `{split}`; it has {', '.join(by_split)}")
    for name in [wanted] if isinstance(wanted, str) else wanted:
        if "://" in name:
            yield from _hub_rows(task, split, limit)
            return
        own = Path(task.file).parent / name
        path = own if own.exists() and not Path(name).exists() else Path(name)
        if not path.is_file():
            raise InputError(f"{task.file}: {name}: not found, neither here nor beside the task's file")
        yield from _file_rows(path, task.dataset_path, task.dataset_kwargs)


def _file_rows(path: Path, form: str | None, options: dict[str, Any]) -> Iterator[Document]:
    match form or _format(path):
        case "json":
            return _json_rows(path)
        case "csv":
            return _csv_rows(path, options)
        case "parquet":
            return _parquet_rows(path)
        case "text":
            text = read_whole(path).decode("utf-8", "replace")
            return iter([Document(str(path), {"text": text})])
    raise InputError(f"{path}: not a kind of file that is read; use {', '.join(FORMATS)}, packed or not")


def _json_rows(path: Path) -> Iterator[Document]:
    """JSON Lines, or one list of objects."""
    content = read_whole(path)
    if not content.lstrip().startswith(b"["):
        numbered = ((f"{path}:{line}", value) for line, value in json_lines(path))
    else:
        import json

        try:
            values = json.loads(content, object_pairs_hook=unique_names)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: not valid JSON: {error}") from None
        numbered = ((f"{path}: object {number}", value) for number, value in enumerate(values))
    for place, value in numbered:
        if not isinstance(value, dict):
            raise InputError(f"{place}: must be an object with a value for each column")
        yield Document(place, value)


def _parquet_rows(path: Path) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        rows = (row for batch in file.iter_batches() for row in batch.to_pylist())
        for number, row in enumerate(rows):
            yield Document(f"{path}: row {number}", row)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a readable parquet file: {' '.join(str(error).split())[:200]}") from None


def _csv_rows(path: Path, options: dict[str, Any]) -> Iterator[Document]:
    """Rows of a csv file; a column of nothing but numbers is one of numbers.

    Hendrycks et al. publish MMLU as `<subject>_<split>.csv` without a header: question, choices, letter. Those become
    the columns that the hub has for it: question, subject, choices, answer (index).
    """
    separator = options.get("sep") or options.get("delimiter") or ("\t" if bare_suffix(path.name) == ".tsv" else ",")
    try:
        text = read_whole(path).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as csv: {error}") from None
    if path.parent.name in ("dev", "val", "test") and path.stem.endswith(f"_{path.parent.name}"):
        yield from _hendrycks_rows(path, lines)
        return
    names: list[str] = options.get("column_names") or options.get("names") or []
    if not names and lines:
        names = [cell.strip() for cell in lines.pop(0)[1]]
    elif options.get("header") == 0:
        lines = lines[1:]
    for line, cells in lines:
        if len(cells) != len(names):
            raise InputError(f"{path}:{line}: {len(cells)} cells, the header has {len(names)}")
    columns = [_typed([cells[index] for _, cells in lines]) for index in range(len(names))]
    for number, (line, _) in enumerate(lines):
        values = (column[number] for column in columns)
        yield Document(f"{path}:{line}", dict(zip(names, values, strict=True)))


def _typed(cells: list[str]) -> list[Any]:
    if all(INTEGER.fullmatch(cell) for cell in cells):
        return [int(cell) for cell in cells]
    return [float(cell) for cell in cells] if all(NUMBER.fullmatch(cell) for cell in cells) else cells


def _hendrycks_rows(path: Path, lines: list[tuple[int, list[str]]]) -> Iterator[Document]:
    subject = path.stem.removesuffix(f"_{path.parent.name}")
    for line, cells in lines:
        question, *choices, said = [*cells, "", ""] if len(cells) < 2 else cells
        if (question, said) == ("question", "answer"):
            continue  # the header of some mirrors
        letter = said.strip().upper()
        answer: int | str = (
            string.ascii_uppercase.find(letter) if len(letter) == 1 and letter.isupper() else said.strip()
        )
        answer = int(answer) if isinstance(answer, str) and answer.isdecimal() else answer
        columns = {"question": question, "subject": subject, "choices": choices, "answer": answer}
        yield Document(f"{path}:{line}", columns)


def _hub_rows(task: TaskFile, split: str | None, limit: int | None) -> Iterator[Document]:
    """Rows of a dataset of the hub, streamed: only those that are asked for are fetched."""
    given = {name: value for name, value in task.dataset_kwargs.items() if name not in IGNORED}
    if unknown := [name for name in given if name not in ("revision", "data_files")]:
        raise InputError(f"{task.file}: dataset_kwargs.{unknown[0]}: not read; known: revision, data_files")
    if split is None:
        raise InputError(f"{task.file}: names no split of {task.dataset_path}; add `test_split`")
    files = given.get("data_files")
    files = files.get(split) if isinstance(files, dict) else files
    dataset = HubDataset(
        path=".",
        name=task.dataset_path,
        config=task.dataset_name,
        split=split,
        revision=given.get("revision"),
        data_files=[files] if isinstance(files, str) else files,
        limit=limit,
    )
    place = " ".join(filter(None, (task.dataset_path, task.dataset_name, split)))
    try:
        for number, row in enumerate(read_rows(dataset)):
            yield Document(f"{place}: row {number}", row)
    except InputError as error:
        raise InputError(f"{task.file}: {error}; or give local files with `data_dir` (--data)") from None
