"""Losses in bits among losses in nats: the same curve, 1/ln 2 = 1.44 times as high."""

import numpy as np

SHIFT = -np.log(np.log(2))  # of log loss, from nats to bits: .3665
FEWEST = 8  # runs below which a curve and a shift can't be told apart
CLEARER = 3.0  # how many times smaller residuals must get for the shift to be believed
NEAR = 0.06  # of log loss: a few runs are believed apart if they lie this near to 1.44 times the curve of the rest
ROUNDS = 30


def other_unit(N: np.ndarray, D: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Indices of the runs that lie on the others' curve once they are divided by 1.44; none if that explains little.

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
