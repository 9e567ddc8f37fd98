"""Size and data when the model will also be served (Sardana and Frankle 2024): 6·N·D + 2·N·T is what costs."""

from typing import NamedTuple

import numpy as np

from stages.base.errors import InputError
from stages.scaling.budget.repetition import Stream
from stages.scaling.laws.law import Law

GRID = 4001
REFINEMENTS = 4
SPAN = 1e3  # sizes tried: this many times below and above the training-optimal one


class Served(NamedTuple):
    """Parameters, training tokens, FLOPs of training and of the tokens served."""

    N: float
    D: float
    training_flops: float
    inference_flops: float

    @property
    def total_flops(self) -> float:
        return self.training_flops + self.inference_flops


def tokens_for_loss(
    law: Law, N: np.ndarray | float, loss: float, stream: Stream | None = None, max_passes: float = np.inf
) -> np.ndarray:
    """D(N) = (B / (loss - E - A·N^-α))^(1/β); infinite where N is too small to reach the loss at all.

    With a stream, the tokens to read of it, repeats included, and infinite past `max_passes`; without, data are
    unlimited.
    """
    room = loss - law.E - law.A * np.asarray(N, dtype=np.float64) ** -law.alpha
    with np.errstate(divide="ignore", invalid="ignore"):
        fresh = np.where(room > 0, (law.B / room) ** (1 / law.beta), np.inf)
    if stream is None:
        return fresh
    read = stream.read(fresh)
    # A hair of room: the plan itself may stand exactly at the last pass.
    return np.where(read <= max_passes * stream.tokens * (1 + 1e-9), read, np.inf)


def serve_optimum(
    law: Law, loss: float, inference_tokens: float, stream: Stream | None = None, max_passes: float = np.inf
) -> Served:
    """The cheapest (N, D) that reaches `loss` and then serves `inference_tokens`: a 1-D search over log N, refined.

    Raises InputError for a loss at or below E, or that no size reaches with so many passes over this stream.
    """
    if loss <= law.E:
        raise InputError(f"a loss of {loss:.4g} can't be reached: the law's E is {law.E:.4g}")
    # Training alone sets the scale of N: the size whose compute-optimal run reaches the loss.
    low, high = 0.0, 200.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if law.predict(*law.optimum(float(np.exp(middle)))) > loss else (low, middle)
    centre, span = float(np.log(law.optimum(float(np.exp(high))).N)), float(np.log(SPAN))
    for _ in range(REFINEMENTS):
        log_n = np.linspace(centre - span, centre + span, GRID)
        sizes = np.exp(log_n)
        total = 6 * sizes * tokens_for_loss(law, sizes, loss, stream, max_passes) + 2 * sizes * float(inference_tokens)
        centre, span = float(log_n[int(np.argmin(total))]), span / 100
    n = float(np.exp(centre))
    d = float(tokens_for_loss(law, n, loss, stream, max_passes))
    if not np.isfinite(d):
        raise InputError(f"a loss of {loss:.4g} can't be reached by reading this data again and again, at any size")
    return Served(n, d, 6 * n * d, 2 * n * float(inference_tokens))
