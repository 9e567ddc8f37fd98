"""`trainyard compare`: a small git project whose tables lie in DVC's cache, against numbers computed by hand."""

import hashlib
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from scipy import stats

from stages.base.errors import InputError
from stages.cli import main
from stages.commands.compare import compare, screen
from stages.experiment.sides import read_side

RIGHT = {"one": [1, 0, 1, 1, 0, 1, 0, 1], "two": [1, 1, 1, 1, 0, 1, 1, 1]}
ENTITIES = ["a", "a", "b", "b", "c", "c", "d", "d"]


def params(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "run": {"seed": 1},
        "models": {"trained": {"base": {}, "dpo": {}}, "import": {}},
        "judging": {"answerers": {}},
        "corpus": {"sources": {"atlas": {}}},
        "scaling": {"points": {"w24": {"arch": "transformer"}}},
        "alignment": {"base": "base", "dpo": {"lr": 1e-4, "beta": 0.1}, "instructions": {"sources": {"atlas": {}}}},
        "evaluation": {
            "tasks": {}, "texts": {}, "evaluate": {"shots": {"cloze": 0}}, "contamination": {"probe": {"copies": [1]}},
        },
    }  # fmt: skip
    for name, value in changes.items():
        *above, last = name.split("__")
        here = values
        for part in above:
            here = here[part]
        here[last] = value
    return values


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def keep(content: bytes) -> str:
    """An object of DVC's cache; its md5."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    place = Path(".dvc/cache/files/md5", md5[:2], md5[2:])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return md5


def folder(**files: bytes) -> str:
    """A folder as DVC keeps it: the list of its files, md5 with `.dir`."""
    rows = [{"md5": keep(content), "relpath": name.replace("__", ".")} for name, content in sorted(files.items())]
    text = json.dumps(rows, sort_keys=True).encode()
    md5 = hashlib.md5(text, usedforsecurity=False).hexdigest() + ".dir"
    place = Path(".dvc/cache/files/md5", md5[:2], md5[2:])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(text)
    return md5


def table(**columns: list) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def commit(tag: str, right: list[int], values: dict[str, Any], *, code: str = "c0") -> None:
    """A revision as `dvc repro` leaves it, its tables in the cache."""
    ids = [f"q{i}" for i in range(len(right))]
    asked = folder(instructions__parquet=table(id=ids, entity=ENTITIES, split=["test"] * len(ids)))
    exact = table(id=ids, split=["test"] * len(ids), right=[bool(x) for x in right])
    judged = folder(exact__parquet=exact)
    model = keep(f"weights of {tag}".encode())
    lock = {
        "instructions@atlas": stage("instructions", {}, {}, {"data/alignment/instructions/atlas": asked}),
        "dpo": stage(
            "dpo",
            {"data/alignment/instructions/atlas": asked, "data/check/code/alignment.dpo.json": code},
            {"alignment.dpo": values["alignment"]["dpo"]},
            {"data/models/dpo": model},
        ),
        "judge@dpo": stage("judge", {"data/models/dpo": model}, {}, {"data/judging/judge/dpo": judged}),
    }
    Path("dvc.yaml").write_text("stages: {}\n")
    Path("params.yaml").write_text(yaml.safe_dump(values))
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}))
    Path("reports").mkdir(exist_ok=True)
    numbers = {"right_dpo": 100 * float(np.mean(right)), "documents_out": 3063, "bpb_base": 1.86}
    Path("reports/metrics.json").write_text(json.dumps(numbers))
    git("add", "dvc.yaml", "params.yaml", "dvc.lock", "reports")
    git("commit", "-q", "--allow-empty", "-m", f"run {tag}")
    git("tag", tag)


def stage(cmd: str, deps: dict[str, str], params: dict[str, Any], outs: dict[str, str]) -> dict[str, Any]:
    return {
        "cmd": cmd,
        "deps": [{"path": path, "hash": "md5", "md5": md5} for path, md5 in deps.items()],
        "params": {"params.yaml": params},
        "outs": [{"path": path, "hash": "md5", "md5": md5} for path, md5 in outs.items()],
    }


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Revisions `one` and `two`: another rate of DPO, other answers."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "tester")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "tester@localhost")
    git("init", "-q")
    commit("one", RIGHT["one"], params())
    commit("two", RIGHT["two"], params(alignment__dpo={"lr": 3e-4, "beta": 0.1}))
    return tmp_path


def compared(a: str, b: str) -> dict[str, Any]:
    return compare(read_side(a, dict), read_side(b, dict))


def row(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["metrics"] if one["name"] == name)


def test_only_leaves_that_differ_are_shown(project: Path) -> None:
    assert compared("one", "two")["params"] == {"alignment.dpo.lr": {"a": 1e-4, "b": 3e-4}}


def test_the_difference_is_paired_by_question_and_clustered_by_entity(project: Path) -> None:
    """Four entities of two questions: a t interval of the four entities' mean differences is the same thing."""
    found = row(compared("one", "two"), "dpo/right")
    difference = 100.0 * (np.array(RIGHT["two"]) - np.array(RIGHT["one"])).reshape(4, 2).mean(1)
    interval = stats.t.interval(0.95, 3, difference.mean(), stats.sem(difference))
    assert found["difference"] == pytest.approx(difference.mean())
    assert (found["low"], found["high"]) == pytest.approx(interval)
    assert (found["items"], found["clusters"], found["a"], found["b"]) == (8, 4, 62.5, 87.5)


def test_stages_differ_by_params_code_or_inputs(project: Path) -> None:
    assert compared("one", "two")["stages"] == {"all": 3, "differing": {"dpo": ["params"], "judge@dpo": ["inputs"]}}
    commit("three", RIGHT["two"], params(), code="c1")
    assert compared("one", "three")["stages"]["differing"]["dpo"] == ["code"]
    commit("four", RIGHT["one"], params())
    assert compared("one", "four")["stages"]["differing"]["dpo"] == ["outputs"], "the same to read, other bytes written"


def test_without_the_tables_the_published_numbers_are_compared_and_it_says_so(project: Path) -> None:
    for path in Path(".dvc/cache/files").rglob("*"):
        if path.is_file():
            path.unlink()
    found = compared("one", "two")
    assert row(found, "dpo/right")["difference"] == 25.0 and row(found, "dpo/right")["low"] is None
    assert [note for note in found["notes"] if "no table" in note and "dpo/right" in note and "dvc pull" in note]


def test_a_folder_is_a_side_and_says_when_its_params_are_newer_than_its_run(project: Path) -> None:
    values = params(alignment__dpo={"lr": 9e-4, "beta": 0.1})
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    lock["stages"]["check"] = stage("check", {"params.yaml": "0" * 32}, {}, {})
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    Path("params.yaml").write_text(yaml.safe_dump(values))
    found = compared("two", ".")
    assert found["params"] == {"alignment.dpo.lr": {"a": 3e-4, "b": 9e-4}}
    assert any("edited after the last run" in note for note in found["notes"])


def test_dvc_experiments_go_by_their_names(project: Path) -> None:
    one = git("rev-parse", "one")
    git("update-ref", f"refs/exps/{one[:2]}/{one[2:]}/bold-ant", "two")
    found = compared("one", "bold-ant")
    assert found["b"]["about"].startswith("DVC experiment, ") and found["params"]
    git("update-ref", f"refs/exps/00/{one[2:]}/bold-ant", "one")
    with pytest.raises(InputError, match="2 DVC experiments have this name"):
        compared("one", "bold-ant")


def test_one_screen_and_json(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["compare", "one", "two"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) < 30
    text = "\n".join(lines)
    assert "alignment.dpo.lr  0.0001 → 0.0003" in text and "the same: base/bpb, documents_out" in text
    assert "8 questions, 4 groups" in text and "not over seeds" in text
    assert main(["compare", "one", "two", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(compared("one", "two")))


def test_many_params_stay_on_the_screen(project: Path) -> None:
    commit("wide", RIGHT["one"], params(alignment__dpo={f"knob{i}": i for i in range(60)}))
    lines = screen(compared("one", "wide"), 60)
    assert len(lines) < 40 and max(map(len, lines)) <= 60
    assert any("alignment.dpo  60 values, only B" in line for line in lines), (
        "a section that one side lacks takes one line"
    )
    commit("more", RIGHT["one"], params(run={f"knob{i}": i for i in range(60)}))
    commit("other", RIGHT["one"], params(run={f"knob{i}": -i for i in range(60)}))
    lines = screen(compared("more", "other"), 60)
    assert len(lines) < 40 and any("more lines: --json has all" in line for line in lines)


@pytest.mark.parametrize("name", ["nowhere", "claim:arm", "--x", "HEAD:params.yaml"])
def test_what_is_none_of_the_four_is_refused(project: Path, name: str) -> None:
    with pytest.raises(InputError, match="no git revision, DVC experiment, arm of a claim"):
        read_side(name, dict)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("dvc.lock", "stages: [", r"dvc.lock:2: not valid YAML"),
        ("params.yaml", "[1]", "params.yaml: must be a mapping"),
    ],
)
def test_broken_files_are_named(project: Path, file: str, text: str, words: str) -> None:
    Path(file).write_text(text)
    with pytest.raises(InputError, match=words):
        read_side(".", dict)
