"""Words of a crawl on a page: of bounded length, on one line or several, with nothing that moves other words about."""

import unicodedata

# Bidirectional overrides and isolates reorder what stands beside them; the rest of the format characters (joiners,
# soft hyphens) belong to words.
REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\ufeff")


def quoted(text: str, limit: int, *, lines: bool = False) -> str:
    """At most `limit` characters, an ellipsis for the rest; control and reordering characters become U+FFFD.

    The template escapes it: this is text, not markup. White space runs become one space, or with `lines` stay as far
    as they are line breaks.
    """
    shown = "".join(_visible(character) for character in text[: 4 * limit])
    rows = shown.splitlines() if lines else [shown]
    shown = "\n".join(" ".join(row.split()) for row in rows).strip()
    cut = len(shown) > limit or len(text) > 4 * limit
    return shown[:limit].rstrip() + " …" if cut else shown


def _visible(character: str) -> str:
    if character in "\n\t\r ":
        return character
    if character in REORDERING or unicodedata.category(character) in ("Cc", "Cs"):
        return "\ufffd"
    return character


def verbatim(text: str, limit: int) -> str:
    """White space and all, for a place that keeps it; of more than `limit` characters, the middle is left out.

    Control and reordering characters become U+FFFD here too.
    """
    shown = text if len(text) <= limit else f"{text[: limit // 3]}\n[… {len(text) - limit:,} characters …]\n"
    shown += text[len(text) - (limit - limit // 3) :] if len(text) > limit else ""
    return "".join(_visible(character) for character in shown)
