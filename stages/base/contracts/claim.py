"""What an experiment found: the verdict that its rule gives, with the numbers behind it."""

from typing import Any, Literal

from pydantic import Field

from stages.base.contracts import Contract, Number

Word = Literal["supported", "contradicted", "undecided", "equivalent", "inadmissible", "deviated"]
"""What the rule says. inadmissible: it can't be asked of these data; deviated: the declaration was edited after runs
had started."""


class Comparison(Contract):
    """One contrast of arms in the metric's unit, or one quantity of the rule (a multiplier, a slope, a gap)."""

    label: str
    """Such as "faster − baseline"."""
    a: str
    b: str
    """The arm that is subtracted; "" where the quantity belongs to `a` alone."""
    effect: Number
    low: Number
    high: Number
    """Two-sided interval at the verdict's `level`."""
    standard_error: Number
    df: Number
    """Of Student's t; null where the interval doesn't come from one."""
    p: Number
    """Two-sided against the rule's null value; of equivalence, the larger of the two one-sided ones."""
    adjusted_p: Number = None
    """Holm's, where several comparisons make one verdict."""
    n_seeds: int
    n_items: int
    """0 for a metric that is one number a run."""
    n_clusters: int = 0
    """Groups of items; 0 where each item stands alone."""
    seed_variance: Number = None
    """Between seeds, of a run's effect at infinitely many items."""
    item_variance: Number = None
    """Between items, of the effect at infinitely many seeds."""
    residual_variance: Number = None
    """What one item of one seed has beside both."""


class Look(Contract):
    """Where a verdict stands in a plan of sequential looks."""

    at: int
    """Seeds that this look uses."""
    number: int
    """From 1."""
    of: int
    spent: float
    """Of alpha, up to and with this look."""
    level: float
    """Two-sided, of this look's own test."""


class Verdict(Contract):
    """The rule's answer. `effect` … `df` are those of the comparison that decides; the sentence says it in words."""

    verdict: Word
    sentence: str
    """One line of plain English with the numbers."""
    analysis: str
    effect: Number = None
    low: Number = None
    high: Number = None
    p: Number = None
    df: Number = None
    adjusted_p: Number = None
    """Holm's over the suite that the claim was run in; null for a claim alone."""
    level: float
    """Of the interval, .95 for alpha .05."""
    null: float = 0.0
    """The effect's value that the rule compares with."""
    n_seeds: int = 0
    n_items: int = 0
    estimator: str = ""
    """A sentence that names how effect and interval were computed."""
    comparisons: list[Comparison] = Field(default_factory=list)
    look: Look | None = None
    notes: list[str] = Field(default_factory=list)
    """What a reader must know before believing it; sentences."""


class Summary(Contract):
    """An arm's runs in one metric, whose unit all of it has."""

    n: int
    """Runs with a number."""
    mean: Number
    sd: Number
    """Between runs, n − 1 below; null for one run."""
    low: Number
    high: Number
    """Interval of the mean over seeds alone (Student's t at the verdict's level)."""


class Arm(Contract):
    name: str
    baseline: bool
    level: Number
    """Of a trend; null elsewhere."""
    revision: str
    """Git revision whose code the arm runs; "" for the project's own."""
    params: dict[str, Any]
    """The params in which any two arms differ: dotted name → this arm's value, null where it has none."""
    metrics: dict[str, Summary]
    """The ruling metric first, then those that are reported beside it."""


class Run(Contract):
    """One arm at one seed."""

    arm: str
    seed: str
    """As a reader names it: "3", or "run.seed 3, corpus.seed 5"."""
    status: Literal["finished", "failed", "waiting"]
    reason: str = ""
    """The stage that failed and what it said last."""
    values: dict[str, Number]
    """Metric → its mean over items."""
    n_items: dict[str, int]
    points: tuple[tuple[float, float], ...] = ()
    """(compute, loss) of each run of a ladder, compute in FLOPs."""
    stages: dict[str, str]
    """Stage instance → how its key begins: one key is one run of one stage with its inputs, params and code."""


class Cost(Contract):
    executed: int
    """Stage instances run for this claim."""
    reused: int
    """Stage instances whose results were there already."""
    cpu_seconds: float
    """Of the executed ones."""
    judge_usd: float


class SignalToNoise(Contract):
    """How far a claim's arms are apart in a metric, over how far runs are that should be equal; in its unit."""

    signal: float
    """Standard deviation of the arms' means, free of what seeds add to it."""
    seeds: float
    """Pooled standard deviation of an arm's seeds."""
    ratio: Number
    """Null where nothing varies between seeds."""


class Accuracy(Contract):
    """Pairs of arms that are in the same order at two scales; ties count a half."""

    share: float
    right: float
    pairs: int
    low: Number
    high: Number
    """95 % interval of the share, by the jackknife over arms; null for fewer than four arms."""


class Size(Contract):
    """One size of a ladder held against its largest: what it decides of the arms' order."""

    compute: float
    largest: float
    by_size: Accuracy
    """Ranked by the losses at this size."""
    by_law: Accuracy | None
    """Ranked by laws fitted to the sizes up to it; null where they are too few for one."""


class Across(Contract):
    """Two claims of the same arms, metric and rule, at a small and at a large scale (FLOPs of the planned run)."""

    small: str
    large: str
    metric: str
    small_flops: float
    large_flops: float
    accuracy: Accuracy


class Outlook(Contract):
    """What the noise of a claim's own runs says of more of them, of a rule about differences or a slope; in the unit of
    the effect."""

    visible: float
    """The smallest effect that as many seeds and items show with the declared power."""
    gap: float
    """How far the effect that was seen is from the rule's value."""
    seeds: int | None
    """An arm, by which an effect of this size would be shown; null where no number would do, as items differ too much
    among themselves."""


class Deviation(Contract):
    """What the declaration says now, if it isn't what the runs were started with."""

    digest: str
    declaration: str


class Claim(Contract):
    """reports/claims/<name>.json: all that the page of a claim shows."""

    name: str
    claim: str
    source: str
    """Where it comes from; "" for a question of one's own."""
    question: str
    topic: str
    """Of the lecture: data, tokenizer, model, tuning, alignment, evaluation, systems; "" for none."""
    scale: list[str]
    flops: Number = None
    """Compute of the planned pretraining run, as the baseline's params say it; null where they don't."""
    rule: str
    metric: str
    unit: str
    """Of the metric: percent, bits per byte; "" where it has none."""
    pair: list[str]
    margin: Number
    alpha: float
    power: float
    seeds: list[str]
    """All that are declared, run or not."""
    arms: list[Arm]
    runs: list[Run]
    verdict: Verdict
    changes: list[str]
    """What would change the verdict; sentences."""
    outlook: Outlook | None = None
    """Null where nothing has been measured, or where the effect isn't one of seeds and items."""
    signal: dict[str, SignalToNoise] = Field(default_factory=dict)
    """Metric → how well it tells these arms apart; those with two arms and two seeds of an arm."""
    sizes: list[Size] = Field(default_factory=list)
    """Of a ladder: smaller sizes that all arms have, held against the largest."""
    cost: Cost
    declaration: str
    """YAML, as it was when the first run started."""
    digest: str
    """sha256 of its content, without comments and layout."""
    deviation: Deviation | None = None
    environment: dict[str, str]
    """Python, torch, code: what the runs were made with."""
