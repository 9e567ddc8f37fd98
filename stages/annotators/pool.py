"""A pool of simulated annotators: judges whose noise and length bias are known because they are parameters.

AlpacaFarm's idea (Dubois et al. 2023, arXiv:2305.14387, section 4): several annotators that differ among themselves,
and labels flipped at a known rate, imitate the variability of human preferences. Here the signal is the exact score
against a known truth, so what a judge should have said is known for every comparison; where no truth is known it is the
overlap with a reference answer (`grades`):

    logit P(second better) = score_weight · (s2 - s1) + length_bias_k · tanh((l2 - l1) / length_scale)
                             - position_bias + noise · z,     P → 1 - P with probability label_noise

s: grade, l: characters, z standard normal per call; of annotator k: length_bias_k = length_bias · (1 + spread · z_k).
Every draw is a function of (seed, messages, annotator) alone, so a verdict doesn't depend on call order.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from stages.annotators.grades import Grader
from stages.base.params import Section
from stages.base.seeds import derive

POOL_MODEL = "simulated-pool"
_MODEL = re.compile(r"simulated-(pool|\d+)")
_PART = re.compile(r'^\{"(instruction|output_1|output_2)": (".*")\}$', re.MULTILINE)


class PoolSettings(Section):
    """The known properties of the simulated annotators."""

    annotators: Annotated[int, Field(ge=1, le=1000)]
    """How many; each call goes to one, drawn by its content."""
    score_weight: Annotated[float, Field(ge=0)]
    """Logits per fact of difference in score."""
    length_bias: float
    """Logits at a large difference in length, towards the longer answer."""
    length_scale: Annotated[float, Field(gt=0)]
    """Characters."""
    spread: Annotated[float, Field(ge=0)]
    """Relative standard deviation of length_bias among annotators."""
    position_bias: float
    """Logits towards the answer shown first."""
    noise: Annotated[float, Field(ge=0)]
    """Standard deviation of the logit from call to call."""
    label_noise: Annotated[float, Field(ge=0, lt=0.5)]
    """Share of flipped verdicts; AlpacaFarm trains with 0.25."""


class PromptError(ValueError):
    """The request holds no comparison that the pool can read, or an instruction that it doesn't know."""


@dataclass(frozen=True)
class Verdict:
    annotator: int
    second_better: float  # probability in (0, 1)


def annotator_model(annotator: int) -> str:
    """The model name under which one annotator of the pool answers."""
    return f"simulated-{annotator}"


class Pool:
    """Answers comparison prompts about instructions that the grader knows."""

    def __init__(self, settings: PoolSettings, grader: Grader, seed: int) -> None:
        self.settings, self.grader, self.seed = settings, grader, seed
        draws = [_normals(derive(seed, "annotator", k), 1)[0] for k in range(settings.annotators)]
        self.length_biases = [settings.length_bias * (1 + settings.spread * z) for z in draws]

    def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The chat completion that a server would send for a request body, with log-probabilities if it asks for them.

        Model `simulated-pool` draws an annotator per call, `simulated-<k>` is annotator k; the reply's `model` names
        the one that answered. Raises PromptError for a request without a comparison, or of another model.
        """
        model = _MODEL.fullmatch(body["model"])
        if model is None:
            raise PromptError(f"no simulated model `{body['model']}`")
        verdict = self.judge(body["messages"], None if model[1] == "pool" else int(model[1]))
        chances = {"1": math.log1p(-verdict.second_better), "2": math.log(verdict.second_better)}
        top = [{"token": label, "logprob": chances[label]} for label in sorted(chances, key=lambda k: -chances[k])]
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": top[0]["token"]}}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        return {"model": annotator_model(verdict.annotator), "choices": [choice]}

    def judge(self, messages: list[dict[str, str]], annotator: int | None = None) -> Verdict:
        """The verdict of one annotator, by default drawn from the pool for these messages.

        Raises PromptError for messages that hold no comparison, or an unknown instruction.
        """
        prompt, first, second = parse_comparison(messages)
        if prompt not in self.grader:
            raise PromptError(f"the simulated pool doesn't know the instruction {prompt[:80]!r}")
        digest = json.dumps(messages, sort_keys=True)
        if annotator is None:
            annotator = derive(self.seed, "pick", digest) % self.settings.annotators
        if not 0 <= annotator < self.settings.annotators:
            raise PromptError(f"no annotator {annotator} in a pool of {self.settings.annotators}")
        call_seed = derive(self.seed, "call", annotator, digest)
        flip = (derive(call_seed, "flip") >> 10) / 2**53 < self.settings.label_noise
        noise = self.settings.noise * _normals(call_seed, 1)[0] if self.settings.noise else 0.0
        logit = (
            self.settings.score_weight * (self.grader(prompt, second) - self.grader(prompt, first))
            + self.length_biases[annotator] * math.tanh((len(second) - len(first)) / self.settings.length_scale)
            - self.settings.position_bias
            + noise
        )
        second_better = 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))
        return Verdict(annotator, 1 - second_better if flip else second_better)


def parse_comparison(messages: list[dict[str, str]]) -> tuple[str, str, str]:
    """(instruction, output_1, output_2) out of the last user message, as `prompts/pairwise.txt` writes them."""
    users = [m["content"] for m in messages if m.get("role") == "user" and isinstance(m.get("content"), str)]
    parts = _PART.findall(users[-1]) if users else []
    if [name for name, _ in parts] != ["instruction", "output_1", "output_2"]:
        raise PromptError("the last user message must hold instruction, output_1 and output_2 as JSON lines, in order")
    try:
        instruction, first, second = (json.loads(text) for _, text in parts)
    except ValueError as error:
        raise PromptError(f"a part of the comparison is no JSON string: {error}") from None
    return instruction, first, second


def _normals(seed: int, count: int) -> list[float]:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(count).tolist()
