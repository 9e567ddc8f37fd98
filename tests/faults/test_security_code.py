"""What the code never does, read out of its syntax; and traps for what it might."""

import ast
import inspect
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.base import errors
from stages.base.errors import InputError, TrainyardError
from stages.cli import main
from stages.evaluation.overlap.index import NAMES, Segment
from stages.lm.checkpoint import TrainingState, load_model
from stages.publishing.lineage.bundle.archive import BundleError, read_members

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "stages").rglob("*.py"))
# Batches for our own worker processes, in a folder that is this user's alone.
MAY_PICKLE = {"stages/base/engine.py"}


@cache
def calls() -> list[tuple[str, ast.Call, str]]:
    """(File and line, call, its dotted name) of every call in stages/."""
    return [
        (f"{path.relative_to(ROOT).as_posix()}:{node.lineno}", node, ast.unparse(node.func))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]


def keyword(call: ast.Call, name: str) -> object:
    found = next((one.value for one in call.keywords if one.arg == name), None)
    return found.value if isinstance(found, ast.Constant) else found


def test_nothing_of_others_is_unpickled_evaluated_or_given_to_a_shell() -> None:
    wrong = []
    for place, call, name in calls():
        short = name.rpartition(".")[2]
        bad = (
            name in ("eval", "exec", "os.system", "os.popen", "tempfile.mktemp", "yaml.unsafe_load", "yaml.full_load")
            or (name.startswith(("pickle.", "cloudpickle.", "marshal.", "shelve.", "joblib."))
                and place.partition(":")[0] not in MAY_PICKLE)
            or keyword(call, "shell") is True
            or keyword(call, "verify") is False
            or (name == "torch.load" and keyword(call, "weights_only") is not True)
            or (name in ("np.load", "numpy.load") and keyword(call, "allow_pickle") is not False)
            or (short in ("extract", "extractall") and name.startswith(("tar", "zip", "files."))
                and keyword(call, "filter") != "data")
            or (name in ("yaml.load", "yaml.compose", "yaml.parse") and "stages/base/plain_yaml.py" not in place)
            or keyword(call, "trust_remote_code") is True
        )  # fmt: skip
        if bad:
            wrong.append(f"{place}: {name}")
    assert not wrong


def test_subprocesses_get_lists_and_no_text() -> None:
    for place, call, name in calls():
        if name in ("subprocess.run", "subprocess.Popen", "subprocess.check_output", "subprocess.call"):
            text = isinstance(call.args[0], ast.JoinedStr | ast.Constant) if call.args else False
            assert not text, place


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickles_in_models_states_and_arrays_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "opened"
    trap = pickle.dumps(Trap(marker))
    pickle.loads(trap)
    assert marker.exists(), "the trap works"
    marker.unlink()

    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "pytorch_model.bin").write_bytes(trap)
    (model / "model.safetensors").write_bytes(trap)
    with pytest.raises(InputError):
        load_model(model)

    state = TrainingState("trap", "0123456789abcdef")
    monkeypatch.setattr(torch, "save", lambda value, file: file.write(trap))
    state.save({})  # with a checksum that fits
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="not a state that this version of torch reads"):
        state.load()
    state.close()

    index = tmp_path / "index"
    index.mkdir()
    for name in NAMES:
        np.save(index / f"{name}.npy", np.array([Trap(marker)], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="damaged"):
        Segment.open(index, 8)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out", "project/\x1b[2J", "link", "hard", "device"])
def test_no_archive_leads_out_of_its_folder(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo(name)
        kinds = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}
        info.type, info.linkname = kinds.get(name, tarfile.REGTYPE), "/etc/passwd" if name in kinds else ""
        archive.addfile(info)
    with pytest.raises(BundleError) as caught:
        read_members(path)
    assert "\x1b" not in str(caught.value)


def test_what_a_terminal_would_obey_is_not_printed(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    hostile = f"{tmp_path}/\x1b[2J\x1b]0;t\x07\u202e.csv"
    commands = [
        ["explain", "a\x1b[2J"], ["scaling", "fit", hostile, "--out", str(tmp_path / "o")], ["trace", "\x1b[2J\u202e"],
        ["inspect", hostile], ["alpaca-eval", hostile, "--out", str(tmp_path / "p")], ["configure", "x\x1b[2J"],
    ]  # fmt: skip
    for arguments in commands:
        with suppress(SystemExit):  # argparse's
            main(arguments)
        out, err = capfd.readouterr()
        assert not {"\x1b", "\x07", "\u202e"} & set(out + err), (arguments, out, err)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_of_any_encoding_is_printed_to(encoding: str) -> None:
    command = [sys.executable, "-m", "stages.cli", "cost", "--params", "1e9", "--tokens", "1e10"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0 and b"\\u2082" in done.stdout, done.stderr


# ------------------------------------------------------------------------------------------ wording


KINDS = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, TrainyardError)}
KINDS |= {"BundleError", "LineageError"}


def messages() -> Iterator[tuple[str, str, bool]]:
    """(File and line, literal words, whether a value is filled in) of each error of ours that says something."""
    for place, call, name in calls():
        if name.rpartition(".")[2] in KINDS and call.args:
            nodes = list(ast.walk(call.args[0]))
            filled = any(isinstance(node, ast.FormattedValue | ast.Name | ast.Call) for node in nodes)
            words = "".join(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))
            if isinstance(call.args[0], ast.JoinedStr | ast.Constant | ast.BinOp):
                yield place, words, filled


def test_every_error_is_one_line_that_names_something() -> None:
    found = list(messages())
    assert len(found) > 500
    wrong = []
    for place, words, filled in found:
        signs = ("`", "/", "--", ".yaml", ":")
        named = filled or any(sign in words for sign in signs) or any(word.isupper() for word in words.split())
        rules = {
            "has a line break": "\n" in words,
            "names nothing": not named and len(words) < 25,
            "ends with a full stop": words.rstrip().endswith("."),
            "says invalid and no more": words.strip(" :.").lower()
            in ("invalid", "error", "invalid value", "bad input"),
            "is long": len(words) > 600,
            "cries": "!" in words.replace("!=", ""),
            "says please or sorry": any(word in words.lower().split() for word in ("please", "sorry", "oops")),
        }
        wrong += [f"{place}: {rule}: {words[:100]!r}" for rule, broken in rules.items() if broken]
    assert not wrong, "\n".join(wrong)
