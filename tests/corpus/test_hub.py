"""Datasets of the hub by name, in the layouts of FineWeb, C4, Dolma and The Pile, from a server that speaks as it does.

The hub's address is read at import, so what reads is a process of its own.
"""

import gzip
import io
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.hub_server import Hub, serve

READER = """
import json, sys, time
from pathlib import Path
from stages.base.errors import InputError
from stages.base.hub import HubDataset
from stages.corpus.sources import download
from stages.corpus.sources.files import read_file
from stages.corpus.sources.hub import read_hub
from stages.corpus.sources.locations import read_addresses
from stages.corpus.sources.raw import unwrap
from stages.corpus.sources.stores import copy

def read(asked):
    if isinstance(asked, dict):
        return list(read_hub(HubDataset(path="watched", **asked), "text"))
    Path("files.paths").write_text(asked)
    files = [(copy(*one), one.url) for one in read_addresses(Path("files.paths"))]
    return [raw for path, name in files for raw in read_file(path, name, 10**6)]

download.BACKOFF = 0.01
time.sleep = lambda seconds: None  # the libraries wait long between attempts
for asked in json.loads(sys.argv[1]):
    try:
        print("\\n" + json.dumps([[raw.url, unwrap(raw.html)] for raw in read(asked)]))
    except InputError as error:
        print("\\n" + json.dumps(str(error)))
"""
ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["one", "two", "three"]
CONFIGS = "---\nconfigs:\n- config_name: {name}\n  data_files:\n  - split: train\n    path: {path}\n---\n"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve() as server:
        yield server


def ask(hub: Hub, folder: Path, *asked: dict[str, Any] | str) -> list[Any]:
    """Pages as (address, text) of datasets (fields of HubDataset) and lists of addresses; or the error's text."""
    home = {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": ""}
    environment = os.environ | home | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", READER, json.dumps(asked)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("[", '"'))]


def of(name: str, config: str | None, limit: int = 3, **others: Any) -> dict[str, Any]:
    asked = {"name": name, "config": config, "split": "train", "revision": None, "data_files": None}
    return asked | {"limit": limit} | others


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


FINEWEB = [
    {"text": text, "id": f"<urn:uuid:{n}>", "dump": "CC-MAIN-2013-20", "url": f"http://u/{n}", "date": "2013-05-18",
     "file_path": "s3://commoncrawl/x.warc.gz", "language": "en", "language_score": 0.9, "token_count": n}
    for n, text in enumerate(TEXTS)
]  # fmt: skip
C4 = [{"text": text, "timestamp": "2019-04-25T12:57:54Z", "url": f"http://u/{n}"} for n, text in enumerate(TEXTS)]
DOLMA = [
    {"id": f"x{n}", "text": text, "source": "common-crawl", "added": "2023", "created": "2020",
     "metadata": {"url": f"http://u/{n}", "length": 3}}
    for n, text in enumerate(TEXTS)
]  # fmt: skip
PILE = [{"text": text, "meta": {"pile_set_name": "Pile-CC"}} for text in TEXTS]
EXPECTED = [[f"http://u/{n}", text] for n, text in enumerate(TEXTS)]


def test_the_layouts_of_the_well_known_sets(hub: Hub, tmp_path: Path) -> None:
    hub.files["HuggingFaceFW/fineweb"] = {
        "README.md": CONFIGS.format(name="sample-10BT", path="sample/10BT/*").encode(),
        "sample/10BT/000_00000.parquet": parquet(FINEWEB),
        "data/CC-MAIN-2013-20/000_00000.parquet": parquet(FINEWEB[:1]),
    }
    hub.files["allenai/c4"] = {
        "README.md": CONFIGS.format(name="en", path="en/c4-train.*.json.gz").encode(),
        "en/c4-train.00000-of-01024.json.gz": gzip.compress(lines(C4)),
        "en/c4-validation.00000-of-00008.json.gz": gzip.compress(lines(C4[:1])),
    }
    hub.files["monology/pile-uncopyrighted"] = {
        "README.md": b"# The Pile",
        "train/00.jsonl.zst": zstandard.compress(lines(PILE)),
        "val.jsonl.zst": zstandard.compress(lines(PILE[:1])),
    }
    hub.files["own/dolma"] = {"data/c4-0000.json.gz": gzip.compress(lines(DOLMA))}
    dolma = f"{hub.address}/datasets/own/dolma/resolve/main/data/c4-0000.json.gz"
    address = "https://huggingface.co/datasets/monology/pile-uncopyrighted?split=train&row="
    assert ask(
        hub,
        tmp_path,
        of("HuggingFaceFW/fineweb", "sample-10BT"),
        of("allenai/c4", "en", limit=2),
        of("json", None, data_files=[dolma]),
        of("monology/pile-uncopyrighted", None),
    ) == [EXPECTED, EXPECTED[:2], EXPECTED, [[f"{address}{n}", text] for n, text in enumerate(TEXTS)]]


def test_a_list_may_name_files_of_the_hub_by_glob(hub: Hub, tmp_path: Path) -> None:
    hub.files["own/files"] = {
        "data/b.jsonl.zst": zstandard.compress(lines(C4[1:])), "data/a.parquet": parquet(C4[:1]), "other.txt": b"x",
        "data/c.json.gz": gzip.compress(lines(DOLMA)),
    }  # fmt: skip
    listed = ["hf://datasets/own/files/data/*\n", "# one\nhf://datasets/own/files/data/a.parquet\n"]
    assert ask(hub, tmp_path, *listed) == [EXPECTED + EXPECTED, EXPECTED[:1]]


def test_names_that_do_not_exist_are_one_line(hub: Hub, tmp_path: Path) -> None:
    hub.files["own/some"] = {"a.jsonl": lines(C4)}
    named = [of("no/such", None), of("own/some", "no_such"), of("own/some", None, split="no_such")]
    listed = ["hf://datasets/no/such/*.parquet", "hf://datasets/own/some/b.jsonl", "s3x://a/b", "hf://"]
    told = ask(hub, tmp_path, *named, *listed)
    assert all(isinstance(line, str) and "\n" not in line for line in told)
    begins = [f"hub dataset {asked['name']}: after 0 rows" for asked in named]
    begins += [f"files.paths:1: {address}" for address in listed]
    assert all(line.startswith(begin) for line, begin in zip(told, begins, strict=True))


def test_a_gated_dataset_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    hub.files["own/gated"] = {"a.jsonl": lines(C4)}
    hub.gated.add("own/gated")
    (told,) = ask(hub, tmp_path, of("own/gated", None))
    assert isinstance(told, str) and told.startswith("hub dataset own/gated: after 0 rows") and "\n" not in told
    assert told.endswith(
        "accept its terms at https://huggingface.co/datasets/own/gated and set HF_TOKEN to a token of yours"
    )


MANY = [{"text": f"{n} " * 40, "url": f"http://u/{n}"} for n in range(3000)]
FORMS = {
    "parquet": parquet(MANY), "jsonl": lines(MANY), "jsonl.gz": gzip.compress(lines(MANY)),
    "jsonl.xz": lzma.compress(lines(MANY)),
    # Frames of whole lines: whoever takes the end of the bytes for the end of the file misses nothing.
    "jsonl.zst": b"".join(zstandard.compress(lines(MANY[start : start + 100])) for start in range(0, 3000, 100)),
}  # fmt: skip


@pytest.mark.parametrize("lie", ["less", "more"])
def test_a_mirror_that_lies_about_a_length_is_one_line(hub: Hub, tmp_path: Path, lie: str) -> None:
    """Streamed or fetched, in whatever form."""
    asked: list[Any] = []
    for form, content in FORMS.items():
        name, path = f"own/lies_{form.replace('.', '_')}_{lie}", f"data/{lie}.{form}"
        hub.files[name] = {path: content}
        last = content.rindex(b"\x28\xb5\x2f\xfd") + 9 if form == "jsonl.zst" else len(content) - 40
        hub.lies[path] = last if lie == "less" else len(content) + 40
        asked.append(of(name, None, limit=10**6))
    listed = f"data/{lie}.parquet"
    try:
        told = ask(hub, tmp_path, *asked, f"hf://datasets/own/lies_parquet_{lie}/{listed}")
    finally:
        hub.lies.clear()
    for one, line in zip(asked, told, strict=False):
        assert isinstance(line, str) and "\n" not in line and line.startswith(f"hub dataset {one['name']}: after "), (
            line
        )
    assert isinstance(told[-1], str) and "\n" not in told[-1] and f"{lie}.parquet" in told[-1]
    assert lie == "less" or not list((tmp_path / ".trainyard").rglob("more.parquet"))
