"""dvc.yaml tells the truth about code and data: each stage depends on the digests of exactly what it imports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stages.base.closure import closure
from stages.base.pipeline import Declared, read_pipeline

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = read_pipeline(ROOT)
MODULES = sorted({declared.name for declared in PIPELINE} - {"check"})


@pytest.mark.parametrize("declared", PIPELINE, ids=lambda declared: declared.label)
def test_a_stage_depends_on_the_digests_of_its_import_closure(declared: Declared) -> None:
    digests = [dep for dep in declared.deps if dep.startswith("data/check/code/")]
    if declared.name == "check":  # it digests the code of all
        assert {"stages", "params.yaml"} <= set(declared.deps) and not digests
    else:
        assert digests == [f"data/check/code/{declared.name}.json"]
    assert not [dep for dep in declared.deps if dep.endswith(".py")]


def test_closures_hold_whatever_an_import_really_loads() -> None:
    """The closures are found by reading; here every stage module is imported, each in a process of its own."""
    script = """
import importlib, json, os, sys
for module in sys.argv[1:]:
    reader, writer = os.pipe()
    if os.fork() == 0:
        importlib.import_module(f"stages.{module}")
        files = [m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "stages" and m.__file__]
        os.write(writer, json.dumps(files).encode())
        os._exit(0)
    os.close(writer)
    print(module, os.fdopen(reader).read())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *MODULES], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(MODULES)
    for line in lines:
        module, files = line.split(" ", 1)
        loaded = {Path(file).relative_to(ROOT) for file in json.loads(files) if Path(file).stat().st_size}
        assert loaded <= set(closure(f"stages.{module}", ROOT)), module


def test_every_data_dep_is_made_upstream() -> None:
    outs = {out for declared in PIPELINE for out in declared.outs}
    for declared in PIPELINE:
        for dep in declared.deps:
            if dep.startswith("data/"):
                assert any(out == dep or dep.startswith(f"{out}/") or out.startswith(f"{dep}/") for out in outs), (
                    f"{declared.label} reads {dep}, which no stage writes"
                )
