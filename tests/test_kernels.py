"""Kernels that are compiled ahead: all of a chain's, once, and only where a CPU is free for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages import kernels

ROOT = Path(__file__).resolve().parents[1]
# Names what numba compiles for work like the stages' once everything was compiled ahead.
WORK = """
from stages import kernels
from numba.core import event
kernels.compile_corpus()
kernels.compile_tokens()
class Compiled(event.Listener):
    names = []
    def on_start(self, found):
        self.names.append(str(found.data["dispatcher"]))
    def on_end(self, found):
        pass
event.register("numba:compile", Compiled())
from stages.base.params import load
from stages.corpus.dedup import DedupParams, near_duplicates
from stages.corpus.extract import extract_text
from stages.corpus.heuristics import HeuristicsParams, apply_rules
from stages.tokens.vocabulary import encode_documents, train_bpe
text = "The widow sold a boat to the baker. " * 20
texts = [text + f"Number {n} isn't theirs, said the \u201cjudge\u201d." for n in range(9)]
extract_text(f"<main><p>{texts[0]}</main>".encode())
near_duplicates(texts, load("corpus.dedup", DedupParams))
apply_rules(texts, load("corpus.heuristics", HeuristicsParams).rules["default"])
encode_documents(train_bpe(texts, 320, "code"), texts)
print(Compiled.names)
"""


def test_the_stages_find_their_kernels_compiled() -> None:
    command = [sys.executable, "-c", WORK]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert found.stdout.splitlines()[-1] == "[]"


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
