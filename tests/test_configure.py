"""`trainyard configure` and `trainyard explain`: what they print, and that nothing is written unasked."""

import os
import shutil
from pathlib import Path

import pytest

from stages import check, cli
from stages.base.params import read_params

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = check.declared_sections()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, name)
    for name in ("stages", "scales"):
        os.symlink(ROOT / name, name)
    monkeypatch.setattr(check, "declared_sections", lambda: SECTIONS)
    return tmp_path


def test_configure_shows_what_would_change_and_writes_when_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("params.yaml").read_bytes()
    assert cli.main(["configure", "laptop", "corpus.dedup.jaccard=0.8", "judging.answerers.padded=null"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:1] == ["  corpus.dedup.jaccard: 0.7 → 0.8"] and "- judging.answerers.padded.kind: 'padded'" in lines
    assert lines[-1].endswith("write it with --write") and Path("params.yaml").read_bytes() == before
    assert cli.main(["configure", "corpus.dedup.jaccard=0.8", "--write"]) == 0
    assert read_params()["corpus"]["dedup"]["jaccard"] == 0.8
    assert cli.main(["configure", "laptop", "--write"]) == 0
    assert Path("params.yaml").read_bytes() == before, "the laptop's again, comments and all"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["laptopp"], "no such scale; did you mean `laptop`?"),
        (["corpus.dedup.jacard=1"], "unknown parameter `corpus.dedup.jacard`; did you mean `jaccard`?"),
        (["corpus.dedup.jaccard=2"], "`corpus.dedup.jaccard`: input should be less than or equal to 1"),
        (["posttrain"], "`models.import.base_model.path` is missing"),
        (["alignment.base=dpo"], "`alignment.base`: no model `dpo`"),
        (["models.import.dpo.path=x"], "two models are named `dpo`"),
    ],
)
def test_a_bad_choice_is_one_line_and_nothing_is_written(
    project: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("params.yaml").read_bytes()
    assert cli.main(["configure", *words, "--write"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0], lines
    assert Path("params.yaml").read_bytes() == before


def test_explain_tells_what_a_parameter_is_and_what_a_section_holds(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", "corpus.dedup.jaccard"]) == 0
    head, kind, *words = capsys.readouterr().out.splitlines()
    assert head == "corpus.dedup.jaccard: 0.7" and kind == "  number, at least 0, at most 1" and words
    assert cli.main(["explain", "corpus.dedup"]) == 0
    assert "  bands: 14  # " in capsys.readouterr().out
    assert cli.main(["explain", "judging.answerers"]) == 0
    assert "  padded" in capsys.readouterr().out
    assert cli.main(["explain", "corpus.dedpu"]) == 2
    assert "did you mean `dedup`?" in capsys.readouterr().err
