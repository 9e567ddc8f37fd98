"""The corpus from own documents to packed rows with the default params: other sources than ours, and no truth."""

import importlib
import json
import random
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from stages.base import artifacts, schemas
from stages.base.contracts.pack import Pack
from stages.base.files import read_json, write_json
from stages.base.tables import read_table, write_table
from stages.corpus import extract
from stages.corpus.sources.raw import wrap
from tests.corpus.archives import page

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("ingest", "extract", "screen", "dedup", "heuristics", "quality", "domains", "decontaminate", "mix")
WORDS = {
    "thing": "river harbour garden bridge orchard market library engine valley kitchen theatre meadow workshop tower",
    "other": "village lantern carriage painting letter festival mountain bakery museum railway forest castle blanket",
    "person": "mayor teacher sailor farmer doctor painter widow captain baker gardener student merchant judge singer",
    "did": "visited repaired described remembered admired painted measured crossed sold bought discovered guarded",
    "like": "old quiet famous narrow wooden distant crowded small bright empty northern broken gentle heavy hidden",
}
SENTENCES = (
    "The {like} {person} {did} the {thing} behind a {like} {other}.",
    "After that, every {person} of the {other} {did} one {like} {thing} and {did} another.",
    "Nobody {did} the {other} to the {thing}, but a {person} {did} it with the {person}.",
    "It was a {like} {thing} that the {like} {person} and the {person} {did} for the {other}.",
)


def prose(seed: int, sentences: int = 14) -> str:
    """English sentences of their own, in two paragraphs."""
    draw = random.Random(seed)
    words = {kind: text.split() for kind, text in WORDS.items()}

    def fill(match: re.Match[str]) -> str:
        return draw.choice(words[match.group(1)])

    made = [re.sub(r"{(\w+)}", fill, draw.choice(SENTENCES)) for _ in range(sentences)]
    return " ".join(made[: sentences // 2]) + "\n\n" + " ".join(made[sentences // 2 :])


def html(seed: int) -> bytes:
    body = "".join(f"<p>{part}</p>" for part in prose(seed).split("\n\n"))
    return f"<html><body><nav><a href='/'>Home</a></nav><article>{body}</article></body></html>".encode()


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, sources: dict[str, Any]) -> Pack:
    """All stages from the sources to the packed rows; the default params but for `corpus.sources`."""
    monkeypatch.chdir(folder)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["corpus"]["sources"] = sources
    params["tokens"]["tokenizer"] |= {"vocab_size": 512, "compare": []}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    shutil.copytree(ROOT / "lists", "lists")
    for parent, keys in (artifacts.SOURCES, list(sources)), (artifacts.TASKS, []), (artifacts.INSTRUCTIONS, []):
        write_json(Path(parent, "items.json"), keys)
    for key in sources:
        monkeypatch.setattr(sys, "argv", ["source", key])
        importlib.import_module("stages.corpus.source").main()
    for step in STEPS:
        importlib.import_module(f"stages.corpus.{step}").main()
    extract.close_sandboxes()
    for step in ("tokenizer", "pack"):
        importlib.import_module(f"stages.tokens.{step}").main()
    return Pack.model_validate_json(Path(artifacts.PACK).read_text())


def files(path: str, pattern: str | None = None) -> dict[str, Any]:
    return {"kind": "files", "path": path, "pattern": pattern, "licence": "CC0-1.0", "max_damaged": 0}


def test_own_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, Markdown, pages and lines of JSON; no atlas, no trusted links, no domains, nothing to protect."""
    mine = tmp_path / "mine" / "deep"
    mine.mkdir(parents=True)
    for number in range(100):
        (mine / f"{number:03}.txt").write_text(prose(number))
        (mine / f"{number:03}.md").write_text(f"# Note {number}\n\n{prose(1000 + number)}\n")
        (mine / f"{number:03}.html").write_bytes(html(2000 + number))
    lines = [
        json.dumps({"text": prose(3000 + number), "url": f"https://mine.example/{number}"}) for number in range(20)
    ]
    (mine / "more.jsonl").write_text("\n".join(lines))
    pack = run(tmp_path, monkeypatch, {"mine": files("mine")})
    assert read_table(artifacts.PAGES, schemas.PAGE).num_rows == 320
    assert set(pack.train.sources) == set(pack.anneal.sources) == set(pack.validation.sources) == {"mine"}
    assert pack.train.tokens > 30_000 and pack.validation.rows > 0
    metrics = {step: read_json(f"data/corpus/{step}/metrics.json") for step in STEPS[1:]}
    unknown = [("screen", "spam_recall"), ("screen", "pii_recall"), ("dedup", "boilerplate_recall")]
    unknown += [("dedup", "near_duplicate_recall"), ("decontaminate", "quiz_leak_recall")]
    assert [metrics[step][name] for step, name in unknown] == [None] * 5
    found = metrics["decontaminate"]
    assert (found["questions"], found["instructions"], found["protected"]) == (0, 0, 0)
    documents = read_table("data/corpus/decontaminate/documents.parquet", schemas.DOCUMENT)
    assert set(documents["domain"].to_pylist()) == {"other"}
    assert all(quality != quality for quality in documents["quality"].to_pylist())  # nothing is linked: no score
    sizes = read_json("data/corpus/mix/metrics.json")
    assert 0.1 < sizes["anneal_source_mine_documents"] / sizes["train_source_mine_documents"] < 0.3


def test_files_beside_a_crawl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source keeps its name, the robots.txt of the crawl is obeyed, a page of both stays once."""
    (tmp_path / "notes").mkdir()
    for number in range(60):
        (tmp_path / "notes" / f"{number}.md").write_text(prose(number))
    rules = page("https://crawled.example/robots.txt", b"User-agent: CCBot\nDisallow: /private/", media="text/plain")
    crawled = [page(f"https://crawled.example/{number}", html(500 + number)) for number in range(40)]
    crawled.append(page("https://crawled.example/private/x", html(900)))
    crawled.append(page("https://crawled.example/twice", html(0)))
    (tmp_path / "a.warc").write_bytes(b"".join([rules, *crawled]))
    archive = {"kind": "warc", "path": "a.warc", "pattern": None, "licence": "declared", "max_damaged": 0}
    pack = run(tmp_path, monkeypatch, {"notes": files("notes", "*.md"), "crawl": archive})
    assert set(pack.train.sources) == {"notes", "crawl"}
    screened = read_table("data/corpus/screen/drops.parquet", schemas.DROP).to_pylist()
    assert [(row["url"], row["reason"]) for row in screened] == [("https://crawled.example/private/x", "robots.txt")]
    twins = read_table("data/corpus/dedup/drops.parquet", schemas.DROP).to_pylist()
    assert [row["reason"] for row in twins] == ["same_text"]


def test_pages_of_another_pipeline_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {
            "id": f"{n:016x}",
            "source": "x",
            "url": f"https://u.example/{n}",
            "licence": "MIT",
            "opt_out": "",
            "html": body,
        }
        for n, body in enumerate([html(n) for n in range(60)] + [wrap(prose(n)) for n in range(60, 90)])
    ]
    write_table(tmp_path / "pages.parquet", pa.Table.from_pylist(rows, schema=schemas.PAGE), schemas.PAGE)
    pack = run(tmp_path, monkeypatch, {"theirs": {"kind": "parquet", "path": "pages.parquet"}})
    assert set(pack.train.sources) == {"theirs"}
    assert set(read_table("data/corpus/mix/train.parquet", schemas.MIXED)["source"].to_pylist()) == {"theirs"}
