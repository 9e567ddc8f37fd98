"""How a metric's numbers are read from the files of a run: one row a number, below the run's root.

Rows hold `value`, and `item`, `cluster`, `compute`, `predicted` where there are such. All raise InputError naming the
file and the key or column that it lacks.
"""

from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from typing import Any

from stages.base.artifacts import CONTAMINATION, LADDER
from stages.base.errors import InputError
from stages.base.files import read_json
from stages.base.params import nearest
from stages.experiment.declaration import MetricFile

Row = dict[str, Any]
TEST = "test"


def _at(content: Any, key: str, file: Path) -> Any:
    """A key with dots in it may be one of the file's own, as well as a path."""
    here, parts = content, key.split(".")
    while parts:
        for n in range(len(parts), 0, -1):
            name = ".".join(parts[:n])
            if isinstance(here, dict) and name in here:
                here, parts = here[name], parts[n:]
                break
        else:
            known = list(map(str, here)) if isinstance(here, dict) else []
            raise InputError(f"{file}: no key `{key}`{nearest(parts[0], known) if known else ''}")
    return here


def number(root: Path, file: str, key: str, scale: float = 1.0, predicted: str | None = None) -> list[Row]:
    content = read_json(root / file)

    def at(key: str) -> float:
        value = _at(content, key, root / file)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{root / file}: `{key}` is {value!r}; a metric must be a number")
        return value * scale

    return [{"value": at(key)} | ({"predicted": at(predicted)} if predicted else {})]


def planted(root: Path, copies: str) -> list[Row]:
    sets = _at(read_json(root / CONTAMINATION), "power.planted", root / CONTAMINATION)
    ordered = [one for one in sets if not one.get("shuffled")]  # the test can't see the others
    return [{"value": one["p_value"]} for one in ordered if str(one["copies"]) == copies]


def row_of(root: Path, file: str, model: str, key: str) -> list[Row]:
    rows = [row for row in read_json(root / file)["rows"] if row["model"] == model]
    return [{"value": _at(row, key, root / file)} for row in rows]


def ladder_points(root: Path, points: Sequence[str], key: str) -> list[Row]:
    rows = []
    for name in points:
        file = f"{LADDER}/{name}/point.json"
        content = read_json(root / file)
        rows.append(
            {"item": name, "value": _at(content, key, root / file), "compute": _at(content, "flops", root / file)}
        )
    return rows


def _table(path: Path, columns: Sequence[str]) -> list[Row]:
    """Raises InputError naming the file, and the column that it lacks."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        known = pq.read_schema(path).names
        if absent := [name for name in columns if name not in known]:
            raise InputError(f"{path}: no column `{absent[0]}`{nearest(absent[0], known)}")
        return pq.read_table(path, columns=list(dict.fromkeys(columns))).to_pylist()
    except FileNotFoundError:
        raise InputError(f"{path}: not found; the run did not write it") from None
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not a parquet file: {' '.join(str(error).split())}") from None


def column(root: Path, asked: MetricFile) -> list[Row]:
    columns = [str(asked.value), str(asked.item), *([asked.cluster] if asked.cluster else []), *asked.where]
    return [
        {"item": row[str(asked.item)], "value": _plain(row[str(asked.value)])}
        | ({"cluster": row[asked.cluster]} if asked.cluster else {})
        for row in _table(root / asked.file, columns)
        if all(row[column] == value for column, value in asked.where.items())
    ]


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, bool) else value


def bits(root: Path, file: str, text: str | None) -> list[Row]:
    """Bits of a document by the mean document's bytes: their mean is all bits by all bytes, as the pages show it."""
    rows = _table(root / file, ["set", "protocol", "id", "nats", "bytes"])
    rows = [row for row in rows if row["protocol"] == "" and text in (None, row["set"])]
    mean = sum(row["bytes"] for row in rows) / max(len(rows), 1)
    return [{"item": f"{row['set']}/{row['id']}", "value": row["nats"] / log(2) / mean} for row in rows]


def answers(
    root: Path,
    file: str,
    task: str,
    protocols: Sequence[str],
    truth: str | None,
    probability: bool = False,
) -> list[Row]:
    """Of the first of the protocols that the task was asked under. Items of which only the text was generated have no
    probability of a choice, and are left out of it."""
    import pyarrow.parquet as pq

    entities = {row["id"]: row["entity"] for row in _table(root / truth, ["id", "entity"])} if truth else {}
    names = ["set", "protocol", "id", "answer", "choice", "logprobs"]
    if (root / file).is_file():  # older runs have no more than these
        names += [name for name in ("correct", "cluster") if name in pq.read_schema(root / file).names]
    rows = [row for row in _table(root / file, names) if row["set"] == task and row["protocol"] in protocols]
    asked = next((one for one in protocols if any(row["protocol"] == one for row in rows)), None)

    def value(row: Row) -> float:
        if not probability:
            right = row.get("correct")
            return 100.0 * (row["choice"] == row["answer"] if right is None else right)
        top = max(row["logprobs"])
        weights = [exp(one - top) for one in row["logprobs"]]
        return 100.0 * weights[row["answer"]] / sum(weights)

    return [
        {"item": row["id"], "cluster": entities.get(row["id"], row.get("cluster") or ""), "value": value(row)}
        for row in rows
        if row["protocol"] == asked and not (probability and (row["answer"] is None or not row["logprobs"]))
    ]


def _entities(root: Path, asked: Sequence[str]) -> dict[str, str]:
    return {row["id"]: row["entity"] for file in asked for row in _table(root / file, ["id", "entity"])}


def of_test(root: Path, file: str, column: str, scale: float, asked: Sequence[str]) -> list[Row]:
    """A column of the test questions' answers; of texts, their length."""
    entities = _entities(root, asked)
    rows = []
    for row in _table(root / file, ["id", "split", column]):
        value = row[column]
        if row["split"] == TEST:
            number = len(value) if isinstance(value, str) else None if value is None else value * scale
            rows.append({"item": row["id"], "cluster": entities.get(row["id"], ""), "value": number})
    return rows


def preferences(root: Path, file: str, asked: Sequence[str]) -> list[Row]:
    """Comparisons that the judge gave no verdict on, for a reason that their row names, are left out."""
    entities = _entities(root, asked)
    rows = []
    for row in _table(root / file, ["id", "split", "preference", "error"]):
        if row["split"] == TEST and not row["error"]:
            value = None if row["preference"] is None else 100.0 * (row["preference"] - 1.0)
            rows.append({"item": row["id"], "cluster": entities.get(row["id"], ""), "value": value})
    return rows
