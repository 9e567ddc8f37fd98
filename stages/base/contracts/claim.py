"""What an experiment found: the verdict that its rule gives, with the numbers behind it."""

from typing import Literal

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
    level: float
    """Of the interval, .95 for alpha .05."""
    null: float = 0.0
    """The effect's value that the rule compares with."""
    n_seeds: int = 0
    n_items: int = 0
    estimator: str = ""
    """A sentence that names how effect and interval were computed."""
    comparisons: list[Comparison] = []
    look: Look | None = None
    notes: list[str] = []
    """What a reader must know before believing it; sentences."""
