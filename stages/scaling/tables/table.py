"""Anyone's table of runs: a CSV, checked line by line; nothing in it is silently repaired."""

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stages.base.errors import InputError
from stages.scaling.laws.law import Runs
from stages.scaling.tables.units import some, unit_remarks

NAMES: Mapping[str, tuple[str, ...]] = {  # of a column, lower case; the first is what messages call it
    "N": ("n", "params", "n_params", "parameters"),
    "D": ("d", "tokens"),
    "C": ("c", "flops"),
    "loss": ("loss",),
    "N_nonembedding": ("n_nonembedding", "non_embedding_params", "n_noembed", "n_noemb"),
    "lr": ("lr", "learning_rate"),
    "batch": ("batch", "batch_size", "batch_tokens", "bs"),
    "width": ("width", "d_model"),
    "depth": ("depth", "n_layer"),
    "recipe": ("recipe", "arch", "mixture", "setting", "dataset", "model"),
    "run": ("run", "name", "key"),
}
WORDS = ("recipe", "run")
SEPARATORS = {";": "';'", "\t": "tabs", "|": "'|'"}  # of other tables than CSV, as messages call them
LONGEST = 60  # characters of a name
LEAST, MOST = 1e-250, 1e250  # FLOPs of a run: what is worked out from them must be numbers too


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

    def name(self, i: int) -> str:
        """What to call a run that may have no name of its own."""
        return self.run[i] or f"line\u00a0{self.lines[i]}"

    def runs(self) -> Runs:
        return Runs(self.N, self.D, self.loss)


def read_table(path: Path, columns: Mapping[str, str] | None = None) -> RunTable:
    """Columns N, loss, and D or C (the other is C = 6·N·D); optional: recipe, run, lr, batch, width, depth,
    N_nonembedding. Numbers become float64, so 6·N·D can't overflow int64. Loss is in nats per token.

    `columns` says which column of the file holds what, {"loss": "c4_val"}, where its own name doesn't.
    Raises InputError naming missing columns, or the lines with a value that is no finite positive number.
    """
    head, rows, lines = _cells(path)
    where = _columns(head, columns or {}, path)
    if not rows:
        raise InputError(f"{path}: no runs below the header")
    numbers, bad = {}, []
    for name, i in where.items():
        if name not in WORDS:
            cells = [row[i] for row in rows]
            numbers[name] = values = np.array([_number(cell) for cell in cells])
            wrong = np.flatnonzero(np.isnan(values))
            if wrong.size:
                bad.append(f"column `{name}` on lines {some(f'{lines[k]} ({_shown(cells[k])})' for k in wrong)}")
    if bad:
        raise InputError(f"{path}: not finite positive numbers: {'; '.join(bad)}; correct or delete them")
    words = {name: tuple(_word(row[where[name]]) if name in where else "" for row in rows) for name in WORDS}
    n = numbers.pop("N")
    with np.errstate(over="ignore", under="ignore"):
        d = numbers.pop("D") if "D" in numbers else numbers["C"] / 6 / n
        compute = 6 * n * d
    c = numbers.pop("C", compute)
    far = np.flatnonzero(~((np.minimum(c, compute) >= LEAST) & (np.maximum(c, compute) <= MOST)))
    if far.size:
        raise InputError(
            f"{path}: 6·N·D, or C, is no usable number of FLOPs on lines {some(lines[k] for k in far)}; "
            "correct or delete them"
        )
    for name, column in (("N", n), ("D", d)):
        below = np.flatnonzero(column < 1)
        if below.size:
            noun = {"N": "parameter", "D": "token"}[name]
            derived = " (C / 6·N)" if name == "D" and "D" not in where else ""
            raise InputError(
                f"{path}: {name}{derived} is less than one {noun} on lines "
                f"{some(f'{lines[k]} ({column[k]:.3g})' for k in below)}; write {noun}s, not millions or billions of "
                "them, and C in FLOPs"
            )
    table = RunTable(n, d, c, numbers.pop("loss"), words["recipe"], words["run"], numbers, tuple(lines))
    return replace(table, warnings=(*_unused(head, where), *remarks(table)))


def _cells(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The header, the rows that aren't blank, and the line that each row begins on."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8; save the table as UTF-8 CSV") from None
    reader = csv.reader(io.StringIO(text))
    line, head = 1, None
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            if head is None:
                head = [cell.strip() for cell in row]
            elif any(cell.strip() for cell in row):
                if len(row) != len(head):
                    raise InputError(f"{path}: line {line}: {len(row)} cells, the header has {len(head)}")
                rows.append(row)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}: line {line}: {error}; is a quote left open there?") from None
    return head or [], rows, lines


def _columns(head: Sequence[str], given: Mapping[str, str], path: Path) -> dict[str, int]:
    """Where each column stands; `given` goes before the file's own names. Of words the first in NAMES is taken."""
    where: dict[str, int] = {}
    for name, cell in given.items():
        if cell not in head:
            raise InputError(f"{path}: no column `{cell}` to take as {name}; there are {_quoted(head)}")
        where[name] = head.index(cell)
    taken = set(where.values())
    for i, cell in enumerate(head):
        name = next((name for name, known in NAMES.items() if cell.lower() in known), "")
        if not name or name in given or i in taken:
            continue
        if name in where and name in WORDS:
            first, known = head[where[name]].lower(), NAMES[name]
            if known.index(cell.lower()) >= known.index(first):
                continue
        elif name in where:
            raise InputError(
                f"{path}: columns `{head[where[name]]}` and `{cell}` are both {name}; keep one, or say which: "
                f"--column {name}={cell}"
            )
        where[name] = i
    missing = [name for name in ("N", "loss") if name not in where]
    if "D" not in where and "C" not in where:
        missing.append("D (or C)")
    if missing:
        mark = next((said for mark, said in SEPARATORS.items() if mark in "".join(head)), None)
        if mark:
            raise InputError(f"{path}: it looks separated by {mark}: save it with commas, and decimal points")
        raise InputError(
            f"{path}: no column {' or '.join(missing)}; there are {_quoted(head)}. Needed: N (parameters), D (tokens) "
            "or C (FLOPs), loss (nats per token); --column NAME=COLUMN says which column is which"
        )
    return where


def _unused(head: Sequence[str], where: Mapping[str, int]) -> list[str]:
    unused = [cell for i, cell in enumerate(head) if cell and i not in where.values()]
    if not unused:
        return []
    return [f"ignored columns: {some(f'`{_shown(cell)}`' for cell in unused)}."]


def _number(cell: str) -> float:
    """NaN for what is no finite positive number; `1_000`, which Python reads, is none in a table."""
    try:
        value = float("nan" if "_" in cell else cell)
    except ValueError:
        return math.nan
    return value if 0 < value < math.inf else math.nan


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
        found.append(f"{len(twice)} runs stand in the table twice and count twice: lines {some(twice)}.")
    found += unit_remarks(table.N, table.D, table.C, table.loss, table.lines)
    recipes = len(set(table.recipe))
    if recipes > len(table.loss) / 2 and recipes > 2:
        found.append(
            f"There are {recipes} recipes of {len(table.loss)} runs: if that column only names runs, take it as run "
            "(--column run=COLUMN)."
        )
    return found


def _word(cell: str) -> str:
    """A name as it may stand on a page: printable, and not endless."""
    return "".join(c for c in cell.strip() if c.isprintable())[:LONGEST]


def _shown(cell: str) -> str:
    return _word(cell) or ("unprintable" if cell.strip() else "empty")


def _quoted(head: Sequence[str]) -> str:
    return ", ".join(map(repr, head)) or "none"
