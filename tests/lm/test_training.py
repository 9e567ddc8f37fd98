import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.base.errors import InputError, ResourceError
from stages.base.signals import Stopped
from stages.lm import chat, loop
from stages.lm.build import build_model
from stages.lm.checkpoint import (
    TrainingState,
    fingerprint,
    load_optimizer,
    save_optimizer,
)
from stages.lm.data import PackedRows, batch_rows
from stages.lm.loop import DivergedError, NothingLearnedError, StopTraining, between_checkpoints, train
from stages.lm.loss import next_token_loss
from stages.lm.optim import MuonAdamW, build_optimizer, orthogonalise
from stages.lm.rates import cosine, wsd
from tests.lm.conftest import shaken, tiny

ROOT = Path(__file__).resolve().parents[2]
STEPS = 12


def counting(model: torch.nn.Module, step: int) -> tuple[torch.Tensor, dict[str, float]]:
    """A loss on rows that count upwards from a random start: needs torch's RNG, learns in seconds."""
    rows = (torch.arange(17)[None] + torch.randint(0, 128, (8, 1))) % 128
    return next_token_loss(model, rows, None)


def run(steps: int, every: int = 0, seed: int = 0, kind: str = "muon", arch: str = "transformer"):
    torch.manual_seed(seed)
    model = build_model(tiny(arch), seed)
    optimizer = build_optimizer(model, 0.02, kind=kind)
    result = train(
        model, optimizer, lambda step: wsd(step, STEPS, 2, 4), counting, steps,
        name="test", fingerprint="f" * 16 if every else None, checkpoint_every=every,
    )  # fmt: skip
    return model, result


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_heeded_after_the_step_with_a_checkpoint(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, expected = run(STEPS)

    def interrupted(model: torch.nn.Module, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        if step == 5:
            os.kill(os.getpid(), number)
        return learned(model, step)

    learned, before = counting, signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setitem(run.__globals__, "counting", interrupted)
        with pytest.raises(Stopped) as caught:
            run(STEPS, every=100)
    assert caught.value.status == 128 + number and signal.getsignal(number) == before
    again, result = run(STEPS, every=100)
    assert [row["step"] for row in result.rows] == list(range(STEPS)) and result.rows == expected.rows
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(kind: str) -> None:
    whole, expected = run(STEPS, kind=kind)
    _, first = run(7, every=3, kind=kind)  # saved after 3, 6 and, at its end, 7
    first.state.close()
    torch.manual_seed(99)  # a new process has another RNG state
    resumed, second = run(STEPS, every=3, kind=kind)
    assert second.rows == expected.rows
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    second.state.close()
    _again, third = run(STEPS, every=3, kind=kind)  # finished: nothing is left to do
    assert third.rows == expected.rows
    third.discard()
    assert not Path(".trainyard/checkpoints/test/ffffffffffffffff").exists()


KILLED = """
import os, random, signal, sys, torch
sys.path.insert(0, {root!r})
from tests.lm import test_training as t
from stages.lm import checkpoint
from stages.lm.loop import train
from stages.lm.rates import wsd
torch.set_num_threads(1)
draw = random.Random({attempt})
step_of_death, in_save = draw.randrange(t.STEPS), draw.random() < .5
def loss(model, step):
    if {attempt} and step >= step_of_death and not in_save:
        os.kill(os.getpid(), signal.SIGKILL)
    return t.counting(model, step)
def write(self, data, written=[0], original=checkpoint._Digesting.write):
    written[0] += len(data)
    if {attempt} and in_save and written[0] > 20000 * (1 + step_of_death):
        self.handle.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, data)
checkpoint._Digesting.write = write
torch.manual_seed(0)
model = t.build_model(t.tiny(), 0)
result = train(model, t.build_optimizer(model, .02), lambda s: wsd(s, t.STEPS, 2, 4), loss, t.STEPS,
               name="kill", fingerprint="a" * 16, checkpoint_every=2)
print([row["loss"] for row in result.rows], float(sum(p.double().sum() for p in model.parameters())))
"""


def test_kills_at_random_steps_and_within_a_save_change_nothing() -> None:
    def script(attempt: int) -> list[str]:
        return [sys.executable, "-c", KILLED.format(root=str(ROOT), attempt=attempt)]

    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    deaths = [subprocess.run(script(attempt), env=environment, check=False).returncode for attempt in (4, 7)]
    assert deaths == [-signal.SIGKILL] * 2  # within the second save, and at step 5
    resumed = subprocess.run(script(0), env=environment, capture_output=True, text=True, check=True).stdout
    assert not list(Path(".trainyard").rglob("*.partial"))  # of the saves that were cut short
    Path(".trainyard").rename("elsewhere")
    whole = subprocess.run(script(0), env=environment, capture_output=True, text=True, check=True).stdout
    assert resumed == whole


STATE = Path(".trainyard/checkpoints/test/ffffffffffffffff/state.bin")


def test_a_checkpoint_cut_anywhere_is_refused() -> None:
    run(4, every=2)[1].state.close()
    whole = STATE.read_bytes()
    magic, size = len(b"trainyard-state-2\n"), len(whole)
    for length in (
        0,
        1,
        magic - 1,
        magic,
        magic + 7,
        magic + 16,
        magic + 17,
        200,
        size // 2,
        size - 65,
        size - 64,
        size - 1,
    ):
        STATE.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"damaged .*delete .* to start afresh"):
            run(STEPS, every=2)
    for place in (0, magic, magic + 16, size // 3, size - 64, size - 1):
        STATE.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match="damaged"):
            run(STEPS, every=2)
    STATE.write_bytes(whole)
    assert len(run(STEPS, every=2)[1].rows) == STEPS


def test_the_state_of_another_run_is_refused() -> None:
    run(4, every=2)[1].state.close()
    other = STATE.parent.with_name("0" * 16)
    STATE.parent.rename(other)
    STATE.parent.mkdir()
    (other / "state.bin").rename(STATE)
    (STATE.parent / "state.bin").write_bytes(STATE.read_bytes())
    assert run(STEPS, every=2)[1].state is not None
    state = TrainingState("test", "0" * 16)
    state.path.write_bytes(STATE.read_bytes())
    with pytest.raises(InputError, match=r"the state of another run \(f{16}\)"):
        state.load()
    state.close()


def test_a_run_under_other_params_says_that_it_starts_afresh(capsys: pytest.CaptureFixture[str]) -> None:
    run(4, every=2)[1].state.close()
    TrainingState("test", "0" * 16).close()
    assert "starting afresh; the unfinished runs in" in capsys.readouterr().err


@pytest.mark.parametrize("micro", [1, 2, 3, 5, 8])
def test_the_gradient_is_the_big_batchs_whatever_the_split(micro: int) -> None:
    model = shaken(build_model(tiny(), 0))
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(1, 128, (8, 33), generator=generator)
    mask = torch.arange(33)[None] < torch.randint(2, 34, (8, 1), generator=generator)
    found = []
    for size in (8, micro):
        model.zero_grad()
        loss, report = next_token_loss(model, rows, mask, size)
        loss.backward()
        found.append((report["loss"], [parameter.grad.clone() for parameter in model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert (one - other).abs().max() < 1e-6 * max(1.0, float(one.abs().max()))


def test_a_diverged_run_leaves_its_last_good_checkpoint() -> None:
    _, expected = run(STEPS)

    def broken(model: torch.nn.Module, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        value, report = counting(model, step)
        return (value * float("nan"), {}) if step == 7 else (value, report)

    torch.manual_seed(0)
    model = build_model(tiny(), 0)
    with pytest.raises(DivergedError, match=r"step 7 of 12; .*learning rate.*state.bin holds the last good state"):
        train(
            model, build_optimizer(model, 0.02), lambda step: wsd(step, STEPS, 2, 4), broken, STEPS,
            name="test", fingerprint="f" * 16, checkpoint_every=3,
        )  # fmt: skip
    _, resumed = run(STEPS, every=3)
    assert resumed.rows == expected.rows
    resumed.discard()


def test_timings_say_what_the_machine_did_and_the_log_does_not() -> None:
    model = build_model(tiny(), 0)
    log = Path("steps.jsonl")
    train(
        model, build_optimizer(model, 0.02), lambda step: 1.0, counting, 3,
        name="test", log=log, flops_per_token=1e6,
    )  # fmt: skip
    timings = json.loads(Path(".trainyard/timings/test.train.json").read_text())
    speed, peak = timings["tokens_per_second"], timings["gemm_flops_per_second"]
    assert timings["mfu_gemm"] == pytest.approx(speed * 1e6 / peak) and timings["peak_memory_mib"] > 1
    if not torch.cuda.is_available():  # a CPU has no data sheet here
        assert timings["gpu_hours"] == 0.0 and timings["kwh"] is None and timings["mfu_datasheet"] is None
    assert [set(json.loads(line)) for line in log.read_text().splitlines()] == [{"step", "loss", "lr", "grad_norm"}] * 3


def test_a_trackers_log_goes_on_and_is_dated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_STEPS", str(tmp_path))
    rows = []
    for _ in range(2):
        model = build_model(tiny(), 0)
        rows += train(model, build_optimizer(model, 0.02), lambda step: 1.0, counting, 3, name="test").rows
    dated = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    times = [row.pop("time") for row in dated]
    assert dated == rows and times == sorted(times)


def test_an_optimizer_of_another_model_is_refused(tmp_path: Path) -> None:
    model = run(2)[0]
    optimizer = build_optimizer(model, 0.02)
    counting(model, 0)[0].backward()
    optimizer.step()
    save_optimizer(tmp_path / "o.safetensors", optimizer)
    for other in (build_optimizer(build_model(tiny(d_model=64), 0), 0.02), build_optimizer(model, 0.02, kind="adamw")):
        with pytest.raises(InputError, match="another model or optimizer"):
            load_optimizer(tmp_path / "o.safetensors", other)
    whole = (tmp_path / "o.safetensors").read_bytes()
    (tmp_path / "o.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cut short"):
        load_optimizer(tmp_path / "o.safetensors", optimizer)


def test_divergence_names_the_step() -> None:
    def loss(model: torch.nn.Module, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        value, report = counting(model, step)
        return (value * float("nan"), {}) if step == 3 else (value, report)

    model = build_model(tiny(), 0)
    with pytest.raises(DivergedError, match="step 3 of 5; lower the learning rate"):
        train(model, build_optimizer(model, 0.02), lambda step: 1.0, loss, 5, name="test")


@pytest.mark.parametrize("damage", ["gradient", "head"])
def test_damaged_weights_are_found_by_what_they_give(damage: str) -> None:
    """No gradient at all, as saturated logits give. A head of zeros: all tokens are equally likely, and though its own
    gradient isn't zero, no trained model has that loss."""
    model, _ = run(STEPS)
    weights = dict(model.named_parameters())
    before = {name: value.detach().clone() for name, value in weights.items()}
    uniform = math.log(model.config.vocab_size)

    def go_on(**how: bool | float) -> None:
        train(
            model, build_optimizer(model, 0.001), lambda step: 1.0, lossy, 3,
            name="test", **how,
        )  # fmt: skip

    def lossy(model: torch.nn.Module, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        loss, report = counting(model, step)
        return (loss * 0.0, report) if damage == "gradient" else (loss, report)

    if damage == "head":
        with torch.no_grad():
            model.head_weight.zero_()
    words = "gradient is exactly 0" if damage == "gradient" else "loss is exactly ln V"
    with pytest.raises(NothingLearnedError, match=rf"test: the {words}.* at step 0 of 3: .*`trainyard verify`"):
        go_on(uniform=uniform)
    changed = [name for name, value in weights.items() if not torch.equal(value, before[name])]
    assert damage == "head" or not changed  # nothing was learned from it
    go_on(rests=True)


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
def test_training_learns(arch: str) -> None:
    torch.manual_seed(0)
    model = build_model(tiny(arch), 0)
    result = train(model, build_optimizer(model, 0.03), lambda step: wsd(step, 60, 5, 20), counting, 60, name="test")
    assert result.rows[0]["loss"] == pytest.approx(np.log(128), abs=1e-4)
    assert result.rows[-1]["loss"] < 0.6
    assert [row["step"] for row in result.rows] == list(range(60))


def test_an_optimizers_state_travels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, _ = run(5)
    optimizer = build_optimizer(model, 0.02)
    counting(model, 0)[0].backward()
    optimizer.step()
    save_optimizer(tmp_path / "o.safetensors", optimizer)
    other = build_optimizer(model, 0.02)
    load_optimizer(tmp_path / "o.safetensors", other)
    before, after = optimizer.state_dict(), other.state_dict()
    assert before["param_groups"] == after["param_groups"]
    for index, state in before["state"].items():
        assert all(torch.equal(value, after["state"][index][key]) for key, value in state.items())


def test_newton_schulz_gives_nearly_orthogonal_matrices() -> None:
    matrices = torch.randn(3, 40, 24, generator=torch.Generator().manual_seed(0))
    for matrix in (matrices, matrices.mT):
        values = torch.linalg.svdvals(orthogonalise(matrix))
        assert values.min() > 0.6 and values.max() < 1.3
    u, _, v = torch.linalg.svd(matrices[0], full_matrices=False)
    cosine_to_exact = torch.nn.functional.cosine_similarity((u @ v).flatten(), orthogonalise(matrices)[0].flatten(), 0)
    assert cosine_to_exact > 0.97


def test_muon_treats_the_parts_of_a_fused_matrix_apart() -> None:
    whole = torch.nn.Parameter(torch.zeros(6, 4))
    whole.splits = (4, 2)
    parts = [torch.nn.Parameter(torch.zeros(4, 4)), torch.nn.Parameter(torch.zeros(2, 4))]
    gradient = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    whole.grad = gradient.clone()
    for part, piece in zip(parts, gradient.split((4, 2)), strict=True):
        part.grad = piece.clone()
    for parameters in ([whole], parts):
        MuonAdamW([{"params": parameters, "kind": "muon", "lr": 0.1}]).step()
    torch.testing.assert_close(whole.data, torch.cat([part.data for part in parts]))


def test_adamw_equals_torchs() -> None:
    torch.manual_seed(0)
    mine, theirs = torch.nn.Parameter(torch.randn(5, 3)), torch.nn.Parameter(torch.zeros(5, 3))
    theirs.data.copy_(mine.data)
    one = MuonAdamW([{"params": [mine], "kind": "adamw", "lr": 0.05, "weight_decay": 0.1}])
    two = torch.optim.AdamW([theirs], lr=0.05, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.1)
    for _ in range(5):
        mine.grad = torch.randn(5, 3)
        theirs.grad = mine.grad.clone()
        one.step()
        two.step()
    torch.testing.assert_close(mine.data, theirs.data)


def test_schedules() -> None:
    values = [wsd(step, 100, 10, 20) for step in range(100)]
    assert values[0] == pytest.approx(1 / 11) and values[10:80] == [1.0] * 70
    assert values[-1] == pytest.approx(1 / 21) and values == values[:80] + sorted(values[80:], reverse=True)
    assert values[:80] == [wsd(step, 1000, 10, 20) for step in range(80)]  # the trunk doesn't know its length
    assert cosine(10, 100, 10) == 1.0 and cosine(100, 100, 10, 0.1) == pytest.approx(0.1)


@given(st.integers(0, 2**62), st.integers(1, 40), st.integers(1, 60))
def test_batches_are_permutations_an_epoch(seed: int, batch: int, rows: int) -> None:
    stream = np.concatenate([batch_rows(seed, step, batch, rows) for step in range(-(-3 * rows // batch))])
    for epoch in range(3):
        assert sorted(stream[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


def test_rows_of_another_length_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.bin"
    np.arange(4 * 17, dtype=np.uint16).tofile(path)
    assert PackedRows(path, 16).rows[1, 0] == 17
    with pytest.raises(InputError, match="seq_len"):
        PackedRows(path, 32)


def test_fingerprints_tell_params_apart() -> None:
    one = fingerprint({"lr": 0.1, "inputs": {"a": "x"}})
    assert one == fingerprint({"inputs": {"a": "x"}, "lr": 0.1}) and len(one) == 16
    assert one != fingerprint({"lr": 0.2, "inputs": {"a": "x"}})


def test_a_held_checkpoint_is_refused() -> None:
    state = TrainingState("test", "0" * 16)
    with pytest.raises(ResourceError, match="another process"):
        TrainingState("test", "0" * 16)
    state.close()
    TrainingState("test", "0" * 16).discard()


def test_specials_are_as_documented() -> None:
    assert chat.SPECIALS == ("<|pad|>", "<|bos|>", "<|user|>", "<|assistant|>", "<|end|>")


class Carried:
    """A number that the loss depends on, beside model and optimizer."""

    def __init__(self) -> None:
        self.value = 1.0

    def state_dict(self) -> dict[str, float]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.value = state["value"]


def carrying(carried: Carried, stop_at: int, **how: object):
    """A run whose loss is scaled by what is carried; ended by its loss function at a step."""

    def loss(model: torch.nn.Module, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        if step == stop_at:
            raise StopTraining(f"step {step}: enough")
        carried.value *= 1.1
        value, report = counting(model, step)
        return value * carried.value, report | ({"scale": carried.value} if step % 4 == 0 else {})

    torch.manual_seed(0)
    model = build_model(tiny(), 0)
    optimizer = build_optimizer(model, 0.02, kind="adamw")
    found = train(model, optimizer, lambda step: 1.0, loss, STEPS, name="test", carried={"scale": carried}, **how)  # type: ignore[arg-type]
    return model, found


def test_what_is_carried_is_saved_and_a_loss_function_may_end_the_run() -> None:
    whole, expected = carrying(Carried(), 10)
    assert expected.stopped == "step 10: enough" and len(expected.rows) == 10
    keeping = {"fingerprint": "f" * 16, "checkpoint_every": 3}

    def die(done: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carrying(Carried(), 10, on_step=die, **keeping)
    model, found = carrying(Carried(), 10, **keeping)
    assert found.rows == expected.rows and found.stopped == expected.stopped
    assert all(map(torch.equal, model.state_dict().values(), whole.state_dict().values()))


def test_checkpoints_by_the_clock_come_when_enough_time_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [between_checkpoints(took) for took in (0.0, 0.2, 0.5, 1.2, 3.0, 5.0)] == [15, 15, 25, 60, 60, 100]
    now, saved = [0.0], []
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    save = TrainingState.save

    def slow(self: TrainingState, state: dict) -> None:
        now[0] += 0.5  # so that 25 seconds are to go by
        saved.append(state["step"])
        save(self, state)

    def step(done: int) -> None:
        now[0] += 9.0

    monkeypatch.setattr(TrainingState, "save", slow)
    carrying(Carried(), -1, on_step=step, fingerprint="f" * 16, checkpoint_every=1, by_clock=True)
    assert saved == [2, 5, 8, 11, 12]


def test_the_progress_line_shows_what_was_last_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[float] = []
    monkeypatch.setattr(loop.Progress, "advance", lambda self, count, **values: shown.append(values["scale"]))
    _, found = carrying(Carried(), -1, shown=("scale", "never reported"))
    reported = [row["scale"] for row in found.rows if "scale" in row]
    assert shown == [value for value in reported for _ in range(4)]
