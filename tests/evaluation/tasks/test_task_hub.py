"""Shipped tasks by the hub's names, from a server that speaks as it does.

The hub's address is read at import, so what reads is a process of its own.
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hub_server import Hub, serve

ROOT = Path(__file__).resolve().parents[3]
RUN = """
import json, sys, time
from stages.base.errors import InputError
from stages.evaluation.tasks.loading import load
from stages.evaluation.tasks.yaml_file import find_task
time.sleep = lambda seconds: None  # the libraries wait long between attempts
for name in sys.argv[1:]:
    try:
        print(json.dumps([[item.split, item.prompt, item.target] for item in load(find_task(name), name)]))
    except InputError as error:
        print(json.dumps(str(error)))
"""


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def piqa(split: str, count: int) -> bytes:
    return parquet([{"goal": f"{split} {n}", "sol1": f"a{n}", "sol2": f"b{n}", "label": n % 2} for n in range(count)])


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve() as server:
        server.files["baber/piqa"] = {
            f"data/{split}-00000-of-00001.parquet": piqa(split, count)
            for split, count in (("train", 3), ("validation", 2))
        }
        server.files["openai/gsm8k"] = {
            "data/train-00000-of-00001.parquet": parquet([{"question": "?", "answer": "1"}])
        }
        yield server


def test_a_shipped_task_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, "piqa", "gsm8k", "boolq"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    asked, no_split, no_name = map(json.loads, done.stdout.splitlines()[-3:])
    assert asked == [
        ["test", "Question: validation 0\nAnswer:", "a0"],
        ["test", "Question: validation 1\nAnswer:", "b1"],
        ["development", "Question: train 0\nAnswer:", "a0"],
        ["development", "Question: train 1\nAnswer:", "b1"],
        ["development", "Question: train 2\nAnswer:", "a2"],
    ]
    assert "library/gsm8k.yaml: hub dataset openai/gsm8k: after 0 rows: " in no_split
    assert "library/boolq.yaml: hub dataset aps/super_glue: after 0 rows: " in no_name
    assert all("or give local files with `data_dir` (--data)" in message for message in (no_split, no_name))
