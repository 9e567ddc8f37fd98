"""Ships finished stages to MLflow: one parent run a pipeline, a child a stage, each exactly once.

Stages never wait for a tracker. They leave records, metrics and curves in `data/`; this module sends them in batches,
keyed by content, so that it can be stopped, repeated or run late without a duplicate. `--follow` is the background
process the first stage starts; without it everything missing is shipped in the foreground.

Only this module imports mlflow, and only when there is something to ship (3 s).
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.base.artifacts import FIT, LEADERBOARD, PLAN
from stages.base.errors import TrainyardError
from stages.base.files import read_json
from stages.base.followers import copies, origin
from stages.base.params import read_params
from stages.base.store import SIDE, git, project_store
from stages.publishing.lineage.records import Record, read_records
from stages.publishing.tracking import shipping
from stages.publishing.tracking.store import is_active, open_line, tracking_uri

PARAMS: dict = {}
EXPERIMENT = "trainyard"
CODE = Path(__file__).resolve().parents[2]
POLL_SECONDS, QUIET_SECONDS, RETRY_SECONDS = 2.0, 20.0, 10.0
LONGEST_SECONDS = 3600.0  # between two stages of a workspace that is still there
REPORTS = "reports/"
HEADLINE = {"": f"{REPORTS}metrics.json", "fit": FIT, "plan": PLAN, "leaderboard": LEADERBOARD}  # prefix → file


class Shipper:
    """Upserts runs by fingerprint tag. Holds one client; every call is a batch."""

    def __init__(self) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        from mlflow import entities
        from mlflow.tracking import MlflowClient

        self._entities = entities
        uri = tracking_uri()
        with _locked(project_store() / "mlflow.lock"):
            self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            self.experiment = self._experiment(uri)
        self._known: set[str] = set()
        self._sent: dict[str, Any] = {}

    def _experiment(self, uri: str) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return found.experiment_id
        # MLflow's default artifact folder is relative to the working directory: lost with a temporary workspace.
        place = (project_store() / "mlflow-artifacts").as_uri() if uri.startswith("sqlite:") else None
        return self.client.create_experiment(EXPERIMENT, artifact_location=place)

    def find(self, fingerprint: str) -> Any | None:
        found = self.client.search_runs([self.experiment], f"tags.fingerprint = '{fingerprint}'", max_results=1)
        return found[0] if found else None

    def parent(self, fingerprint: str) -> str:
        found = self.find(fingerprint)
        if found is not None:
            return found.info.run_id
        tags = {"fingerprint": fingerprint, "kind": "pipeline", **_context()}
        name = f"{tags.get('experiment') or 'pipeline'} {fingerprint[:8]}"
        return self.client.create_run(self.experiment, tags=tags, run_name=name).info.run_id

    def has(self, record: Record) -> bool:
        """Whether the stage is there, complete."""
        if record.fingerprint not in self._known:
            run = self.find(record.fingerprint)
            if run is None or run.info.status != "FINISHED":
                return False
            self._known.add(record.fingerprint)
        return True

    def ship(self, record: Record, parent: str) -> None:
        """Send one stage; a run that was cut short half-way is completed."""
        run = self.find(record.fingerprint)
        if run is None:
            tags = {
                "fingerprint": record.fingerprint,
                "kind": "stage",
                "stage": record.stage,
                "code": record.code,
                "mlflow.parentRunId": parent,
                **({"item": record.item} if record.item else {}),
                **_context(),
            }
            run = self.client.create_run(self.experiment, tags=tags, run_name=record.label)
        written = int(record.path.stat().st_mtime * 1000)  # not now: sent again after a cut, a point is the same point
        metrics, curve = shipping.metrics_of(record), shipping.curve_of(record)
        self._log(run.info.run_id, shipping.params_of(record), metrics, curve, written)
        self.client.set_terminated(run.info.run_id, "FINISHED")
        self._known.add(record.fingerprint)

    def _log(
        self,
        run_id: str,
        params: dict[str, str],
        metrics: dict[str, float],
        curve: Iterable[tuple[str, float, int]] = (),
        stamp: int | None = None,
    ) -> None:
        stamp = int(time.time() * 1000) if stamp is None else stamp
        items = [self._entities.Metric(name, value, stamp, 0) for name, value in sorted(metrics.items())]
        items += [self._entities.Metric(name, value, stamp, step) for name, value, step in curve]
        named = [self._entities.Param(name, value) for name, value in sorted(params.items())]
        for start in range(0, len(named), 100):
            self.client.log_batch(run_id, params=named[start : start + 100])
        for start in range(0, len(items), shipping.BATCH):
            self.client.log_batch(run_id, metrics=items[start : start + shipping.BATCH])

    def summarise(self, parent: str, records: list[Record]) -> None:
        """Headline numbers, fitted parameters and pages on the parent; sent again only when they changed."""
        written = {path: digest for record in records for path, digest in record.outputs.items()}
        for prefix, path in HEADLINE.items():
            if path in written and self._sent.get(path) != written[path]:
                self._log(parent, {}, shipping.numbers({prefix: _rows_by_model(read_json(path))}))
        for path in {*HEADLINE.values(), *(path for path in written if path.startswith(REPORTS))}:
            if path in written and Path(path).exists() and self._sent.get(path) != written[path]:
                self.client.log_artifact(parent, path, artifact_path="scaling" if "/scaling/" in path else "report")
                self._sent[path] = written[path]
        listing = {record.label: record.fingerprint for record in records}
        if self._sent.get("stages") != listing:
            self.client.log_dict(parent, listing, "stages.json")
            self._sent["stages"] = listing


def _rows_by_model(value: Any) -> Any:
    """A list of rows with a `model` becomes a dict, so that metric names don't depend on the ranking."""
    if isinstance(value, dict):
        return {name: _rows_by_model(item) for name, item in value.items()}
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        names = [row.get("model") for row in value]
        if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
            return {row["model"]: {key: item for key, item in row.items() if key != "model"} for row in value}
    return value


def _context() -> dict[str, str]:
    """Git commit and the name that DVC gave the experiment."""
    here = origin()
    tags = {
        "mlflow.source.git.commit": git("rev-parse", "--verify", "HEAD"),
        "experiment": here[1] if here else os.environ.get("DVC_EXP_NAME", ""),
    }
    return {name: value for name, value in tags.items() if value}


def ship_all(shipper: Shipper) -> int:
    """Everything that is current and missing. Returns the number of stages sent."""
    records = shipping.current_records(CODE)
    if not records:
        return 0
    with _locked(project_store() / "mlflow.lock"):
        fingerprint = shipping.pipeline_fingerprint(CODE)
        missing = [record for record in records if not shipper.has(record)]
        if not missing and shipper.find(fingerprint) is None:
            return 0  # all of it was shipped under another pipeline: no empty parent
        parent = shipper.parent(fingerprint)
        for record in missing:
            shipper.ship(record, parent)
        shipper.summarise(parent, records)
        if not is_active():
            shipper.client.set_terminated(parent, "FINISHED")
    return len(missing)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer a database: work trees share it, and creating MLflow's schema twice at once fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _alone() -> Iterator[bool]:
    """Whether this process is the one that ships for this work tree."""
    SIDE.mkdir(exist_ok=True)
    with (SIDE / "track.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _stamps() -> dict[str, int]:
    """Which records stand on disk, by time of writing: cheap to poll."""
    found: dict[str, int] = {}
    for depth in ("*", "*/*", "*/*/*"):
        for path in Path("data").glob(f"{depth}/record.json"):
            try:
                found[path.as_posix()] = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue  # a stage is replacing its folder
    return found


def _code_stamps() -> dict[str, int]:
    return {path.as_posix(): path.stat().st_mtime_ns for path in CODE.rglob("*.py")}


def follow() -> None:
    """Ship each stage as it finishes; end when no stage has been active for a while. Never raises."""
    os.nice(10)
    with _alone() as alone:
        if not alone:
            return
        here = origin()
        shipper: Shipper | None = None
        shipped: tuple[dict[str, int], bool] | None = None
        last_active, retry_at, code = time.monotonic(), 0.0, _code_stamps()
        while True:
            now, state = time.monotonic(), (_stamps(), is_active())
            last_active = now if state[1] else last_active
            if state != shipped and now >= retry_at:
                try:
                    if code != (edited := _code_stamps()):
                        shipping.forget_code()
                        code = edited
                    shipper = shipper or Shipper()
                    ship_all(shipper)
                    shipped = state
                except Exception:
                    traceback.print_exc()  # to the log: a tracker never stops a run
                    print("track: retrying; `trainyard track` ships what is missing", file=sys.stderr, flush=True)
                    shipper, retry_at = None, now + RETRY_SECONDS
            elif now - last_active > (LONGEST_SECONDS if here and here[0].exists() else QUIET_SECONDS):
                if here and state == shipped:  # the copy of a workspace has served its purpose
                    shutil.rmtree(Path.cwd(), ignore_errors=True)
                return  # never right after shipping: what finished meanwhile has to be looked at first
            time.sleep(POLL_SECONDS)


def ship_now() -> int:
    """`trainyard track`: ship what is missing, then say how to look at it. Exit status 1 where it failed."""
    read_params()  # in the wrong folder this is an error, before a database is made there
    with _alone() as alone:
        if not alone:
            print("trainyard: track: a follower is shipping already; its log is .trainyard/track.log")
            print(open_line())
            return 0
        try:
            sent = ship_all(Shipper())
        except TrainyardError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            print(f"trainyard: track: {tracking_uri()}: {reason}", file=sys.stderr)
            return 1
    print(f"shipped {sent} stage(s)")
    for copy in copies():
        follower = [sys.executable, "-m", "stages.publishing.tracking.track", "--follow"]
        if subprocess.run(follower, cwd=copy, check=False).returncode == 0 and not copy.exists():
            print(f"shipped experiment workspace {copy.name}")
    stale = len(read_records()) - len(shipping.current_records(CODE))
    if stale:
        print(f"{stale} older than params.yaml or the code were left out: `dvc repro` makes them again")
    print(open_line())
    return 0


def main(arguments: list[str]) -> int:
    if arguments == ["--follow"]:
        follow()
        return 0
    if arguments:
        print("usage: python -m stages.publishing.tracking.track [--follow]", file=sys.stderr)
        return 2
    try:
        return ship_now()
    except TrainyardError as error:
        print(f"trainyard: track: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
