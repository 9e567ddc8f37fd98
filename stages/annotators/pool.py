"""A pool of simulated annotators: judges whose noise and length bias are known because they are parameters.

AlpacaFarm's idea (Dubois et al. 2023, arXiv:2305.14387, section 4): several annotators that differ among themselves,
and labels flipped at a known rate, imitate the variability of human preferences. Here the signal is the exact score
against the atlas's truth, so what a judge should have said is known for every comparison:

    logit P(second better) = score_weight · (s2 - s1) + length_bias_k · tanh((l2 - l1) / length_scale)
                             - position_bias + noise · z,     P → 1 - P with probability label_noise

s: exact score, l: characters, z standard normal per call; of annotator k:
length_bias_k = length_bias · (1 + spread · z_k).
Every draw is a function of (seed, messages, annotator) alone, so a verdict doesn't depend on call order.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from stages.annotators.truth import Question, Truth, score
from stages.base.params import Section
from stages.base.seeds import derive

_PART = re.compile(r'^\{"(instruction|output_1|output_2)": (".*")\}$', re.MULTILINE)


class PoolSettings(Section):
    """The known properties of the simulated annotators."""

    annotators: Annotated[int, Field(ge=1, le=1000)]
    score_weight: Annotated[float, Field(ge=0)]  # logits per fact of score difference
    length_bias: float  # logits at a large length difference, towards the longer answer
    length_scale: Annotated[float, Field(gt=0)]  # characters
    spread: Annotated[float, Field(ge=0)]  # relative standard deviation of length_bias among annotators
    position_bias: float  # logits towards the answer shown first
    noise: Annotated[float, Field(ge=0)]  # standard deviation of the logit from call to call
    label_noise: Annotated[float, Field(ge=0, lt=0.5)]  # share of flipped verdicts; AlpacaFarm trains with 0.25


class PromptError(ValueError):
    """The messages hold no comparison that the pool can read, or a prompt that it has no truth for."""


@dataclass(frozen=True)
class Verdict:
    annotator: int
    second_better: float  # probability in (0, 1)


class Pool:
    """Answers comparison prompts; `truth` and `questions` are what lets it score answers exactly.

    A prompt whose question names no entity of the truth gets score difference 0: the pool can only see lengths.
    """

    def __init__(self, settings: PoolSettings, truth: Truth, questions: Mapping[str, Question], seed: int) -> None:
        self.settings, self.truth, self.questions, self.seed = settings, truth, questions, seed
        draws = [_normals(derive(seed, "annotator", k), 1)[0] for k in range(settings.annotators)]
        self.length_biases = [settings.length_bias * (1 + settings.spread * z) for z in draws]

    def judge(self, messages: list[dict[str, str]], annotator: int | None = None) -> Verdict:
        """The verdict of one annotator, by default drawn from the pool for these messages.

        Raises PromptError for messages that hold no comparison.
        """
        prompt, first, second = parse_comparison(messages)
        digest = json.dumps(messages, sort_keys=True)
        if annotator is None:
            annotator = derive(self.seed, "pick", digest) % self.settings.annotators
        if not 0 <= annotator < self.settings.annotators:
            raise PromptError(f"no annotator {annotator} in a pool of {self.settings.annotators}")
        call_seed = derive(self.seed, "call", annotator, digest)
        flip = (derive(call_seed, "flip") >> 10) / 2**53 < self.settings.label_noise
        noise = self.settings.noise * _normals(call_seed, 1)[0] if self.settings.noise else 0.0
        logit = (
            self.settings.score_weight * self._score_difference(prompt, first, second)
            + self.length_biases[annotator] * math.tanh((len(second) - len(first)) / self.settings.length_scale)
            - self.settings.position_bias
            + noise
        )
        second_better = 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))
        return Verdict(annotator, 1 - second_better if flip else second_better)

    def _score_difference(self, prompt: str, first: str, second: str) -> int:
        question = self.questions.get(prompt)
        if question is None:
            raise PromptError(f"the simulated pool has no truth for the instruction {prompt[:80]!r}")
        if question.entity not in self.truth:
            return 0
        scores = [score(self.truth, question.entity, question.attributes, answer).score for answer in (first, second)]
        return scores[1] - scores[0]


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
