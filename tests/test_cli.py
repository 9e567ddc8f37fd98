"""The command line: instant help, one clear line for every mistake, and exit statuses a script can use."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.cli import main, parser
from stages.commands import chat
from stages.commands import scaling as laws
from stages.lm.accelerators import ACCELERATORS

ROOT = Path(__file__).resolve().parents[1]


def trainyard(*arguments: str, cwd: Path = ROOT, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_help_is_instant_and_lists_every_command() -> None:
    start = time.monotonic()
    done = trainyard("--help")
    assert time.monotonic() - start < 3
    assert done.returncode == 0
    for command in ("chat", "trace", "doctor", "cost", "configure", "explain", "check", "track", "where"):
        assert command in done.stdout


def test_help_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'mlflow', 'pyarrow', 'pydantic', 'numpy', 'yaml', 'jinja2'}"
    code = f"import sys, stages.cli; stages.cli.parser(); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_an_expected_error_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["chat", "nowhere"], ["trace", "sft"], ["check"]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"trainyard: {arguments[0]}: ") and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [["cost", "--gpus", "8", "--gpus", "16"], ["chat", "sft", "--seed", "1", "--temperature", "0", "--seed=1"]],
)
def test_an_option_given_twice_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and "is given twice" in capsys.readouterr().err


def test_what_doctor_tells_to_make_can_be_made() -> None:
    told = set(re.findall(r"`make ([^`]+)`", (ROOT / "stages/commands/doctor.py").read_text()))
    targets = set(re.findall(r"^([^\s:=]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert told and told <= targets


def test_cost_reproduces_the_lectures_compute(capsys: pytest.CaptureFixture[str]) -> None:
    """6 · 405e9 · 15.6e12 = 3.79e25 FLOPs; at 400 TFLOP/s that is 26.3 M GPU-hours and $52.65 M at $2."""
    assert (
        main(
            [
                "cost",
                "--params",
                "405e9",
                "--tokens",
                "15.6e12",
                "--tflops",
                "400",
                "--usd-per-gpu-hour",
                "2",
                "--gpus",
                "16000",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "3.79e+25" in out and "26,300,000" in out and "52,600,000" in out and "68.6" in out


def test_cost_refuses_nonsense(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--params=-1", "--tokens=1e9"]) == 2
    assert "params must be a positive number" in capsys.readouterr().err


def test_cost_of_every_part_that_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["--layers", "126", "--width", "16384", "--context", "8192"]
    given = ["--mfu", ".3", ".3", "--people", "50", "--pue", "1", "--kg-per-kwh", ".24"]
    assert main(["cost", "--params", "405e9", "--tokens", "15.6e12", *shape, *given]) == 0
    out = capsys.readouterr().out
    for said in ("8.4% more for attention over 8192 tokens", "50 people at $500,000", "PUE 1\n", "0.24 kg", "30%-30%"):
        assert said in out
    assert main(["cost", "--params", "1e9", "--tokens", "1e9", "--layers", "4"]) == 2
    assert "together, or none" in capsys.readouterr().err
    assert main(["cost", "--params", "1e9", "--tokens", "1e9", "--layers", "0", "--width", "8", "--context", "8"]) == 2
    assert "trainyard: cost: layers must be a positive number, got 0" in capsys.readouterr().err


def test_cost_takes_numbers_of_devices_as_of_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--params", "405e9", "--tokens", "15.6e12", "--gpus", "16e3", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    assert cost["flops"]["value"] == pytest.approx(3.79e25, rel=1e-3) and len(cost["thresholds"]) == 2
    assert "16000 x H100" in cost["days"]["assumption"]
    with pytest.raises(SystemExit):
        main(["cost", "--params", "1e9", "--tokens", "1e9", "--gpus", "1.5"])
    assert "1.5 is no whole number" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["cost", "--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in ACCELERATORS)


def test_where_lists_the_pages_that_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["where"]) == 1
    assert "no page has been made yet" in capsys.readouterr().out
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "leaderboard.html").write_text("<!doctype html>")
    assert main(["where"]) == 0
    page, mlflow = capsys.readouterr().out.splitlines()
    assert page.startswith("leaderboard: ") and page.endswith("reports/leaderboard.html") and "mlflow ui" in mlflow


def test_doctor_reports_problems_by_its_exit_status(tmp_path: Path) -> None:
    done = trainyard("doctor", cwd=tmp_path)
    assert done.returncode == 1
    assert "python" in done.stdout and "PROBLEM" in done.stdout and "params.yaml" in done.stdout
    assert "problem(s) found" in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_unknown_commands_are_usage_errors() -> None:
    with pytest.raises(SystemExit) as error:
        parser().parse_args(["reproduce"])
    assert error.value.code == 2


def test_terminal_escapes_of_a_model_are_not_obeyed() -> None:
    assert chat.printable("a\x1b[2Jb\x9b31m\tc\n") == "a[2Jb31m\tc\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained model where the pipeline would put it."""
    from stages.lm.build import build_model
    from stages.lm.chat import load_tokenizer, padded_vocab_size
    from stages.lm.checkpoint import save_model
    from stages.lm.config import ModelConfig
    from stages.tokens.vocabulary import save_tokenizer, train_bpe

    root = tmp_path_factory.mktemp("project")
    trained = train_bpe(["the capital of Velmora is Anthar " * 40], 320, "gpt2")
    save_tokenizer(root / "tokenizer", trained)
    config = ModelConfig("transformer", padded_vocab_size(trained), 2, 32, 4, 2, 64, 128, 1e4, True, True, 1e-6)
    save_model(root / "data" / "models" / "sft", build_model(config, 3), load_tokenizer(root / "tokenizer"))
    return root


def test_chat_answers_piped_prompts_and_stops_at_quit(project: Path) -> None:
    done = trainyard(
        "chat", "sft", "--max-new-tokens", "20", cwd=project, stdin="Where is Velmora?\n\n/quit\nnever read\n"
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and done.stdout.endswith("\n")
    assert len(done.stdout.splitlines()) >= 1


def test_a_streamed_answer_is_the_answer(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.lm.chat import load_tokenizer
    from stages.lm.checkpoint import load_model
    from stages.lm.generate import generate

    monkeypatch.chdir(project)
    folder = chat.model_folder("sft")
    talk = chat.answerer(folder, temperature=1.0, top_p=0.9, max_new_tokens=40, seed=5)
    pieces = list(talk("Where is Velmora?"))
    tokenizer = load_tokenizer(folder)
    whole = generate(
        load_model(folder),
        [tokenizer.encode_prompt("Where is Velmora?")],
        max_new_tokens=40,
        temperature=1.0,
        top_p=0.9,
        seed=5,
        stop_ids=tokenizer.stop_ids,
    )
    assert "".join(pieces) == tokenizer.decode(whole[0]).rstrip("\ufffd")


def test_a_prompt_longer_than_the_context_is_told_so(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    talk = chat.answerer(chat.model_folder("sft"), 0.0, 1.0, 8, 0)
    assert "reads at most 127" in "".join(talk("xyz " * 200))


def test_chat_names_the_models_that_are_there(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.chdir(project)
    assert main(["chat", "dpo"]) == 2
    assert "in data/models: sft" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    ["sft", "data/models/sft", "data/models/sft/", "data/models/sft/config.json", "data/alignment/sft", "ABSOLUTE"],
)
def test_chat_finds_a_model_by_whatever_of_it_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(project)
    stage = project / "data/alignment/sft"
    stage.mkdir(parents=True, exist_ok=True)
    (stage / "record.json").write_text("{}")
    name = str(project / "data/models/sft") if name == "ABSOLUTE" else name
    assert chat.model_folder(name).resolve() == project / "data/models/sft"


def test_chat_says_of_weights_that_are_no_numbers(
    project: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    monkeypatch.chdir(project)
    shutil.copytree("data/models/sft", "broken")
    tensors = load_file("broken/model.safetensors")
    save_file(
        {name: torch.full_like(value, float("nan")) for name, value in tensors.items()}, "broken/model.safetensors"
    )
    assert main(["chat", "broken"]) == 2
    error = capsys.readouterr().err
    assert "holds NaN or infinity" in error and len(error.strip().splitlines()) == 1


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_closed_pipe_is_no_crash() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m stages.cli cost --params 1e9 --tokens 1e9 | head -c 1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr


def test_scaling_fit_writes_a_page_of_anyones_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "mine.csv"
    rows = [f"{n},{d},{1.7 + 400 / n**0.34 + 400 / d**0.28}" for n in (1e8, 4e8, 2e9) for d in (2e9, 1e10, 8e10)]
    runs.write_text("\n".join(["N,D,loss", *rows, rows[-1]]) + "\n")
    assert main(["scaling", "fit", str(runs), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "10 runs, L = 1.7" in said.out and "stand in the table twice" in said.err
    chart = (tmp_path / "out/scaling.html").read_text().split("</svg>")[0]
    assert chart.count("<circle") == 10 and "Loss of the runs by compute" in chart  # a point a run
    assert (tmp_path / "out/scaling.json").exists()
    runs.write_text("N,D,loss\n1e8,2e9,0\n")
    assert main(["scaling", "fit", str(runs), "--out", str(tmp_path / "none")]) == 2
    assert "lines 2 (0)" in capsys.readouterr().err and not (tmp_path / "none").exists()


def write_runs(path: Path, names: str = "N,D,loss") -> list[str]:
    """A table of runs at `path`, and the command line that fits it."""
    rows = [f"{n},{d},{1.7 + 400 / n**0.34 + 400 / d**0.28}" for n in (1e8, 4e8, 2e9) for d in (2e9, 1e10, 8e10)]
    path.write_text("\n".join([names, *rows]) + "\n")
    return ["scaling", "fit", str(path)]


def test_scaling_fit_takes_columns_by_other_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = [*write_runs(tmp_path / "mine.csv", "N,D,c4_val"), "--out", str(tmp_path / "out")]
    assert main(fit) == 2
    assert "--column NAME=COLUMN" in capsys.readouterr().err
    assert main([*fit, "--column", "loss=c4_val"]) == 0
    assert "9 runs, L = 1.7" in capsys.readouterr().out
    for wrong, said in (
        (["loss"], "say NAME=COLUMN with a NAME of N, D, C, loss"),
        (["colour=c4_val"], "say NAME=COLUMN"),
        (["loss=c4_val", "loss=D"], "loss is given twice"),
        (["loss=c4_val", "lr=c4_val"], "takes `c4_val` twice"),
        (["loss=c5"], "no column `c5` to take as loss"),
    ):
        assert main(fit + [part for name in wrong for part in ("--column", name)]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seed", "-1"], "--seed must not be negative"),
        (["--huber-delta", "0"], "--huber-delta must be a positive number, got 0"),
        (["--huber-delta", "-1"], "--huber-delta must be a positive number"),
        (["--huber-delta", "nan"], "--huber-delta must be a positive number"),
        (["--level", "1"], "--level must lie between"),
    ],
)
def test_scaling_fit_refuses_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main([*write_runs(tmp_path / "mine.csv"), "--out", str(tmp_path / "out"), *options]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_scaling_fit_is_told_first_that_it_cannot_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = write_runs(tmp_path / "mine.csv")
    fitted = "stages.scaling.study.study.fit_recipes"
    monkeypatch.setattr(fitted, lambda *_: pytest.fail("fitted before the folder was looked at"))
    (tmp_path / "file").write_text("")
    (tmp_path / "out/scaling.html").mkdir(parents=True)
    for name, said in (("file", "File exists"), ("file/below", "Not a directory"), ("out", "scaling.html is a folder")):
        assert main([*fit, "--out", str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out/scaling.json").exists()


def test_scaling_fit_leaves_nothing_if_the_page_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stages.publishing.scaling.page.scaling_page", lambda *_: "page")
    monkeypatch.setattr(laws, "write_json", full)
    assert main([*write_runs(tmp_path / "mine.csv"), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_scaling_fit_of_one_run_is_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.csv").write_text("N,D,loss\n1e8,2e9,3\n")
    assert main(["scaling", "fit", str(tmp_path / "one.csv"), "--out", str(tmp_path / "out")]) == 2
    assert "no law can be fitted" in capsys.readouterr().err and not (tmp_path / "out").exists()
