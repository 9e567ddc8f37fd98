"""The embedded life cycle against its bars, in fresh clones: `python bench/life_cycle.py PART [--folder FOLDER]`.

budget    wall, CPU, memory of the first `dvc repro`; the no-op; what a judge param, an answerer added or removed rerun
identity  two runs in two folders: every tracked output must have the same hash
cores     1, 2 and 4 visible cores: the same hashes, and those of the committed lock
seeds     three training seeds: is SFT above base and above every control, by a paired 95 % interval on test entities?
doors     own pages, questions, instructions and preferences without the atlas; alignment from an imported model
queue     `dvc exp run --queue` of four and `--temp`: all succeed, and MLflow keeps their runs
"""

import argparse
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench import own_inputs  # noqa: E402  (the path is the project's root)

PEERS = Path(os.environ.get("TRAINYARD_PEERS_PYTHON") or ROOT / ".venv-peers" / "bin" / "python")
WITHOUT_CORPUS = {  # stages that alignment from an imported model has no need of
    "source", "ingest", "extract", "screen", "dedup", "heuristics", "quality", "domains", "decontaminate", "mix",
    "tokenizer", "pack", "ladder", "fit", "plan", "pretrain", "anneal", "branch", "context",
}  # fmt: skip
SPLITS = {"preference": 0.2, "validation": 0.1, "test": 0.2}
TRACKER_S = 60.0  # after the last stage: it ends 20 s after it, and starting it takes some, too


def clone(folder: Path) -> Path:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


def environment(project: Path, **changes: str) -> dict[str, str]:
    """Of commands run in a clone: this Python's environment, the clone's code."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(project), "PYTHONHASHSEED": "0"} | changes


def run(project: Path, *command: str, cores: set[int] | None = None, **changes: str) -> dict[str, Any]:
    """A command in a clone, on some of the machine's cores; wall and CPU seconds, and the stages that DVC ran."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        command, cwd=project, env=environment(project, **changes), stdout=subprocess.PIPE, text=True,
        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed in {project}:\n{done.stdout[-3000:]}")
    return {
        "wall": time.monotonic() - start,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "ran": [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")],
        "said": done.stdout,
    }


def repro(project: Path, *targets: str, cores: set[int] | None = None, **changes: str) -> dict[str, Any]:
    return run(project, "dvc", "repro", *targets, cores=cores, **changes)


def edit(project: Path, changes: Mapping[str, Any]) -> None:
    """Set values of the project's params.yaml by their dotted keys; None removes an item."""
    file = project / "params.yaml"
    params = yaml.safe_load(file.read_text(encoding="utf-8"))
    for path, value in changes.items():
        *parents, leaf = path.split(".")
        here = params
        for part in parents:
            here = here[part]
        if value is None:
            del here[leaf]
        else:
            here[leaf] = value
    file.write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True), encoding="utf-8")


def tracked_hashes(project: Path) -> dict[str, str]:
    lock = yaml.safe_load((project / "dvc.lock").read_text(encoding="utf-8"))
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def compare(name: str, these: dict[str, str], those: dict[str, str]) -> None:
    different = sorted(path for path in these | those if these.get(path) != those.get(path))
    print(
        f"{name}: {len(these)} tracked outputs, {len(different)} differ (bar 0), {verdict(not different)}", flush=True
    )
    for path in different:
        print(f"  {path}")


def budget(folder: Path) -> None:
    project = clone(folder / "budget")
    first = repro(project)
    timings = [json.loads(path.read_text()) for path in (project / ".trainyard" / "timings").glob("*.json")]
    rss = max(timing.get("peak_rss_mib", 0) for timing in timings) / 1024
    print(f"first repro: {first['wall'] / 60:.1f} min wall (bar 12), {first['cpu'] / 60:.1f} CPU-min")
    print(f"peak RSS of a stage: {rss:.2f} GiB (bar 2)")
    again = repro(project)
    print(f"second repro: {again['wall']:.1f} s (bar 5), {len(again['ran'])} stages ran (bar 0)")
    edit(project, {"judging.judge.annotator.pool.label_noise": 0.2})
    print(f"after a judge param: {' '.join(repro(project)['ran'])}")
    another = {"kind": "constant", "path": "data/alignment/instructions/items.json"}
    edit(project, {"judging.answerers.constant_again": another})
    print(f"after adding an answerer: {' '.join(repro(project)['ran'])}")
    edit(project, {"judging.answerers.constant_again": None})
    print(f"after removing it: {' '.join(repro(project)['ran'])}")
    page = (project / "reports" / "leaderboard.html").read_text(encoding="utf-8")
    print(f"trace of it in the page: {'constant_again' in page} (bar False)")


def identity(folder: Path) -> None:
    first, second = clone(folder / "one"), clone(folder / "another place")
    for project in (first, second):
        print(f"{project.name}: {repro(project)['wall'] / 60:.1f} min", flush=True)
    compare("two folders", tracked_hashes(first), tracked_hashes(second))


def cores(folder: Path) -> None:
    """Where the machine has fewer than 4 cores, as many workers as 4 would give, on those there are."""
    mine = sorted(os.sched_getaffinity(0))
    committed = tracked_hashes(clone(folder / "lock"))
    for count in (1, 2, 4):
        project, visible = clone(folder / f"cores {count}"), set(mine[:count])
        more = {} if len(visible) == count else {"TRAINYARD_WORKERS": str(count)}
        wall = repro(project, cores=visible, **more)["wall"]
        print(f"{count} cores{' (workers only)' if more else ''}: {wall / 60:.1f} min", flush=True)
        compare(f"{count} cores, against the committed lock", tracked_hashes(project), committed)


def seeds(folder: Path, wanted: list[int]) -> None:
    project = clone(folder / "seeds")
    for seed in wanted:
        edit(project, {"run.seed": seed})
        wall = repro(project, "leaderboard")["wall"]
        board = read_board(project)
        print(f"seed {seed} ({wall / 60:.1f} min): right on test, percent")
        for row in sorted(board["rows"], key=lambda row: -row["right"]):
            print(f"  {row['model']:<20} {row['right']:5.1f}  [{row['right_low']:.1f}, {row['right_high']:.1f}]")
        for line in board["comparisons"]:
            above = "above" if line["low"] > 0 else "NOT above"
            interval = f"[{line['low']:.1f}, {line['high']:.1f}]"
            print(f"  {line['model']} - {line['against']}: {line['difference']:.1f} {interval} {above}")


def read_board(project: Path) -> dict[str, Any]:
    return json.loads((project / "data/judging/leaderboard/leaderboard.json").read_text(encoding="utf-8"))


def own_pages(folder: Path) -> None:
    """Own pages, questions, instructions and preferences: nothing of the atlas is in the pipeline."""
    project = clone(folder / "own pages")
    own_inputs.write_inputs(project / "own")
    run(project, "trainyard", "configure", "tiny", "--write")
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    edit(
        project,
        {
            "corpus.sources": {
                "own": {"kind": "files", "path": "own/pages", "pattern": None, "licence": "CC0-1.0", "max_damaged": 0}
            },
            # Short articles that name their subject in each sentence, like the atlas's: its rules, under our key.
            "corpus.heuristics.rules.own": params["corpus"]["heuristics"]["rules"]["atlas"],
            "corpus.mix.sources.own": {"epochs": 2.0, "validation": 0.05, "anneal_quantile": 0.5, "anneal_epochs": 1.0},
            "evaluation.tasks": {"own": {"kind": "table", "path": "own/questions.csv"}},
            "alignment.instructions.sources": {
                "own": {"kind": "jsonl", "path": "own/instructions.jsonl", "splits": SPLITS}
            },
            "alignment.preferences.sources": {"own": {"kind": "jsonl", "path": "own/preferences.jsonl"}},
            "judging.leaderboard.choose_by": "lc_win_rate",
        },
    )
    found = repro(project)
    rows = {row["model"]: row for row in read_board(project)["rows"]}
    page = (project / "reports" / "leaderboard.html").is_file() and (project / "reports" / "index.html").is_file()
    unknown = all(row["right"] is None for row in rows.values())
    print(f"own pages: {found['wall'] / 60:.1f} min, {len(found['ran'])} stages, {len(rows)} rows: {' '.join(rows)}")
    print(f"  published: {page} (bar True), {verdict(page)}; exact scores unknown: {unknown}, {verdict(unknown)}")
    atlas = [name for name in found["ran"] if "atlas" in name]
    print(f"  stages of the atlas: {len(atlas)} (bar 0), {verdict(not atlas)}", flush=True)


def imported(folder: Path) -> None:
    """A random Qwen3 of transformers' own making → SFT → DPO → judged; nothing of corpus, ladder or pretraining."""
    project = clone(folder / "imported")
    own_inputs.write_inputs(project / "own")
    own_inputs.make_model(PEERS, project / "own" / "instructions.jsonl", project / "own" / "model")
    run(
        project, "trainyard", "configure", "posttrain", "models.import.base_model.path=own/model",
        "alignment.instructions.sources.own.path=own/instructions.jsonl",
        "alignment.preferences.sources.own.path=own/preferences.jsonl", "--write",
    )  # fmt: skip
    tiny = yaml.safe_load((project / "scales" / "tiny.yaml").read_text(encoding="utf-8"))
    changes = {
        f"{phase}.{stage}.{leaf}": value
        for phase, stages in tiny.items()
        if phase in ("alignment", "judging")
        for stage, leaves in stages.items()
        for leaf, value in leaves.items()
    }
    edit(project, changes)
    found = repro(project, "board")
    needless = [name for name in found["ran"] if name.partition("@")[0] in WITHOUT_CORPUS]
    rows = [row["model"] for row in read_board(project)["rows"]]
    judged = {"base_model", "sft", "dpo"} <= set(rows)
    print(f"imported: {found['wall'] / 60:.1f} min: {' '.join(found['ran'])}")
    print(f"  of corpus, ladder and pretraining: {len(needless)} (bar 0), {verdict(not needless)} {' '.join(needless)}")
    print(f"  judged: {' '.join(rows)}; base_model, sft and dpo among them: {verdict(judged)}", flush=True)


def doors(folder: Path) -> None:
    imported(folder)
    own_pages(folder)


def pipeline_runs(project: Path) -> int:
    """Runs of MLflow that are pipelines: those without a parent."""
    database = project / ".trainyard" / "mlflow.db"
    if not database.is_file():
        return 0
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        parented = "select run_uuid from tags where key = 'mlflow.parentRunId'"
        (count,) = connection.execute(f"select count(*) from runs where run_uuid not in ({parented})").fetchone()
    return int(count)


def queue(folder: Path) -> None:
    """In a plain clone after one run in miniature: four queued experiments of a judge's param, then one `--temp`."""
    project = clone(folder / "queue")
    run(project, "trainyard", "configure", "tiny", "--write")
    for words in (("user.name", "bench"), ("user.email", "bench@trainyard.invalid")):
        run(project, "git", "config", *words)
    repro(project, "board", TRAINYARD_TRACK="on")
    run(project, "git", "commit", "--quiet", "--all", "--message", "In miniature")
    time.sleep(TRACKER_S)
    before = pipeline_runs(project)
    noise = "judging.judge.annotator.pool.noise"
    for value in (0.1, 0.2, 0.3, 0.4):
        run(project, "dvc", "exp", "run", "--queue", "-S", f"{noise}={value}", "board", TRAINYARD_TRACK="on")
    run(project, "dvc", "queue", "start", "--jobs", "1", TRAINYARD_TRACK="on")
    while True:
        tasks = run(project, "dvc", "queue", "status")["said"]
        if not any(word in tasks for word in ("Queued", "Running")):
            break
        time.sleep(5)
    succeeded = tasks.count("Success")
    print(f"queued: {succeeded} of 4 succeeded (bar 4), {verdict(succeeded == 4)}\n{tasks}", flush=True)
    time.sleep(TRACKER_S)
    queued = pipeline_runs(project) - before
    print(f"their runs in the clone's MLflow: {queued} (bar 4), {verdict(queued == 4)}", flush=True)
    run(project, "dvc", "exp", "run", "--temp", "-S", f"{noise}=0.45", "board", TRAINYARD_TRACK="on")
    time.sleep(TRACKER_S)
    kept = pipeline_runs(project) - before - queued
    print(f"runs of --temp kept: {kept} (bar 1), {verdict(kept == 1)}")


def main() -> None:
    parts = {"budget": budget, "identity": identity, "cores": cores, "doors": doors, "queue": queue}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*parts, "seeds"])
    parser.add_argument("--folder", type=Path, help="where to clone to (default: a temporary folder)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="trainyard-"))
    if arguments.part == "seeds":
        seeds(folder, arguments.seeds)
    else:
        parts[arguments.part](folder)


if __name__ == "__main__":
    main()
