"""Two gloo processes give what one gives; one that dies or hangs is noticed, and the run goes on bitwise."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from stages.lm import distributed, owners
from stages.lm.checkpoint import fingerprint
from tests.lm import parallel

ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, strategy: str, cases: str, *options: str, **environment: str) -> list[subprocess.Popen[str]]:
    """Two processes of tests/lm/parallel.py, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(exist_ok=True)
    common = os.environ | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TRAINYARD_PARALLEL": strategy,
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    } | environment  # fmt: skip
    command = [sys.executable, str(ROOT / "tests/lm/parallel.py"), str(folder), cases, *options]
    return [
        subprocess.Popen(
            command, cwd=folder, env=common | {"RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True
        )
        for rank in ("0", "1")
    ]


def finish(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        said = process.communicate(timeout=120)[1]
        assert process.returncode == 0, said


def rows(folder: Path) -> list[dict[str, float]]:
    return json.loads((folder / "rows.json").read_text())


def same_tensors(one: Path, other: Path) -> bool:
    return all(
        torch.equal(value, theirs[name])
        for file in ("model.safetensors", "optimizer.safetensors")
        for theirs in [load_file(other / file)]
        for name, value in load_file(one / file).items()
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for case in parallel.CASES:
            parallel.main(folder, case, {})
    return folder


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    finish(start(folder, request.param, ",".join(parallel.CASES)))
    return request.param, folder


@pytest.mark.parametrize("case", parallel.CASES)
def test_two_processes_give_the_losses_and_weights_of_one(alone: Path, together: tuple[str, Path], case: str) -> None:
    expected, found = rows(alone / case), rows(together[1] / case)
    for name in ("loss", "grad_norm"):
        difference = [abs(a[name] - b[name]) for a, b in zip(expected, found, strict=True)]
        assert max(difference) < 1e-6, (name, difference)
    mine, theirs = load_file(alone / case / "model.safetensors"), load_file(together[1] / case / "model.safetensors")
    for name, value in mine.items():
        torch.testing.assert_close(value, theirs[name], atol=2e-5, rtol=0, msg=name)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_every_block_has_one_graph_that_is_compiled_before_the_first_step(strategy: str, tmp_path: Path) -> None:
    """DDP would cut a graph of the whole model where its buckets of gradients end, and FSDP gathers weights block by
    block: the blocks' graph stays whole, and the cross-entropy's is the other one."""
    finish(start(tmp_path, strategy, "muon", "graphs=1"))
    graphs = json.loads((tmp_path / "muon/graphs.json").read_text())
    assert len(graphs) == 3 and graphs[-1] == -1


def test_weights_gathered_in_bf16_train_as_fp32_ones_but_for_rounding(alone: Path, tmp_path: Path) -> None:
    finish(start(tmp_path, "fsdp", "muon", "narrow=1"))
    exact, narrow = rows(alone / "muon"), rows(tmp_path / "muon")
    assert narrow != exact
    for one, other in zip(exact, narrow, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=0.02)
    assert all(value.dtype == torch.float32 for value in load_file(tmp_path / "muon/model.safetensors").values())


def test_a_killed_process_ends_the_other_and_both_resume_bitwise(together: tuple[str, Path], tmp_path: Path) -> None:
    strategy, whole = together
    leader, follower = start(tmp_path / "run", strategy, "muon", "every=2", "at=5", "signal=SIGKILL")
    said = leader.communicate(timeout=60)[1]
    assert follower.wait(timeout=60) == -9
    assert leader.returncode == 2 and said.startswith("PeerError: parallel: process 0 of 2 lost another one"), said
    assert "goes on from the last checkpoint" in said and len(said.strip().splitlines()) == 1
    follower.communicate()
    state = tmp_path / "run/.trainyard/checkpoints/parallel" / ("b" * 16) / "state.bin"
    assert state.exists()
    finish(start(tmp_path / "run", strategy, "muon", "every=2"))
    assert rows(tmp_path / "run/muon") == rows(whole / "muon")
    assert same_tensors(tmp_path / "run/muon", whole / "muon")


def test_a_hanging_process_is_not_waited_for_forever(tmp_path: Path) -> None:
    leader, follower = start(tmp_path / "run", "ddp", "muon", "at=2", "signal=SIGSTOP", TRAINYARD_PEER_TIMEOUT="3")
    try:
        said = leader.communicate(timeout=60)[1]
    finally:
        follower.kill()
        follower.communicate()
    assert leader.returncode == 2 and "PeerError" in said, said


@given(st.integers(1, 40), st.integers(1, 9))
def test_the_batch_is_the_same_at_any_number_of_processes(count: int, world: int) -> None:
    batch = np.arange(count * 3).reshape(count, 3) + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "world", lambda: world)
        shares = []
        for rank in range(world):
            patch.setattr(distributed, "rank", lambda rank=rank: rank)
            shares.append(distributed.share_rows(batch, 0))
    assert len({len(share) for share in shares}) == 1
    together = np.concatenate(shares)
    assert sorted(map(tuple, together[together[:, 0] > 0])) == sorted(map(tuple, batch))
    assert len(together) - count < world


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=30), st.integers(1, 8))
def test_matrices_are_dealt_evenly(shapes: list[tuple[int, int]], world: int) -> None:
    sizes = [torch.Size(shape) for shape in shapes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owners, "world", lambda: world)
        dealt = owners.deal(sizes)
    loads = [sum(size.numel() for size, owner in zip(sizes, dealt, strict=True) if owner == p) for p in range(world)]
    assert max(loads) - min(loads) <= max(size.numel() for size in sizes)


def test_another_number_of_processes_is_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    one = fingerprint({"lr": 0.1})
    monkeypatch.setattr(distributed, "environment", lambda: {"processes": 2, "parallel": "ddp"})
    assert fingerprint({"lr": 0.1}) != one
