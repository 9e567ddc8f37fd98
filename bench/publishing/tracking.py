"""What tracking costs: 100,000 points into a database, a stage beside the follower, a server killed in the middle.

python bench/publishing/tracking.py database          seconds for 100,000 points (bar: 60)
python bench/publishing/tracking.py stage             a stage of 90 s that keeps all cores busy, alone and followed
python bench/publishing/tracking.py server            a real `mlflow server`, killed and started again in the middle
"""

import argparse
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGE = "alignment.dpo"
NAMES = ("loss", "lr", "grad_norm", "accuracy", "margin", "chosen_reward", "rejected_reward", "reward", "kl", "entropy")
# A stage: `seconds` of matrix products on every core, a row of its log every 50 ms; prints how many products it did.
BUSY = """
import json, os, sys, time
from concurrent.futures import ProcessPoolExecutor
import numpy as np
# stages.alignment.dpo
def work(seconds):
    a, count, end = np.ones((256, 256), dtype=np.float32), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        a @ a
        count += 1
    return count
if __name__ == "__main__":
    seconds, log = float(sys.argv[1]), open(sys.argv[2], "a")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(work, seconds) for _ in range(os.cpu_count())]
        for step in range(int(seconds * 20)):
            log.write(json.dumps({"step": step, "loss": 1 / (step + 1), "lr": .1, "time": round(1000 * time.time())}))
            log.write("\\n")
            log.flush()
            time.sleep(.05)
        print(sum(job.result() for job in jobs))
"""


@contextmanager
def project() -> Iterator[Path]:
    """A folder that looks like a project to the tracker."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "project")
        (root / ".trainyard" / "active").mkdir(parents=True)
        (root / ".trainyard" / "steps" / STAGE).mkdir(parents=True)
        (root / "params.yaml").write_text("run: {seed: 1}\n")
        yield root


def log_of(root: Path) -> Path:
    return root / ".trainyard" / "steps" / STAGE / f"{STAGE}.jsonl"


def begin(root: Path, process: int) -> None:
    told = {"stage": STAGE, "item": None, "started": time.time()}
    (root / ".trainyard" / "active" / str(process)).write_text(json.dumps(told))


def environment(root: Path, **more: str) -> dict[str, str]:
    own = {"PYTHONPATH": str(ROOT), "GIT_CEILING_DIRECTORIES": str(root.parent), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, **more}


def follower(root: Path, **more: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "stages.publishing.tracking.track", "--follow"]
    log = (root / ".trainyard" / "track.log").open("a")
    return subprocess.Popen(words, cwd=root, env=environment(root, **more), stdout=log, stderr=log)


def points(database: Path) -> tuple[int, int]:
    """Rows of the curve, and how many steps it has."""
    with sqlite3.connect(database) as opened:
        found = "select count(*), count(distinct step) from metrics where key = 'curve/loss'"
        return opened.execute(found).fetchone()


def database() -> None:
    with project() as root:
        with log_of(root).open("w") as file:
            for step in range(10_000):
                row = {name: step / (1 + len(name)) for name in NAMES} | {
                    "step": step,
                    "time": 1_700_000_000_000 + step,
                }
                file.write(json.dumps(row) + "\n")
        os.chdir(root)
        os.environ.update(environment(root))
        begin(root, os.getpid())
        from stages.publishing.tracking import store, track
        from stages.publishing.tracking.shipper import Shipper

        store._is_stage = lambda pid: True  # type: ignore[assignment]
        start = time.monotonic()
        shipper = Shipper()
        made = time.monotonic()
        track.ship_all(shipper)
        shipped = time.monotonic()
        track.ship_all(Shipper())
        print(f"client and schema {made - start:.1f} s, 100,000 points {shipped - made:.1f} s, ", end="")
        print(f"another follower finds them in {time.monotonic() - shipped:.1f} s")
        print("rows, steps:", points(root / ".trainyard" / "mlflow.db"))


def busy(root: Path, seconds: float) -> subprocess.Popen:
    script = root / "busy.py"
    script.write_text(BUSY)
    words = [sys.executable, str(script), str(seconds), str(log_of(root)), "stages.alignment.dpo"]
    return subprocess.Popen(words, cwd=root, env=environment(root), stdout=subprocess.PIPE, text=True)


def stage(seconds: float, rounds: int) -> None:
    from statistics import median

    done: dict[bool, list[int]] = {False: [], True: []}
    with project() as root:
        subprocess.run(
            [sys.executable, "-c", "from stages.publishing.tracking.shipper import Shipper; Shipper()"],
            cwd=root, env=environment(root), check=True,
        )  # fmt: skip
        for followed in [False, True] * rounds:
            log_of(root).unlink(missing_ok=True)
            running = busy(root, seconds)
            begin(root, running.pid)
            began, seen = time.monotonic(), None
            beside = follower(root) if followed else None
            while beside and running.poll() is None and seen is None:
                time.sleep(0.5)
                if points(root / ".trainyard" / "mlflow.db")[0] > 0:
                    seen = time.monotonic() - began
            done[followed].append(int(running.communicate()[0]))
            for path in (root / ".trainyard" / "active").iterdir():
                path.unlink()
            if beside:
                used = Path(f"/proc/{beside.pid}/stat").read_text().rsplit(")", 1)[1].split()
                cpu = (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")
                beside.kill()
                beside.wait()
                print(f"followed: first points after {seen or 0:.1f} s, follower's CPU {cpu:.1f} s of {seconds:.0f} s")
            shutil.rmtree(root / "data", ignore_errors=True)
    alone, beside = (median(done[key]) for key in (False, True))
    print(f"products alone {alone}, followed {beside}: {100 * (1 - beside / alone):.2f} % fewer; all {done}")


def server() -> None:
    with project() as root, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        uri, place = f"http://127.0.0.1:{port}", root / "server.db"

        def serve() -> subprocess.Popen:
            mlflow = Path(sys.executable).with_name("mlflow")
            words = [str(mlflow), "server", "--backend-store-uri", f"sqlite:///{place}", "--workers", "1"]
            words += ["--artifacts-destination", str(root / "artifacts"), "--port", str(port)]
            found = subprocess.Popen(
                words, cwd=root, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            for _ in range(240):
                try:
                    urllib.request.urlopen(f"{uri}/health", timeout=1)
                    return found
                except OSError:
                    time.sleep(0.5)
            raise SystemExit("the server doesn't start")

        serving = serve()
        running = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "stages."], cwd=root)
        begin(root, running.pid)
        beside = follower(root, MLFLOW_TRACKING_URI=uri)
        for life in range(3):
            with log_of(root).open("a") as file:
                for step in range(life * 2000, (life + 1) * 2000):
                    row = {name: step / (1 + len(name)) for name in NAMES}
                    file.write(json.dumps(row | {"step": step, "time": 1_700_000_000_000 + step}) + "\n")
                    file.flush()
            time.sleep(14)
            os.killpg(serving.pid, signal.SIGKILL)
            if life == 1:
                beside.kill()
                beside = follower(root, MLFLOW_TRACKING_URI=uri)
            time.sleep(3)
            serving = serve()
        for _ in range(300):
            if points(place) == (6000, 6000):
                break
            time.sleep(1)
        print("rows, steps:", points(place))
        print((root / ".trainyard" / "track.log").read_text()[-3000:], file=sys.stderr)
        for process in (beside, running):
            process.kill()
        os.killpg(serving.pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["database", "stage", "server"])
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.what == "stage":
        stage(options.seconds, options.rounds)
    else:
        {"database": database, "server": server}[options.what]()


if __name__ == "__main__":
    main()
