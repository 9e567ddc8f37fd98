"""Units in a table of runs: what says that a column, or a few of its rows, is in another one than the rest."""

from collections.abc import Iterable, Sequence

import numpy as np

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
