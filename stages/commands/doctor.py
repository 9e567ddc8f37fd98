"""`trainyard doctor`: is this machine and this clone fit to run the pipeline, and how far has it run?"""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "doctor",
        help="is this machine fit for the run, and how far has it run?",
        epilog="example:\n  trainyard doctor\n",
    )
    command.set_defaults(run=run)


@dataclass(frozen=True)
class Finding:
    """One line of the report. `ok` None: worth knowing, neither good nor bad."""

    ok: bool | None
    subject: str
    words: str

    def __str__(self) -> str:
        return f"{ {True: 'ok     ', False: 'PROBLEM', None: 'note   '}[self.ok] }  {self.subject:<12} {self.words}"


def examine() -> Iterator[Finding]:
    """Every check, each guarded: one that breaks is a finding, not the end of the report."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        _python,
        _packages,
        _compute,
        _machine,
        _git,
        _dvc_lock,
        _params,
        _stages,
        _mlflow,
    ]
    for check in checks:
        try:
            yield from check()
        except Exception as error:  # a package that is missing or broken must not hide what the others have to say
            words = " ".join(str(error).split()) or type(error).__name__
            yield Finding(False, check.__name__.lstrip("_"), words)


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding(sys.version_info >= (3, 11), "python", f"{version}, needs 3.11 or newer")


def _packages() -> Iterator[Finding]:
    for name in ("torch", "numpy", "pyarrow", "tokenizers", "safetensors", "dvc", "mlflow", "pydantic", "jinja2"):
        try:
            yield Finding(True, name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(False, name, "not installed: `make .venv/.installed`")


def _compute() -> Iterator[Finding]:
    import torch

    from stages.base.workers import worker_count

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        words = f"{torch.cuda.get_device_name()}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
        yield Finding(True, "device", words)
    else:
        yield Finding(
            None, "device", f"no CUDA device: training runs on the CPU ({torch.backends.cpu.get_cpu_capability()})"
        )
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding(True, "processes", f"{worker_count()} workers of one thread each, {cpus} CPUs to use")


def _machine() -> Iterator[Finding]:
    from stages.base.params import read_params

    values = read_params().get("check", {})
    free, need = shutil.disk_usage(".").free / 2**30, float(values.get("min_free_disk_gib", 0))
    yield Finding(free >= need, "disk", f"{free:.1f} GiB free, params ask for {need:g}")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        total, available = (int(fields[name].split()[0]) / 2**20 for name in ("MemTotal", "MemAvailable"))
        need = float(values.get("min_memory_gib", 0))
        ok = False if total < need else True if available >= need else None  # the check of a run goes by the total
        yield Finding(ok, "memory", f"{available:.1f} of {total:.1f} GiB available, params ask for {need:g}")


def _git() -> Iterator[Finding]:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    yield Finding(found.returncode == 0, "git", found.stdout.strip() or "no commit here: DVC and the tracker need one")
    for path, remedy in ((".dvc/config", "`dvc init`"), ("dvc.yaml", "run from the project's root")):
        yield Finding(Path(path).exists(), path, "there" if Path(path).exists() else f"missing: {remedy}")


def _dvc_lock() -> Iterator[Finding]:
    """DVC rewrites this file in place: where it is killed meanwhile, every later `dvc repro` fails with status 255."""
    path = Path(".dvc/tmp/rwlock")
    try:
        whole = not path.exists() or isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except ValueError:
        whole = False
    if not whole:
        yield Finding(False, str(path), f"left empty or cut short by a `dvc` that was killed: `rm {path}`")


def _params() -> Iterator[Finding]:
    from stages.check import check

    check()
    yield Finding(True, "params", "params.yaml fits every stage; sources are readable")


def _stages() -> Iterator[Finding]:
    from stages.base.pipeline import read_pipeline

    declared = read_pipeline()
    done = [stage for stage in declared if (stage.folder / "record.json").is_file()]
    missing = [stage.label for stage in declared if stage not in done]
    words = f"{len(done)} of {len(declared)} have run"
    if missing:
        words += f"; next: {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
    yield Finding(None if missing else True, "stages", words)
    pages = sorted(str(path) for path in Path("reports").glob("*.html"))
    yield Finding(True if pages else None, "pages", ", ".join(pages) or "none yet: `dvc repro`")


def _mlflow() -> Iterator[Finding]:
    from stages.base.store import project_store
    from stages.publishing.tracking.store import shown_uri

    uri, database = shown_uri(), project_store() / "mlflow.db"
    if not uri.startswith("sqlite:"):
        yield Finding(None, "mlflow", f"server {uri} (from MLFLOW_TRACKING_URI)")
        return
    if not database.exists():
        yield Finding(None, "mlflow", f"{uri}: made by the first stage that is tracked")
        return
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as opened:
            said = str(opened.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        said = str(error)
    if said == "ok":
        yield Finding(True, "mlflow", uri)
    else:
        words = f"{uri}: {' '.join(said.split())}; move it away, and `trainyard track` ships what has finished again"
        yield Finding(False, "mlflow", words)


def run(_: argparse.Namespace) -> int:
    """Print the findings. Exit status 1 if there is a problem."""
    problems = 0
    for finding in examine():
        print(finding)
        problems += finding.ok is False
    print(f"{problems} problem(s) found" if problems else "everything needed is there")
    return 1 if problems else 0
