"""`plan.json`: how the budget is spent, and what to expect of it."""

from typing import Any, Literal

from stages.base.contracts import Contract
from stages.base.recipe import Recipe


class Optimum(Contract):
    """What the law would choose with fresh data enough."""

    n: float
    tokens: float
    loss: float


class Data(Contract):
    """What the plan reads of the packed stream."""

    unique_tokens: float
    stream_tokens: int
    passes: float
    fresh_tokens: float
    """What the tokens read are worth, repeats discounted."""
    decay: float


class Candidate(Contract):
    shape: str
    n: float
    """In the law's count of parameters."""
    tokens: int
    fresh_tokens: float
    flops: float
    loss: float
    capped_by_data: bool


class Alternative(Contract):
    """The budget spent otherwise. N is continuous, costs are 6·N·D and 2·N·T, as in the papers: attention and whole
    batches are left out.
    """

    name: str
    n: float
    tokens: float
    passes: float
    """Over the packed stream."""
    tokens_per_parameter: float
    flops: float
    serving_flops: float
    total_flops: float
    loss: float
    interval: list[float]
    allowed: bool
    """Whether it reads the stream no more often than the plan may."""
    saves: float | None = None
    """Share of what the plan costs to train and to serve."""


class NextDollar(Contract):
    """What one more percent, and one more dollar, of compute or of data would buy; losses in nats a token."""

    compute_percent: float
    data_percent: float
    compute_usd: float
    """What the whole budget costs."""
    unique_tokens: float
    usd_per_million_tokens: float
    """Assumed price of new text."""
    break_even_usd_per_million_tokens: float | None
    """Below it, new text is the better buy; null: at any price."""
    buys_more: Literal["compute", "data"]


class Plan(Contract):
    """data/scaling/plan/plan.json"""

    model: dict[str, Any]
    """`lm.config.ModelConfig` as a dict."""
    shape: str
    """Its key in `scaling.plan.shapes`."""
    n_params: int
    n_nonembedding: int
    tokens: int
    batch_tokens: int
    lr: float
    recipe: Recipe
    """The ladder's: the law predicts no other run."""
    tokenizer_sha256: str
    predicted_loss: float
    """Nats per token."""
    interval: list[float]
    """Of the predicted loss, at `level`."""
    level: float
    tokens_per_parameter: float
    budget_flops: float
    planned_flops: float
    optimum: Optimum
    data: Data
    candidates: list[Candidate]
    alternatives: list[Alternative]
    next_dollar: NextDollar
    cost: dict[str, Any]
    """`scaling.budget.cost.Cost.as_dict`."""
    reasons: list[str]
    """Sentences for the report."""
