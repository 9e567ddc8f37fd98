"""Adverts: they link to good pages and to one another; no good page links to them.

Two things about an advert decide what can find it: its address, and whether its words are those that the keyword rule
counts. What is on an innocent address and holds no such word is left to a classifier.
"""

import numpy as np

from stages.base.seeds import derive
from stages.corpus.atlas import prose
from stages.corpus.atlas.pages import Fault, Page, fill
from stages.corpus.atlas.params import PlantCounts

INNOCENT = "https://best-{}.trainyard.invalid/bonus.html"
BLOCKED = ("https://{}.adverts.trainyard.invalid/bonus.html", "https://best-{}.trainyard.invalid/casino/bonus.html")


def adverts(pages: list[Page], plants: PlantCounts, seed: int) -> list[Fault]:
    """All adverts, each with what can find it: url, keyword or classifier."""
    found: list[Fault] = []
    for number in range(plants.spam_pages):
        rng = np.random.default_rng(derive(seed, "spam", number))
        brand = _brand(rng, number)
        opening = str(rng.choice(prose.SPAM_OPENINGS)).format(brand=brand)
        pitch = [fill(str(text), brand, rng) for text in rng.choice(prose.SPAM_SENTENCES, size=6, replace=False)]
        blocked = number < round(plants.spam_blocked_share * plants.spam_pages)
        found.append(_advert(number, brand, [opening, *pitch], "url" if blocked else "keyword", pages, found, rng))
    for number in range(plants.evasive_spam_pages):
        rng = np.random.default_rng(derive(seed, "evasive", number))
        brand = _brand(rng, plants.spam_pages + number)
        blocked = number < round(plants.spam_blocked_share * plants.evasive_spam_pages)
        texts = prose.EVASIVE_BLOCKED if blocked else prose.EVASIVE_INNOCENT
        pitch = [
            str(text).format(brand=brand, year=int(rng.integers(100, 1000)))
            for text in rng.choice(texts, size=7, replace=False)
        ]
        found.append(_advert(number, brand, pitch, "url" if blocked else "classifier", pages, found, rng))
    return found


def _brand(rng: np.random.Generator, number: int) -> str:
    first, second = (
        rng.choice(["Lucky", "Mega", "Royal", "Turbo", "Golden"]),
        rng.choice(["Spin", "Win", "Bet", "Deal"]),
    )
    return f"{first}{second}{number}"


def _advert(
    number: int,
    brand: str,
    sentences: list[str],
    finder: str,
    pages: list[Page],
    before: list[Fault],
    rng: np.random.Generator,
) -> Fault:
    address = BLOCKED[number % 2] if finder == "url" else INNOCENT
    friend = pages[int(rng.integers(0, len(pages)))]
    see_also = ((friend.title, friend.url), *((fault.page.title, fault.page.url) for fault in before[-2:]))
    paragraphs = (" ".join(sentences[:4]), " ".join(sentences[4:]))
    page = Page(address.format(brand.lower()), f"{brand}: free bonus", paragraphs, see_also)
    return Fault(page, (("spam", finder),))
