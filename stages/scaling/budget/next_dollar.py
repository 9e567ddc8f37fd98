"""What one more percent, and one more dollar, of compute or of data would buy."""

import numpy as np

from stages.base.contracts.plan import NextDollar
from stages.scaling.budget.repetition import Stream
from stages.scaling.laws.law import Law, Optimum

GRID = 2001
REFINEMENTS = 3
SPAN = 1e3  # sizes tried: this many times below and above the law's own optimum
STEP = 0.02  # relative change of the budget or the data by which the slopes are taken


def best_with(law: Law, stream: Stream, C: float, max_passes: float) -> tuple[Optimum, float]:
    """The best (N, D) at C = 6·N·D FLOPs with at most so many passes over this stream, and its loss."""
    centre, span = float(np.log(law.optimum(C).N)), float(np.log(SPAN))
    for _ in range(REFINEMENTS):
        sizes = np.exp(np.linspace(centre - span, centre + span, GRID))
        tokens = np.minimum(C / (6 * sizes), max_passes * stream.tokens)
        loss = np.asarray(law.predict(sizes, stream.fresh(tokens)))
        # Past the cap on tokens a smaller model leaves budget unspent and is never better.
        best = int(np.argmin(loss))
        centre, span = float(np.log(sizes[best])), span / 100
    return Optimum(float(sizes[best]), float(tokens[best])), float(loss[best])


def next_dollar(
    law: Law, stream: Stream, C: float, max_passes: float, compute_usd: float, usd_per_million_tokens: float
) -> NextDollar:
    """Slopes of the best loss in log compute and in log data, and the price of text at which they buy the same."""

    def best(compute: float, data: float) -> float:
        return best_with(law, stream.scaled(float(np.exp(data))), C * float(np.exp(compute)), max_passes)[1]

    compute = max(best(-STEP, 0.0) - best(STEP, 0.0), 0.0) / (2 * STEP)
    data = max(best(0.0, -STEP) - best(0.0, STEP), 0.0) / (2 * STEP)
    break_even = None if compute == 0 else data / compute * compute_usd / (stream.unique / 1e6)
    return NextDollar(
        compute_percent=compute / 100,
        data_percent=data / 100,
        compute_usd=compute_usd,
        unique_tokens=stream.unique,
        usd_per_million_tokens=usd_per_million_tokens,
        break_even_usd_per_million_tokens=break_even,
        buys_more="data" if break_even is None or usd_per_million_tokens < break_even else "compute",
    )
