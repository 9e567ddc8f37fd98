"""The rule of a claim: one line that says, before anything runs, which numbers make it true.

| written | asks whether | analysis |
|---|---|---|
| `a > b`, `a < b` | the metric of a is higher (lower) | difference |
| `a > b + 2`, `a > b - 1` | it is so by more than 2; or not lower by 1 or more | difference |
| `a = b ± 2` (or `+-`) | they are less than 2 apart | equivalence |
| `a > b > c` | every neighbouring pair is in this order | ordering |
| `increasing`, `decreasing` | the metric rises (falls) over the arms | trend |
| `multiplier(a, b) > 1.2` | b needs more than 1.2 times a's compute for equal loss | scaling |
| `slope(a) < slope(b)` | a's loss falls more steeply with compute | scaling |
| `reached = predicted ± 0.05` | the metric is less than 0.05 from what was predicted | predicted |
"""

import re
from dataclasses import dataclass
from typing import Literal

from stages.base.errors import ParamError

Analysis = Literal["difference", "equivalence", "ordering", "trend", "scaling", "predicted"]
Quantity = Literal["value", "multiplier", "slope", "reached"]
ARM = re.compile(r"[a-z][a-z0-9_]*")
RESERVED = ("increasing", "decreasing", "multiplier", "slope", "reached", "predicted")
FORMS = (
    "a > b, a < b, a > b + 2, a = b ± 2, a > b > c, increasing, decreasing, multiplier(a, b) > 1.2, "
    "slope(a) < slope(b) or reached = predicted ± 0.05"
)


@dataclass(frozen=True)
class Rule:
    """A rule taken apart. Of `a > b + 2`: arms (a, b), direction 1, threshold 2; it holds where
    direction · (a − b) > direction · threshold."""

    text: str
    analysis: Analysis
    quantity: Quantity
    arms: tuple[str, ...]
    """As they are named, left to right; none where the rule speaks of all arms (trend, predicted)."""
    direction: Literal[-1, 0, 1]
    """1 for `>` and increasing, -1 for `<` and decreasing, 0 for `=`."""
    threshold: float
    """Difference: what a − b is compared with. Scaling: what the multiplier is compared with. Equivalence and
    predicted: the half-width. 0 elsewhere."""

    def pairs(self) -> list[tuple[str, str]]:
        """Neighbouring arms, left to right: the comparisons that the rule makes."""
        return list(zip(self.arms, self.arms[1:], strict=False))


_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<sign>±|\+-|\+/-|[<>=+\-(),]))"
)


def parse_rule(text: str) -> Rule:
    """Raises ParamError that names the forms a rule may have."""
    words = _words(text)
    match [kind for kind, _ in words]:
        case ["name"] if words[0][1] in ("increasing", "decreasing"):
            return Rule(text, "trend", "value", (), 1 if words[0][1] == "increasing" else -1, 0.0)
        case ["multiplier", "(", "name", ",", "name", ")", ">" | "<" as sign, "number"]:
            arms, bound = (words[2][1], words[4][1]), float(words[7][1])
            return Rule(text, "scaling", "multiplier", _arms(text, arms), _direction(sign), bound)
        case ["slope", "(", "name", ")", ">" | "<" as sign, "slope", "(", "name", ")"]:
            return Rule(text, "scaling", "slope", _arms(text, (words[2][1], words[7][1])), _direction(sign), 0.0)
        case ["reached", "=", "predicted", "±", "number"]:
            return Rule(text, "predicted", "reached", (), 0, float(words[4][1]))
        case ["name", "=", "name", "±", "number"]:
            return Rule(text, "equivalence", "value", _arms(text, (words[0][1], words[2][1])), 0, float(words[4][1]))
        case ["name", ">" | "<" as sign, "name"]:
            return Rule(text, "difference", "value", _arms(text, (words[0][1], words[2][1])), _direction(sign), 0.0)
        case ["name", ">" | "<" as sign, "name", "+" | "-" as plus, "number"]:
            threshold = float(words[4][1]) * (1 if plus == "+" else -1)
            arms = (words[0][1], words[2][1])
            return Rule(text, "difference", "value", _arms(text, arms), _direction(sign), threshold)
        case ["name", ">" | "<" as sign, "name", *rest] if rest == [sign, "name"] * (len(rest) // 2):
            names = tuple(word for kind, word in words if kind == "name")
            return Rule(text, "ordering", "value", _arms(text, names), _direction(sign), 0.0)
    raise ParamError(f"`rule`: `{text}` has none of the forms {FORMS}")


def _words(text: str) -> list[tuple[str, str]]:
    """(kind, word) of each; the kind of a sign or of a word with a fixed meaning is itself."""
    words, place = [], 0
    while text[place:].strip():
        found = _TOKEN.match(text, place)
        if found is None:
            raise ParamError(f"`rule`: `{text}`: `{text[place:].strip()}` can't be read; the forms are {FORMS}")
        place, kind = found.end(), str(found.lastgroup)
        word = found[kind]
        if kind == "sign":
            kind = "±" if word in ("±", "+-", "+/-") else word
        elif word in ("multiplier", "slope", "reached", "predicted"):
            kind = word
        words.append((kind, word))
    return words


def _direction(sign: str) -> Literal[-1, 1]:
    return 1 if sign == ">" else -1


def _arms(text: str, names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ParamError(f"`rule`: `{text}` compares `{twice}` with itself; name two arms")
    return names
