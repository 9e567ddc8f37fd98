"""A small crawl: the folders of all corpus steps, as small as the corpus page allows."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.base import schemas
from stages.base.files import read_json, write_json
from stages.base.tables import write_table
from stages.publishing.corpus.steps import STEPS
from tests.contracts.tokens import pack

CORPUS = Path("data/corpus")
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> & "quoted" \u202egnp.exe\x07'
BYTES_PER_TOKEN = 4.0
# step → (rule, reason, source, how many)
DROPS: dict[str, list[tuple[str, str, str, int]]] = {
    "ingest": [("ingest", "too_large", "web", 3)],
    "extract": [("extract", "timed_out", "web", 1), ("extract", "empty", "atlas", 4)],
    "screen": [("undesirable", "gambling", "web", 1500), ("undesirable", "gambling", "atlas", 7)],
    "dedup": [("exact_duplicate", "same_text", "atlas", 9)],
    "heuristics": [("gopher_quality", "gopher_short_doc", "web", 5), ("c4_quality", "javascript", "web", 2)],
    "quality": [("quality", "below_min_score", "atlas", 6)],
    "domains": [],
    "decontaminate": [("contamination", "ngram_overlap", "atlas", 2)],
    "mix": [],
}
PAGES = 4000
NOTES: dict[str, dict[str, Any]] = {
    "ingest": {
        "problems": {"web": {"truncated": {"count": 60, "first": [f"crawl-{HOSTILE}.warc.gz@{i}" for i in (7, 9)]}}}
    },
    "extract": {"wall_clock_drops": ["https://slow.invalid/"]},
}


def drop_rows(step: str) -> list[dict[str, Any]]:
    rows = []
    for rule, reason, source, number in DROPS[step]:
        for index in range(number):
            name = f"{step}-{reason}-{source}-{index}"
            rows.append(
                {
                    "id": hashlib.sha256(name.encode()).hexdigest()[:16],
                    "source": source,
                    "url": f"https://{source}.invalid/{name}" if index else f"javascript:{HOSTILE}{'/long' * 100}",
                    "rule": rule,
                    "reason": reason,
                    "duplicate_of": f"twin{index}" if step == "dedup" else "",
                    "sample": "" if step == "extract" else f"text of {name} {HOSTILE} {'more ' * 200}"[:300],
                }
            )
    return rows


def histogram(**more: Any) -> dict[str, Any]:
    return {
        "edges": [0.0, 0.25, 0.5, 1.0],
        "counts": {"web": [10, 20, 30], "atlas": [0, 1, 99]},
        "dropped": {"web": [10, 2, 0]},
        "threshold": {"web": 0.25, "atlas": None},
        **more,
    }


def make_crawl() -> None:
    """Below the working directory; PAGES came in."""
    left = PAGES
    for step in STEPS:
        rows = drop_rows(step)
        write_table(CORPUS / step / "drops.parquet", pa.Table.from_pylist(rows, schema=schemas.DROP), schemas.DROP)
        counts = Counter(f"{row['rule']}/{row['reason']}" for row in rows)
        record = {
            "stage": f"corpus.{step}",
            "outputs": {},
            "rows": {"in": left, "out": left - len(rows), "dropped": counts},
            "notes": NOTES.get(step, {}),
        }
        write_json(CORPUS / step / "record.json", record)
        left -= len(rows)
        write_json(CORPUS / step / "metrics.json", {"documents_out": left, "bytes_out": 1000 * left})
    add("screen", pii_email_replaced=63, pii_email_precision=0.75, pii_email_planted=240, pii_email_recall=0.975)
    add("screen", spam_recall=0.5, licence_planted=0, licence_recall=None)
    add("dedup", edition_planted=40, edition_kept=1.0, duplicate_precision=0.9524)
    add("quality", web_auc=0.871, web_positives=1867, web_negatives=200, web_calibration_error=None)
    add("domains", labelled=15, classified=0, accuracy=0.9, majority_accuracy=0.66)
    add("mix", share_news_target=0.7)
    sizes = {"maths": {"documents": 10, "bytes": 3000}, "news": {"documents": 5, "bytes": 1000}}
    write_json(CORPUS / "domains" / "histograms.json", {"domains": sizes})
    sizes["maths"]["bytes_read"], sizes["news"]["bytes_read"] = 2000, 6000
    write_json(CORPUS / "mix" / "histograms.json", {"domains": sizes})
    for step in ("screen", "heuristics"):
        write_json(CORPUS / step / "histograms.json", {f"{step}_score": histogram()})
    calibration = {"web": {"mean_score": [0.1, 0.9, None], "share_positive": [0.2, 0.8, None], "count": [7, 5, 0]}}
    quality = histogram(threshold=0.5, dropped={"web": 6})  # a number: not told bin by bin
    write_json(CORPUS / "quality" / "histograms.json", {"quality": quality, "quality_calibration": calibration})
    licences = {HOSTILE: {"documents": 1234, "dropped": 0}, "proprietary": {"documents": 17, "dropped": 17}}
    write_json(
        CORPUS / "screen" / "legality.json",
        {"licences": licences, "signals": {"meta:noai": {"documents": 3, "dropped": 3}}, "robots": {}},
    )
    write_json("data/tokens/tokenizer/metrics.json", {"bytes_per_token": BYTES_PER_TOKEN})
    twins = [
        {**dict.fromkeys(schemas.DOCUMENT.names), "id": f"twin{i}", "url": f"https://kept.invalid/{i}"}
        for i in range(9)
    ]
    table = pa.Table.from_pylist(twins, schema=schemas.DOCUMENT)
    write_table(CORPUS / "extract" / "documents.parquet", table, schemas.DOCUMENT)
    write_planted()
    write_json("data/tokens/pack/pack.json", pack().model_dump(mode="json"))


def write_planted() -> None:
    """Ten pages of the atlas with defects planted in seven, of one that never came in, and one of the web."""
    urls = [f"https://atlas.invalid/{i}" for i in range(10)]
    pages = [{"id": url, "source": "atlas", "url": url, "html": b""} for url in urls]
    pages += [{"id": "w", "source": "web", "url": "https://web.invalid/", "html": b""}]
    _write("ingest/pages.parquet", pages, schemas.PAGE)
    planted = [{"url": urls[i], "kind": "spam", "of_url": "", "payload": ""} for i in (0, 1, 9)]
    planted += [{"url": urls[2], "kind": "exact_duplicate", "of_url": urls[3], "payload": ""}]
    planted += [{"url": urls[4], "kind": "pii_email", "of_url": "", "payload": "a@b.c"}]
    planted += [{"url": urls[5], "kind": "boilerplate", "of_url": "", "payload": "remains"}]
    planted += [{"url": urls[6], "kind": "edition", "of_url": urls[7], "payload": ""}]
    planted += [{"url": "https://never.invalid/", "kind": "spam", "of_url": "", "payload": ""}]
    _write("ingest/planted.parquet", planted, schemas.PLANTED)
    left = [
        {"id": url, "source": "atlas", "url": url, "text": f"text of {url} remains"} for url in [*urls[3:8], urls[9]]
    ]
    _write("decontaminate/documents.parquet", left, schemas.DOCUMENT)


def _write(name: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    empty = {
        field.name: [] if pa.types.is_list(field.type) else "" if pa.types.is_string(field.type) else None
        for field in schema
    }
    full = [empty | row for row in rows]
    write_table(CORPUS / name, pa.Table.from_pylist(full, schema=schema), schema)


def add(step: str, **metrics: float | None) -> None:
    path = CORPUS / step / "metrics.json"
    write_json(path, read_json(path) | metrics)
