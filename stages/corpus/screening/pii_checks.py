"""What a pattern can't say: whether a string that looks like personal data can be any.

A check takes a match and returns how many characters of its value are personal data, 0 for none. The value is the group
`value`, or the whole match where the pattern has no such group.
"""

import ipaddress
import math
import re
from collections import Counter
from functools import lru_cache

from stages.corpus.screening.top_level_domains import COUNTRIES, GENERIC, RESERVED

# Before four numbers: a word that makes them a version or a section, and maybe its other numbers; `name >= 1.2.3.4`.
NUMBERED = re.compile(
    r"(?i:(?:\b(?:v|ver|versions?|releases?|rev|build|firmware|sections?|sect|sec|subsections?|subclauses?|chapters?|"
    r"clauses?|paragraphs?|para|articles?|parts?|steps?|items?|rules?|requirements?|figures?|figs?|tables?|appendix|annex|"
    r"equations?|eqn?|exercises?|examples?|definitions?|theorems?|lemmas?|oid)\b\s*[.:]?|§+|"
    r"\b(?:rfc|iso|iec|ieee|ansi)[ -]?\d[\d:-]{0,12},?)\s*"
    r"(?:\d+(?:\.\d+)*[a-z]?\s*(?:,|and|or|to|through|[-–—])\s*)*|[=<>~!]=\s?|[a-z]/)\Z"
)
NUMBERED_BEFORE = 80  # characters that are looked at
LARGEST_SECTION = 60  # of the numbers of a section
# After the number of a heading: its words, which don't begin with a small letter, a year (a version's in a list of
# changes), or the dots of a table of contents.
WORDS = r"(?:[.):]?[ \t]+(?![a-z])[^\W\d_]|[.):]?[ \t/(–-]{1,4}(?:19|20)\d\d\b|[.):]?[ \t]*(?:\.[ \t]?){4})"
MARKUP = r"[ \t#>*|-]{0,16}"
HEADING = re.compile(rf"^{MARKUP}(\d{{1,2}}(?:\.\d{{1,2}}){{2}})(?:\.\d{{1,2}})?{WORDS}", re.MULTILINE)
OWN = ("self.", "cls.", "this.")  # a name in code that an object's attribute follows
DATE = re.compile(
    r"(?:19|20)\d\d[-./ ][01]?\d[-./ ][0-3]?\d(?!\d)|[0-3]?\d[-./ ][01]?\d[-./ ](?:19|20)\d\d(?!\d)"
    r"|(?:19|20)\d\d ?[-/] ?(?:19|20)\d\d(?!\d)"
)
# "+20 000 000", "+25 500 000": a count in thousands. No telephone number begins with three noughts, and few have six
# digits, in threes, after a country code of one or two.
THOUSANDS = re.compile(r"\+\d{1,3} 000(?!\d)|\+\d{1,2} \d{3} \d{3}\Z")
# Length of an IBAN by country (ISO 13616 registry).
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21, "LT": 20, "LU": 20,
    "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24,
    "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip


def always(value: str, match: re.Match[str]) -> int:
    return len(value)


def secret(value: str, match: re.Match[str]) -> int:
    """A value that stands after "password =": drawn at random, as far as its characters tell. Names in code are not."""
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())
    return len(value) if entropy >= 3.5 and sum(c.isdigit() for c in value) >= 3 else 0


def email(value: str, match: re.Match[str]) -> int:
    """Not `git@host`, which everybody shares, nor what ends in no top-level domain: `icon@2x.png`, `a@b.shape`."""
    local, domain = re.split("@|%40", value, maxsplit=1)
    last = domain.rpartition(".")[2].lower()
    if local == "git" or local.startswith(OWN) or domain.startswith(OWN):
        return 0
    known = last in COUNTRIES or last in GENERIC or last in RESERVED or last.startswith("xn--")
    return len(value) if known else 0


def ip(value: str, match: re.Match[str]) -> int:
    """An address that may belong to somebody: no number of a version or a section, and not private, loopback,
    link-local, multicast, unspecified or kept for documentation.
    """
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return 0
    if address.version == 4 and _is_numbered(value, match):
        return 0
    # Two groups of digits around `::` are a slice, a[2000::2], far more often than an address.
    if address.version == 6 and re.fullmatch(r"\d+::\d*", value):
        return 0
    return len(value) if address.is_global and not address.is_multicast else 0


def _is_numbered(value: str, match: re.Match[str]) -> bool:
    """Whether four numbers are a version or a section: by the word before them, or by the headings of the text."""
    text, start = match.string, match.start()
    if NUMBERED.search(text, max(0, start - NUMBERED_BEFORE), start):
        return True
    if max(map(int, value.split("."))) > LARGEST_SECTION:
        return False
    return value.rpartition(".")[0] in _headings(text)


@lru_cache(maxsize=1)
def _headings(text: str) -> frozenset[str]:
    """The first three numbers of the headings that have three or four."""
    return frozenset(HEADING.findall(text))


def phone(value: str, match: re.Match[str]) -> int:
    """Seven digits or more (ten after a "+" without any separator), fifteen at most (E.164); no date, decimal or count.

    After "+1" ten digits, the first no 0 or 1 (the North American plan); what follows them is left out.
    """
    if value.startswith("+1"):
        value = value[: _north_american(value)]
    digits = sum(c.isdigit() for c in value)
    separators = {c for c in value if not c.isdigit() and c not in "+()"}
    least = 7 if separators else 10 if value.startswith("+") else 7
    if not least <= digits <= 15 or DATE.match(value) or THOUSANDS.match(value):
        return 0
    return 0 if "." in separators and (separators != {"."} or value.count(".") < 2) else len(value)


def _north_american(value: str) -> int:
    """Where the eleven digits of a number that starts with "+1" end, 0 if they are none."""
    places = [place for place, c in enumerate(value) if c.isdigit()]
    if len(places) < 11 or value[places[1]] in "01":
        return 0
    end = places[10] + 1
    return 0 if value[end : end + 1].isdigit() else end


def card(value: str, match: re.Match[str]) -> int:
    """The check digit of ISO/IEC 7812 (Luhn)."""
    digits = [int(c) for c in value if c.isdigit()]
    doubled = [d if place % 2 == 0 else d * 2 - 9 * (d > 4) for place, d in enumerate(reversed(digits))]
    return len(value) if sum(doubled) % 10 == 0 and len(set(digits)) > 1 else 0


def iban(value: str, match: re.Match[str]) -> int:
    """The country's length and the remainder 1 modulo 97 (ISO 13616); capitals that follow are left out."""
    length = IBAN_LENGTHS.get(value[:2])
    places = [place for place, c in enumerate(value) if c != " "]
    if length is None or len(places) < length:
        return 0
    end = places[length - 1] + 1
    if value[end : end + 1].isalnum():
        return 0
    compact = value[:end].replace(" ", "")
    return end if int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1 else 0
