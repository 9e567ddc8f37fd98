"""verify: an untouched project passes, one flipped bit anywhere is found, and what isn't here is told. DVC wrote the
lock, so that its md5 of files and folders is not this code's."""

import gzip
import json
import lzma
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from stages import cli
from stages.base.closure import code_files
from stages.base.files import sha256_file, sha256_path
from stages.commands.verify import audit_project
from stages.publishing.lineage.audit import Audit
from stages.publishing.lineage.audit import _working_code as audit_code
from stages.publishing.lineage.project import Project
from tests.publishing.lineage.conftest import flip

VERDICTS = "data/judging/judge/gold/annotations.parquet"


def findings(target: str | None = None) -> list[str]:
    return [str(one) for one in audit_project(Project(), target)[0].wrong]


def test_an_untouched_project_passes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["wrong"] == [] and told["stages"] == 17 and told["files"] > 40
    assert told["recomputed"] == ["judging.leaderboard (its file agrees)", "publishing.board (6 files agree)"]
    assert cli.main(["trace", "sft"]) == 0
    assert cli.main(["verify", "reports/leaderboard.html"]) == 0 and cli.main(["verify", "data/models/sft"]) == 0
    assert cli.main(["verify", str(project)]) == 0


@pytest.mark.parametrize(
    "path",
    [
        "crawl.warc",
        "params.yaml",
        "data/corpus/mix/train.parquet",
        "data/tokens/pack/train.bin",
        "data/models/sft/model.safetensors",
        "data/models/sft/tokenizer.json",
        "data/models/sft/config.json",
        "data/alignment/sft/steps.jsonl",
        "data/alignment/sft/record.json",
        "data/check/record.json",
        "data/check/code/alignment.sft.json",
        VERDICTS,
        "data/judging/leaderboard/leaderboard.json",
        "reports/leaderboard.html",
        "reports/leaderboard.csv",
        "reports/leaderboard.json",
        "reports/leaderboard.md",
        "dvc.lock",
    ],
)
def test_one_flipped_bit_is_found(project: Path, path: str) -> None:
    flip(path)
    wrong = findings()
    assert any(path in one or Path(path).parent.as_posix() in one for one in wrong), wrong


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.35, 0.6, 0.75, 0.9, 0.999])
def test_a_bit_anywhere_in_a_record_is_found(project: Path, share: float) -> None:
    path = Path("data/judging/judge/gold/record.json")
    flip(path, int(share * path.stat().st_size))
    assert findings()


def test_an_edited_cell_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, old, new in (
        ("reports/leaderboard.csv", ",gold,outputs,", ",gold,endpoint,"),
        ("reports/leaderboard.json", '"kind": "outputs"', '"kind": "endpoint"'),
    ):
        text = Path(path).read_text()
        assert old in text
        Path(path).write_text(text.replace(old, new))
        assert f"{path}: row `gold`: `kind` is endpoint, should be outputs" in "\n".join(findings())
        assert cli.main(["trace", "gold"]) == 1
        assert f"{path}: row `gold`: `kind`" in capsys.readouterr().err
        Path(path).write_text(text)
    rows = Path("reports/leaderboard.csv").read_text().splitlines(keepends=True)
    Path("reports/leaderboard.csv").write_text("".join(row for row in rows if ",gold," not in row))
    assert any("row `gold` is gone" in one for one in findings())


def reseal(path: str, record: str) -> None:
    """What a careful forger does: the record tells the new hash."""
    facts = json.loads(Path(record).read_text())
    facts["outputs"][path] = sha256_file(path)
    Path(record).write_text(json.dumps(facts, sort_keys=True, indent=2) + "\n")


def test_a_forged_table_with_forged_records_is_recomputed(project: Path) -> None:
    """Without dvc.lock and with every hash made to fit, the numbers still don't follow from the verdicts."""
    Path("dvc.lock").unlink()
    table = "data/judging/leaderboard/leaderboard.json"
    facts = json.loads(Path(table).read_text())
    row = next(one for one in facts["rows"] if one["model"] == "constant")
    row["win_rate"] = row["win_rate"] + 1
    Path(table).write_text(json.dumps(facts, sort_keys=True, indent=2, ensure_ascii=False) + "\n")
    reseal(table, "data/judging/leaderboard/record.json")
    board = Path("data/publishing/board/record.json")
    told = json.loads(board.read_text())
    told["inputs"][table] = sha256_file(table)
    board.write_text(json.dumps(told, sort_keys=True, indent=2) + "\n")
    wrong = findings()
    assert any(f"{table}: `rows[constant].win_rate` is {row['win_rate']}, recomputed" in one for one in wrong), wrong


def test_the_recomputed_win_rate_is_the_mean_of_the_verdicts(project: Path) -> None:
    rows = [row for row in pq.read_table(VERDICTS).to_pylist() if row["split"] == "test"]
    mean = 100 * np.mean([row["preference"] - 1 for row in rows])
    board = json.loads(Path("data/judging/leaderboard/leaderboard.json").read_text())
    published = next(row["win_rate"] for row in board["rows"] if row["model"] == "gold")
    assert published == pytest.approx(mean, abs=1e-9) and not findings()


def test_an_older_run_that_wrote_last_is_found(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stage that outlived its DVC replaced what a newer one had written: records agree, params and lock don't."""
    path = Path("data/alignment/sft/record.json")
    facts = json.loads(path.read_text())
    facts["params"]["alignment.sft"]["epochs"] = 1
    path.write_text(json.dumps(facts, sort_keys=True, indent=2) + "\n")
    wrong = "\n".join(findings())
    assert "params.yaml: `alignment.sft.epochs` was 1 and is 2, but alignment.sft ran with the former" in wrong
    assert "data/alignment/sft: as a folder" in wrong and "by dvc.lock `sft` wrote" in wrong
    assert cli.main(["trace", "sft"]) == 1
    assert "alignment.sft.epochs" in capsys.readouterr().err


def test_edited_seed_code_rows_and_place_are_found(project: Path) -> None:
    path = Path("data/corpus/mix/record.json")
    text = path.read_text()
    for name, value, told in (
        ("seed", 5, "doesn't follow from the root seed"),
        ("code", "0" * 64, "ran with other code"),
        ("rows", None, "by dvc.lock `mix` wrote"),
        ("stage", "corpus.mux", "whose place is data/corpus/mux"),
        ("inputs", {"crawl.warc": "0" * 64}, "crawl.warc: its sha256 is"),
    ):
        facts = json.loads(text)
        facts[name] = value
        path.write_text(json.dumps(facts, sort_keys=True, indent=2) + "\n")
        assert any(told in one for one in findings()), told
    path.write_text("[1]")
    assert any("not a stage's record" in one for one in findings())


def test_a_file_that_was_added_is_named(project: Path) -> None:
    Path("data/models/sft/extra.bin").write_bytes(b"x")
    assert any("data/models/sft: as a folder (added: extra.bin), its md5" in one for one in findings())
    shutil.rmtree(".dvc/cache")  # without DVC's list of the folder's files, those of the records
    assert any("data/models/sft: as a folder (added: extra.bin), its md5" in one for one in findings())


def test_a_contradiction_of_the_lock_is_told_once_a_file(project: Path) -> None:
    """All judges and respondents read the list of items."""
    flip("data/alignment/instructions/items.json")
    wrong = [one for one in findings() if "by dvc.lock" in one]
    readers = Path("dvc.lock").read_text().count("path: data/alignment/instructions/items.json") - 1
    assert readers > 4 and len([one for one in wrong if "instructions/items.json" in one]) == 1
    assert any("by dvc.lock `check` wrote" in one and f"read by {readers} stages" in one for one in wrong)


def test_code_of_another_version_is_one_sentence(project: Path) -> None:
    """This project's code stands beside a run whose `check` saw other digests of two modules."""
    shutil.copytree(Path(cli.__file__).parent, "stages", ignore=shutil.ignore_patterns("__pycache__"))
    path, old = Path("data/check/code/judging.leaderboard.json"), Audit()
    seen = code_files("stages.judging.leaderboard", project.resolve())
    path.write_text(json.dumps(seen))
    audit_code(["judging.leaderboard"], Project(), old)
    assert not old.wrong
    path.write_text(json.dumps(seen | {"stages/judging/leaderboard.py": "0", "stages/judging/scores.py": "0"}))
    audit_code(["judging.leaderboard", "judging.leaderboard"], Project(), old)
    (told,) = map(str, old.wrong)
    assert told.startswith(
        "stages: this run is of other code: 2 modules differ (stages/judging/leaderboard.py, stages/"
    )


def test_what_is_not_here_is_told_and_no_contradiction(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("data/models/sft")
    assert cli.main(["verify"]) == 0  # DVC's cache still has it
    assert "model.safetensors" not in capsys.readouterr().out
    shutil.rmtree(".dvc/cache")
    Path("crawl.warc").unlink()
    assert cli.main(["verify"]) == 0
    shown = capsys.readouterr().out
    assert "data/models/sft/config.json" in shown and "not here, and not in DVC's cache" in shown
    assert "crawl.warc" in shown and "not checked: data/models/sft" in shown
    flip(VERDICTS)
    assert cli.main(["verify"]) == 1


def test_a_damaged_object_of_the_cache_is_found(project: Path) -> None:
    digest = subprocess.run(
        ["md5sum", "data/models/sft/model.safetensors"], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    Path("data/models/sft/model.safetensors").unlink()
    place = Path(".dvc/cache/files/md5", digest[:2], digest[2:])
    place.chmod(0o644)
    flip(place)
    assert any("model.safetensors: its sha256 is" in one for one in findings())


def test_edits_since_the_commit_are_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True, capture_output=True
        )

    assert cli.main(["verify"]) == 0
    assert "no git repository" in capsys.readouterr().out
    git("init", "-q")
    git("add", "dvc.lock", "dvc.yaml", "params.yaml", "reports")
    git("commit", "-qm", "run")
    assert cli.main(["verify"]) == 0
    assert "commit" not in capsys.readouterr().out
    Path("dvc.yaml").write_text(Path("dvc.yaml").read_text() + "\n")
    assert cli.main(["verify"]) == 0
    assert "not checked: dvc.yaml: differs from commit" in capsys.readouterr().out


def test_files_of_nobody_in_reports_are_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("reports/claims.html").write_text("x")
    assert cli.main(["verify"]) == 0
    assert "not checked: reports/claims.html: no stage wrote it" in capsys.readouterr().out
    assert cli.main(["verify", "reports/claims.html"]) == 2


@pytest.mark.parametrize("target", ["reports/leaderboards.html", 're%p"o@rts\u202e', "/etc", "nowhere.bundle"])
def test_an_unknown_target_is_one_line(project: Path, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", target]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "\u202e" not in error
    if target.startswith("reports"):
        assert "did you mean `reports/leaderboard.html`?" in error


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"", "not a bundle"),
        (b"hello\n", "not a bundle"),
        (gzip.compress(b"bundle.json", mtime=0), "compressed: a bundle is a plain tar archive (`gunzip` it first)"),
        (lzma.compress(b"bundle.json"), "compressed: a bundle is a plain tar archive (`unxz` it first)"),
    ],
)
def test_what_is_no_bundle_is_told(
    content: bytes | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for place in (tmp_path / "x.bundle", Path("x.bundle")):
        if content is not None:
            place.write_bytes(content)
        for key in ([], ["--key", "key.pub"]):
            assert cli.main(["verify", str(place), *key]) == 2
            error = capsys.readouterr().err
            assert f"{place}: {said}" in error and len(error.splitlines()) == 1


def test_the_hash_of_a_folder_is_that_of_base_files(project: Path) -> None:
    for folder in ("data/models/sft", "data/judging/judge", "reruns"):
        assert Project().files.sha256(folder) == sha256_path(folder)


def test_unreadable_params_lock_and_pipeline_are_contradictions(project: Path) -> None:
    for path, text in (
        ("params.yaml", "a: [1"),
        ("dvc.lock", "[]"),
        ("dvc.lock", "stages: {sft: 1}"),
        ("dvc.yaml", "a: 1"),
    ):
        kept = Path(path).read_text()
        Path(path).write_text(text)
        try:
            assert any(path in one for one in findings()), path
        finally:
            Path(path).write_text(kept)
