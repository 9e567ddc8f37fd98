"""The corpus is the same, byte for byte, from one process, from two, and from a Ray cluster of two workers."""

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from stages.base import artifacts, engine, schemas
from stages.base.files import sha256_file, write_json
from stages.base.tables import read_table, write_table

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("atlas", "package_docs")
STEPS = ("ingest", "extract", "screen", "dedup", "heuristics", "quality", "domains", "decontaminate", "mix")


def small(params: dict[str, Any]) -> dict[str, Any]:
    """Enough pages for several batches of every stage, with the bounds of drops opened."""
    corpus = params["corpus"]
    corpus["sources"]["atlas"]["entities"] = {"place": 20, "person": 20, "craft": 20}
    corpus["sources"]["package_docs"] |= {"packages": ["statsmodels", "networkx"], "max_pages": 400}
    for step in STEPS:
        corpus[step] |= {"max_drop": 0.9} if "max_drop" in corpus[step] else {}
    return params


def run(folder: Path, stages: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, **environment: str) -> dict[str, str]:
    """sha256 of every file that the stages wrote."""
    monkeypatch.chdir(folder)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for stage in stages:
        importlib.import_module(f"stages.{stage}").main()
    files = sorted(path for path in Path("data").rglob("*") if path.is_file())
    return {path.as_posix(): sha256_file(path) for path in files}


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crawl") / "project"
    folder.mkdir()
    params = small(yaml.safe_load((ROOT / "params.yaml").read_text()))
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copytree(ROOT / "lists", folder / "lists")
    write_json(folder / "data/check/packages.json", {})
    write_json(folder / artifacts.SOURCES / "items.json", list(SOURCES))
    write_json(folder / artifacts.TASKS / "items.json", [])
    write_json(folder / artifacts.INSTRUCTIONS / "items.json", ["atlas"])
    with pytest.MonkeyPatch.context() as monkeypatch:
        for key in SOURCES:
            monkeypatch.setattr(sys, "argv", ["source", key])
            run(folder, ("corpus.source",), monkeypatch)
    questions = read_table(folder / artifacts.SOURCES / "atlas/questions.parquet", schemas.QUESTION).to_pylist()
    names = schemas.INSTRUCTION.names
    rows = [
        {name: ({"origin": "atlas", "response": row["reference"], "messages": []} | row)[name] for name in names}
        for row in questions
    ]
    instructions = pa.Table.from_pylist(rows, schema=schemas.INSTRUCTION)
    write_table(folder / artifacts.INSTRUCTIONS / "atlas/instructions.parquet", instructions, schemas.INSTRUCTION)
    return folder


@pytest.mark.slow
def test_every_engine_writes_the_same_bytes(
    crawl: Path, ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "FEW", 0)  # workers however few the batches
    stages = tuple(f"corpus.{step}" for step in STEPS)
    found = {}
    for name, environment in {
        "one process": {"TRAINYARD_WORKERS": "1"},
        "two processes": {"TRAINYARD_WORKERS": "2"},
        "Ray": {"TRAINYARD_ENGINE": "ray"},
    }.items():
        folder = tmp_path / name
        shutil.copytree(crawl, folder)
        found[name] = run(folder, stages, monkeypatch, **environment)
    assert "data/corpus/mix/train.parquet" in found["one process"]
    assert found["two processes"] == found["one process"]
    assert found["Ray"] == found["one process"]
