"""A project of a few kilobytes: a chain of records down to a crawl, judged and published by the real stages, under a
dvc.lock that DVC itself wrote."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from stages.base.closure import code_files, digest_of
from stages.base.files import sha256_file, sha256_path, write_json
from stages.base.params import lookup
from stages.base.seeds import derive
from stages.judging import agreement, baseline, judge, leaderboard, respond
from stages.lm.checkpoint import save_model
from stages.publishing import board
from tests.evaluation.conftest import make_model, make_tokenizer
from tests.judging.test_stages import PARAMS as JUDGING
from tests.judging.test_stages import bring

ANSWERERS = {
    "gold": JUDGING["judging"]["answerers"]["gold"],
    "constant": {"kind": "constant", "path": "crawl.warc"},
    "padded": JUDGING["judging"]["answerers"]["padded"],
}
KEYS = ["sft", *ANSWERERS]
PARAMS: dict[str, Any] = JUDGING | {
    "corpus": {"seed": 2, "mix": {"share": 0.5}},
    "tokens": {"pack": {"seq_len": 8}},
    "alignment": {"base": "base", "sft": {"epochs": 2, "lr": 1e-3}},
    "judging": JUDGING["judging"] | {"answerers": ANSWERERS},
    "sources": {"own": {}},
    "publishing": {
        "site": {"title": "Trainyard", "pages": ["leaderboard"]},
        "board": {"prompts": 2, "side_by_side": ["sft", "gold"]},
    },
}
CODE = "data/check/code"
ITEMS = ["data/judging/respond/items.json", "data/judging/judge/items.json", "data/alignment/instructions/items.json"]
OWN = "data/alignment/instructions/own"


def write(path: str, content: bytes) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)
    return path


def record(stage: str, inputs: list[str], outputs: list[str], sections: list[str], item: str | None = None) -> None:
    """As `base.record` writes it, for a stage that is only pretended here; its code is its own name."""
    code = {f"stages/{stage.replace('.', '/')}.py": sha256_path(outputs[0])}
    write_json(f"{CODE}/{stage}.json", code)
    folder = Path("data").joinpath(*stage.split("."), *([item] if item else []))
    seeded = next((name for name in sections if name.endswith(".seed")), None)
    root = lookup(PARAMS, seeded) if seeded else None
    facts = {
        "stage": stage,
        "item": item,
        "params": {name: lookup(PARAMS, name) for name in sections},
        "seed": None if root is None else derive(root, stage, item or ""),
        "code": digest_of(code),
        "inputs": {path: sha256_path(path) for path in inputs},
        "outputs": {path: sha256_file(path) for path in outputs},
        "rows": {"in": 5, "out": 4, "dropped": {"short": 1}},
        "notes": {"by": "hand"},
    }
    write_json(folder / "record.json", facts)


def stage(module: str, deps: list[str], outs: list[str], params: list[str], item: str = "") -> dict[str, Any]:
    cmd = f"python -m stages.{module}{' ' + item if item else ''}"
    reports = [{out: {"cache": False}} if out.startswith("reports/") else out for out in outs]
    return {"cmd": cmd, "deps": [f"{CODE}/{module}.json", *deps], "outs": reports, "params": params}


def pipeline() -> dict[str, Any]:
    judging = ["run.seed", "judging.judge", "judging.baseline"]
    shared = ["data/judging/respond", "data/judging/judge", "data/alignment/instructions"]
    respond_body = stage(
        "judging.respond", ["data/models/sft", *ITEMS], ["data/judging/respond/${key}"], ["judging.respond"], "${key}"
    )
    judge_body = stage(
        "judging.judge", ["data/judging/respond/${key}", *ITEMS], ["data/judging/judge/${key}"], judging, "${key}"
    )
    keys = {"foreach": "${judging.answerers}"}
    return {
        "check": {"cmd": "python -m stages.check", "deps": ["params.yaml"], "outs": ["data/check", *ITEMS]},
        "mix": stage("corpus.mix", ["crawl.warc"], ["data/corpus/mix"], ["corpus.seed", "corpus.mix"]),
        "pack": stage("tokens.pack", ["data/corpus/mix"], ["data/tokens/pack"], ["tokens.pack"]),
        "instructions": {
            "foreach": "${sources}",
            "do": stage(
                "alignment.instructions", ["crawl.warc"], ["data/alignment/instructions/${key}"], ["corpus.seed"]
            ),
        },
        "sft": stage(
            "alignment.sft", ["data/tokens/pack"], ["data/alignment/sft", "data/models/sft"], ["alignment.sft"]
        ),
        "respond": keys | {"do": respond_body},
        "respond_trained": {"foreach": "${models.trained}", "do": respond_body},
        "baseline": stage("judging.baseline", [], ["data/judging/baseline"], ["judging.baseline"]),
        "judge": keys | {"do": judge_body},
        "judge_trained": {"foreach": "${models.trained}", "do": judge_body},
        "agreement": stage("judging.agreement", shared, ["data/judging/agreement"], ["judging.agreement"]),
        "leaderboard": stage(
            "judging.leaderboard", [*shared, "reruns"], ["data/judging/leaderboard"], ["judging.leaderboard"]
        ),
        "board": stage(
            "publishing.board",
            [*shared, "data/judging/leaderboard"],
            ["data/publishing/board", *(f"reports/leaderboard.{kind}" for kind in ("html", "csv", "json", "md"))],
            ["publishing.board", "publishing.site"],
        ),
    }


def dvc(*arguments: str) -> str:
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(Path.cwd() / ".site")}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lineage")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TRAINYARD_TRACK", "off")
        patch.setenv("TRAINYARD_WORKERS", "1")
        Path("params.yaml").write_text(yaml.safe_dump(PARAMS), encoding="utf-8")
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline()}), encoding="utf-8")
        Path("reruns").mkdir()
        write("crawl.warc", b"WARC/1.1")
        train = "data/corpus/mix/train.parquet"
        Path(train).parent.mkdir(parents=True)
        pq.write_table(pa.table({"text": ["one", "two", "three"]}), train)
        record("corpus.mix", ["crawl.warc"], [train], ["corpus.seed", "corpus.mix"])
        shard = write("data/tokens/pack/train.bin", bytes(range(64)))
        record("tokens.pack", [train], [shard], ["tokens.pack"])
        save_model("data/models/sft", make_model(), make_tokenizer(folder / "tokenizer"))
        steps = write("data/alignment/sft/steps.jsonl", b'{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.25}\n')
        weights = sorted(path.as_posix() for path in Path("data/models/sft").iterdir())
        record("alignment.sft", ["data/tokens/pack"], [steps, *weights], ["alignment.sft"])
        bring(known=True)
        told = [f"{OWN}/instructions.parquet", f"{OWN}/truth.json"]
        record("alignment.instructions", ["crawl.warc"], told, ["corpus.seed"], item="own")
        for path, keys in zip(ITEMS, [KEYS, KEYS, ["own"]], strict=True):
            write_json(path, keys)
        record("check", ["params.yaml"], list(ITEMS), [])
        for module in (respond, judge):
            for key in KEYS:
                patch.setattr("sys.argv", [module.__name__, key])
                module.main()
            if module is respond:
                baseline.main()
        for module in (agreement, leaderboard, board):
            module.main()
        for name in (
            "judging.respond",
            "judging.judge",
            "judging.baseline",
            "judging.agreement",
            "judging.leaderboard",
        ):
            write_json(f"{CODE}/{name}.json", code_files(f"stages.{name}"))
        write_json(f"{CODE}/publishing.board.json", code_files("stages.publishing.board"))
        dvc("init", "--no-scm", "-q")
        dvc("commit", "-f", "-q")
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil."""
    folder = tmp_path / "project"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    return folder


def flip(path: str | Path, at: int | None = None) -> None:
    """Change one bit of a file, in the middle unless told where, keeping size and time."""
    place = Path(path)
    content, times = bytearray(place.read_bytes()), place.stat()
    content[len(content) // 2 if at is None else at] ^= 1
    place.unlink()
    place.write_bytes(content)
    os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))
