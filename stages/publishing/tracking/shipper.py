"""A pipeline as runs: a parent with few numbers to compare by, below it one run a stage, there from the stage's start.

A stage that is running has a run that grows with its training log. When it has finished, the run gets its record's
fingerprint, and with it params, metrics and what the log lacked; a finished stage that has no run gets one then.
"""

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.base.errors import InputError, TrainyardError
from stages.base.followers import STEPS, Active, origin
from stages.base.params import lookup, read_params
from stages.base.scales import leaves
from stages.base.store import git
from stages.publishing.lineage.records import Record, read_record
from stages.publishing.tracking import pipeline, shipping
from stages.publishing.tracking.champion import register
from stages.publishing.tracking.client import Tracker
from stages.publishing.tracking.curves import (
    OF_PARTS,
    PREFIX,
    Tail,
    finished_rows,
    label_of,
    points_of,
    times_of,
)
from stages.publishing.tracking.store import remember_run
from stages.publishing.tracking.view import KIND, saved_view

EXPERIMENT = "trainyard"
PARENTS = "tags.kind = 'pipeline'"
COMPARED = 100  # earlier pipelines that get a param in which a later one differs
ALL_PARAMS = "params.json"
WATCHED = ("stages", "scales", "lists", "params.yaml", "dvc.yaml")  # whose edits make a tree dirty
REPORTS = Path("reports")


@dataclass
class Live:
    """The run of a stage that is running, and how far its logs were read."""

    run: str
    parent: str
    started: float
    sent: set[int]
    tails: dict[Path, Tail] = field(default_factory=dict)


class Shipper(Tracker):
    """Ships one work tree's pipelines."""

    def __init__(self) -> None:
        super().__init__()
        views = {
            "mlflow.sharedViewState.pipelines": saved_view(
                PARENTS, pipeline.SHOWN, pipeline.KNOBS, ("scale", "changed", "dvc experiment")
            ),
            "mlflow.sharedViewState.stages": saved_view(
                "tags.kind = 'stage'", [f"{PREFIX}loss"], [], ("stage", "item", "scale")
            ),
        }
        self.home = self.experiment(EXPERIMENT, {**KIND, **views, "mlflow.note.content": ABOUT})
        self.folder = f"{socket.gethostname()}:{Path.cwd()}"
        self.live: dict[str, Live] = {}
        self._known: set[str] = set()
        self._sent: dict[str, Any] = {}
        self._state: tuple[str, str] = ("", "")  # of the parent: its run and its status
        self._scale: tuple[str, pipeline.Scale] | None = None

    # ------------------------------------------------------------------------------------------- parents

    def parent(self, fingerprint: str, started: float) -> str:
        found = self.find(self.home, fingerprint=fingerprint)
        if found is not None:
            if self._state[0] != found.info.run_id:
                self._state = (found.info.run_id, found.info.status)
                self._sent = {"all": found.data.tags.get("described")}
            return found.info.run_id
        scale = self.scale(fingerprint)
        tags = {
            "fingerprint": fingerprint,
            "kind": "pipeline",
            "scale": scale.name,
            "changed": str(len(scale.changed)),
            "folder": self.folder,
            "mlflow.source.name": "dvc repro",
            "mlflow.source.type": "PROJECT",
            **_seeds(),
            **_revision(),
        }
        name = tags.get("dvc experiment") or pipeline.name_of(scale, fingerprint)
        run = self.start(self.home, name, tags, started)
        self._state, self._sent = (run, "RUNNING"), {}
        return run

    def scale(self, fingerprint: str) -> pipeline.Scale:
        if self._scale is None or self._scale[0] != fingerprint:
            self._scale = (fingerprint, pipeline.nearest_scale(read_params()))
        return self._scale[1]

    def describe(self, parent: str, fingerprint: str, records: Sequence[Record], *, ended: bool) -> None:
        """Params, headline, data sets, pages, model and a description; each sent again only when it has changed."""
        listing = {record.label: record.fingerprint for record in records}
        described = shipping.digest([listing, ended])[:16]
        if self._sent.get("all") == described:
            return
        scale = self.scale(fingerprint)
        if self._changed("params", fingerprint):
            self._compare_params(parent, scale)
        metrics, written = pipeline.headline_of(records)
        if self._changed("metrics", metrics):
            numbers = shipping.numbers(metrics)
            self.log_points(parent, ([(name, value, round(1000 * written), 0)] for name, value in numbers.items()))
        digests = pipeline.digests_of(records)
        if self._changed("data", digests):
            self.log_datasets(parent, digests, pipeline.DATASETS)
            self.tag(parent, **{f"data.{pipeline.DATASETS[path]}": digest[:16] for path, digest in digests.items()})
        written_files = {path: digest for record in records for path, digest in record.outputs.items()}
        for name, digest in written_files.items():
            path = Path(name)
            if path.parts[0] == REPORTS.name and path.exists() and self._changed(name, digest):
                self.log_file(parent, path, REPORTS.name)
                if path.suffix == ".html":
                    for figure, svg in pipeline.figures([path]):
                        self.client.log_text(parent, svg, f"figures/{figure}")
        if self._changed("stages", listing):
            self.client.log_dict(parent, listing, "stages.json")
        if self._changed("note", [metrics, ended]):
            baseline, named = self._baseline(parent, scale)
            self.tag(parent, **{"mlflow.note.content": pipeline.note(scale, metrics, baseline, named)})
        if ended:
            register(self, self.home, parent, records)
        self.tag(parent, described=described)
        self._sent["all"] = described

    def _changed(self, name: str, value: Any) -> bool:
        text = json.dumps(value, sort_keys=True, default=str)
        if self._sent.get(name) == text:
            return False
        self._sent[name] = text
        return True

    def _compare_params(self, parent: str, scale: pipeline.Scale) -> None:
        """Params on which any two pipelines of this scale differ stand on all of them, so that a column is whole."""
        own = {name: shipping.short(value) for name, value in leaves(read_params())}
        others = [
            run
            for run in self.search(self.home, f"{PARENTS} and tags.scale = '{scale.name}'", limit=COMPARED)
            if run.info.run_id != parent
        ]
        names = {name for run in others for name in run.data.params} | set(pipeline.KNOBS)
        wanted = {name: own[name] for name in {*names, *scale.changed} if name in own}
        self.log_params(parent, {shipping.key(name): value for name, value in wanted.items()})
        self.client.log_dict(parent, dict(sorted(own.items())), ALL_PARAMS)
        for run in others:
            lacking = {shipping.key(name) for name in wanted} - set(run.data.params)
            if lacking:
                known = self._params_of(run.info.run_id)
                self.log_params(run.info.run_id, {name: known[name] for name in lacking if name in known})

    def _params_of(self, run: str) -> dict[str, str]:
        from stages.base.files import read_json

        with tempfile.TemporaryDirectory() as scratch:
            try:
                values = read_json(self.client.download_artifacts(run, ALL_PARAMS, scratch))
            except Exception:  # a parent that was cut short, or of an older version
                return {}
        return {shipping.key(name): value for name, value in values.items()}

    def _baseline(self, parent: str, scale: pipeline.Scale) -> tuple[dict[str, float], str]:
        """The headline of the earliest finished pipeline of this scale in which nothing is changed, and its name."""
        query = f"{PARENTS} and tags.scale = '{scale.name}' and tags.changed = '0'"
        for run in self.search(self.home, query, order="attributes.start_time ASC"):
            if run.info.run_id != parent and run.data.metrics:
                return run.data.metrics, run.info.run_name
        return {}, ""

    def settle_parent(self, parent: str, status: str, ended: float) -> None:
        """RUNNING while a stage runs; else how the last one ended, and when. A pipeline whose params or code were
        edited in the middle is over."""
        if self._state == (parent, status):
            return
        for run in self.search(self.home, f"{PARENTS} and tags.folder = '{self.folder}' and status = 'RUNNING'"):
            if run.info.run_id != parent:
                self.close(run.info.run_id, "FINISHED", max(ended, run.info.start_time / 1000))
        if status == "RUNNING":
            self.reopen(parent)
        else:
            self.close(parent, status, ended)
        self._state = (parent, status)

    # ------------------------------------------------------------------------------------------- stages

    def has(self, record: Record) -> bool:
        """Whether the stage is there, complete."""
        if record.fingerprint not in self._known:
            run = self.find(self.home, fingerprint=record.fingerprint)
            if run is None or run.info.status != "FINISHED":
                return False
            self._known.add(record.fingerprint)
        return True

    def ship(self, record: Record, parent: str) -> None:
        """Send a finished stage, as the run that it had while it ran or as a new one; complete what was cut short."""
        found = self.find(self.home, fingerprint=record.fingerprint) or self._adopted(record)
        start, end = times_of(record)
        if found is None:
            run, sent = self.start(self.home, record.label, self._tags(record.stage, record.item), start, parent), set()
        else:
            run, start = found.info.run_id, found.info.start_time / 1000
            end = max(end, start)
            sent = self.steps_sent(run, f"{PREFIX}loss")
        self.tag(run, fingerprint=record.fingerprint, code=record.code)
        self.log_params(run, shipping.params_of(record))
        stamp = round(1000 * record.path.stat().st_mtime)
        metrics = shipping.metrics_of(record)
        self.log_points(run, ([(name, value, stamp, 0)] for name, value in sorted(metrics.items())))
        self.log_points(run, finished_rows(record, start, end, sent))
        self.close(run, "FINISHED", end)
        self._known.add(record.fingerprint)
        self.live.pop(record.label, None)

    def _adopted(self, record: Record) -> Any | None:
        """The run that this stage had while it ran: the latest that began before the record was written."""
        written = 1000 * record.path.stat().st_mtime
        query = f"tags.label = '{record.label}' and tags.folder = '{self.folder}' and attributes.status = 'RUNNING'"
        return next((run for run in self.search(self.home, query) if run.info.start_time <= written), None)

    def _tags(self, stage: str, item: str | None) -> dict[str, str]:
        label = f"{stage}@{item}" if item else stage
        tags = {"kind": "stage", "stage": stage, "item": item or "", "label": label, "folder": self.folder}
        return {**tags, "mlflow.source.name": f"stages.{stage}", "mlflow.source.type": "LOCAL", **_revision()}

    def follow(self, active: Active, parent: str) -> None:
        """The run of a stage that is running; then what its logs have gained."""
        self._live(active, active.stage, active.item, parent)
        self._grow(active, parent)

    def grow(self, active: Active) -> None:
        """The same for a stage that is known to run; of another one, nothing."""
        live = self.live.get(active.label)
        if live is not None and live.started == active.started:
            self._grow(active, live.parent)

    def _grow(self, active: Active, parent: str) -> None:
        for log in sorted((STEPS / active.label).glob("*.jsonl")):
            label = label_of(log, active.stage)
            item = label.partition("@")[2] if active.stage in OF_PARTS else active.item
            live = self._live(active, active.stage, item or None, parent)
            rows = live.tails.setdefault(log, Tail(log)).read()
            fresh = [row for row in rows if row["step"] not in live.sent]
            self.log_points(live.run, (points_of(row, row["time"]) for row in fresh))
            live.sent |= {row["step"] for row in fresh}

    def _live(self, active: Active, stage: str, item: str | None, parent: str) -> Live:
        label = f"{stage}@{item}" if item else stage
        instance = f"{label} {active.process} {active.started:.3f}"
        live = self.live.get(label)
        if live is None or live.started != active.started:
            found = self.find(self.home, instance=instance, folder=self.folder)
            if found is None:
                tags = {**self._tags(stage, item), "instance": instance}
                run, sent = self.start(self.home, label, tags, active.started, parent), set()
            else:
                run, sent = found.info.run_id, self.steps_sent(found.info.run_id, f"{PREFIX}loss")
            live = self.live[label] = Live(run, parent, active.started, sent)
        return live

    def settle(self, active: Iterable[Active], parent: str) -> str:
        """Complete the runs of this work tree whose stage has ended: FINISHED where it left a record, else FAILED.
        Returns FAILED where there is one of these that wasn't made again."""
        running = {(one.stage, round(1000 * one.started)) for one in active}
        query = f"tags.kind = 'stage' and tags.folder = '{self.folder}' and attributes.status = 'RUNNING'"
        status = "FINISHED"
        for run in self.search(self.home, query):
            tags, began = run.data.tags, run.info.start_time
            if any(tags["stage"] == stage and abs(began - started) < 2 for stage, started in running):
                continue
            self.live.pop(tags["label"], None)
            record = _record_since(tags["stage"], tags.get("item"), began)
            if record is not None and not self.has(record):
                self.ship(record, parent)
            owner = self.find(self.home, fingerprint=record.fingerprint) if record else None
            if owner is None or (owner.info.run_id != run.info.run_id and owner.info.start_time > began):
                self.close(run.info.run_id, "FAILED", time.time())
                status = "FAILED" if owner is None else status
            elif owner.info.run_id != run.info.run_id:  # made again what is known
                self.tag(run.info.run_id, repeats=owner.info.run_id)
                self.close(run.info.run_id, "FINISHED", times_of(record)[1] if record else time.time())
        return status

    def remember(self, parent: str, fingerprint: str) -> None:
        remember_run(self.home, parent, fingerprint)


def _record_since(stage: str, item: str | None, began: int) -> Record | None:
    """A stage's record, if it was written since `began` (milliseconds since 1970)."""
    path = Path("data", *stage.split("."), *([item] if item else []), "record.json")
    try:
        return read_record(path) if 1000 * path.stat().st_mtime >= began else None
    except (InputError, OSError):
        return None


ABOUT = """Runs of this project's pipelines.

- [The pipelines, few columns](#/experiments) — `runs?viewStateShareKey=pipelines`; every stage below its pipeline.
- `tags.kind = 'pipeline' and metrics.`dpo/lc_low` > 50` finds what beats its baseline.
- `tags.kind = 'stage' and tags.stage = 'alignment.dpo'` lists one stage over all pipelines, with its curves.
"""


def _seeds() -> dict[str, str]:
    found = {}
    for name, path in (("seed", "run.seed"), ("corpus seed", "corpus.seed")):
        try:
            found[name] = str(lookup(read_params(), path))
        except TrainyardError:
            continue
    return found


def _revision() -> dict[str, str]:
    """Git commit, branch and whether what a result depends on was edited since; DVC's name of the experiment."""
    here = origin()
    folder = here[0] if here and here[0].exists() else None
    edited = git("status", "--porcelain", "--untracked-files=no", "--", *WATCHED, folder=folder)
    commit = git("rev-parse", "--verify", "HEAD", folder=folder)
    return {
        "mlflow.source.git.commit": commit,
        "mlflow.source.git.branch": git("branch", "--show-current", folder=folder),
        "mlflow.source.git.dirty": str(bool(edited)).lower() if commit else "",
        "dvc experiment": here[1] if here else os.environ.get("DVC_EXP_NAME", ""),
    }
