"""Instructions and preferences by the hub's names, from a server that speaks as it does.

The hub's address is read at import, so what reads is a process of its own.
"""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from stages.alignment.leakage import QUESTIONS
from stages.base.tables import write_table
from tests.hub_server import Hub, serve

ROOT = Path(__file__).resolve().parents[2]
RUN = """
import sys, time
from stages.alignment import instructions, preferences
time.sleep = lambda seconds: None  # the libraries wait long between attempts
for asked in sys.argv[1:]:
    kind, key = asked.split(":")
    try:
        {"instructions": instructions, "preferences": preferences}[kind].main(key)
    except SystemExit:
        pass
"""
ALPACA = [
    {"instruction": f"Add {n} and 1.", "input": "" if n % 2 else "Be brief.", "output": str(n + 1), "text": "…"}
    for n in range(20)
]
ULTRAFEEDBACK = [
    {"prompt": f"Is {n} odd?", "prompt_id": f"x{n}", "score_chosen": 8.0, "score_rejected": 3.5, "messages": None}
    | {
        key: [{"role": "user", "content": f"Is {n} odd?"}, {"role": "assistant", "content": said}]
        for key, said in (("chosen", "yes"), ("rejected", "no"))
    }
    for n in range(6)
]
HH = [
    {"chosen": f"\n\nHuman: {n}?\n\nAssistant: yes", "rejected": f"\n\nHuman: {n}?\n\nAssistant: no"} for n in range(4)
]


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    def parquet(rows: list[dict[str, Any]]) -> bytes:
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), buffer)
        return buffer.getvalue()

    def lines(rows: list[dict[str, Any]]) -> bytes:
        return "".join(json.dumps(row) + "\n" for row in rows).encode()

    with serve() as server:
        server.files["tatsu-lab/alpaca"] = {"data/train-00000-of-00001-a09b74b3ef9c3b56.parquet": parquet(ALPACA)}
        server.files["HuggingFaceH4/ultrafeedback_binarized"] = {
            f"data/{split}-00000-of-00001.parquet": parquet(ULTRAFEEDBACK) for split in ("train_prefs", "test_prefs")
        }
        server.files["Anthropic/hh-rlhf"] = {
            "harmless-base/train.jsonl": lines(HH),
            "harmless-base/test.jsonl": lines(HH),
        }
        server.files["own/cut"] = {"train.jsonl": lines(ALPACA)}
        server.lies["train.jsonl"] = len(lines(ALPACA)) - 10
        server.files["own/blank"] = {"train.jsonl": b"", "a.jsonl": lines([*ALPACA[:3], {**ALPACA[3], "output": " "}])}
        server.files["own/gated"] = {"a.jsonl": lines(ALPACA)}
        server.gated.add("own/gated")
        yield server


def of(name: str | None, **given: Any) -> dict[str, Any]:
    asked = {"kind": "hub", "path": "data/check/packages.json", "name": name, "config": None, "split": "train"}
    return asked | {"revision": None, "data_files": None, "limit": None} | given


def run(hub: Hub, folder: Path, kind: str, sources: dict[str, Any]) -> str:
    """What the stage says of each source, a line each; its tables lie in data/alignment/<kind>/<key>/."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["alignment"][kind]["sources"] = sources
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "data/check").mkdir(parents=True)
    (folder / "data/check/packages.json").write_text("{}")
    (folder / "data/alignment/leakage").mkdir(parents=True)
    write_table(folder / "data/alignment/leakage/questions.parquet", QUESTIONS.empty_table(), QUESTIONS)
    home = {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": ""}
    environment = os.environ | home | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "0", "TRAINYARD_TRACK": "off"}
    command = [sys.executable, "-c", RUN, *(f"{kind}:{key}" for key in sources)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


def table(folder: Path, kind: str, key: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / f"data/alignment/{kind}/{key}/{kind}.parquet").to_pylist()


def test_instructions_by_name_are_those_of_the_file(hub: Hub, tmp_path: Path) -> None:
    shares = {"preference": 0.2, "validation": 0.2, "test": 0.2}
    local = tmp_path / "alpaca.jsonl"
    local.write_text("".join(json.dumps(row) + "\n" for row in ALPACA))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.jsonl").write_text(local.read_text())
    sources = {
        "named": of("tatsu-lab/alpaca", splits=shares), "some": of("tatsu-lab/alpaca", limit=5, splits=None),
        "folder": of(None, path="folder", splits=shares),
        "file": {"kind": "jsonl", "path": str(local), "splits": shares},
    }  # fmt: skip
    run(hub, tmp_path, "instructions", sources)

    def without_names(key: str) -> list[dict[str, Any]]:
        return [{**row, "id": row["id"].split("-")[1], "origin": ""} for row in table(tmp_path, "instructions", key)]

    # The draw of the splits hangs on the stage's seed, which is its item's.
    rows = {key: [{**row, "split": ""} for row in without_names(key)] for key in sources}
    assert (
        rows["named"] == rows["folder"] == rows["file"]
        and len(rows["named"]) == 20
        and rows["some"] == rows["named"][:5]
    )
    assert rows["named"][0]["prompt"] == "Add 0 and 1.\n\nBe brief." and rows["named"][1]["prompt"] == "Add 1 and 1."
    assert {row["split"] for row in without_names("named")} == {"sft", *shares}


def test_preferences_by_name_in_two_formats(hub: Hub, tmp_path: Path) -> None:
    sources = {
        "ultra": of("HuggingFaceH4/ultrafeedback_binarized", split="train_prefs"),
        "hh": of("Anthropic/hh-rlhf", data_files=["harmless-base/train.jsonl"]),
    }
    run(hub, tmp_path, "preferences", sources)
    told = {key: table(tmp_path, "preferences", key) for key in sources}
    assert [row["prompt"] for row in told["ultra"]] == [f"Is {n} odd?" for n in range(6)]
    assert [row["prompt"] for row in told["hh"]] == [f"{n}?" for n in range(4)]
    assert all((row["chosen"], row["rejected"]) == ("yes", "no") for rows in told.values() for row in rows)


def test_inspect_takes_a_name(hub: Hub, tmp_path: Path) -> None:
    home = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": ""}
    environment = os.environ | home | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "0"}
    told = []
    for asked in (
        ["tatsu-lab/alpaca"],
        ["HuggingFaceH4/ultrafeedback_binarized", "--split", "test_prefs"],
        ["no/such"],
    ):
        command = [sys.executable, "-m", "stages.cli", "inspect", *asked]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        told.append((done.returncode, done.stdout + done.stderr))
    assert [code for code, _ in told] == [0, 0, 2]
    assert "instructions, format alpaca" in told[0][1] and "rows: 20, 20 understood, 0 refused" in told[0][1]
    assert "preferences, format messages" in told[1][1] and "hub dataset no/such: after 0 rows" in told[2][1]


def test_what_can_not_be_read_is_one_line_each_and_nothing_is_written(hub: Hub, tmp_path: Path) -> None:
    asked = {
        "absent": (of("no/such"), "hub dataset no/such: after 0 rows: .*check `name`"),
        "config": (of("tatsu-lab/alpaca", config="none"), "hub dataset tatsu-lab/alpaca: after 0 rows: .*none"),
        "split": (of("tatsu-lab/alpaca", split="none"), "hub dataset tatsu-lab/alpaca: after 0 rows: .*none"),
        "gated": (of("own/gated"), "hub dataset own/gated: after 0 rows: .*accept its terms at .* set HF_TOKEN"),
        "cut": (of("own/cut"), "hub dataset own/cut: after [0-9]+ rows"),
        "blank": (
            of("own/blank", data_files=["a.jsonl"]),
            "hub dataset own/blank: row 4: `output` is missing or empty",
        ),
        "empty": (of("own/blank", data_files=["train.jsonl"]), "hub dataset own/blank: "),
        "path": (of(None, path="data/check/packages.json"), "data/check/packages.json: no folder; set `name`"),
    }
    told = run(hub, tmp_path, "instructions", {key: source for key, (source, _) in asked.items()}).splitlines()
    ended = [line.removeprefix("trainyard: ") for line in told if line.startswith("trainyard: ")]
    for line, (key, (_, said)) in zip(ended, asked.items(), strict=True):
        assert re.match(f"alignment.instructions@{key}: {said}", line), line
    assert not [path for path in (tmp_path / "data/alignment/instructions").rglob("*") if path.is_file()]
