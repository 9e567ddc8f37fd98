"""The exact score of an answer against known truth: correct minus wrong facts. Nothing may be known."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.base.errors import InputError


@dataclass(frozen=True)
class Score:
    """`correct` of the `asked` attributes have their true value mentioned; `wrong` mentioned values are untrue."""

    asked: int
    correct: int
    wrong: int

    @property
    def score(self) -> int:
        return self.correct - self.wrong

    @property
    def right(self) -> bool:
        return self.asked > 0 and self.correct == self.asked and self.wrong == 0


@dataclass(frozen=True)
class Question:
    """What a prompt asks: an entity ("" where truth is not known) and the asked attributes."""

    entity: str
    attributes: tuple[str, ...]


class Truth:
    """Facts of entities and one compiled pattern over all attribute values; both may be empty."""

    def __init__(self, attributes: Mapping[str, Iterable[str]], facts: Mapping[str, Mapping[str, str]]) -> None:
        self.facts = facts
        values = sorted({value for group in attributes.values() for value in group}, key=lambda v: (-len(v), v))
        if not all(values) or (facts and not values):
            raise InputError("truth: `attributes` has no values, or an empty one")
        # Longest first, so that of two values where one begins the other the longer is matched.
        alternatives = "|".join(r"\s+".join(map(re.escape, value.split())) for value in values)
        self._pattern = re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)", re.IGNORECASE) if values else None

    @classmethod
    def from_json(cls, content: Any, place: str | Path = "truth.json") -> "Truth":
        """Of what `truth.json` holds (docs/architecture.md). Raises InputError if a part is missing."""
        try:
            facts = {name: dict(entity["facts"]) for name, entity in content["entities"].items()}
            return cls(content["attributes"], facts)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{place}: not a truth file: {error!r} is missing or of the wrong type") from None

    def __contains__(self, entity: str) -> bool:
        return entity in self.facts

    def mentions(self, text: str) -> set[str]:
        """Attribute values that a text mentions as whole words, case-folded."""
        return {fold(found) for found in self._pattern.findall(text)} if self._pattern else set()

    def true_values(self, entity: str) -> Mapping[str, str]:
        """attribute → value. Raises InputError for an entity that the truth doesn't know."""
        try:
            return self.facts[entity]
        except KeyError:
            raise InputError(f"truth.json: no entity `{entity}`; rebuild its source and everything after it") from None


def score(truth: Truth, entity: str, attributes: Iterable[str], answer: str) -> Score:
    """Exact score of an answer about `entity` where `attributes` are asked (docs/architecture.md).

    A true value that was not asked counts neither way; a repeated value counts once.
    Raises InputError for an unknown entity, or an attribute that the entity doesn't have.
    """
    facts = truth.true_values(entity)
    asked = tuple(attributes)
    missing = [name for name in asked if name not in facts]
    if missing:
        raise InputError(f"truth.json: entity `{entity}` has no attribute `{missing[0]}`")
    mentioned = truth.mentions(answer)
    correct = sum(fold(facts[name]) in mentioned for name in asked)
    wrong = len(mentioned - {fold(value) for value in facts.values()})
    return Score(asked=len(asked), correct=correct, wrong=wrong)


def question_lookup(rows: Iterable[Mapping[str, Any]]) -> dict[str, Question]:
    """prompt → Question, from rows of INSTRUCTION or QUESTION.

    Raises InputError if one prompt asks for two different things.
    """
    lookup: dict[str, Question] = {}
    for row in rows:
        question = Question(row["entity"] or "", tuple(row["attributes"] or ()))
        if lookup.setdefault(row["prompt"], question) != question:
            raise InputError(f"instruction {row['id']}: the same prompt asks about two entities: {row['prompt']!r}")
    return lookup


def fold(value: str) -> str:
    """How values and mentions are compared: lower case, single spaces."""
    return " ".join(value.split()).lower()
