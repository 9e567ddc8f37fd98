"""How good an answer is, in facts: what the simulated annotators go by where nobody is asked."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import LCSseq

from stages.annotators.truth import Question, Truth, question_lookup, score
from stages.base.errors import InputError

EXACT = "the exact score against the known truth"
OVERLAP = "the overlap of words with the reference answer (ROUGE-L), as no truth is known"
_WORD = re.compile(r"\w+")


def rouge_l(first: str, second: str) -> float:
    """F-measure of the longest common subsequence of lower-cased words (Lin 2004), 0..1; 0 where one has no words."""
    a, b = (_WORD.findall(text.lower()) for text in (first, second))
    return 2 * LCSseq.similarity(a, b) / (len(a) + len(b)) if a and b else 0.0


@dataclass(frozen=True)
class Grader:
    """The grade of an answer to a prompt: correct minus wrong facts where truth is known; elsewhere the overlap with
    the reference answer on the scale of one fact, from -1 (no word in common) to 1 (the same words).

    Raises InputError, naming the prompt, where there is neither: all that could be seen is length.
    """

    truth: Truth
    questions: Mapping[str, Question]  # by prompt
    references: Mapping[str, str]

    @classmethod
    def of(cls, instructions: Iterable[Mapping[str, Any]], truth: Truth) -> "Grader":
        """From INSTRUCTION rows. Raises InputError where one prompt asks for two different things."""
        rows = list(instructions)
        return cls(truth, question_lookup(rows), {row["prompt"]: row["response"] for row in rows})

    def __contains__(self, prompt: str) -> bool:
        return prompt in self.questions

    def knows(self, prompt: str) -> bool:
        """Whether the truth of what a prompt asks for is known."""
        return self.questions[prompt].entity in self.truth

    def __call__(self, prompt: str, answer: str) -> float:
        question = self.questions[prompt]
        if question.entity in self.truth:
            return score(self.truth, question.entity, question.attributes, answer).score
        if not _WORD.search(self.references[prompt]):
            raise InputError(
                f"the simulated annotators can't judge answers to {prompt[:60]!r}: neither its truth nor a reference "
                "answer is known; give it a `response`, or have it judged by a model: "
                "`judging.judge.annotator: {provider: openai, base_url: …, model: …}`, and `alignment.annotate` alike"
            )
        return 2 * rouge_l(answer, self.references[prompt]) - 1

    def signals(self, prompts: Iterable[str]) -> str:
        """What answers to these prompts are graded by, in words."""
        return signals(Counter(self.knows(prompt) for prompt in prompts))


def signals(known: Mapping[bool, int]) -> str:
    """In words, from the number of prompts whose truth is known (True) and isn't."""
    if not known.get(False):
        return EXACT
    return OVERLAP if not known.get(True) else f"{EXACT} for {known[True]} prompts; for {known[False]} {OVERLAP}"
