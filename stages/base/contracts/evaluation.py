"""`data/evaluation/evaluate/<model>/evaluation.json`: what a model knows; `metrics.json` says the same flat."""

from stages.base.contracts import Contract, Number


class TextLoss(Contract):
    """Loss on one text of evaluation.texts."""

    bpb: float
    """Bits per byte."""
    perplexity: float
    """Per token: comparable between models of one tokenizer only."""
    nats_per_token: float
    documents: int
    tokens: int
    bytes: int
    sources: dict[str, float]
    """Bits per byte by source."""
    domains: dict[str, float]
    """Bits per byte by domain."""


class Accuracy(Contract):
    """A task under one protocol; shares, with a 95 % interval."""

    acc: Number
    acc_low: Number
    acc_high: Number
    acc_norm: Number
    """By log-likelihood per character."""
    shots: Number
    """Mean number of examples really shown."""
    answered: int
    too_long: int
    """Questions that the model's context has no room for: left out."""


class TaskResult(Contract):
    questions: int
    chance_acc: float
    constant_acc: float
    """Of the letter that is right most often."""
    protocols: dict[str, Accuracy]


class Evaluation(Contract):
    texts: dict[str, TextLoss]
    tasks: dict[str, TaskResult]

    def flat(self) -> dict[str, float | None]:
        """`<text>_bpb`, `<text>_bpb_<source>`, `<task>_<protocol>_acc`, …: name → number."""
        found: dict[str, float | None] = {}
        for key, text in self.texts.items():
            found |= {f"{key}_{name}": value for name, value in text.model_dump(exclude={"sources", "domains"}).items()}
            found |= {f"{key}_bpb_{source}": value for source, value in text.sources.items()}
            found |= {f"{key}_bpb_domain_{domain}": value for domain, value in text.domains.items()}
        for key, task in self.tasks.items():
            found |= {f"{key}_{name}": value for name, value in task.model_dump(exclude={"protocols"}).items()}
            for protocol, accuracy in task.protocols.items():
                found |= {f"{key}_{protocol}_{name}": value for name, value in accuracy.model_dump().items()}
        return found
