"""`data/evaluation/contamination/contamination.json`: whether models have seen the tests.

What is found of overlap is about a corpus and holds for every model that was trained on it; ordering and membership
are about one model. A model whose corpus nobody here knows is `unknown`, with those tests that need no corpus.
"""

from typing import Literal

from pydantic import Field

from stages.base.contracts import Contract, Number

Verdict = Literal["clean", "contaminated", "undecided", "unknown", "not exchangeable"]
"""undecided: nothing was found by a test that found no planted set either; unknown: not tested, `reason` says why;
not exchangeable: the published order carries information (sorted, grouped), so preferring it proves nothing."""

State = Literal["clean", "suspect", "dirty"]


class Ordering(Contract):
    """Does the model prefer the published order of a task's questions? (Oren et al. 2023)"""

    task: str
    model: str = "base"
    examples: int
    p_value: Number
    t: Number
    differences: list[float]
    """Of each shard, log p in the published order minus the mean over shuffled ones, nats."""
    permutations: int = 0
    blocks: int = 1
    """Shuffled only within so many blocks (subjects), where the file is grouped by them."""
    verdict: Verdict
    reason: str


class Planted(Contract):
    """The same test on a set that a probe has read so many times."""

    copies: int
    p_value: float
    t: Number
    shuffled: bool = False
    """Planted in another order in every copy: what the ordering test can't see and overlap can."""


class Canary(Contract):
    """A random string planted in the probe's training so many times (Carlini et al. 2019)."""

    copies: int
    rank: int
    """Of the string by its likelihood among `of` alternatives, 1 for the likeliest."""
    of: int
    exposure: float
    """log2 of `of` − log2 of `rank`: 0 for one never seen on average 1.4, log2 of `of` for one known by heart."""


class Power(Contract):
    """What the tests can see: sets planted on purpose in the training of a small probe. Not of the model tested: it
    says what a probe of this size and recipe would have shown."""

    planted: list[Planted]
    """By number of copies; empty where there was nothing to plant, `reason` says why."""
    detects_from_copies: int | None
    reason: str
    probe_parameters: int | None = None
    probe_tokens: int | None = None
    """That it was trained on, planted ones included."""
    recipe: str = ""
    """Its shape and training in words, such as `2 layers of width 128, the run's own recipe`."""
    canaries: list[Canary] = Field(default_factory=list)


class Place(Contract):
    """Where an item stands in the corpus."""

    document: str
    source: str
    url: str
    position: int
    """Characters, words or UTF-8 bytes of the document before it, as `unit` says."""
    unit: Literal["characters", "words", "bytes"] = "words"
    text: str
    """The words that match, as the corpus has them; cut."""
    with_answer: bool = False
    """The answer follows within 40 words: input and label (Dodge et al. 2021), not input alone."""


class ItemOverlap(Contract):
    """An item that is not clean."""

    id: str
    state: State
    shares: dict[str, float]
    """By rule, the share of the item that was found, 0 .. 1."""
    places: list[Place] = Field(default_factory=list)
    """The first few."""


class OverlapRule(Contract):
    """One rule's counts of a set's items."""

    rule: str
    """`13-gram`, `8-gram share`, `token spans`."""
    source: str
    """Who made it: `Brown et al. 2020`, …"""
    meaning: str
    """What makes an item suspect or dirty under it, in words."""
    clean: int
    suspect: int
    dirty: int
    mean_share: Number = None


class Overlap(Contract):
    """Runs of words that a set of questions shares with the training text."""

    set: str
    """A task, or `test-instructions`: the judged prompts."""
    items: int
    ngram: int
    any_ngram: Number
    """Share of items with a run of `ngram` words."""
    share_ngram: int
    mean_share: Number
    """Mean share of an item's runs of `share_ngram` words."""
    dirty: Number
    """Share of items of which `dirty_share` or more is in the training text."""
    dirty_ids: list[str]
    suspect: int = 0
    """Items that some rule makes suspect and none dirty."""
    too_short: int = 0
    """Items of fewer words than the index knows; they are in no other count."""
    rules: list[OverlapRule] = Field(default_factory=list)
    found: list[ItemOverlap] = Field(default_factory=list)
    """Items that aren't clean, the dirtiest first; a bounded number of them (`overlap.parquet` has all)."""
    verdict: Verdict
    reason: str


class SplitAccuracy(Contract):
    """A task's accuracy on all, clean and dirty questions; null where there are none."""

    task: str
    model: str = "base"
    protocol: str
    all_questions: int
    all_acc: Number
    clean_questions: int
    clean_acc: Number
    dirty_questions: int
    dirty_acc: Number
    gap: Number = None
    """Accuracy on all minus accuracy on the clean ones, which the others brought; null where all are clean."""
    gap_low: Number = None
    """95 % interval, over the same items."""
    gap_high: Number = None
    method: str = ""
    """Of the interval, in words."""


class Membership(Contract):
    """Min-K % probability (Shi et al. 2023) or Min-K%++ (Zhang et al. 2024): is a text among those that were read?"""

    task: str
    model: str = "base"
    method: Literal["min_k", "min_k_plus_plus"]
    k: float
    """Share of a text's tokens that count, the least likely ones."""
    mean: Number
    """Over the task's items."""
    auc: Number = None
    """How well it tells known members from known non-members of the corpus (.5: not at all); null where unknown."""
    auc_low: Number = None
    auc_high: Number = None
    members: int = 0
    non_members: int = 0
    reason: str = ""


class TaskVerdict(Contract):
    """What all tests together say of one model and one task: stands beside each of its scores."""

    model: str
    task: str
    verdict: Verdict
    reason: str
    """In a few words: which test says so."""


class Contamination(Contract):
    model: str
    alpha: float
    """p below which a task counts as contaminated."""
    dirty_share: float
    ordering: list[Ordering]
    """One a task (and model)."""
    power: Power
    overlap: list[Overlap]
    accuracy: list[SplitAccuracy]
    membership: list[Membership] = Field(default_factory=list)
    verdicts: list[TaskVerdict] = Field(default_factory=list)
    """One a model that was evaluated and a task."""
