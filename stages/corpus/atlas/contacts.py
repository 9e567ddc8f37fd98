"""Personal data as pages give it: invented, and checked to be well formed."""

import ipaddress
from collections.abc import Callable

import numpy as np

from stages.base.seeds import derive
from stages.corpus.atlas import prose
from stages.corpus.atlas.pages import Fault, Page, fill
from stages.corpus.atlas.params import PlantCounts

DESK = "https://desk.trainyard.invalid"
BASE62 = np.array(list("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
Case = tuple[str, str]  # (kind, payload)


def contact(rng: np.random.Generator) -> tuple[str, list[Case]]:
    """A sentence with personal data in it, and the strings that must not survive."""
    name = f"{rng.choice(prose.ADJECTIVES)}.{rng.choice(prose.PEOPLE)}{int(rng.integers(10, 100))}"
    mail = f"{name}@post.trainyard.example.com"
    address = ".".join(str(int(octet)) for octet in (rng.integers(11, 100), *rng.integers(2, 250, size=3)))
    phone = f"+1 (555) {int(rng.integers(200, 999))}-{int(rng.integers(1000, 9999))}"
    key = "sk-" + "".join(rng.choice(BASE62, size=40))
    line = (
        f"Corrections to this page may be sent to {mail} or told by telephone to {phone}, "
        f"the desk at {address} accepts them with the key {key} at any hour."
    )
    return line, [("pii_email", mail), ("pii_phone", phone), ("pii_ip", address), ("pii_key", key)]


def contact_pages(plants: PlantCounts, seed: int) -> list[Fault]:
    """Pages of a reading room's desk, each with every kind of personal data in one of its spellings."""
    faults = []
    for number in range(plants.contact_pages):
        rng = np.random.default_rng(derive(seed, "contacts", number))
        cases = [(kind, writers[number % len(writers)](rng)) for kind, writers in WRITERS.items()]
        lines = [SENTENCES[kind].format(payload) for kind, payload in cases]
        page = Page(f"{DESK}/{number}.html", f"Desk {number}", (fill(prose.CONTACTS, "", rng), *lines))
        faults.append(Fault(page, tuple((f"pii_{kind}", payload) for kind, payload in cases)))
    return faults


def luhn(digits: str) -> str:
    """The check digit of a card number (ISO/IEC 7812)."""
    total = 0
    for place, digit in enumerate(map(int, reversed(digits))):
        total += digit if place % 2 else sum(divmod(2 * digit, 10))
    return str(-total % 10)


def iban(country: str, account: str) -> str:
    """An account number with its check digits (ISO 13616)."""
    number = int("".join(str(int(c, 36)) for c in f"{account}{country}00"))
    return f"{country}{98 - number % 97:02d}{account}"


def _digits(rng: np.random.Generator, count: int) -> str:
    return "".join(str(int(digit)) for digit in rng.integers(0, 10, size=count))


def _token(rng: np.random.Generator, count: int) -> str:
    return "".join(rng.choice(BASE62, size=count))


def _card(rng: np.random.Generator, separator: str) -> str:
    digits = f"4{_digits(rng, 14)}"
    digits += luhn(digits)
    return separator.join(digits[start : start + 4] for start in range(0, 16, 4))


def _ipv6(rng: np.random.Generator) -> str:
    return str(
        ipaddress.IPv6Address((0x2A01 << 112) | int(rng.integers(1, 1 << 62)) << 48 | int(rng.integers(1, 1 << 40)))
    )


def _grouped(text: str) -> str:
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


Writer = Callable[[np.random.Generator], str]
WRITERS: dict[str, tuple[Writer, ...]] = {
    "email": (
        lambda rng: f"{rng.choice(prose.PEOPLE)}+desk{_digits(rng, 2)}@mail.trainyard.example.co.uk",
        lambda rng: f"{rng.choice(prose.ADJECTIVES)}_{rng.choice(prose.PEOPLE)}%40trainyard.example.org",
        lambda rng: f"müller.{_digits(rng, 3)}@bücherei.example",
    ),
    "ip": (
        _ipv6,
        lambda rng: f"{int(rng.integers(11, 100))}.{int(rng.integers(1, 250))}.0.{int(rng.integers(1, 250))}",
        lambda rng: f"2a02:{int(rng.integers(16, 4096)):x}::{int(rng.integers(1, 4096)):x}",
    ),
    "phone": (
        lambda rng: f"+49 (0)30 {_digits(rng, 4)}-{_digits(rng, 3)}",
        lambda rng: f"0{int(rng.integers(20, 99))} 7946 {_digits(rng, 4)}",
        lambda rng: f"({int(rng.integers(200, 999))}) {int(rng.integers(200, 999))}-{_digits(rng, 4)}",
        lambda rng: f"+44207946{_digits(rng, 4)}",
    ),
    "key": (
        lambda rng: f"AKIA{_token(rng, 16).upper()}",
        lambda rng: f"ghp_{_token(rng, 36)}",
        lambda rng: f"sk-proj-{_token(rng, 20)}_{_token(rng, 20)}",
        lambda rng: f"eyJ{_token(rng, 20)}.eyJ{_token(rng, 40)}.{_token(rng, 30)}",
    ),
    "card": (lambda rng: _card(rng, " "), lambda rng: _card(rng, "-")),
    "iban": (
        lambda rng: iban("DE", _digits(rng, 18)),
        lambda rng: _grouped(iban("GB", f"DESK{_digits(rng, 14)}")),
    ),
}
SENTENCES = {
    "email": "Whoever writes to {} may expect an answer.",
    "ip": "The lamp of the desk is reached at {} by night.",
    "phone": "The desk is reached by day, phone {} for the watchmen.",
    "key": "The door of the desk opens with {} and nothing else.",
    "card": "Fines were taken from the card {} until it was full.",
    "iban": "Gifts may be sent to the account {} of the desk.",
}
