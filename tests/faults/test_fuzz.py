"""Hundreds of hostile inputs for every reader of something from outside; `bench/fuzz.py` tries far more."""

import signal
import time
from collections.abc import Iterator
from functools import cache
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.fuzzing import ROOT, TARGETS, Target, inputs

SLOW = {"params.yaml": 10, "overlays": 60, "HTML": 100}  # inputs, where one takes longer
PATIENCE = 10  # CPU seconds


@cache
def target(name: str) -> Target:
    return TARGETS[name]()


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {PATIENCE} s")

    monkeypatch.chdir(ROOT)
    before = signal.signal(signal.SIGPROF, stop)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


def try_out(name: str, number: int, data: bytes) -> bool:
    """Whether the input was read. Fails for an error that is none of the target's."""
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        target(name).read(data)
        return True
    except Exception as error:
        assert target(name).expected(error), f'python bench/fuzz.py --again "{name}" {number}: {error!r}'
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_inputs_are_read_or_refused_in_one_line(name: str) -> None:
    assert any(try_out(name, -1, seed) for seed in target(name).seeds), "what isn't bent is read"
    most, end = SLOW.get(name, 250), time.monotonic() + 5
    for number, data in inputs(name, target(name)):
        if number >= most or time.monotonic() > end:
            break
        try_out(name, number, data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "name", ["judge replies", "AlpacaEval's files", "config.json", "endpoint requests", "experiment YAML", "task YAML"]
)
def test_any_json_is_read_or_refused_in_one_line(name: str) -> None:
    import json

    @given(JSON)
    @settings(max_examples=60, derandomize=True, database=None)
    def tried(value: object) -> None:
        try_out(name, -1, json.dumps(value).encode())

    tried()


@pytest.mark.parametrize("name", ["run tables", "AlpacaEval's tables", "chat templates", "WARC", "terminal", "bundles"])
def test_any_bytes_are_read_or_refused_in_one_line(name: str) -> None:
    @given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
    @settings(max_examples=60, derandomize=True, database=None)
    def tried(data: bytes) -> None:
        try_out(name, -1, data)

    tried()
