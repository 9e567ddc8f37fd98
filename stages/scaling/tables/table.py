"""Anyone's table of runs: a CSV, checked line by line; nothing in it is silently repaired.

What says that a column, or a few of its rows, is in another unit than the rest is remarked on by line.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stages.base.errors import InputError
from stages.scaling.laws.law import Runs

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
# Of the remarks on units:
SHOWN = 5
FEWEST = 8  # runs below which a curve and a shift can't be told apart
CLEARER = 3.0  # how many times smaller residuals must get for a shift to be believed
NEAR = 0.06  # of log loss: a few runs are believed apart if they lie this near to the shifted curve of the rest
SHIFT = -np.log(np.log(2))  # of log loss, from nats to bits: .3665
ROUNDS = 30
COMPUTE_APART = 2.0  # how many times 6·N·D a given C may be before it is remarked on
SMALLEST = {"N": 1e4, "D": 1e4}  # a run of fewer parameters or tokens makes no language model
FEWEST_TOKENS = 0.1  # per parameter, in the middle of a table; single published runs have .006
GAP = 30.0  # times between two neighbouring values of a column, beyond which the smaller group may be in another unit
SCALES = {1e3: "thousands", 1e6: "millions", 1e9: "billions", 1e12: "trillions"}
COMPUTE_UNITS = {
    1e9: "gigaFLOPs", 1e12: "teraFLOPs", 1e15: "petaFLOPs", 1e18: "exaFLOPs", 1e21: "zettaFLOPs",
    8.64e19: "petaFLOP/s-days",
}  # fmt: skip
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
    return (some(map(repr, head)) if head else "none")[:1000]


def unit_remarks(N: np.ndarray, D: np.ndarray, C: np.ndarray, loss: np.ndarray, lines: Sequence[int]) -> list[str]:
    """What in a table can't be in parameters, tokens, FLOPs and nats, or not all of it, by line."""
    columns, found = {"N": N, "D": D}, []

    def named(rows: np.ndarray) -> str:
        return f"{rows.size} runs (lines {some(lines[i] for i in rows)})"

    for name, column in columns.items():
        small = np.flatnonzero(column < SMALLEST[name])
        if small.size:
            noun = "parameters" if name == "N" else "tokens"
            found.append(
                f"{name} is below {SMALLEST[name]:,.0f} {noun} in {named(small)}, down to {column.min():.3g}: write "
                "plain numbers, not thousands, millions or billions."
            )
    middle = float(np.median(D / N))
    if middle < FEWEST_TOKENS:
        few = np.flatnonzero(D / N < FEWEST_TOKENS)
        found.append(
            f"D is less than {FEWEST_TOKENS} tokens per parameter in {named(few)}, {middle:.2g} in the middle: check "
            "that N and D are in the same unit."
        )
    found += [_of_compute(ratio, named(rows)) for ratio, rows in _compute_apart(C / (6 * N * D))]
    for name, column in columns.items():
        rows, factor = other_scale(column, columns["D" if name == "N" else "N"], loss)
        if rows.size:
            unit = SCALES[max(factor, 1 / factor)]
            which = f"in {unit} among plain numbers" if factor > 1 else f"in plain numbers among {unit}"
            found.append(f"{name} of {named(rows)} fits the other losses only if it is {which}: give one unit.")
    odd = other_unit(N, D, loss)
    if odd.size:
        found.append(
            f"The loss of {odd.size} runs is about 1.44 times what the others say, as of bits among nats: lines "
            f"{some(lines[i] for i in odd)}. Give every loss in nats per token."
        )
    return found


def _compute_apart(ratio: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """(Median of C / 6·N·D, rows) of the runs whose C is far from it, those of one power of ten together."""
    far = np.flatnonzero((ratio > COMPUTE_APART) | (ratio < 1 / COMPUTE_APART))
    tens = np.round(np.log10(ratio[far]))
    groups = [far[tens == ten] for ten in np.unique(tens)]
    return [(float(np.median(ratio[rows])), rows) for rows in sorted(groups, key=len, reverse=True)]


def _of_compute(ratio: float, named: str) -> str:
    said = f"C is {ratio:.2g} times 6·N·D in {named}: check that N are parameters, D tokens and C FLOPs"
    for factor, unit in COMPUTE_UNITS.items():
        if 1 / COMPUTE_APART < ratio * factor < COMPUTE_APART and factor != 8.64e19:
            return f"{said}; so it is if C is in {unit}."
        if factor == 8.64e19 and 0.9 < ratio * factor < 1.1:
            return f"{said}; so it is if C is in {unit}."
    power = round(np.log10(ratio))
    if power > 0 and power % 3 == 0 and 1 / COMPUTE_APART < ratio / 10.0**power < COMPUTE_APART:
        return f"{said}; so it is if N·D is 1e{power} times too small, as in thousands, millions or billions."
    return f"{said}."


def other_scale(column: np.ndarray, other: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, float]:
    """(Rows of a column that are in another unit than the rest, what to multiply them by); no rows if none are.

    Such rows are a group apart, beyond a gap of GAP times. A plane of log loss in the logs of both columns is fitted to
    the larger group: the smaller one must lie on it once it is scaled by a power of 1,000, and far from it as it is.
    """
    nothing = np.array([], dtype=int), 1.0
    order = np.argsort(column, kind="stable")
    gaps = np.diff(np.log(column[order]))
    z = np.log(loss)
    for gap in np.flatnonzero(gaps > np.log(GAP)):
        low, high = order[: gap + 1], order[gap + 1 :]
        rows, rest = (low, high) if low.size <= high.size else (high, low)
        if rest.size < FEWEST or np.ptp(np.log(column[rest])) == 0 or np.ptp(np.log(other[rest])) == 0:
            continue
        x, y = np.log(column), np.log(other)
        ends = x[rest].min(), x[rest].max()
        design = _surface(x, y, rest)
        weights = np.linalg.lstsq(design[rest], z[rest], rcond=None)[0]
        noise = max(_rms(z[rest] - design[rest] @ weights), NEAR / CLEARER)
        asis = _rms(z[rows] - design[rows] @ weights)
        best, factor = np.inf, 1.0
        for scale in SCALES:
            step = scale if rows is low else 1 / scale
            moved = x.copy()
            moved[rows] += np.log(step)
            # Back among the others: beyond them a surface says little.
            if moved[rows].min() < ends[0] - np.log(GAP) or moved[rows].max() > ends[1] + np.log(GAP):
                continue
            left = _rms(z[rows] - _surface(moved, y, rest, x)[rows] @ weights)
            if left < best:
                best, factor = left, step
        if best < CLEARER * noise and asis > CLEARER * best:
            return np.sort(rows), factor
    return nothing


def _surface(x: np.ndarray, y: np.ndarray, rest: np.ndarray, centre: np.ndarray | None = None) -> np.ndarray:
    """Terms of a plane in x and y, and of a parabola where there are runs enough; centred on those of `rest`."""
    x, y = x - (x if centre is None else centre)[rest].mean(), y - y[rest].mean()
    plane = [np.ones_like(x), x, y]
    return np.column_stack([*plane, x * x, x * y, y * y] if rest.size >= 2 * FEWEST else plane)


def other_unit(N: np.ndarray, D: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Indices of the runs that lie on the others' curve once they are divided by 1/ln 2 = 1.44, as bits among nats do;
    none if that explains little.

    The curve is a parabola of log loss in log N and log D; runs are moved between the two units until none gains by it.
    """
    if loss.size < FEWEST:
        return np.array([], dtype=int)
    x, y, z = (np.log(column) - np.log(column).mean() for column in (N, D, loss))
    columns = [np.ones_like(x), x, y]
    if loss.size >= 2 * FEWEST:
        columns += [x * x, x * y, y * y]
    design = np.column_stack(columns)

    def above(kept: np.ndarray, target: np.ndarray) -> np.ndarray:
        """How far every run lies above the curve of those kept."""
        return z - design @ np.linalg.lstsq(design[kept], target[kept], rcond=None)[0]

    everyone = np.ones(z.size, dtype=bool)
    plain = above(everyone, z)
    best, spread = ~everyone, _rms(plain)
    before = spread
    for start in (plain > 0, plain > SHIFT / 2, plain > np.quantile(plain, 0.8)):
        moved = start
        for _ in range(ROUNDS):
            again = above(everyone, z - SHIFT * moved) > SHIFT / 2
            if (again == moved).all():
                break
            moved = again
        left = _rms(above(everyone, z - SHIFT * moved) - SHIFT * moved)
        if left < spread:
            best, spread = moved, left
    if not 0 < best.sum() < best.size - design.shape[1]:
        return np.array([], dtype=int)
    rest = above(~best, z)
    apart = abs(float(np.median(rest[best])) - SHIFT) < NEAR and _rms(rest[~best]) < NEAR
    return np.flatnonzero(best) if spread * CLEARER < before or apart else np.array([], dtype=int)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def some(items: Iterable[object]) -> str:
    """A few of them, and how many more."""
    words = [str(item) for item in items]
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")
