"""`data/evaluation/evaluate/<model>/evaluation.json`: what a model knows; `metrics.json` says the same flat.

`samples.json` beside it holds a few items with their prompts (`Samples`). What compares models is in neither:
`publishing.evaluation_report` has all of them.
"""

from typing import Literal

from pydantic import Field

from stages.base.contracts import Contract, Number

OutputType = Literal["multiple_choice", "loglikelihood", "generate_until", "loglikelihood_rolling"]

LOWER_IS_BETTER = frozenset({"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score"})
"""Metrics that are no shares of right answers; of all others more is better."""


class Bin(Contract):
    """One bar of a reliability diagram: predictions of about the same confidence."""

    confidence: float
    """Mean probability that the model gave its own prediction."""
    accuracy: float
    """Share of the predictions that were right."""
    count: int


class Calibration(Contract):
    """Whether probabilities mean what they say: of the answers chosen, or of the likeliest next token."""

    n: int
    """Predictions."""
    ece: Number
    """Expected calibration error: mean distance of confidence and accuracy over the bins, each weighing by its count
    (Naeini et al. 2015)."""
    low: Number
    high: Number
    by_chance: Number = None
    """What a perfectly calibrated model would show on average with as many predictions: few of them miss their mean."""
    method: str
    """How bins and interval are made, in words."""
    bins: list[Bin]
    brier: Number = None
    """Mean squared error of the probabilities (over all choices); the three terms below make it up (Murphy 1973):
    reliability − resolution + uncertainty."""
    reliability: Number = None
    resolution: Number = None
    uncertainty: Number = None
    entropy: Number = None
    """Mean entropy of the distribution that was predicted, nats."""


class Position(Contract):
    """Loss on the tokens that had so much context."""

    begin: int
    """Tokens of context: from `begin` to `end` − 1."""
    end: int
    nats_per_token: float
    tokens: int


class TextLoss(Contract):
    """Loss on one text of evaluation.texts."""

    bpb: float
    """Bits per byte."""
    bpb_low: Number = None
    """95 % interval over documents."""
    bpb_high: Number = None
    perplexity: float
    """Per token: comparable between models of one tokenizer only."""
    word_perplexity: Number = None
    """Per word, words as white space parts them: comparable between tokenizers, not between texts."""
    byte_perplexity: Number = None
    nats_per_token: float
    documents: int
    tokens: int
    words: int = 0
    bytes: int
    window: int = 0
    """Tokens that the model reads at a time."""
    stride: int = 0
    """Tokens that are scored in each window but the first; the rest of it is context."""
    sources: dict[str, float]
    """Bits per byte by source."""
    domains: dict[str, float]
    """Bits per byte by domain."""
    positions: list[Position] = Field(default_factory=list)
    """By the number of tokens before."""
    entropy: Number = None
    """Mean entropy of the next-token distribution, nats."""
    next_token: Calibration | None = None
    """Of the likeliest next token."""
    controls: dict[str, float] = Field(default_factory=dict)
    """Bits per byte of what knows nothing: uniform_tokens, to which all of the model's tokens are alike. Those that
    need no model are in `Controls`."""
    warnings: list[str] = Field(default_factory=list)
    """Such as a loss above the uniform control's."""


class Controls(Contract):
    """`data/evaluation/controls/<text>/controls.json`: what needs no neural network, on the models' documents."""

    bpb: dict[str, float]
    """Bits per byte: uniform (8), gzip, lzma (of all documents as one file), unigram and ngram (of bytes, learned from
    training text)."""
    order: int
    """Bytes of an n-gram."""
    trained_bytes: int
    """Of training text that unigram and ngram learned from."""
    documents: int
    bytes: int


class Score(Contract):
    """One metric over a task's items, as a share of 1, with a 95 % interval."""

    mean: Number
    low: Number = None
    high: Number = None
    n: int
    """Items that it is over."""
    clusters: int = 0
    """Groups of items that are not independent, over which the interval is made; 0 where each item stands alone."""
    method: str = ""
    """Of the interval, in words: `exact binomial`, `t, clustered by passage`, …"""


class Accuracy(Contract):
    """A task under one protocol."""

    shots: Number
    """Mean number of examples really shown."""
    answered: int
    too_long: int
    """Questions that the model's context has no room for: left out."""
    version: int = 1
    """Of the protocol."""
    metric: str = "acc"
    """The one of `scores` that stands for the task in tables."""
    scores: dict[str, Score] = Field(default_factory=dict)
    """By metric: acc, acc_norm (log-likelihood per character), acc_bytes (per byte), exact_match, …"""
    subjects: dict[str, Score] = Field(default_factory=dict)
    """`metric` by subject, where there are several."""
    by_subject: dict[str, Score] = Field(default_factory=dict)
    """`metric` over the subjects, the interval from the spread within them: `size`, every item alike; `equal`, every
    subject alike."""
    variants: dict[str, Score] = Field(default_factory=dict)
    """`metric` by prompt variant, all on the same items; the plain prompt among them."""
    truncated: int = 0
    """Items whose context lost its beginning."""
    unread: int = 0
    """Generated answers from which no answer could be read: counted as wrong."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """Items that were not asked, by reason in words (`too_long` is among them)."""
    repeated: int = 0
    """Items with the same option twice: right if the chosen text is right."""
    calibration: Calibration | None = None
    """Of the probabilities among an item's choices."""

    @property
    def acc(self) -> float | None:
        """Share of right answers, where that is measured."""
        return self.scores["acc"].mean if "acc" in self.scores else None

    @property
    def main(self) -> Score | None:
        return self.scores.get(self.metric)


class TaskResult(Contract):
    questions: int
    chance_acc: Number
    """Of guessing; null where answers are generated."""
    constant_acc: Number
    """Of the letter that is right most often."""
    protocols: dict[str, Accuracy]
    output_type: OutputType = "multiple_choice"
    split: str = ""
    version: str = ""
    """Of the task's file."""
    digest: str = ""
    """sha256 of the items asked, 16 hex digits: equal ones were asked the same questions."""


class GroupResult(Contract):
    """Several tasks as one number, under one protocol."""

    group: str
    protocol: str
    tasks: list[str]
    scores: dict[str, Score]
    """By aggregation: size_weighted, mean, normalised (Open LLM Leaderboard v2), centred (CORE); HELM's win_rate needs
    other models and is none of a single model's numbers."""


class Evaluation(Contract):
    texts: dict[str, TextLoss]
    tasks: dict[str, TaskResult]
    groups: list[GroupResult] = Field(default_factory=list)
    tokenizer: str = ""
    """sha256 of the tokenizer, 16 hex digits: perplexities per token of equal ones may be compared."""
    warnings: list[str] = Field(default_factory=list)

    def flat(self) -> dict[str, float | None]:
        """`<text>_bpb`, `<text>_bpb_<source>`, `<task>_<protocol>_acc`, …: name → number."""
        found: dict[str, float | None] = {}
        for key, text in self.texts.items():
            found |= {f"{key}_{name}": value for name, value in _numbers(text).items()}
            found |= {f"{key}_bpb_{source}": value for source, value in text.sources.items()}
            found |= {f"{key}_bpb_domain_{domain}": value for domain, value in text.domains.items()}
            found |= {f"{key}_bpb_control_{control}": value for control, value in text.controls.items()}
            if text.next_token:
                found[f"{key}_next_token_ece"] = text.next_token.ece
        for key, task in self.tasks.items():
            found |= {f"{key}_{name}": value for name, value in _numbers(task).items()}
            for protocol, result in task.protocols.items():
                name = f"{key}_{protocol}"
                found |= {f"{name}_{field}": value for field, value in _numbers(result, exclude={"version"}).items()}
                for metric, score in result.scores.items():
                    found |= {
                        f"{name}_{metric}": score.mean,
                        f"{name}_{metric}_low": score.low,
                        f"{name}_{metric}_high": score.high,
                    }
                if result.calibration:
                    found |= {f"{name}_ece": result.calibration.ece, f"{name}_brier": result.calibration.brier}
        for one in self.groups:
            found |= {f"group_{one.group}_{one.protocol}_{how}": score.mean for how, score in one.scores.items()}
        return found


def _numbers(contract: Contract, exclude: set[str] | None = None) -> dict[str, float | None]:
    values = contract.model_dump(exclude=exclude)
    return {name: value for name, value in values.items() if value is None or isinstance(value, int | float)}


class Sample(Contract):
    """One item as a model was asked it, and what it answered."""

    task: str
    protocol: str
    id: str
    subject: str
    question: str = ""
    """The bare question."""
    prompt: str
    """Exactly as sent, examples and chat template and all."""
    choices: list[str]
    """None where the answer is generated."""
    answer: int
    """Index of the right choice; −1 where the answer is generated."""
    target: str
    """The right answer as text."""
    choice: int
    """Index of the chosen one; −1 for none."""
    text: str = ""
    """Generated; empty otherwise."""
    logprobs: list[float] = Field(default_factory=list)
    """Of each choice, nats."""
    right: bool


class Samples(Contract):
    """`samples.json`: some items of each task, the same ones for every model (those with the smallest ids' hashes)."""

    samples: list[Sample]
