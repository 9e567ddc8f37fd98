"""Rewards that can be checked: an answer is right or wrong by what is known, no model is asked."""

import re

from stages.alignment.data.records import Instruction
from stages.annotators.truth import Truth, score

MARK = "####"  # before the final answer of a worked one, as GSM8K has it (Cobbe et al. 2021)
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
FINAL = re.compile(rf"{MARK}\s*[$€£]?({NUMBER.pattern})\s*[.%]?\s*$")


class Verifier:
    """Of an instruction about a known entity: correct minus wrong facts, as a share of what was asked, -1 at the least.
    Of one whose response ends with `#### number`: whether the answer's last number is that number, 1 or 0.
    """

    def __init__(self, truth: Truth) -> None:
        self.truth = truth

    def knows(self, row: Instruction) -> bool:
        return row.entity in self.truth or _final(row.response) is not None

    def reward(self, row: Instruction, text: str) -> float:
        """-1 … 1; `knows(row)` must hold."""
        if row.entity in self.truth:
            found = score(self.truth, row.entity, row.attributes, text)
            return max(-1.0, found.score / max(found.asked, 1))
        return float(_last_number(text.rpartition(MARK)[2]) == _final(row.response))


def _final(response: str) -> float | None:
    """The number that a response ends with behind the mark; None for one that ends otherwise."""
    found = FINAL.search(response)
    return _last_number(found[1]) if found else None


def _last_number(text: str) -> float | None:
    found = NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None
