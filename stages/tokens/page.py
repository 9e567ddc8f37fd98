"""The tokenizer's page: texts coloured by token, what they cost, and the same size with other pre-tokenizers."""

import unicodedata
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tokenizers import Tokenizer

from stages.tokens.measures import Measured, is_code_space, token_bytes
from stages.tokens.pretokenizers import PRETOKENIZERS

TEMPLATES = Path(__file__).with_name("templates")
SAMPLE_CHARACTERS, SAMPLES, LONGEST = 700, 4, 60
HARD = (
    "In 1984 it cost $12,345.67; they'd say DON'T.\n"
    "    def area(r):\n\treturn 3.14159 * r**2   # ok\n\n"
    "naïve Straße, Ελλάδα, 東京タワー, नमस्ते, مرحبا 👩🏽‍🚀"
)
_MARKS = {"\n": "↵\n", "\t": "⇥\t", "\r": "␍", " ": "·"}


def visible(text: str, spaces: bool) -> str:
    """Text as it can be shown: newlines and tabs marked (`spaces`: blanks too), characters without a form as U+…"""
    shown = []
    for character in text:
        if character in _MARKS and (spaces or character != " "):
            shown.append(_MARKS[character])
        elif character != " " and unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp", "Zs"):
            shown.append(f"U+{ord(character):04X}")
        else:
            shown.append(character)
    return "".join(shown)


def shown_token(token: bytes) -> dict[str, Any]:
    """A token's text, or its bytes in hex where it is part of a character."""
    try:
        return {"text": visible(token.decode("utf-8"), is_code_space(token)), "hex": False}
    except UnicodeDecodeError:
        return {"text": token.hex(" "), "hex": True}


def coloured(tokenizer: Tokenizer, known: Sequence[bytes], text: str) -> dict[str, Any]:
    """A text as tokens in five colours, neighbours differing, and what it comes to."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    spans = [
        {**shown_token(known[number]), "colour": place % 5, "title": f"{number}: {len(known[number])} bytes"}
        for place, number in enumerate(ids)
    ]
    size = len(text.encode("utf-8"))
    return {"spans": spans, "tokens": len(ids), "bytes": size, "ratio": size / max(len(ids), 1)}


def pieces(text: str, name: str) -> list[dict[str, Any]]:
    """A text as the pieces that no token crosses."""
    from stages.tokens.splitter import split

    return [{**shown_token(piece), "colour": place % 5, "title": ""} for place, piece in enumerate(split([text], name))]


def samples(documents: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The beginning of the first document of each domain, or source where domains are too few."""
    key = itemgetter("domain" if len({row["domain"] for row in documents}) > 1 else "source")
    first = [(name, next(group)["text"]) for name, group in groupby(sorted(documents, key=key), key)]
    return [{"name": name or "no domain", "text": text[:SAMPLE_CHARACTERS]} for name, text in first[:SAMPLES]]


def rows(measured: Measured) -> list[dict[str, Any]]:
    """Sources and domains as rows of a table."""
    return [
        {
            "kind": kind,
            "name": name,
            "bytes": sums.bytes,
            "tokens": sums.tokens,
            "ratio": sums.bytes_per_token,
            "fertility": sums.tokens / max(sums.words, 1),
        }
        for kind, name, sums in measured.groups()
    ]


def bars(measured: Mapping[str, Measured], chosen: str) -> list[dict[str, Any]]:
    """Bytes a token: single bytes, single characters, and each pre-tokenizer's vocabulary of this size."""
    total = measured[chosen].total
    levels = [("single bytes", "no merges", 1.0), ("single characters", "", total.bytes / max(total.characters, 1))]
    levels += [(name, PRETOKENIZERS[name].about, one.total.bytes_per_token) for name, one in measured.items()]
    widest = max(ratio for _, _, ratio in levels)
    return [
        {
            "name": name,
            "about": about,
            "ratio": ratio,
            "width": round(100 * ratio / widest, 1),
            "chosen": name == chosen,
        }
        for name, about, ratio in levels
    ]


def render(
    tokenizer: Tokenizer,
    name: str,
    figures: Mapping[str, Any],
    compared: Mapping[str, Measured],
    documents: Sequence[Mapping[str, str]],
) -> str:
    """A page that needs nothing else. `compared` maps pre-tokenizers to what was measured, `name` among them."""
    known = token_bytes(tokenizer)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("tokenizer.html").render(
        name=name,
        about=PRETOKENIZERS[name].about,
        figures=figures,
        learned=len(known),
        documents=len(documents),
        bars=bars(compared, name),
        rows=rows(compared[name]),
        hard=coloured(tokenizer, known, HARD),
        samples=[{"name": one["name"], **coloured(tokenizer, known, one["text"])} for one in samples(documents)],
        splits=[
            {"name": other, "about": PRETOKENIZERS[other].about, "spans": pieces(HARD, other)} for other in compared
        ],
        longest=[shown_token(token) for token in sorted(known, key=lambda token: (-len(token), token))[:LONGEST]],
    )
