"""Help pages and mistakes: an example a page that parses, one line a mistake, with the nearest name."""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.cli import main, parser

ROOT = Path(__file__).resolve().parents[2]


def leaves(command: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Parsers of all commands that can run."""
    inner = [action for action in command._actions if isinstance(action, argparse._SubParsersAction)]
    for action in inner:
        for one in action.choices.values():
            yield from leaves(one)
    if not inner:
        yield command


COMMANDS = [one.prog for one in leaves(parser())]


def page(command: str) -> str:
    return next(one for one in leaves(parser()) if one.prog == command).format_help()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_page_says_what_the_command_is_and_gives_an_example_that_parses(command: str) -> None:
    about, _, rest = page(command).partition("\n\n")[2].partition("\n\n")
    assert about and not about.startswith("positional"), "no description"
    examples = [line.strip() for line in rest.splitlines() if line.strip().startswith("trainyard ")]
    assert any(one.startswith(command) for one in examples)
    for example in examples:
        words = shlex.split(re.split(r" {3,}| [<>] ", example)[0], comments=True)
        options = parser().parse_args(words[1:])
        assert callable(options.run)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "trainyard: the following arguments are required: command"),
        (["tarce", "dpo"], "trainyard: no command `tarce`; did you mean `trace`?"),
        (["experiment", "chekc"], "trainyard: experiment: no action `chekc`; did you mean `check`?"),
        (["cost", "--params", "1e9", "--tokens", "1e9", "--jsn"], "no option `--jsn`; did you mean `--json`?"),
        (["cost", "--params", "many", "--tokens", "1e9"], "trainyard: cost: argument --params: invalid float value"),
        (["judge", "a.json"], "trainyard: judge: the following arguments are required: --baseline, --out"),
        (["trace", "sft", "dpo"], "trainyard: trace: `dpo` is one argument too many"),
        (["experiment", "gate", ".", "--better", "hihger"], "no --better `hihger`; did you mean `higher`?"),
        (["explain", "a\nb\x1b[2J", "c\x1b[2J"], "trainyard: explain: `c\ufffd[2J` is one argument too many"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    told = capsys.readouterr()
    assert ended.value.code == 2 and said in told.err and told.out == ""
    assert len(told.err.splitlines()) == 1 and "--help` shows the usage)" in told.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chat", "spt"], "did you mean `sft`?"),
        (["explain", "corpus.dedup.jacard"], "did you mean `jaccard`?"),
        (["configure", "latpop"], "did you mean `laptop`?"),
        (["why", "judge@dop"], "did you mean `judge@dpo`?"),
        (["evaluate", "sft", "--tasks", "atlas_fact"], "did you mean `atlas_facts`?"),
        (["contaminate", "--tasks", "atlas_fact", "--model", "x"], "did you mean `atlas_facts`?"),
        (["experiment", "report", "tuning_muom"], "did you mean `tuning_muon`?"),
        (["cost", "--params", "1e9", "--tokens", "1e9", "--device", "h10"], "did you mean `h100`?"),
    ],
)
def test_wrong_names_are_answered_with_the_nearest(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("params.yaml", "dvc.yaml", "scales", "experiments", "stages", "lists"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "data/models/sft").mkdir(parents=True)
    (tmp_path / "data/models/sft/config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    told = capsys.readouterr().err
    assert said in told and len(told.splitlines()) == 1


bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@bash
@pytest.mark.parametrize("words", ["--help", "cost --params 1e9 --tokens 1e9 --json", "experiment metrics"])
def test_a_closed_pipe_ends_quietly_with_141(words: str) -> None:
    """The reader is gone before the first byte; `head` would leave a race."""
    run = f"{{ sleep 2; exec {sys.executable} -m stages.cli {words}; }} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", run], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (141, "")


@bash
def test_a_full_disk_behind_the_output_is_one_line() -> None:
    run = f"{sys.executable} -m stages.cli cost --params 1e9 --tokens 1e9 > /dev/full"
    done = subprocess.run(["bash", "-c", run], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "trainyard: cost: No space left on device\n")


def test_ctrl_c_ends_quietly_with_130() -> None:
    code = (
        "import os, signal, sys, stages.cli as cli, stages.commands.cost as cost\n"
        "cost.run = lambda options: os.kill(os.getpid(), signal.SIGINT) or signal.pause()\n"
        "sys.exit(cli.main(['cost', '--params', '1e9', '--tokens', '1e9']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
