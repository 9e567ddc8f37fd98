"""Verdicts on an arm's runs, handed to the leaderboard."""

import json
from pathlib import Path
from typing import Any

import pytest

from stages.base.errors import InputError, ParamError
from stages.base.reference import Schema
from stages.base.workers import can_fork
from stages.experiment.declaration import declare
from stages.experiment.reruns import export
from stages.experiment.runs.results import open_store
from stages.experiment.runs.suite import run
from tests.experiment.toy import Toy

pytestmark = pytest.mark.skipif(not can_fork(), reason="instances are forked on Linux")
JUDGE = """
  judge:
    foreach: ${tuned}
    do:
      cmd: python -m stages.judge ${key}
      deps: [data/check/code.json, data/models/final]
      outs: ["data/judging/judge/${key}"]
"""
STAGE = """
from stages.common import *


def main():
    weights = Path("data/models/final/weights.json").read_text()
    for name in ("annotations.parquet", "exact.parquet", "metrics.json"):
        write(f"data/judging/judge/{sys.argv[1]}/{name}", {"right": len(weights), "of": digest(weights, name)})


if __name__ == "__main__":
    main()
"""
CLAIM: dict[str, Any] = {
    "claim": "The project's models, trained again, are no worse.",
    "metric": {"file": "data/judging/judge/dpo/metrics.json", "key": "right"},
    "arms": {"baseline": {}, "other": {"train.lr": 0.1}},
    "seeds": [1, 5],
    "rule": "other > baseline - 1",
}
ANYTHING: Schema = {}
ANYTHING["additionalProperties"] = ANYTHING


def test_what_was_judged_of_an_arm_is_handed_over_by_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy(tmp_path / "project")
    (toy.root / "dvc.yaml").write_text((toy.root / "dvc.yaml").read_text() + JUDGE)
    (toy.root / "stages" / "judge.py").write_text(STAGE)
    toy.values["tuned"] = {"dpo": {"path": ""}, "ppo": {"path": ""}}
    (toy.root / "params.yaml").write_text(json.dumps(toy.values))
    monkeypatch.chdir(toy.root)
    monkeypatch.setenv("TRAINYARD_WORKERS", "2")
    claim = declare(CLAIM)

    def handed(arm: str = "baseline", **changed: Any) -> list[str]:
        return export(
            declare(CLAIM | changed), arm, ["dpo", "ppo"], toy.values, ANYTHING, open_store(), Path("lists/reruns")
        )

    with pytest.raises(InputError, match="no run of arm `baseline` has judged dpo, ppo"):
        handed()
    run([claim], ANYTHING)
    assert handed() == ["1/dpo", "5/dpo"]  # ppo is in no metric, so nobody judged it
    written = {path.relative_to("lists/reruns").as_posix() for path in Path("lists/reruns").rglob("*.parquet")}
    assert written == {f"{seed}/dpo{kind}.parquet" for seed in (1, 5) for kind in ("", ".exact")}
    assert len({json.loads(Path(f"lists/reruns/{s}/dpo.parquet").read_text())["of"] for s in (1, 5)}) == 2
    for wrong, told in (
        ({"arm": "nosuch"}, "no such arm"),
        ({"arm": "other"}, r"isn't what .*\(`train.lr`\)"),
        ({"seeds": {"seed": [1, 5]}}, "its seeds are seed"),
    ):
        with pytest.raises(ParamError, match=told):
            handed(**wrong)
