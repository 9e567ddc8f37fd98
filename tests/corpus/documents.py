"""Made-up document tables for the filters' tests."""

import hashlib
import math
import random

import pyarrow as pa
import yaml

from stages.base import schemas
from stages.corpus.sources.occurrences import document_id

WORDS = [
    a + b
    for a in ["ba", "ke", "li", "mo", "nu", "pra", "sto", "tri", "vel", "wex"]
    for b in ["den", "far", "gil", "hor", "jan", "kel", "mit", "ros", "tun", "zal"]
]


def table(rows: list[dict]) -> pa.Table:
    """DOCUMENT table; each row needs `text`, the rest has stand-ins."""
    full = []
    for number, row in enumerate(rows):
        source, url = row.get("source", "made_up"), row.get("url", f"https://made.invalid/{number}")
        full.append(
            {
                "id": row.get("id", document_id(source, url, number)),
                "source": source,
                "url": url,
                "licence": row.get("licence", "CC0-1.0"),
                "opt_out": row.get("opt_out", ""),
                "language": "",
                "text": row["text"],
                "text_hash": hashlib.sha256(row["text"].encode()).hexdigest(),
                "links": row.get("links", []),
                "quality": row.get("quality", math.nan),
                "domain": row.get("domain", ""),
            }
        )
    return pa.Table.from_pylist(full, schema=schemas.DOCUMENT)


def planted(rows: list[dict]) -> pa.Table:
    empty = {"of_url": "", "payload": ""}
    return pa.Table.from_pylist([empty | row for row in rows], schema=schemas.PLANTED)


def prose(words: int, seed: int, vocabulary: list[str] = WORDS) -> str:
    """Random words in sentences of ten."""
    generator = random.Random(seed)
    chosen = [generator.choice(vocabulary) for _ in range(words)]
    return " ".join(word + ("." if place % 10 == 9 else "") for place, word in enumerate(chosen))


def settings(text: str) -> dict:
    return yaml.safe_load(text)
