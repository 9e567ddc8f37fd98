"""Shell completion: names of commands, options and of the project, in a real bash and by the words of a line."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.cli import main, parser
from stages.commands.completion import NAMES, SCRIPTS, candidates

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("params.yaml", "dvc.yaml", "scales", "experiments", "stages", "lists"):
        (tmp_path / name).symlink_to(ROOT / name)
    for model in ("sft", "dpo", "dpo_long"):
        (tmp_path / "data/models" / model).mkdir(parents=True)
        (tmp_path / "data/models" / model / "config.json").write_text("{}")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/leaderboard.json").write_text('{"rows": [{"model": "dpo"}, {"model": "shuffled"}]}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("trainyard ver", ["verify"]),
        ("trainyard experiment re", ["report", "reruns"]),
        ("trainyard chat d", ["dpo", "dpo_long"]),
        ("trainyard chat --seed 3 d", ["dpo", "dpo_long"]),
        ("trainyard chat dpo ", []),  # one model, and it stands there
        ("trainyard serve dpo s", ["sft"]),
        ("trainyard trace s", ["shuffled"]),
        ("trainyard why judge@dp", ["judge@dpo"]),
        ("trainyard explain corpus.dedup.ja", ["corpus.dedup.jaccard"]),
        ("trainyard explain 'corpus.dedup.ja", ["corpus.dedup.jaccard"]),
        ("trainyard configure lap", ["laptop"]),
        ("trainyard configure laptop corpus.dedup.ja", ["corpus.dedup.jaccard="]),
        ("trainyard evaluate sft --tasks minimal_pairs,atlas", ["minimal_pairs,atlas_facts"]),
        ("trainyard contaminate --tasks minimal_pairs atlas", ["atlas_facts"]),
        ("trainyard cost --device h100_p", ["h100_pcie"]),
        ("trainyard cost --device=h100_p", ["--device=h100_pcie"]),
        ("trainyard cost --mfu .2 .4 --usd", ["--usd-per-gpu-hour", "--usd-per-person"]),
        ("trainyard experiment gate . --better h", ["higher"]),
        ("trainyard experiment report tuning_muon_", ["tuning_muon_large"]),
        ("trainyard judge mi", []),  # files, by the shell
        ("trainyard nothing ", []),
        ("trainyard 'unclosed \\", []),
    ],
)
def test_what_may_end_a_line(project: Path, line: str, found: list[str]) -> None:
    assert candidates(line, parser()) == found


def test_params_are_completed_one_level_at_a_time(project: Path) -> None:
    found = candidates("trainyard explain ", parser())
    assert "corpus." in found and not [name for name in found if "." in name[:-1]]
    assert set(candidates("trainyard explain alignment.", parser())) >= {"alignment.base", "alignment.dpo."}


def test_a_broken_project_completes_nothing_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("a: [1")
    assert main(["completion", "--line", "trainyard why s"]) == 0
    assert capsys.readouterr() == ("", "")


def test_names_are_of_arguments_that_exist() -> None:
    known = set()

    def walk(command: argparse.ArgumentParser) -> None:
        for action in command._actions:
            known.add((command.prog.partition(" ")[2], action.dest))
            if isinstance(action, argparse._SubParsersAction):
                for one in action.choices.values():
                    walk(one)

    walk(parser())
    assert set(NAMES) <= known


@pytest.mark.parametrize("shell", sorted(SCRIPTS))
def test_scripts_are_ones_the_shell_can_read(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    assert main(["completion", shell]) == 0
    done = subprocess.run([shell, "-n"], input=capsys.readouterr().out, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "words", "reply"),
    [  # words: as readline breaks the line, at @ and = too
        ("trainyard why judge@dp", ["trainyard", "why", "judge", "@", "dp"], "dpo"),
        ("trainyard why judge@", ["trainyard", "why", "judge", "@"], "base"),
        ("trainyard cost --device=h100_p", ["trainyard", "cost", "--device", "=", "h100_p"], "h100_pcie"),
        ("trainyard chat sf", ["trainyard", "chat", "sf"], "sft"),
    ],
)
def test_bash_puts_in_place_what_is_missing(project: Path, line: str, words: list[str], reply: str) -> None:
    (project / "bin").mkdir()
    command = project / "bin/trainyard"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m stages.cli "$@"\n')
    command.chmod(0o755)
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        f"{SCRIPTS['bash']}\ncompopt() {{ :; }}\nCOMP_LINE='{line}' COMP_POINT={len(line)} COMP_WORDS=({quoted}) "
        f"COMP_CWORD={len(words) - 1}\n_trainyard\nprintf '%s\\n' \"${{COMPREPLY[0]}}\"\n"
    )
    path = f"{project}/bin:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{reply}\n", "")
