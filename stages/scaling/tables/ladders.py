"""The ladders of one project or several as one table of runs: how two overlays of params are compared."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from stages.base.contracts.point import Ladder, Point
from stages.base.errors import InputError
from stages.scaling.tables.table import RunTable

SAME = 1e-6  # relative difference of two yardsticks that is rounding


def table_of(points: Sequence[Point], count: str) -> RunTable:
    """Points as a table of runs: recipes are architectures, C counts attention too; `count` says which N."""
    other = {"total": "n_nonembedding", "non_embedding": "n_params"}[count]
    size = {"total": "n_params", "non_embedding": "n_nonembedding"}[count]
    names = (size, "tokens", "flops", "loss", other)
    n, d, c, loss, n_other = np.array([[getattr(point, name) for name in names] for point in points], np.float64).T
    extra = {"N_nonembedding": n_other} if count == "total" else {}
    recipes, keys = tuple(point.arch for point in points), tuple(point.key for point in points)
    return RunTable(n, d, c, loss, recipes, keys, extra, tuple(range(len(points))))


def read_ladders(ladders: Sequence[tuple[str, Path]]) -> RunTable:
    """`ladders`: (name, folder with points.json). Recipes are architectures, of several ladders with the name before
    them.

    Raises InputError for a folder without points or a file that is none, and for ladders whose losses can't be
    compared: nats a token are another measure on another validation text or by another tokenizer.
    """
    read = [(name, point) for name, folder in ladders for point in _points(folder)]
    table = table_of([point for _, point in read], "total")
    first, here = read[0][0], read[0][1].bpb / read[0][1].loss
    for name, point in read:
        if abs(point.bpb / point.loss / here - 1) > SAME:
            raise InputError(
                f"{name}: a nat per token is {point.bpb / point.loss:.6g} bits per byte here and {here:.6g} in "
                f"{first}: another validation text or tokenizer; compare ladders that were measured on the same"
            )
    if len(ladders) == 1:
        return table
    recipes, runs = zip(*((f"{name} {point.arch}", f"{name} {point.key}") for name, point in read), strict=True)
    return replace(table, recipe=recipes, run=runs)


def _points(folder: Path) -> list[Point]:
    """Those that points.json names."""
    try:
        keys = Ladder.model_validate_json((folder / "points.json").read_bytes()).points
    except (OSError, ValidationError):
        keys = []
    if not keys:
        raise InputError(f"{folder}: no points.json; give a CSV, or the folder data/scaling/ladder of a project")
    points = []
    for file in (folder / key / "point.json" for key in keys):
        try:
            point = Point.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            said = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else error.strerror
            raise InputError(f"{file}: not a point of a ladder ({said}); run its stage again") from None
        numbers = (point.n_params, point.n_nonembedding, point.tokens, point.flops, point.loss, point.bpb)
        if not all(0 < float(number) < float("inf") for number in numbers):
            raise InputError(f"{file}: its numbers must be positive and finite; run its stage again")
        points.append(point)
    return points
