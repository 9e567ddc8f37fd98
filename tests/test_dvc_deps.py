"""dvc.yaml tells the truth: code deps are the import closures, and outs are the stage's folder."""

from pathlib import Path

import pytest

from stages.base.closure import closure
from stages.base.pipeline import Declared, read_pipeline

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = read_pipeline(ROOT)


@pytest.mark.parametrize("declared", PIPELINE, ids=lambda declared: declared.label)
def test_code_deps_are_the_import_closure(declared: Declared) -> None:
    code = sorted(dep for dep in declared.deps if dep.startswith("stages") and dep.endswith(".py"))
    if declared.name == "check":  # it imports every stage module
        assert "stages" in declared.deps
        return
    assert code == [path.as_posix() for path in closure(f"stages.{declared.name}", ROOT)], (
        "run `trainyard deps --write`"
    )


def test_closures_stay_small() -> None:
    sizes = sorted(len(closure(f"stages.{declared.name}", ROOT)) for declared in PIPELINE)
    assert sizes[len(sizes) // 2] <= 14, sizes


def test_every_data_dep_is_made_upstream() -> None:
    outs = {out for declared in PIPELINE for out in declared.outs}
    for declared in PIPELINE:
        for dep in declared.deps:
            if dep.startswith("data/"):
                assert any(out == dep or dep.startswith(f"{out}/") or out.startswith(f"{dep}/") for out in outs), (
                    f"{declared.label} reads {dep}, which no stage writes"
                )
