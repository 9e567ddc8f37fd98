"""Claims on a small pipeline: their folder, what is frozen, what fails, and what becomes of an arm in a work tree."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stages.base.errors import InputError, ParamError
from stages.base.reference import Schema
from stages.base.workers import can_fork
from stages.experiment.check import of_files
from stages.experiment.declaration import read_declaration
from stages.experiment.runs.lock import check_out
from stages.experiment.runs.outcomes import DECLARED, EDITED, ClaimFolder
from stages.experiment.runs.plan import plan
from stages.experiment.runs.results import open_store
from stages.experiment.runs.suite import Concluded, expand, run
from tests.experiment.toy import Toy

pytestmark = pytest.mark.skipif(not can_fork(), reason="instances are forked on Linux")
CLAIM = """\
# a remark
claim: A lower rate of learning gives more right answers.
metric: {file: data/evaluate/metrics.json, key: right}
arms: {baseline: {}, lower: {train.lr: 0.1}}
seeds: 3
rule: lower > baseline
"""
ANYTHING: Schema = {}
ANYTHING["additionalProperties"] = ANYTHING


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    toy = Toy(tmp_path / "project")
    (toy.root / "experiments").mkdir()
    (toy.root / "experiments" / "rate.yaml").write_text(CLAIM)
    monkeypatch.chdir(toy.root)
    monkeypatch.setenv("TRAINYARD_WORKERS", "2")
    return toy


def conclude(toy: Toy, *names: str, **changed: str) -> list[Concluded]:
    for name, text in changed.items():
        (toy.root / "experiments" / f"{name}.yaml").write_text(text)
    declarations = [read_declaration(Path("experiments") / f"{name}.yaml") for name in (*names, *changed)]
    return run(declarations, ANYTHING)


def folder(name: str = "rate") -> Path:
    return Path(".trainyard/experiments/claims") / name


def lines(name: str = "rate") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder(name) / "runs.jsonl").read_text().splitlines()]


def test_a_claim_is_run_to_its_verdict(toy: Toy) -> None:
    (one,) = conclude(toy, "rate")
    rows = one.outcomes.to_pylist()
    assert [(row["arm"], row["seed"]) for row in rows] == [(a, s) for a in ("baseline", "lower") for s in "123"]
    for row in rows[::3]:  # the first seed of each arm, as the stages run by hand
        work = Toy(toy.root.parent / row["arm"] / "project")
        values = {**toy.values, "run": {"seed": int(row["seed"])}}
        values["train"] = {**toy.values["train"], "lr": 0.1 if row["arm"] == "lower" else 0.5}
        (work.root / "params.yaml").write_text(json.dumps(values))
        for stage in (["check"], ["item", "a"], ["item", "b"], ["join"], ["train"], ["evaluate"]):
            subprocess.run([sys.executable, "-m", f"stages.{stage[0]}", *stage[1:]], cwd=work.root, check=True)
        assert row["value"] == json.loads((work.root / "data/evaluate/metrics.json").read_text())["right"]
    assert one.verdict.n_seeds == 3 and one.verdict.verdict != "inadmissible"
    assert len(one.cost["executed"]) == 3 + 6 + 6 + 6 and one.cost["reused"] == []
    assert {line["status"] for line in lines()} == {"finished"} and len(lines()) == 6


def test_a_second_run_says_the_same_and_runs_nothing(toy: Toy) -> None:
    conclude(toy, "rate")
    before = {path.name: path.read_bytes() for path in folder().iterdir()}
    executed = toy.executed()
    declarations = [read_declaration(Path("experiments/rate.yaml"))]
    assert not plan(declarations, ANYTHING).to_run
    conclude(toy, "rate")
    assert {path.name: path.read_bytes() for path in folder().iterdir()} == before
    assert toy.executed() == executed


def test_claims_of_a_suite_share_what_is_equal(toy: Toy) -> None:
    other = CLAIM.replace("train.lr: 0.1", "train.lr: 0.2")
    first, second = conclude(toy, "rate", other=other)
    assert not second.verdict.sentence.startswith("waits")
    shared = {row["key"] for row in first.cost["executed"]} & {row["key"] for row in second.cost["reused"]}
    assert len(shared) == len(second.cost["reused"]) == 3 + 3 + 3 + 3
    assert toy.executed().count("join") == 1 and toy.executed().count("train") == 9


def test_an_edited_declaration_is_found(toy: Toy) -> None:
    conclude(toy, "rate")
    (one,) = conclude(toy, rate=CLAIM.replace("# a remark", "# another"))
    assert one.deviated == "" and one.verdict.verdict != "deviated"
    edited = CLAIM.replace("lower > baseline", "lower < baseline")
    (one,) = conclude(toy, rate=edited)
    assert one.verdict.verdict == "deviated" and "`rule`" in one.deviated
    assert (folder() / DECLARED).read_text() == CLAIM and (folder() / EDITED).read_text() == edited
    (one,) = conclude(toy, rate=CLAIM)
    assert one.verdict.verdict != "deviated" and not (folder() / EDITED).exists()


def test_a_failed_seed_waits_and_is_named(toy: Toy) -> None:
    (one,) = conclude(toy, rate=CLAIM.replace("seeds: 3", "seeds: 3\nset: {train.fail_at_seed: 2}"))
    assert one.verdict.verdict == "undecided"
    assert "arm lower, seed 2 (train failed: the loss is not finite; lower train.lr)" in one.verdict.sentence
    assert one.verdict.sentence.count("arm lower, seed 2") == 1
    failed = [line for line in lines() if line["status"] == "failed"]
    assert [(line["arm"], line["label"], line["failed"]) for line in failed] == [
        ("baseline", "2", "train"),
        ("lower", "2", "train"),
    ]
    assert one.outcomes.num_rows == 4


def test_a_number_that_is_none_waits_and_is_named(toy: Toy) -> None:
    stage = toy.root / "stages" / "evaluate.py"
    stage.write_text(
        stage.read_text().replace('"right": sum', '"right": float("nan") if PARAMS["run"]["seed"] == 3 else sum')
    )
    (one,) = conclude(toy, "rate")
    assert one.verdict.verdict == "undecided"
    assert "seed 3" in one.verdict.sentence and "data/evaluate/metrics.json" in one.verdict.sentence
    assert ".trainyard" not in one.verdict.sentence


def test_an_arm_of_another_revision_runs_its_code(toy: Toy) -> None:
    def git(*arguments: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *names, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("add", "dvc.yaml", "params.yaml", "stages", "lists")
    git("commit", "-qm", "first")
    old = git("rev-parse", "HEAD")
    stage = toy.root / "stages" / "evaluate.py"
    stage.write_text(stage.read_text().replace("sum(rows)", "100 + sum(rows)"))
    text = CLAIM.replace("{train.lr: 0.1}", f"{{revision: {old[:10]}}}")
    (one,) = conclude(toy, rate=text)
    values = {row["arm"]: row["value"] for row in one.outcomes.to_pylist()}
    assert values["baseline"] > 20 > values["lower"] > 0
    executed = toy.executed()
    assert executed.count("train") == 6, "train reads the digest of all code"
    with pytest.raises(ParamError, match="revision `nowhere`"):
        conclude(toy, rate=text.replace(old[:10], "nowhere"))


def test_a_sequential_claim_stops_at_the_look_that_decides(toy: Toy) -> None:
    looks = "seeds: 6\nlooks: {at: [2, 4, 6], spending: pocock}"
    stage = toy.root / "stages" / "evaluate.py"
    stage.write_text(stage.read_text().replace('"right": sum', '"right": 1000 * (PARAMS["train"]["lr"] == 0.1) + sum'))
    (one,) = conclude(toy, rate=CLAIM.replace("seeds: 3", looks))
    assert one.verdict.verdict == "supported"
    assert one.verdict.look is not None and toy.executed().count("train") == 2 * one.verdict.look.at < 12


def test_an_arm_checked_out_is_what_dvc_has(toy: Toy) -> None:
    """After `check_out` and `dvc checkout`, DVC finds nothing to run, and the run's files stand in data/."""
    environment = {**os.environ, "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b"}
    environment |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    subprocess.run(["git", "init", "-q"], check=True)
    toy.dvc("init", "-q")
    subprocess.run(["git", "add", "."], check=True)
    subprocess.run(["git", "commit", "-qm", "first"], check=True, env=environment)
    (one,) = conclude(toy, "rate")
    store = toy.store()
    arm = [finished.run for finished in one.finished if finished.run.arm == "lower"][1]
    before = toy.executed()
    check_out(arm, store)
    toy.dvc("checkout", "-q")
    said = toy.dvc("repro", "evaluate")
    assert toy.executed() == before and "didn't change" in said
    expected = next(row for row in one.outcomes.to_pylist() if (row["arm"], row["seed"]) == ("lower", "2"))
    assert json.loads((toy.root / "data/evaluate/metrics.json").read_text())["right"] == expected["value"]
    with pytest.raises(InputError, match=r"params.yaml.*: has changes"):
        check_out(arm, store)


def test_a_killed_cache_is_told_of_and_made_anew(toy: Toy) -> None:
    (one,) = conclude(toy, "rate")
    shutil.rmtree(".dvc/cache")
    (again,) = conclude(toy, "rate")
    assert again.outcomes.equals(one.outcomes) and again.verdict == one.verdict


def test_runs_need_a_metrics_file_that_a_stage_writes(toy: Toy) -> None:
    with pytest.raises(ParamError, match=r"rate.yaml: arm `baseline`: data/evaluates/metrics.json: no stage"):
        expand([read_declaration(_written(CLAIM.replace("data/evaluate/", "data/evaluates/")))], ANYTHING, toy.store())


def test_what_a_known_run_lacks_is_refused_before_the_others_run(toy: Toy) -> None:
    store, text = toy.store(), CLAIM.replace("lower: {train.lr: 0.1}", "lower: {train.lr: 0.3}")

    def problems(text: str) -> list[str]:
        declared = read_declaration(_written(text))
        return list(of_files(declared, expand([declared], ANYTHING, store), store))

    unknown = text.replace("key: right", "key: rihgt")
    assert problems(unknown) == [], "nothing has run"
    conclude(toy, "rate")
    assert problems(text) == []
    (said,) = problems(unknown)
    assert said.startswith("`metric`: data/evaluate/metrics.json:") and "arm `baseline`, seed 1" in said
    (said,) = problems(text.replace("metrics.json", "nothere.json"))
    assert "stage `evaluate` ended without writing it" in said


def _written(text: str) -> Path:
    path = Path("experiments/rate.yaml")
    path.write_text(text)
    return path


def test_what_was_damaged_is_named_and_a_torn_line_hides_no_other(toy: Toy) -> None:
    conclude(toy, "rate")
    store = open_store()
    kept = ClaimFolder("rate", store)
    path = folder() / "runs.jsonl"
    known = kept.runs()
    text = path.read_text().splitlines(keepends=True)
    path.write_text("".join([text[0], text[1][:40] + "\n", *text[2:]]))
    assert set(kept.runs()) == set(known) - {list(known)[1]}
    path.write_text("".join(text)[:-30])  # the runner was killed as it wrote
    conclude(toy, "rate")
    assert kept.runs() == known
    table, verdict = folder() / "outcomes.parquet", folder() / "verdict.json"
    table.write_bytes(table.read_bytes()[:100])
    verdict.write_text('{"verdict": "proven"}')
    for read, name in ((kept.outcomes, "outcomes.parquet"), (kept.verdict, "verdict.json")):
        with pytest.raises(InputError, match=rf"{name}: can't be read .* experiment run experiments/rate\.yaml"):
            read()
    conclude(toy, "rate")
    assert kept.outcomes().num_rows == 6 and kept.verdict().sentence
    (folder() / DECLARED).write_text("- a\n")
    with pytest.raises(InputError, match="no declaration; remove the folder"):
        kept.declared()
