"""`data/judging/leaderboard/leaderboard.json`, and the board that `trainyard leaderboard` makes of annotation files."""

from typing import Literal

from stages.base.contracts import Contract, Number

Kind = Literal[
    "trained",
    "imported",
    "outputs",
    "endpoint",
    "few_shot",
    "constant",
    "shuffled",
    "nearest_neighbour",
    "padded",
    "annotations",
]


COVERAGE = (
    "Intervals, of win rates too, cover the choice of questions and not a rerun of training: each row is one trained "
    "model."
)
ONE_SEED = "one trained model: this interval does not cover a rerun"
AGAIN = (
    "Intervals cover the choice of questions and not a rerun of training, but for those over seeds and questions of "
    "models that were trained again: {models}."
)
TierMetric = Literal["right", "win_rate"]
"""Exactly right answers where truth is known, else wins against the baseline; both by question, in percent."""


class Standing(Contract):
    """One model's numbers on one split. Rates are percent, intervals 95 %; null where there is no number."""

    win_rate: Number
    win_rate_low: Number
    win_rate_high: Number
    standard_error: Number
    """Of the win rate, over instructions."""
    discrete_win_rate: Number
    discrete_win_rate_low: Number = None
    discrete_win_rate_high: Number = None
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_total: int
    lc_win_rate: Number
    """Length-controlled; null where lengths don't vary enough to tell (the notes say why)."""
    lc_standard_error: Number
    lc_low: Number
    lc_high: Number
    corrected_win_rate: Number = None
    """Free of the judge's bias, by prediction-powered inference, where some right verdicts are known."""
    corrected_low: Number = None
    corrected_high: Number = None
    n_truth: int = 0
    """Comparisons whose right verdict is known and counted in `corrected_win_rate`."""
    bradley_terry: Number
    """Natural log-strength. A null end of its interval beside a number is infinite."""
    bradley_terry_low: Number
    bradley_terry_high: Number
    arena_rating: Number
    """The same on the scale of arenas."""
    arena_rating_low: Number
    arena_rating_high: Number
    right: Number
    """Exactly right answers, of those whose truth is known; no judge in it."""
    right_low: Number
    right_high: Number
    mean_score: Number
    """Correct minus wrong facts, of answers whose truth is known."""
    mean_length: Number
    """Characters of an answer."""
    n: int
    """Comparisons with a preference."""
    missing: int
    """Comparisons without one."""
    prefers_first: Number
    """Verdicts that go to the answer shown first."""
    prefers_longer: Number = None
    """Verdicts that go to the longer answer, of pairs whose lengths differ."""
    consistent: Number = None
    """Pairs judged in both orders where both verdicts name the same answer."""
    usd: float
    usd_per_1000: float
    seconds_per_1000: Number


class Reruns(Contract):
    """A model that was trained several times: its mean with a 95 % interval over seeds and questions."""

    n: int
    """Trainings, the leaderboard's own among them."""
    metric: TierMetric
    mean: Number
    low: Number
    high: Number


class Row(Standing):
    """One model on the test split, with its numbers on validation beside them."""

    model: str
    kind: Kind
    """trained, imported: a folder of data/models; annotations: of files from elsewhere; the others as in params."""
    source: str
    """Where the answers come from: the model's folder, the answerer's path, or nothing."""
    control: bool
    baseline: bool
    chosen: bool
    rank: int | None
    """None for controls. Equal rates share a rank; without a rate it is the last."""
    tier: int | None = None
    """From 1: models that share one can't be told apart from its first. None for controls."""
    reruns: Reruns | None = None
    """None for a model that was trained once, whose intervals don't cover a rerun."""
    lineage: str
    """How the sha256 of its annotations.parquet begins; "" for files from elsewhere."""
    validation: Standing | None


class Judge(Contract):
    """Who judged, and how it is named wherever its numbers appear."""

    simulated: bool
    provider: str
    model: str
    label: str
    signal: str
    """What simulated annotators go by, in words; "" for others."""
    versions: dict[str, int]
    """Verdicts by the version that the replies name."""


class Choice(Contract):
    """The tuned model that was picked, by which number of which split."""

    model: str
    split: str
    by: Literal["right", "mean_score", "lc_win_rate", "win_rate"]


class Comparison(Contract):
    """`model` minus `against` in points, paired by instruction, with a 95 % interval."""

    model: str
    against: str
    metric: Literal["right", "win_rate"]
    """Exactly right answers where truth is known, else wins against the baseline."""
    split: str
    difference: Number
    low: Number
    high: Number
    n: int


class Correlation(Contract):
    """Spearman's rho of two columns over models."""

    a: str
    b: str
    spearman: Number
    low: Number
    high: Number
    n: int


class Leaderboard(Contract):
    baseline: str
    judge: Judge
    chosen: Choice | None
    tier_metric: TierMetric | None = None
    """What tiers were made by; None for a board without."""
    rows: list[Row]
    """By length-controlled win rate; without one, last."""
    comparisons: list[Comparison]
    correlations: list[Correlation]
    notes: list[str]
    """What a reader must know before believing a number; sentences."""
