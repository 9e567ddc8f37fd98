"""Claims in MLflow: an arm's run has what differs and what was measured, its seeds below it, each once."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from stages.base.errors import InputError
from stages.base.files import read_json, write_json
from stages.publishing.tracking.claims import ship_claim
from stages.publishing.tracking.client import Tracker
from tests.contracts import claims


@pytest.fixture
def tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / ".trainyard/experiments/claims/dpo_rate").mkdir(parents=True)
    return Tracker()


def publish(claim: Any) -> None:
    write_json(f"reports/claims/{claim.name}.json", claim.model_dump(mode="json"))


def runs(tracker: Tracker, kind: str) -> list[Any]:
    experiment = tracker.client.get_experiment_by_name("trainyard claim dpo_rate")
    return tracker.search(experiment.experiment_id, f"tags.kind = '{kind}'")


def test_a_claim_is_shipped_once_and_anew_when_it_says_something_else(tracker: Tracker) -> None:
    with pytest.raises(InputError, match=r"dpo_rate\.json"):
        ship_claim(tracker, "dpo_rate")
    claim = claims.claim()
    publish(claim)
    assert ship_claim(tracker, "dpo_rate") == "supported, 2 arms, 12 runs sent"
    assert ship_claim(tracker, "dpo_rate") == "supported, 2 arms, 0 runs sent"
    arms = {run.info.run_name: run for run in runs(tracker, "arm")}
    assert arms["faster"].data.params == {"alignment.dpo.lr": "0.0003", "alignment.dpo.betas": "[0.9, 0.95]"}
    found, said = arms["faster"].data.metrics, claim.arms[1].metrics["dpo/right"]
    ends = {"": said.mean, "_sd": said.sd, "_n": 5, "_low": said.low, "_high": said.high}
    assert {end: found[f"dpo/right{end}"] for end in ends} == ends
    seeds = [run for run in runs(tracker, "seed") if run.data.tags["arm"] == "faster"]
    assert {run.data.metrics["dpo/right"] for run in seeds} == {83.9, 85.0, 82.9, 87.2, 83.1}
    assert {run.data.tags["mlflow.parentRunId"] for run in seeds} == {arms["faster"].info.run_id}
    links = read_json(".trainyard/experiments/claims/dpo_rate/mlflow.json")
    assert links == {name: run.info.run_id for name, run in arms.items()}
    experiment = tracker.client.get_experiment_by_name("trainyard claim dpo_rate")
    assert experiment.tags["verdict"] == "supported" and experiment.tags["claim"] == "dpo_rate"

    verdict = claim.verdict.model_copy(update={"verdict": "undecided"})
    publish(claim.model_copy(update={"verdict": verdict}))
    ship_claim(Tracker(), "dpo_rate")
    assert {run.data.tags["verdict"] for run in runs(tracker, "arm")} == {"undecided"} and len(
        runs(tracker, "arm")
    ) == 2
    assert len(runs(tracker, "seed")) == 10, "below the new arms, and nowhere twice"
    shutil.rmtree("reports")
