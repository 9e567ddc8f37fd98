"""Undesirable content by rule: weighted terms a thousand words, one list a category.

The lists are short and mild on purpose: they catch pages that are *about* selling or betting, and a density bound keeps
a page that mentions a term once. A term's weight says how rarely it stands in ordinary prose.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

WORD = re.compile(r"\w+")

TERMS: dict[str, dict[str, float]] = {
    "spam": {
        "act now": 2, "buy now": 3, "order now": 3, "click here": 2, "limited time offer": 3, "limited offer": 3,
        "free shipping": 2, "100% free": 3, "risk free": 2, "risk-free": 2, "no obligation": 2, "money back": 2,
        "best price": 2, "lowest price": 2, "lowest prices": 2, "cheap": 1, "discount": 1, "discounts": 1, "deal": 0.5,
        "special offer": 2, "exclusive offer": 2, "subscribe now": 2, "sign up today": 2, "call now": 2,
        "earn money": 3, "make money": 2, "extra cash": 3, "work from home": 2, "get rich": 3, "miracle": 1,
        "weight loss": 2, "lose weight": 2, "replica watches": 4, "cheap watches": 3, "payday loan": 3,
        "payday loans": 3, "congratulations": 1, "you have won": 3, "winner": 0.5, "guaranteed": 1, "viagra": 4,
        "cialis": 4, "seo services": 3, "backlinks": 2, "crypto giveaway": 4, "while stocks last": 3, "hurry": 1,
    },
    "gambling": {
        "casino": 3, "casinos": 3, "jackpot": 3, "jackpots": 3, "slot machine": 3, "slot machines": 3, "free spins": 4,
        "online slots": 4, "betting": 2, "sportsbook": 3, "bookmaker": 2, "roulette": 2, "blackjack": 2, "poker": 1.5,
        "bet now": 4, "place your bets": 3, "no deposit": 3, "welcome bonus": 3, "deposit bonus": 4, "big win": 2,
    },
    "adult": {
        "xxx": 3, "porn": 4, "pornography": 3, "escort service": 3, "escorts": 2, "hot singles": 4, "adults only": 3,
        "18+ only": 3, "webcam girls": 4, "nude": 1.5, "nudes": 2, "erotic": 1.5, "sexy": 1.5, "adult dating": 4,
    },
}  # fmt: skip


def _by_first_word(terms: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for term in terms:
        found.setdefault(WORD.findall(term)[0], []).append(term)
    return found


FIRST_WORDS = {category: _by_first_word(terms) for category, terms in TERMS.items()}


class Undesirable(NamedTuple):
    """The category with the highest density of one text."""

    category: str
    density: float  # summed weight a thousand words
    terms: int  # distinct terms met


@cache
def _pattern(category: str) -> re.Pattern[str]:
    terms = sorted(TERMS[category], key=lambda term: (-len(term), term))
    return re.compile(r"(?<!\w)(?:" + "|".join(re.escape(term) for term in terms) + r")(?!\w)")


def judge(text: str) -> Undesirable:
    """The worst category by density (ties: the first in alphabetical order); density 0 where no term is met."""
    lowered = text.lower()
    words = WORD.findall(lowered)
    distinct = set(words)
    found = []
    for category in sorted(TERMS):
        # Looking up words first is several times faster than the pattern, and most texts hold no term.
        starts = FIRST_WORDS[category]
        held = any(term in lowered for word in starts.keys() & distinct for term in starts[word])
        hits = _pattern(category).findall(lowered) if held else []
        found.append((sum(TERMS[category][hit] for hit in hits), category, len(set(hits))))
    weight, category, terms = max(found, key=lambda item: item[0])
    if weight == 0:
        return Undesirable(category, 0.0, 0)
    return Undesirable(category, 1000.0 * weight / max(1, len(words)), terms)
