"""`data/judging/agreement/agreement.json`: annotators against each other and against the truth; shares in percent."""

from stages.base.contracts import Contract, Number


class Leaning(Contract):
    """What an annotator, or the mean of all, does; null where nothing can be said."""

    agreement: Number
    """With the majority of the other annotators."""
    truth_agreement: Number
    """With the exact score, where truth is known."""
    prefers_longer: Number
    prefers_first: Number


class Annotator(Leaning):
    annotator: str
    kappa: Number
    """Mean of Cohen's κ with each of the others: agreement beyond chance, at most 1."""
    one_sided: bool
    """It names the same side in nearly every comparison."""
    n: int


class Pool(Leaning):
    """Means over annotators, with AlpacaEval's terms."""

    bias: Number
    """How often the majority is wrong by the exact score."""
    variance: Number
    """How often one annotator disagrees with the majority of the others."""
    kappa: Number
    """Mean of Cohen's κ over all couples of annotators."""
    alpha: Number
    """Krippendorff's α of all together, and its 95 % interval, by the bootstrap over prompts."""
    alpha_low: Number
    alpha_high: Number
    usd_per_1000: Number
    """Of 1,000 verdicts."""
    seconds_per_1000: Number
    """Null for simulated annotators."""


class Agreement(Contract):
    simulated: bool
    label: str
    n_pairs: int
    n_annotators: int
    min_length_gap: int
    """Characters; a smaller difference says nothing about a preference for length."""
    rows: list[Annotator]
    pool: Pool
    notes: list[str]
