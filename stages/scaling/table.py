"""Anyone's table of runs: a CSV, checked line by line; nothing in it is silently repaired."""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stages.base.errors import InputError
from stages.scaling.runs import Runs
from stages.scaling.units import other_unit

NAMES: Mapping[str, tuple[str, ...]] = {  # of a column, lower case; the first is what messages call it
    "N": ("n", "params", "n_params", "parameters"),
    "D": ("d", "tokens"),
    "C": ("c", "flops"),
    "loss": ("loss",),
    "N_nonembedding": ("n_nonembedding", "non_embedding_params"),
    "lr": ("lr", "learning_rate"),
    "batch": ("batch", "batch_size", "batch_tokens"),
    "width": ("width", "d_model"),
    "depth": ("depth", "n_layer"),
    "recipe": ("recipe", "arch", "mixture"),
    "run": ("run", "name", "key"),
}
WORDS = ("recipe", "run")
SHOWN = 5
LONGEST = 60  # characters of a name
COMPUTE_APART = 2.0  # how many times 6·N·D a given C may be before it is remarked on


@dataclass(frozen=True)
class RunTable:
    """Runs in the order of the file. `extra`: knobs, by name; `lines`: where in the file each run stands."""

    N: np.ndarray
    D: np.ndarray
    C: np.ndarray
    loss: np.ndarray
    recipe: tuple[str, ...]
    run: tuple[str, ...]
    extra: Mapping[str, np.ndarray]
    lines: tuple[int, ...]
    warnings: tuple[str, ...] = ()

    @property
    def recipes(self) -> list[str]:
        """By number of runs, the most first."""
        return [name for name, _ in Counter(self.recipe).most_common()]

    def of(self, recipe: str) -> "RunTable":
        return self.rows(np.flatnonzero(np.equal(self.recipe, recipe)))

    def rows(self, chosen: Sequence[int] | np.ndarray) -> "RunTable":
        at = np.asarray(chosen, dtype=int)
        recipe, run = (tuple(words[i] for i in at) for words in (self.recipe, self.run))
        lines = tuple(self.lines[i] for i in at)
        extra = {name: column[at] for name, column in self.extra.items()}
        return RunTable(self.N[at], self.D[at], self.C[at], self.loss[at], recipe, run, extra, lines, self.warnings)

    def runs(self) -> Runs:
        return Runs(self.N, self.D, self.loss)


def read_table(path: Path) -> RunTable:
    """Columns N, loss, and D or C (the other is C = 6·N·D); optional: recipe, run, lr, batch, width, depth,
    N_nonembedding. Numbers become float64, so 6·N·D can't overflow. Loss is in nats per token.

    Raises InputError naming missing columns, or the lines with a value that is no finite positive number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8; save the table as UTF-8 CSV") from None
    reader = csv.reader(io.StringIO(text))
    head = [cell.strip() for cell in next(reader, [])]
    where = _columns(head, path)
    rows: list[list[str]] = []
    lines: list[int] = []
    for row in reader:
        if any(cell.strip() for cell in row):
            if len(row) != len(head):
                raise InputError(f"{path}: line {reader.line_num}: {len(row)} cells, the header has {len(head)}")
            rows.append(row)
            lines.append(reader.line_num)
    if not rows:
        raise InputError(f"{path}: no runs below the header")
    columns = {
        name: _numbers(name, [row[i] for row in rows], lines, path) for name, i in where.items() if name not in WORDS
    }
    words = {name: tuple(_word(row[where[name]]) if name in where else "" for row in rows) for name in WORDS}
    n = columns.pop("N")
    d = columns.pop("D") if "D" in columns else columns["C"] / (6 * n)
    c = columns.pop("C") if "C" in columns else 6 * n * d
    table = RunTable(n, d, c, columns.pop("loss"), words["recipe"], words["run"], columns, tuple(lines))
    return replace(table, warnings=tuple(remarks(table)))


def _columns(head: Sequence[str], path: Path) -> dict[str, int]:
    where: dict[str, int] = {}
    for i, cell in enumerate(head):
        name = next((name for name, known in NAMES.items() if cell.lower() in known), None)
        if name in where:
            raise InputError(f"{path}: columns `{head[where[name]]}` and `{cell}` are both {name}; keep one")
        if name:
            where[name] = i
    missing = [name for name in ("N", "loss") if name not in where]
    if "D" not in where and "C" not in where:
        missing.append("D (or C)")
    if missing:
        raise InputError(
            f"{path}: no column {' or '.join(missing)}; there are {', '.join(map(repr, head)) or 'none'}. Needed: "
            "N (parameters), D (tokens) or C (FLOPs), loss (nats per token)"
        )
    return where


def _numbers(name: str, cells: Sequence[str], lines: Sequence[int], path: Path) -> np.ndarray:
    values, bad = np.full(len(cells), np.nan), []
    for i, cell in enumerate(cells):
        with suppress(ValueError):
            values[i] = float(cell)
        if not (math.isfinite(values[i]) and values[i] > 0):
            bad.append(f"{lines[i]} ({cell.strip() or 'empty'})")
    if bad:
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise InputError(
            f"{path}: column `{name}` must hold finite positive numbers; lines {', '.join(bad[:SHOWN])}{more}; "
            "correct or delete them"
        )
    return values


def remarks(table: RunTable) -> list[str]:
    """What a reader must know of a table that can be used all the same."""
    found = []
    seen: dict[tuple, int] = {}
    twice = []
    knobs = sorted(table.extra)
    for i, line in enumerate(table.lines):
        values = (table.recipe[i], table.N[i], table.D[i], table.loss[i], *(table.extra[k][i] for k in knobs))
        if values in seen:
            twice.append(f"{line} (as {seen[values]})")
        seen.setdefault(values, line)
    if twice:
        found.append(f"{len(twice)} runs stand in the table twice and count twice: lines {_some(twice)}.")
    ratio = table.C / (6 * table.N * table.D)
    far = np.flatnonzero((ratio > COMPUTE_APART) | (ratio < 1 / COMPUTE_APART))
    if far.size:
        found.append(
            f"C is {np.median(ratio[far]):.2g} times 6·N·D in {far.size} runs (lines "
            f"{_some(table.lines[i] for i in far)}): check that N are parameters, D tokens and C FLOPs."
        )
    odd = other_unit(table.N, table.D, table.loss)
    if odd.size:
        found.append(
            f"The loss of {odd.size} runs is about 1.44 times what the others say, as of bits among nats: lines "
            f"{_some(table.lines[i] for i in odd)}. Give every loss in nats per token."
        )
    return found


def _word(cell: str) -> str:
    """A name as it may stand on a page: printable, and not endless."""
    return "".join(c for c in cell.strip() if c.isprintable())[:LONGEST]


def _some(items: Iterable[object]) -> str:
    words = [str(item) for item in items]
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")
