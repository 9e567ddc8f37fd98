"""Every instance once, whoever wants it and whatever is killed; failures that name their stage."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from stages.base.workers import can_fork
from stages.experiment.runs.graph import resolve
from stages.experiment.runs.outcomes import target_digests
from stages.experiment.runs.scheduler import Scheduler
from stages.experiment.runs.workers import Rays
from tests.experiment.toy import Toy

pytestmark = pytest.mark.skipif(not can_fork(), reason="instances are forked on Linux")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path / "project")


def start(toy: Toy, **changes: float) -> "subprocess.Popen[str]":
    """A runner of two arms × two seeds, in a process of its own."""
    code = (
        "import signal, sys; from pathlib import Path; from tests.experiment.toy import Toy\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job is started without it
        f"toy = Toy(Path({str(toy.root)!r}), make=False)\n"
        f"runs = [toy.run(f'lr{{lr}}', seed, train_lr=lr, **{changes!r}) for lr in (.5, .1) for seed in (1, 2)]\n"
        "try:\n"
        "    ended = toy.execute(runs, 2)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
        "print(*[one.failed or 'ok' for one in ended])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, env=environment)


def bytes_of(toy: Toy, **changes: float) -> dict[str, bytes]:
    """The targets of the four runs of `start`."""
    store, found = toy.store(), {}
    for lr in (0.5, 0.1):
        for seed in (1, 2):
            run = toy.run(f"lr{lr}", seed, train_lr=lr, **changes)
            for path, digest in target_digests(run, store).items():
                assert digest is not None
                found[f"{run.name} {path}"] = store.objects.path(digest).read_bytes()
    return found


def alive(toy: Toy) -> list[int]:
    """Processes whose stage has been told of in the log and that still run."""
    found = []
    for line in toy.log.read_text().splitlines():
        process = int(line.split()[1])
        try:
            if Path(f"/proc/{process}/stat").read_text().split()[2] != "Z":
                found.append(process)
        except FileNotFoundError:
            continue
    return found


def test_shared_instances_are_executed_once(toy: Toy) -> None:
    runs = [toy.run(f"lr{lr}", seed, claim, train_lr=lr) for claim in "ab" for lr in (0.5, 0.1) for seed in (1, 2, 3)]
    assert not any(one.failed for one in toy.execute(runs, 2))
    steps = {f"step{n}": 6 for n in range(3)}
    assert (
        Counter(toy.executed()) == {"check": 6, "item@a": 1, "item@b": 1, "join": 1, "train": 6, "evaluate": 6} | steps
    )
    toy.execute(runs, 2)
    assert Counter(toy.executed())["train"] == 6


def test_the_projects_own_files_stay_as_they_are(toy: Toy) -> None:
    for path in ("data/item/old/rows.json", "data/train/metrics.json", "reports/join.html", "dvc.lock"):
        (toy.root / path).parent.mkdir(parents=True, exist_ok=True)
        (toy.root / path).write_text("" if path == "dvc.lock" else "mine")
    before = {path: path.read_bytes() for path in sorted(toy.root.rglob("*")) if path.is_file()}
    assert not any(one.failed for one in toy.execute([toy.run(), toy.run("other", train_lr=0.1)]))
    after = {path: path.read_bytes() for path in sorted(toy.root.rglob("*")) if path.is_file()}
    new = {path.relative_to(toy.root).parts[0] for path in after.keys() - before.keys()}
    assert {path: after.get(path) for path in before} == before
    assert new <= {".dvc", ".trainyard", "stages"}  # stages: __pycache__
    assert not list((toy.root / ".trainyard" / "experiments" / "work").iterdir()), "sandboxes are swept"


def test_two_runners_at_once_share_the_work(toy: Toy) -> None:
    runners = [start(toy, train_sleep=0.1) for _ in range(2)]
    assert [runner.communicate()[0].split() for runner in runners] == [["ok"] * 4] * 2
    executed = Counter(toy.executed())
    assert executed["train"] == executed["evaluate"] == executed["check"] == 4
    assert executed["join"] == executed["item@a"] == 1


@pytest.mark.parametrize("moment", ["check", "join", "step0", "step2", "evaluate"])
def test_a_killed_runner_leaves_the_same_bytes(toy: Toy, moment: str) -> None:
    """kill -9 of the runner at the first sign of a stage: its children die, and the next one goes on."""
    runner = start(toy, train_sleep=0.2, join_sleep=0.2)
    deadline = time.monotonic() + 60
    while moment not in toy.executed() and time.monotonic() < deadline:
        time.sleep(0.005)
    runner.send_signal(signal.SIGKILL)
    runner.communicate()
    for _ in range(100):
        if not alive(toy):
            break
        time.sleep(0.05)
    assert not alive(toy), "children outlived their runner"
    again = start(toy, train_sleep=0.2, join_sleep=0.2)
    assert again.communicate()[0].split() == ["ok"] * 4
    steps = Counter(toy.executed())
    assert max(steps[f"step{n}"] for n in range(3)) <= 4 + 2, "training goes on from its checkpoints"

    fresh = Toy(toy.root.parent / "fresh" / "project")
    assert start(fresh, train_sleep=0.2, join_sleep=0.2).communicate()[0].split() == ["ok"] * 4
    assert bytes_of(toy, train_sleep=0.2, join_sleep=0.2) == bytes_of(fresh, train_sleep=0.2, join_sleep=0.2)


def test_an_interrupt_stops_the_children_and_frees_the_locks(toy: Toy) -> None:
    runner = start(toy, train_sleep=5.0)
    deadline = time.monotonic() + 60
    while "train" not in toy.executed() and time.monotonic() < deadline:
        time.sleep(0.01)
    runner.send_signal(signal.SIGINT)
    runner.communicate(timeout=120)
    assert runner.returncode == 130
    assert not alive(toy)


def test_a_failed_seed_is_named_and_the_others_go_on(toy: Toy) -> None:
    runs = [toy.run("lr", seed, train_fail_at_seed=2) for seed in (1, 2, 3)]
    ended = toy.execute(runs, 2)
    assert [one.failed for one in ended] == ["", "train", ""]
    assert ended[1].reason == "the loss is not finite; lower train.lr"
    assert list(ended[1].keys) == ["check", "item@a", "item@b", "join", "train"]


def test_an_instance_killed_for_memory_is_told_apart(toy: Toy) -> None:
    ended = toy.execute([toy.run("lr", seed, train_kill_at_seed=1) for seed in (1, 2)])
    assert [one.failed for one in ended] == ["train", ""]
    assert ended[0].reason.startswith("killed (signal 9), most likely for memory")


def test_an_instance_that_forgets_an_out_fails(toy: Toy) -> None:
    stage = toy.root / "stages" / "evaluate.py"
    stage.write_text(stage.read_text().replace('write("data/evaluate', 'write("data/evaluated'))
    ended = toy.execute([toy.run()])
    assert (ended[0].failed, ended[0].reason) == ("evaluate", "evaluate: ended without writing data/evaluate")


def test_a_file_that_the_next_stage_misses_is_named(toy: Toy) -> None:
    stage = toy.root / "stages" / "join.py"
    stage.write_text(stage.read_text().replace("joined.json", "other.json"))
    ended = toy.execute([toy.run()])
    assert ended[0].reason == "data/join/joined.json: stage `join` ended without writing it"


def test_what_was_emptied_from_the_cache_runs_again(toy: Toy) -> None:
    toy.execute([toy.run()])
    store = toy.store()
    places = {place.instance.label: place for place in resolve(toy.run(), store).places}
    assert places["train"].outs is not None
    weights = store.objects.tree(places["train"].outs["data/models/final"])[0]["md5"]
    store.objects.path(weights).unlink()
    assert resolve(toy.run(), toy.store()).done, "nothing that is still to run reads it"

    ended = toy.execute([toy.run(), toy.run("more", evaluate_questions=5)])
    assert not any(one.failed for one in ended)
    executed = Counter(toy.executed())
    assert (executed["train"], executed["join"], executed["evaluate"]) == (2, 1, 2)

    shutil.rmtree(toy.root / ".dvc" / "cache")
    assert not toy.execute([toy.run()])[0].failed
    assert Counter(toy.executed())["train"] == 3
    assert target_digests(toy.run(), toy.store())


def test_on_ray_the_same_bytes(toy: Toy, ray_cluster: None) -> None:
    """As tasks of a cluster of two nodes, what forks on this machine give."""
    runs = [toy.run(f"lr{lr}", seed, train_lr=lr) for lr in (0.5, 0.1) for seed in (1, 2)]
    pool = Rays()
    assert pool.count == 2
    failing = toy.run("failing", 3, train_fail_at_seed=3)
    ended = Scheduler([*runs, failing], toy.store(), pool).run(lambda one: None, lambda tally: None)
    assert [one.failed for one in ended] == ["", "", "", "", "train"], ended[0].reason
    assert ended[-1].reason == "the loss is not finite; lower train.lr"
    there = bytes_of(toy)
    fresh = Toy(toy.root.parent / "fresh" / "project")
    fresh.execute([fresh.run(f"lr{lr}", seed, train_lr=lr) for lr in (0.5, 0.1) for seed in (1, 2)])
    assert bytes_of(fresh) == there


def test_runs_end_one_after_another(toy: Toy) -> None:
    """Nobody has to wait for all trainings before the first evaluation."""
    toy.execute([toy.run(f"lr{lr}", train_lr=lr) for lr in (0.1, 0.2, 0.3, 0.4, 0.6, 0.7)])
    order = [name for name in toy.executed() if name in ("train", "evaluate")]
    assert order[:4].count("evaluate") >= 1 and order[-4:].count("train") >= 1
