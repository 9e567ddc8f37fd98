"""Ships to MLflow: a run for each stage that is running, all that finished ones left, and claims.

Stages never wait for a tracker. They leave records, metrics and logs; this process sends them in batches, keyed by
content, so that it can be killed, repeated or run late without a loss or a duplicate. `--follow` is the background
process that the first stage starts; without it everything missing is shipped in the foreground. `--claims NAME…` ships
what experiments found.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stages.base.errors import TrainyardError
from stages.base.followers import Active, copies, origin
from stages.base.params import read_params
from stages.base.redaction import for_the_eye
from stages.base.store import SIDE, project_store
from stages.base.terminal import one_line
from stages.publishing.lineage.records import read_records
from stages.publishing.tracking import shipping
from stages.publishing.tracking.curves import times_of
from stages.publishing.tracking.shipper import Shipper
from stages.publishing.tracking.store import active_stages, locked, open_line, shown_uri

PARAMS: dict = {}
CODE = Path(__file__).resolve().parents[2]
POLL_SECONDS, GROW_SECONDS, QUIET_SECONDS, RETRY_SECONDS = 2.0, 8.0, 20.0, 10.0
LONGEST_SECONDS = 3600.0  # between two stages of a workspace that is still there
NICENESS = 5  # lower, and the runs of a machine that is busy with training would appear minutes later


def ship_all(shipper: Shipper) -> int:
    """Runs of what is running, everything that is current and missing, and the parent. Returns how many stages were
    completed."""
    active = active_stages()
    fingerprint = shipping.pipeline_fingerprint(CODE)
    with locked(project_store() / "mlflow.lock"):
        parent = shipper.parent(fingerprint, active[0].started) if active else ""
        for one in active:
            shipper.follow(one, parent)
        records = shipping.current_records(CODE)
        missing = [record for record in records if not shipper.has(record)]
        if not parent:
            if not missing and shipper.find(shipper.home, fingerprint=fingerprint) is None:
                return 0  # all of it was shipped under another pipeline: no empty parent
            parent = shipper.parent(fingerprint, min((times_of(one)[0] for one in missing), default=time.time()))
        status = shipper.settle(active, parent)
        due = time.monotonic() + GROW_SECONDS
        for record in missing:
            if not shipper.has(record):
                shipper.ship(record, parent)
            if time.monotonic() > due:
                for one in active:
                    shipper.grow(one)
                due = time.monotonic() + GROW_SECONDS
        shipper.describe(parent, fingerprint, records, ended=not active)
        ended = max((times_of(record)[1] for record in records), default=time.time())
        shipper.settle_parent(parent, "RUNNING" if active else status, ended)
        shipper.remember(parent, fingerprint)
    return len(missing)


def begin(shipper: Shipper) -> None:
    """Runs of stages that have begun since, under a pipeline that is known."""
    fingerprint = shipping.pipeline_fingerprint(CODE)
    with locked(project_store() / "mlflow.lock"):
        for one in active_stages():
            shipper.follow(one, parent := shipper.parent(fingerprint, one.started))
            shipper.settle_parent(parent, "RUNNING", one.started)


def grow(shipper: Shipper) -> None:
    """What the logs of running stages have gained."""
    with locked(project_store() / "mlflow.lock"):
        for one in active_stages():
            shipper.grow(one)


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
    """Ship each stage as it runs; end when none has been active for a while. Never raises."""
    os.nice(NICENESS)
    # What is asked of git for a run's tags must not lock the index, which DVC writes at the same time.
    os.environ["GIT_OPTIONAL_LOCKS"] = "0"
    with _alone() as alone:
        if not alone:
            return
        here = origin()
        shipper: Shipper | None = None
        shipped: dict[str, int] | None = None  # the records as they stood when all was shipped
        running: list[Active] = []
        last_active, retry_at, grow_at, code = time.monotonic(), 0.0, 0.0, _code_stamps()
        while True:
            records, active, now = _stamps(), active_stages(), time.monotonic()
            last_active = now if active else last_active
            ended = not active and bool(running)
            if now >= retry_at and (records != shipped or ended or active != running or (active and now >= grow_at)):
                try:
                    if code != (edited := _code_stamps()):
                        shipping.forget_code()
                        code, shipped = edited, None
                    shipper = shipper or Shipper()
                    if records != shipped or ended or {one.label for one in running} - {one.label for one in active}:
                        ship_all(shipper)
                    elif active != running:
                        begin(shipper)
                    else:
                        grow(shipper)
                    shipped, running, grow_at = records, active, time.monotonic() + GROW_SECONDS
                except Exception:
                    # To the log: a tracker never stops a run.
                    print(for_the_eye(traceback.format_exc()), file=sys.stderr)
                    print("track: retrying; `trainyard track` ships what is missing", file=sys.stderr, flush=True)
                    shipper, shipped, retry_at = None, None, time.monotonic() + RETRY_SECONDS
            elif now - last_active > (LONGEST_SECONDS if here and here[0].exists() else QUIET_SECONDS):
                if here and records == shipped:  # the copy of a workspace has served its purpose
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
        except Exception as error:  # MLflow's, a database's, a network's
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            print(one_line(for_the_eye(f"trainyard: track: {shown_uri()}: {reason}")), file=sys.stderr)
            return 1
    print(f"shipped {sent} stage(s)")
    for copy in copies():
        follower = [sys.executable, "-m", "stages.publishing.tracking.track", "--follow"]
        if subprocess.run(follower, cwd=copy, check=False).returncode == 0 and not copy.exists():
            print(f"shipped experiment workspace {copy.name}")
    stale = len(read_records()) - len(shipping.current_records(CODE))
    if stale:
        print(f"{stale} older than params.yaml or the code were left out: `dvc repro` makes them again")
    print(open_line(shipping.pipeline_fingerprint(CODE)))
    return 0


def ship_claims(names: Sequence[str]) -> int:
    """`--claims NAME…`: what these experiments found, each once. Exit status 1 where a claim couldn't be shipped."""
    from stages.publishing.tracking.claims import ship_claim
    from stages.publishing.tracking.client import Tracker

    status, tracker = 0, Tracker()
    for name in names:
        try:
            print(f"{name}: {ship_claim(tracker, name)}")
        except TrainyardError as error:
            print(one_line(for_the_eye(f"trainyard: track: {error}")), file=sys.stderr)
            status = 1
    return status


def main(arguments: list[str]) -> int:
    if arguments == ["--follow"]:
        follow()
        return 0
    try:
        if arguments[:1] == ["--claims"] and len(arguments) > 1:
            return ship_claims(arguments[1:])
        if arguments:
            print("usage: python -m stages.publishing.tracking.track [--follow | --claims NAME…]", file=sys.stderr)
            return 2
        return ship_now()
    except TrainyardError as error:
        print(one_line(for_the_eye(f"trainyard: track: {error}")), file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
