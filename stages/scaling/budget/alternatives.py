"""What the same budget would give at other ratios of tokens to parameters, side by side, by the law alone."""

from stages.base.contracts.plan import Alternative
from stages.base.errors import InputError
from stages.base.seeds import derive
from stages.scaling.budget.next_dollar import best_with
from stages.scaling.budget.repetition import Stream
from stages.scaling.budget.serving import serve_optimum
from stages.scaling.laws.law import Forecast

RATIOS = (20, 150)  # tokens per parameter: Hoffmann's rule of thumb, and what a model made to be served is trained at


def alternatives(
    forecast: Forecast,
    stream: Stream,
    budget: float,
    max_passes: float,
    planned: tuple[float, float],
    inference_tokens: float,
    seed: int,
) -> list[Alternative]:
    """The plan (N, D), fixed ratios, the training-optimal runs with fresh and with this data, and the run of the plan's
    loss that is cheapest to train and to serve.

    `budget` is in the rows' own measure, 6·N·D. The last row `saves` that share of what the plan costs to train and
    serve; it is left out where so many passes can't reach the loss at any size.
    """

    def row(name: str, n: float, tokens: float, unlimited: bool = False) -> Alternative:
        worth = tokens if unlimited else float(stream.fresh(tokens))
        loss, interval = float(forecast.law.predict(n, worth)), forecast.interval(n, worth, derive(seed, name))
        training, serving = 6 * n * tokens, 2 * n * inference_tokens
        passes = tokens / stream.tokens
        allowed = unlimited or passes <= max_passes * (1 + 1e-9)
        return Alternative(
            name=name, n=n, tokens=tokens, passes=passes, tokens_per_parameter=tokens / n, flops=training,
            serving_flops=serving, total_flops=training + serving, loss=loss, interval=list(interval), allowed=allowed,
        )  # fmt: skip

    law = forecast.law
    rows = [row("as planned", *planned)]
    for ratio in RATIOS:
        n = (budget / (6 * ratio)) ** 0.5
        rows.append(row(f"{ratio} tokens per parameter", n, ratio * n))
    rows.append(row("compute-optimal, all data fresh", *law.optimum(budget), unlimited=True))
    rows.append(row("compute-optimal, this data", *best_with(law, stream, budget, max_passes)[0]))
    try:
        served = serve_optimum(law, rows[0].loss, inference_tokens, stream, max_passes)
    except InputError:
        return rows
    last = row(f"equal loss, {inference_tokens:.3g} tokens served", served.N, served.D)
    return [*rows, last.model_copy(update={"saves": 1 - last.total_flops / rows[0].total_flops})]
