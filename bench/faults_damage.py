"""Damaged files before a stage that reads them: `python bench/faults_damage.py FOLDER [--tries 120] [--only KIND …]`.

FOLDER is a copy of a finished pipeline (its files are damaged and mended again; use none that you need). Half of the
tries of a kind flip one bit, half cut the file short, each at a place drawn from the kind's name and a number. A stage
runs in this process and must end with status 2 and one line that names the file. One line a kind:

found     named before use (of a judge's cache: the row is taken out and would be asked for again)
harmless  what was read is what was written: the damage hit what nothing reads
wrong     read as if it were whole
"""

import argparse
import collections
import contextlib
import importlib
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from stages.base.errors import TrainyardError  # noqa: E402  (the path is the project's root)

LONGEST_S = 30

READERS = {  # kind → (file, stage that reads it, its item)
    "parquet, pages": ("data/corpus/ingest/pages.parquet", "corpus.extract", None),
    "parquet, documents": ("data/corpus/dedup/documents.parquet", "corpus.heuristics", None),
    "parquet, preferences": ("data/alignment/preferences/annotated/preferences.parquet", "alignment.dpo", None),
    "parquet, answers": ("data/judging/respond/sft/outputs.parquet", "judging.judge", "sft"),
    "parquet, annotations": ("data/judging/judge/sft/annotations.parquet", "judging.leaderboard", None),
    "shard, tokens": ("data/tokens/pack/train.bin", "pretraining.pretrain", None),
    "safetensors": ("data/models/base/model.safetensors", "alignment.sft", None),
    "tokenizer.json": ("data/tokens/tokenizer/tokenizer.json", "tokens.pack", None),
    "config.json": ("data/models/base/config.json", "alignment.sft", None),
    "JSON Lines": ("data/alignment/sft/steps.jsonl", "publishing.training_report", None),
}


def damage(whole: bytes, kind: str, count: int) -> bytes:
    """Tries with an even number flip a bit; the others end early."""
    draw = random.Random(f"{kind} {count}")
    place = draw.randrange(len(whole))
    if count % 2:
        return whole[:place]
    data = bytearray(whole)
    data[place] ^= 1 << draw.randrange(8)
    return bytes(data)


class StillAtWork(BaseException):
    """A stage that hasn't refused within seconds has taken the file for whole."""


def late(*_: object) -> None:
    raise StillAtWork


def read_by_a_stage(name: str, stage: str, item: str | None, data: bytes) -> str:
    """The outcome of a stage that meets `data` in place of the file `name`, which is whole again afterwards."""
    path, said = Path(name), io.StringIO()
    status: object = None
    whole = path.read_bytes()
    module = importlib.import_module(f"stages.{stage}")
    sys.argv = [f"stages.{stage}", *([item] if item else [])]
    try:
        path.unlink()  # it may be a link into DVC's cache
        path.write_bytes(data)
        signal.alarm(LONGEST_S)
        with contextlib.redirect_stderr(said):
            module.main()
        status = 0
    except SystemExit as end:
        status = end.code
    except StillAtWork:
        return "wrong"
    except Exception as error:
        return f"unclear: {error!r}"
    finally:
        signal.alarm(0)
        path.write_bytes(whole)
    lines = said.getvalue().strip().splitlines()
    if status == 2 and len(lines) == 1 and path.name in lines[0]:
        return "found"
    return "wrong" if status == 0 else f"unclear: {status} {lines[-3:]}"


def judge_cache(data_of: Callable[[bytes], bytes], scratch: Path) -> str:
    """A cache of 100 replies, damaged, asked for all of them."""
    from stages.annotators.cache import CallCache

    def reply(number: int) -> dict[str, object]:
        return {"choices": [{"message": {"content": f"Output ({'ab'[number % 2]})", "number": number}}]}

    path = scratch / "cache/calls.sqlite"
    keys = [f"{number:064x}" for number in range(100)]
    shutil.rmtree(path.parent, ignore_errors=True)
    with CallCache(path) as cache:
        for number, key in enumerate(keys):
            cache.add(key, {"n": number}, reply(number), 0.5)
        cache._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(data_of(path.read_bytes()))
    try:
        with CallCache(path) as cache:
            got = [cache.get(key) for key in keys]
    except TrainyardError as error:
        return "found" if path.name in str(error) else f"unclear: {error}"
    except sqlite3.Error:  # `calls` gives it the cache's own words
        return "found"
    if any(found is not None and found != (reply(number), 0.5) for number, found in enumerate(got)):
        return "wrong"
    return "found" if None in got else "harmless"


def training_checkpoint(data_of: Callable[[bytes], bytes], scratch: Path) -> str:
    """The state of a run, damaged and loaded."""
    import torch

    from stages.lm import checkpoint

    checkpoint.CHECKPOINTS = scratch / "checkpoints"
    state = checkpoint.TrainingState("toy", "0" * 16)
    try:
        state.save({"step": 7, "weights": torch.arange(2000, dtype=torch.float32)})
        state.path.write_bytes(data_of(state.path.read_bytes()))
        loaded = state.load()
    except TrainyardError as error:
        return "found" if "state.bin" in str(error) else f"unclear: {error}"
    finally:
        state.discard()
    return "harmless" if loaded is not None and loaded["step"] == 7 else "wrong"


def producer_record(data_of: Callable[[bytes], bytes], scratch: Path) -> str:
    """A record, damaged, asked of the files that it tells of. What no stage reads of it, its notes, is harmless here:
    `trainyard trace` compares the whole record with dvc.lock."""
    from stages.base.files import sha256_file, write_json
    from stages.base.producers import Producers

    with contextlib.chdir(scratch):
        folder = Path("data/tokens/pack")
        folder.mkdir(parents=True, exist_ok=True)
        names = [(folder / f"{name}.bin").as_posix() for name in ("train", "validation")]
        for name in names:
            Path(name).write_bytes(name.encode())
        digests = {name: sha256_file(Path(name)) for name in names}
        notes = {"tokens": 123456, "documents": 789, "longest": [11, 13, 17]}
        write_json(folder / "record.json", {"stage": "tokens.pack", "outputs": digests, "rows": None, "notes": notes})
        path = folder / "record.json"
        path.write_bytes(data_of(path.read_bytes()))
        try:
            Producers().check(digests)
        except TrainyardError as error:
            return "found" if folder.as_posix() in str(error) else f"unclear: {error}"
    return "harmless"


def mlflow_database(data_of: Callable[[bytes], bytes], scratch: Path) -> str:
    """A tracker's database of 40 runs, damaged, before `trainyard doctor`."""
    from stages.commands import doctor

    path, whole = scratch / ".trainyard/mlflow.db", scratch / "whole.db"
    if not whole.exists():
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{whole}")
        for number in range(40):
            run = client.create_run("0", tags={"fingerprint": f"{number:064x}"}).info.run_id
            client.log_metric(run, "loss", 1.0 / (1 + number))
        path.parent.mkdir()
    path.write_bytes(data_of(whole.read_bytes()))
    os.environ["GIT_CEILING_DIRECTORIES"] = str(scratch.parent)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with contextlib.chdir(scratch):
        if [found.ok for found in doctor._mlflow()] == [False]:
            return "found"
    with contextlib.closing(sqlite3.connect(whole)) as one, contextlib.closing(sqlite3.connect(path)) as other:
        for opened in (one, other):
            opened.text_factory = lambda text: text.decode(errors="replace")
        return "harmless" if list(one.iterdump()) == list(other.iterdump()) else "wrong"


OTHERS = {
    "MLflow database": mlflow_database,
    "record.json": producer_record,
    "judge cache": judge_cache,
    "training checkpoint": training_checkpoint,
}


def dvc_cache(tries: int) -> Iterator[str]:
    """A damaged object of DVC's cache, fetched by `dvc checkout`: does DVC say so? A record beside it would."""
    with tempfile.TemporaryDirectory() as folder:

        def dvc(*words: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "dvc", *words]
            return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

        whole = random.Random(0).randbytes(5000)
        dvc("init", "--no-scm", "-q")
        Path(folder, "x.bin").write_bytes(whole)
        dvc("add", "-q", "x.bin")
        object_ = next(path for path in Path(folder, ".dvc/cache/files/md5").rglob("*") if path.is_file())
        for count in range(tries):
            object_.chmod(0o644)
            object_.write_bytes(damage(whole, "DVC cache", count))
            Path(folder, "x.bin").unlink(missing_ok=True)
            ended = dvc("checkout", "x.bin")
            there = Path(folder, "x.bin")
            if ended.returncode:
                yield "found"
            else:
                yield "harmless" if there.exists() and there.read_bytes() == whole else "wrong"
            object_.parent.mkdir(parents=True, exist_ok=True)  # DVC removes an object that it has found out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tries", type=int, default=120)
    parser.add_argument("--only", nargs="+", default=[], metavar="KIND")
    asked = parser.parse_args()
    os.environ.update({"OMP_NUM_THREADS": "1", "TRAINYARD_WORKERS": "1", "TRAINYARD_TRACK": "off"})
    for _, stage, _ in READERS.values():
        importlib.import_module(f"stages.{stage}")
    folder = asked.folder.resolve()
    os.chdir(folder)
    signal.signal(signal.SIGALRM, late)
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place, "scratch")
        scratch.mkdir()
        rows: dict[str, Callable[[], Iterator[str]]] = {}
        for kind, (name, stage, item) in READERS.items():

            def stages(
                kind: str = kind, name: str = name, stage: str = stage, item: str | None = item
            ) -> Iterator[str]:
                whole = Path(name).read_bytes()
                for count in range(asked.tries):
                    data = damage(whole, kind, count)
                    yield read_by_a_stage(name, stage, item, data)

            rows[kind] = stages
        for kind, work in OTHERS.items():

            def others(kind: str = kind, work: Callable = work) -> Iterator[str]:
                for count in range(asked.tries):
                    yield work(lambda whole, count=count: damage(whole, kind, count), scratch)

            rows[kind] = others
        rows["DVC cache"] = lambda: dvc_cache(min(asked.tries, 6))  # a process of DVC takes seconds
        for kind in asked.only or rows:
            start, unclear = time.monotonic(), []
            counts: collections.Counter[str] = collections.Counter()
            with contextlib.suppress(KeyboardInterrupt):
                for outcome in rows[kind]():
                    counts[outcome.partition(":")[0]] += 1
                    unclear += [outcome] if outcome.startswith("unclear") else []
            print(json.dumps({"kind": kind, **counts, "seconds": round(time.monotonic() - start, 1)}), *unclear[:3],
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
