"""MLflow's client as the tracker uses it: calls that may be repeated, in batches, that fail within seconds.

A run is found by its tags before it is made, and a point is the same point each time, so that whoever is killed in the
middle can begin again. This is the only module that imports mlflow, and only when there is something to ship (2 s).
"""

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from stages.base.redaction import without_user
from stages.base.store import project_store
from stages.publishing.tracking.curves import Point, batches
from stages.publishing.tracking.shipping import BATCH, key, short
from stages.publishing.tracking.store import artifact_root, locked, settle_in, tracking_uri

PARAMS_AT_ONCE = 100  # MLflow's limit


class Tracker:
    """One client of the project's database or server."""

    def __init__(self) -> None:
        uri = _without_password(tracking_uri())
        os.environ["MLFLOW_TRACKING_URI"] = uri  # MLflow's registry looks models up by it, whatever its client was told
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        warnings.filterwarnings("ignore", module="mlflow")
        from mlflow import entities
        from mlflow.tracking import MlflowClient

        self.entities = entities
        self.local = uri.startswith("sqlite:")
        with locked(project_store() / "mlflow.lock"):
            if self.local:
                settle_in()
            self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._experiments: dict[str, str] = {}

    def experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """The id of an experiment with these tags, made where there is none."""
        if name not in self._experiments:
            found = self.client.get_experiment_by_name(name)
            # MLflow's default artifact folder is relative to the working directory: lost with a temporary workspace.
            place = artifact_root().as_uri() if self.local else None
            made = found.experiment_id if found else self.client.create_experiment(name, artifact_location=place)
            if found and found.lifecycle_stage == "deleted":
                self.client.restore_experiment(made)
            for tag, value in tags.items():
                if not found or found.tags.get(tag) != value:
                    self.client.set_experiment_tag(made, tag, value)
            self._experiments[name] = made
        return self._experiments[name]

    def search(self, experiment: str, query: str, limit: int = 1000, order: str = "attributes.start_time DESC") -> list:
        return list(self.client.search_runs([experiment], query, max_results=limit, order_by=[order]))

    def find(self, experiment: str, **tags: str) -> Any | None:
        """The run with these tags."""
        query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        found = self.search(experiment, query, limit=1)
        return found[0] if found else None

    def start(self, experiment: str, name: str, tags: Mapping[str, str], started: float, parent: str = "") -> str:
        """A new run, RUNNING since `started` (seconds since 1970)."""
        own = {name: short(value) for name, value in tags.items() if value}
        own |= {"mlflow.parentRunId": parent} if parent else {}
        run = self.client.create_run(experiment, start_time=round(1000 * started), tags=own, run_name=name)
        return run.info.run_id

    def log_params(self, run: str, params: Mapping[str, str]) -> None:
        named = [self.entities.Param(name, value) for name, value in sorted(params.items())]
        for start in range(0, len(named), PARAMS_AT_ONCE):
            self.client.log_batch(run, params=named[start : start + PARAMS_AT_ONCE])

    def log_points(self, run: str, rows: Iterable[list[Point]]) -> int:
        """Rows of points, none torn between two calls; how many points."""
        sent = 0
        for points in batches(rows, BATCH):
            metrics = [self.entities.Metric(key(name), value, stamp, step) for name, value, stamp, step in points]
            self.client.log_batch(run, metrics=metrics)
            sent += len(points)
        return sent

    def steps_sent(self, run: str, name: str) -> set[int]:
        """At which steps a run has this metric."""
        return {point.step for point in self.client.get_metric_history(run, name)}

    def tag(self, run: str, **tags: str) -> None:
        for name, value in tags.items():
            self.client.set_tag(run, name, short(value))

    def close(self, run: str, status: str, ended: float) -> None:
        self.client.set_terminated(run, status, end_time=round(1000 * ended))

    def reopen(self, run: str) -> None:
        self.client.update_run(run, status="RUNNING")

    def log_datasets(self, run: str, digests: Mapping[str, str], uses: Mapping[str, str]) -> None:
        """Data sets by path and sha256, with what each is used for."""
        found = []
        for path, digest in digests.items():
            dataset = self.entities.Dataset(_dataset_name(path), digest[:16], "local", f'{{"uri": "{path}"}}')
            found.append(
                self.entities.DatasetInput(dataset, [self.entities.InputTag("mlflow.data.context", uses[path])])
            )
        if found:
            self.client.log_inputs(run, found)

    def log_file(self, run: str, path: Path, folder: str = "") -> None:
        self.client.log_artifact(run, str(path), artifact_path=folder or None)


def _without_password(uri: str) -> str:
    """A server's address whose user and password are where MLflow looks for them, so that none of its messages and
    tables repeats them (https://mlflow.org/docs/latest/self-hosting/security/basic-http-auth)."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username or "")
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return without_user(uri)


def _dataset_name(path: str) -> str:
    """The last two parts without the ending: `mix/train`, `alignment/preferences`."""
    return "/".join(Path(path).with_suffix("").parts[-2:])
