"""The ladders of one project or several as one table of runs: how two overlays of params are compared."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.base.errors import InputError
from stages.scaling.fit import table_of
from stages.scaling.tables.table import RunTable

SAME = 1e-6  # relative difference of two yardsticks that is rounding


def read_ladders(ladders: Sequence[tuple[str, Path]]) -> RunTable:
    """`ladders`: (name, folder with `<point>/point.json`). Recipes are architectures, of several ladders with the name
    before them.

    Raises InputError for a folder without points or a file that is none, and for ladders whose losses can't be
    compared: nats a token are another measure on another validation text or by another tokenizer.
    """
    points: list[dict[str, Any]] = []
    yardsticks: list[tuple[str, float]] = []
    for name, folder in ladders:
        for point in _points(folder):
            yardsticks.append((name, point["bpb"] / point["loss"]))
            told = {key: f"{name} {point[key]}" for key in ("arch", "key")} if len(ladders) > 1 else {}
            points.append(point | told)
    first, here = yardsticks[0]
    for name, measure in yardsticks:
        if abs(measure / here - 1) > SAME:
            raise InputError(
                f"{name}: a nat per token is {measure:.6g} bits per byte here and {here:.6g} in {first}: another "
                "validation text or tokenizer; compare ladders that were measured on the same"
            )
    return table_of(points, "total")


def _points(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("*/point.json"))
    if not files:
        raise InputError(f"{folder}: no <point>/point.json; give a CSV, or the folder data/scaling/ladder of a project")
    points = []
    for file in files:
        try:
            point = json.loads(file.read_text(encoding="utf-8")) | {"key": file.parent.name}
            numbers = [point[name] for name in ("n_params", "n_nonembedding", "tokens", "flops", "loss", "bpb")]
            sound = isinstance(point["arch"], str) and all(0 < float(number) < float("inf") for number in numbers)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{file}: not a point of a ladder ({error}); run its stage again") from None
        if not sound:
            raise InputError(f"{file}: its numbers must be positive and finite; run its stage again")
        points.append(point)
    return points
