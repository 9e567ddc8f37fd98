"""Kernels that are compiled ahead: all of a chain's, once, and only where a CPU is free for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages import kernels

ROOT = Path(__file__).resolve().parents[1]
# Counts what numba compiles while the text goes through the tokenizer.
COUNT = """
import stages
from numba.core import event
class Compiled(event.Listener):
    names = []
    def on_start(self, found):
        self.names.append(str(found.data["dispatcher"]))
    def on_end(self, found):
        pass
event.register("numba:compile", Compiled())
from stages.tokens.vocabulary import encode_documents, train_bpe
encode_documents(train_bpe(["One text, and another one. " * 30], 320, "gpt2"), ["It isn't there: 17 of them."])
print(Compiled.names)
"""


@pytest.mark.slow
def test_a_stage_finds_its_kernels_compiled(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "TRAINYARD_WORKERS": "1"}
    work = "from stages import kernels; kernels.compile_tokens()"
    subprocess.run([sys.executable, "-c", work], cwd=ROOT, env=environment, check=True)
    found = subprocess.run(
        [sys.executable, "-c", COUNT], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == "[]"


def test_compiling_starts_once_and_needs_a_second_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(kernels.subprocess, "Popen", lambda command, **options: started.append(command))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRAINYARD_WORKERS", "1")
    kernels.start()
    assert not started
    monkeypatch.setenv("TRAINYARD_WORKERS", "2")
    kernels.start()
    assert started == [[sys.executable, "-m", "stages.kernels"]]
    (tmp_path / kernels.DONE).touch()
    kernels.start()
    assert len(started) == 1
