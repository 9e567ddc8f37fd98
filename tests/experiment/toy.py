"""A pipeline of a few lines in a folder of its own, with stages that DVC and the runner run alike."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from stages.experiment.runs.graph import Run, graph_of, params_text
from stages.experiment.runs.results import Store
from stages.experiment.runs.scheduler import Finished, Scheduler
from stages.experiment.runs.workers import Forks

PIPELINE = """
stages:
  check:
    cmd: python -m stages.check
    deps: [stages, params.yaml]
    outs:
      - data/check: {persist: true}
      - data/item/items.json
  item:
    foreach: ${items}
    do:
      cmd: python -m stages.item ${key}
      deps: [data/check/code.json, "${item.path}"]
      params: ["items.${key}", seed]
      outs: ["data/item/${key}"]
  join:
    cmd: python -m stages.join
    deps: [data/check/code.json, data/item]
    params: [join]
    outs:
      - data/join
      - reports/join.html: {cache: false}
  train:
    cmd: python -m stages.train
    deps: [data/check/code.json, data/join/joined.json]
    params: [run, train]
    outs: [data/train, data/models/final]
  evaluate:
    cmd: python -m stages.evaluate
    deps: [data/check/code.json, data/models/final, data/join]
    params: [evaluate]
    outs: [data/evaluate]
"""
PARAMS: dict[str, Any] = {
    "seed": 1,
    "run": {"seed": 1},
    "items": {"a": {"path": "lists/a.txt", "times": 2}, "b": {"path": "lists/b", "times": 1}},
    "join": {"sleep": 0.0},
    "train": {"lr": 0.5, "steps": 3, "sleep": 0.0, "fail_at_seed": 0, "kill_at_seed": 0},
    "evaluate": {"questions": 4},
}
COMMON = '''
import hashlib, json, os, sys, time
from pathlib import Path

import yaml


class Params(dict):
    """Read when they are asked for: a warm process imports stages long before they run."""

    def __missing__(self, key):
        return yaml.safe_load(Path("params.yaml").read_text())[key]


PARAMS = Params()


def tell(name):
    """One line an execution, outside the sandbox."""
    here = Path.cwd()
    project = next((parent.parent for parent in here.parents if parent.name == ".trainyard"), here)
    with open(project.parent / "executions.log", "a") as log:
        log.write(f"{name} {os.getpid()}\\n")


def write(path, value):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(value, sort_keys=True))


def digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()
'''
STAGES = {
    "__init__.py": "",
    "common.py": COMMON,
    "check.py": """
from stages.common import *


def main():
    tell("check")
    for name in PARAMS["items"]:
        assert Path(PARAMS["items"][name]["path"]).exists(), name
    write("data/check/code.json", {"code": digest(*[p.read_text() for p in sorted(Path("stages").glob("*.py"))])})
    write("data/item/items.json", sorted(PARAMS["items"]))
    for left in Path("data/item").iterdir():
        if left.is_dir() and left.name not in PARAMS["items"]:
            import shutil
            shutil.rmtree(left)


if __name__ == "__main__":
    main()
""",
    "item.py": """
from stages.common import *


def main():
    key = sys.argv[1]
    tell(f"item@{key}")
    item = PARAMS["items"][key]
    place = Path(item["path"])
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    write(f"data/item/{key}/rows.json", [p.read_text() for p in files] * item["times"] + [PARAMS["seed"]])
    write(f"data/item/{key}/more/count.json", len(files))


if __name__ == "__main__":
    main()
""",
    "join.py": """
from stages.common import *


def main():
    tell("join")
    time.sleep(PARAMS["join"]["sleep"])
    keys = json.loads(Path("data/item/items.json").read_text())
    rows = [json.loads(Path(f"data/item/{key}/rows.json").read_text()) for key in keys]
    write("data/join/joined.json", rows)
    write("reports/join.html", "<p>joined</p>")


if __name__ == "__main__":
    main()
""",
    "train.py": """
from stages.common import *
import signal


def main():
    tell("train")
    train, seed = PARAMS["train"], PARAMS["run"]["seed"]
    state = Path(".trainyard/checkpoints/train.json")
    done = json.loads(state.read_text()) if state.exists() else []
    for step in range(len(done), train["steps"]):
        time.sleep(train["sleep"])
        tell(f"step{step}")
        done.append(digest(seed, train["lr"], step))
        write(state, done)
    if seed == train["fail_at_seed"]:
        print("a warning")
        sys.exit("trainyard: train: the loss is not finite; lower train.lr")
    if seed == train["kill_at_seed"]:
        os.kill(os.getpid(), signal.SIGKILL)
    write("data/train/metrics.json", {"loss": int(digest(done)[:6], 16) / 2**24, "steps": len(done)})
    write("data/models/final/weights.json", done)


if __name__ == "__main__":
    main()
""",
    "evaluate.py": """
from stages.common import *


def main():
    tell("evaluate")
    weights = Path("data/models/final/weights.json").read_text()
    rows = [int(digest(weights, question)[:4], 16) / 2**16 for question in range(PARAMS["evaluate"]["questions"])]
    write("data/evaluate/metrics.json", {"right": sum(rows) / len(rows)})
    write("data/evaluate/items.json", rows)


if __name__ == "__main__":
    main()
""",
}
TARGETS = ("data/evaluate/metrics.json",)


class Toy:
    """The project in a folder, and what its stages log."""

    def __init__(self, root: Path, make: bool = True) -> None:
        self.root, self.log = root, root.parent / "executions.log"
        self.values = json.loads(json.dumps(PARAMS))
        if make:
            self._make(root)

    def _make(self, root: Path) -> None:
        (root / "stages").mkdir(parents=True)
        (root / "lists" / "b" / "deep").mkdir(parents=True)
        (root / "lists" / "a.txt").write_text("a\n")
        (root / "lists" / "b" / "1.txt").write_text("b1\n")
        (root / "lists" / "b" / "deep" / "2.txt").write_text("b2\n")
        (root / ".dvcignore").write_text("__pycache__\n*.pyc\n.trainyard\n")
        (root / "dvc.yaml").write_text(PIPELINE)
        (root / "params.yaml").write_text(json.dumps(self.values, indent=2))
        for name, text in STAGES.items():
            (root / "stages" / name).write_text(text)

    def store(self) -> Store:
        return Store(self.root, self.root / ".trainyard")

    def run(self, arm: str = "baseline", seed: int = 1, claim: str = "claim", **changes: Any) -> Run:
        """changes: `train_lr=.1` for `train: {lr: .1}`."""
        values = json.loads(json.dumps(self.values))
        values["run"]["seed"] = seed
        for name, value in changes.items():
            section, _, key = name.partition("_")
            assert key in values[section]
            values[section][key] = value
        text = params_text(self.root, values)
        return Run(claim, arm, {"run.seed": seed}, self.root, values, text, graph_of(self.root, values, TARGETS))

    def execute(self, runs: list[Run], count: int = 1) -> list[Finished]:
        scheduler = Scheduler(runs, self.store(), Forks(count))
        return scheduler.run(lambda finished: None, lambda tally: None)

    def executed(self) -> list[str]:
        """Names in the order of execution."""
        return [line.split()[0] for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def dvc(self, *arguments: str) -> str:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments], cwd=self.root, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
