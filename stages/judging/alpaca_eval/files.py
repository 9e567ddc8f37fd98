"""AlpacaEval's files: model outputs and annotations, read row by row and written so that its package reads them.

Outputs: a list of {"instruction", "output", "generator"}. Annotations: a list of {"instruction", "output_1",
"generator_1", "output_2", "generator_2", "annotator", "preference"}, 1 where output_1 wins and 2 where output_2 does.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.base.errors import InputError

Row = dict[str, Any]
MOST = 1e6  # USD, or seconds, that one verdict can have taken


@dataclass(frozen=True)
class Annotation:
    """One verdict, seen from `model`'s side whichever side it stood on in the file."""

    model: str
    baseline: str
    annotator: str
    instruction: str
    output: str
    baseline_output: str
    preference: float  # 1 (baseline wins) .. 2 (model wins), 0 a draw, NaN if there is none
    usd: float
    seconds: float


def from_annotations(annotations: Sequence[Mapping[str, Any]], texts: Mapping[str, tuple[str, str, str]]) -> list[Row]:
    """AlpacaEval's rows of ANNOTATION rows; texts: id → (prompt, baseline's output, model's output)."""
    return [
        {
            "instruction": texts[row["id"]][0],
            "dataset": row["split"],
            "output_1": texts[row["id"]][1],
            "generator_1": row["baseline"],
            "output_2": texts[row["id"]][2],
            "generator_2": row["model"],
            "annotator": row["annotator"],
            "preference": row["preference"],
            "price_per_example": row["usd"],
            "time_per_example": row["seconds"],
        }
        for row in annotations
    ]


def read_outputs(path: Path) -> tuple[list[Row], list[str]]:
    """(Rows {prompt, output, generator}, problems), in the order of the file. Raises InputError for no list of rows."""
    rows, problems = [], []
    for number, entry in enumerate(_entries(path)):
        missing = [name for name in ("instruction", "output") if not isinstance(entry.get(name), str)]
        if missing:
            problems.append(f"{path}: entry {number}: no `{missing[0]}`; left out")
            continue
        generator = entry.get("generator")
        rows.append(
            {
                "prompt": _text(entry["instruction"]),
                "output": _text(entry["output"]),
                "generator": _text(generator) if isinstance(generator, str) else path.stem,
            }
        )
    return rows, problems


def read_annotations(path: Path, baseline: str) -> tuple[list[Annotation], list[str]]:
    """(Annotations against `baseline`, what is wrong with the others), in the order of the file.

    Where the baseline stands as output_2 the row is turned round. A file without `generator_2`, which some annotators
    leave out, is named after the folder of its model (`results/<model>/<annotator>/annotations.json`).
    """
    rows, problems = [], []
    for number, entry in enumerate(_entries(path)):
        try:
            rows.append(_annotation(entry, path, baseline))
        except (ValueError, OverflowError) as error:
            problems.append(f"{path}: entry {number}: {error}; left out")
    return rows, problems


def baselines(paths: Iterable[Path]) -> list[str]:
    """Every `generator_1` of the files, the most frequent one first."""
    found: dict[str, int] = {}
    for path in paths:
        for entry in _entries(path):
            name = entry.get("generator_1")
            if isinstance(name, str):
                found[_text(name)] = found.get(_text(name), 0) + 1
    return sorted(found, key=lambda name: (-found[name], name))


def _annotation(entry: Row, path: Path, baseline: str) -> Annotation:
    for name in ("instruction", "output_1", "output_2"):
        if not isinstance(entry.get(name), str):
            raise ValueError(f"no `{name}`")
    first, second = _generator(entry, "generator_1", ""), _generator(entry, "generator_2", path.parent.parent.name)
    preference = entry.get("preference")
    preference = math.nan if preference is None else preference
    if isinstance(preference, bool) or not isinstance(preference, int | float):
        raise ValueError(f"preference {preference!r:.40} is no number")
    if not (math.isnan(preference) or preference == 0 or 1 <= preference <= 2):
        raise ValueError(f"preference {preference:g} isn't in 1..2")
    outputs = _text(entry["output_1"]), _text(entry["output_2"])
    if second == baseline and first != baseline:
        first, second, outputs = second, first, outputs[::-1]
        preference = 3 - preference if preference else preference
    if first != baseline:
        raise ValueError(f"judged against `{first}`, not `{baseline}`")
    if not second:
        raise ValueError("no `generator_2`")
    return Annotation(
        model=second,
        baseline=first,
        annotator=_generator(entry, "annotator", path.parent.name),
        instruction=_text(entry["instruction"]),
        output=outputs[1],
        baseline_output=outputs[0],
        preference=float(preference),
        usd=_amount(entry.get("price_per_example"), 0.0),
        seconds=_amount(entry.get("time_per_example"), math.nan),
    )


def _generator(entry: Row, name: str, default: str) -> str:
    value = entry.get(name)
    return _text(value) if isinstance(value, str) and value else default


def _amount(value: Any, default: float) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST
    return float(value) if known else default


def _text(value: str) -> str:
    """Half surrogate pairs, which JSON can escape, have no UTF-8."""
    return value.encode("utf-8", "replace").decode("utf-8")


def _entries(path: Path) -> list[Row]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable JSON file: {error}") from None
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise InputError(f"{path}: must be a JSON list of objects, as AlpacaEval writes them")
    return content
