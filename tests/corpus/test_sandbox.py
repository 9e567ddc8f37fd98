"""The sandbox: an input that kills, hangs or exhausts the child costs itself, is known by name, and nothing else."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.corpus.pages import sandbox
from stages.corpus.pages.sandbox import Lost, Request, Sandbox

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def box() -> Iterator[Sandbox]:
    made = Sandbox("tests.corpus.hostile", 512, 1.0)
    yield made
    made.close()


def ask(box: Sandbox, *bodies: bytes) -> list[bytes | Lost]:
    return list(box.answers([Request(b"", body) for body in bodies]))


def test_answers_come_in_order_from_one_child(box):
    assert ask(box, b"a", b"", b"c" * 100_000) == [b"A", b"", b"C" * 100_000]
    assert len(set(ask(box, b"<pid>", b"<pid>") + ask(box, b"<pid>"))) == 1


def test_each_loss_is_known_and_the_next_input_is_answered(box):
    bodies = [b"a", b"<segfault>", b"b", b"<exhaust>", b"<abort>", b"c", b"<hang>", b"<segfault>", b"d"]
    lost = [Lost("crashed"), Lost("out_of_memory"), Lost("out_of_memory"), Lost("timeout"), Lost("crashed")]
    expected = [b"A", lost[0], b"B", lost[1], lost[2], b"C", lost[3], lost[4], b"D"]
    assert ask(box, *bodies) == expected


def test_a_loss_is_the_same_first_and_later(box):
    assert ask(box, b"<segfault>") == ask(box, b"<segfault>") == ask(box, b"a", b"<segfault>")[1:] == [Lost("crashed")]


def test_what_others_have_used_up_is_nobodys_fault(box):
    """Each leaves 120 MiB behind in 512: without a fresh child the fourth would fail for the others' memory."""
    assert ask(box, *[b"<leak>"] * 12) == [b"<LEAK>"] * 12


def test_inputs_larger_than_a_chunk_go_alone(box, monkeypatch):
    monkeypatch.setattr(sandbox, "CHUNK_BYTES", 1000)
    bodies = [b"x" * size for size in (400, 400, 400, 5000, 10, 999, 1)]
    assert ask(box, *bodies) == [body.upper() for body in bodies]


def test_the_child_imports_no_more_than_it_needs():
    code = (
        "import sys, stages.corpus.pages.page; "
        "print([m for m in ('pyarrow', 'numpy', 'pydantic', 'trafilatura', 'yaml', 'ray') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_child_whose_parent_is_killed_ends(tmp_path):
    code = (
        "import os\nfrom stages.corpus.pages.sandbox import Request, Sandbox\n"
        "box = Sandbox('tests.corpus.hostile', 512, 1.0)\n"
        "print(next(box.answers([Request(b'', b'<pid>')])).decode(), flush=True)\n"
        "os.kill(os.getpid(), 9) if {kill} else list(box.answers([Request(b'', b'<hang>')]))"
    )
    for kill in (True, False):
        parent = subprocess.Popen(
            [sys.executable, "-c", code.format(kill=kill)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().decode().strip())
        if not kill:
            time.sleep(0.3)  # the input that hangs has been handed over
            parent.kill()
        parent.wait()
        end = time.monotonic() + 30
        while (child / "stat").exists() and (child / "stat").read_text().split()[2] != "Z" and time.monotonic() < end:
            time.sleep(0.05)
        assert not (child / "stat").exists() or (child / "stat").read_text().split()[2] == "Z"
