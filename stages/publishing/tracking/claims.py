"""What an experiment found, as an MLflow experiment of its own: one run an arm, its seeds below it.

An arm carries the params in which arms differ, and no others, and of each metric mean, sd, n and interval: MLflow's
compare page then shows what the claim is about. The verdict stands on the experiment.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.base.contracts.claim import Arm, Claim, Run
from stages.base.files import write_json
from stages.base.store import project_store
from stages.publishing.claims.publish import read_claim
from stages.publishing.tracking import shipping
from stages.publishing.tracking.view import KIND, saved_view

if TYPE_CHECKING:
    from stages.publishing.tracking.client import Tracker

RUNS = "mlflow.json"  # in a claim's folder: arm → run id, for the links of its page


def ship_claim(tracker: "Tracker", name: str) -> str:
    """Ship one claim of reports/claims/; what it says now takes the place of what was shipped of it. Returns a line.

    Raises InputError where the claim hasn't been reported yet.
    """
    claim = read_claim(name)
    experiment = tracker.experiment(f"trainyard claim {name}", {**KIND, **_tags(claim)})
    runs: dict[str, str] = {}
    sent = 0
    for arm in claim.arms:
        own = [run for run in claim.runs if run.arm == arm.name]
        runs[arm.name], new = _ship_arm(tracker, experiment, claim, arm, own)
        sent += new
    folder = project_store() / "experiments" / "claims" / name
    if folder.is_dir():
        write_json(folder / RUNS, runs)
    return f"{claim.verdict.verdict}, {len(runs)} arms, {sent} runs sent"


def _tags(claim: Claim) -> dict[str, str]:
    """Of the experiment."""
    metric = claim.metric
    columns = [metric, *(f"{metric}_{end}" for end in ("low", "high", "sd", "n"))]
    params = sorted({name for arm in claim.arms for name in arm.params})
    view = saved_view("tags.kind = 'arm'", map(shipping.key, columns), map(shipping.key, params))
    return {
        "claim": claim.name,
        "verdict": claim.verdict.verdict,
        "digest": claim.digest,
        "mlflow.experiment.primaryMetric.name": shipping.key(metric),
        "mlflow.sharedViewState.arms": view,
        "mlflow.note.content": f"**{claim.claim}**\n\n{claim.verdict.verdict}: {claim.verdict.sentence}\n\n"
        f"Rule: `{claim.rule}`. {claim.verdict.estimator}",
    }


@dataclass(frozen=True)
class _Sent:
    """A run's own content, by whose fingerprint it is known."""

    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]

    @property
    def fingerprint(self) -> str:
        return shipping.digest([self.tags, self.params, self.metrics])


def _ship_arm(tracker: "Tracker", experiment: str, claim: Claim, arm: Arm, runs: list[Run]) -> tuple[str, int]:
    """The arm's run and how many were sent."""
    metrics: dict[str, float] = {}
    for name, found in arm.metrics.items():
        numbers = {"": found.mean, "_sd": found.sd, "_n": found.n, "_low": found.low, "_high": found.high}
        metrics |= {f"{name}{end}": value for end, value in numbers.items() if value is not None}
    content = _Sent(
        {
            "kind": "arm",
            "claim": claim.name,
            "arm": arm.name,
            "verdict": claim.verdict.verdict,
            "digest": claim.digest,
            "baseline": "true" if arm.baseline else "",
            "revision": arm.revision,
            "mlflow.source.name": "trainyard experiment",
            "mlflow.note.content": f"{claim.claim}\n\n{claim.verdict.verdict}: {claim.verdict.sentence}",
        },
        {shipping.key(name): shipping.short(value) for name, value in arm.params.items()},
        shipping.numbers(metrics),
    )
    parent, sent = _upsert(tracker, experiment, arm.name, content, "")
    for run in runs:
        values = {name: value for name, value in run.values.items() if value is not None}
        tags = {"kind": "seed", "claim": claim.name, "arm": arm.name, "status": run.status, "reason": run.reason}
        below = _Sent(tags | {"digest": claim.digest}, {"seed": run.seed}, shipping.numbers(values))
        status = {"finished": "FINISHED", "failed": "FAILED"}.get(run.status, "SCHEDULED")
        sent += _upsert(tracker, experiment, f"{arm.name} {run.seed}", below, parent, status)[1]
    return parent, sent


def _upsert(
    tracker: "Tracker", experiment: str, name: str, content: _Sent, parent: str, status: str = "FINISHED"
) -> tuple[str, int]:
    """The run of this content. A run of the same name whose content has changed is deleted: MLflow's params can't be
    changed, and a metric sent again would be a curve."""
    query = {"kind": content.tags["kind"], "arm": content.tags["arm"], "mlflow.runName": name}
    old: Any = tracker.find(experiment, **query)
    if old is not None:
        same = old.data.tags.get("fingerprint") == content.fingerprint and old.info.status == status
        if same and old.data.tags.get("mlflow.parentRunId", "") == parent:
            return old.info.run_id, 0
        tracker.client.delete_run(old.info.run_id)
    now = time.time()
    run = tracker.start(experiment, name, content.tags, now, parent)
    tracker.log_params(run, content.params)
    tracker.log_points(run, [[(metric, value, round(1000 * now), 0)] for metric, value in content.metrics.items()])
    tracker.close(run, status, now)
    tracker.tag(run, fingerprint=content.fingerprint)  # last: a run without it is begun anew
    return run, 1
