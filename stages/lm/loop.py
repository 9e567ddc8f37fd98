"""One training loop for pretraining, the scaling ladder, SFT, DPO, reward models and PPO."""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor, nn

from stages.base.errors import TrainyardError
from stages.base.files import write_json
from stages.base.progress import Progress
from stages.base.signals import Stopped, held_back
from stages.lm import distributed
from stages.lm.checkpoint import Stateful, TrainingState, capture, restore
from stages.lm.device import autocast, set_threads
from stages.lm.optim import set_lr
from stages.lm.speed import Speedometer

LossFunction = Callable[[Any, int], tuple[Tensor | None, dict[str, float]]]
TIMINGS = Path(".trainyard/timings")
GROWING = "TRAINYARD_STEPS"  # environment: folder of the logs that a tracker reads while training runs


class DivergedError(TrainyardError):
    """The loss or the gradient is no longer a number."""


class NothingLearnedError(TrainyardError):
    """A loss or a gradient that only damaged weights or rows without targets give."""


class StopTraining(Exception):
    """A loss function raises it, before it has changed anything, to end training after the steps that are done."""


@dataclass
class TrainResult:
    """rows: one dict a step (step, loss, lr, grad_norm, and what the loss function reported), pure values, ready for
    JSONL. stopped: why a loss function ended it; None where all steps were done.
    """

    rows: list[dict[str, float]]
    seconds: float  # of this process's own steps; for timings only, never for a tracked output
    tokens_per_second: float
    state: TrainingState | None
    stopped: str | None = None

    def discard(self) -> None:
        """Remove the checkpoint, once the trained model has been written."""
        if self.state is not None:
            self.state.discard()
            self.state = None


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int], float],
    loss_fn: LossFunction,
    steps: int,
    *,
    name: str,
    fingerprint: str | None = None,
    checkpoint_every: int = 0,
    by_clock: bool = False,
    carried: Mapping[str, Stateful] | None = None,
    log: Path | None = None,
    clip: float = 1.0,
    label: str | None = None,
    first: int = 0,
    on_step: Callable[[int], None] | None = None,
    flops_per_token: float | None = None,
    dtype: torch.dtype | None = None,
    processes: int = 1,
    shown: Sequence[str] = (),
    silent: bool = False,
    rests: bool = False,
    uniform: float | None = None,
) -> TrainResult:
    """Train from step `first` (0) up to `steps`, resuming a matching checkpoint first.

    schedule(step) is the learning-rate multiplier of step 0 .. steps - 1. loss_fn(model, step) returns the loss to
    backpropagate and plain numbers to log; it must be a pure function of the model, the step and torch's RNG, which
    makes a resumed run bitwise equal to an uninterrupted one. It may backpropagate micro-batches itself, all of them if
    it returns None, and report the whole as "loss"; a "tokens" entry feeds the tokens per second; `StopTraining` ends
    the run. With a fingerprint and checkpoint_every > 0 the state is saved under
    `.trainyard/checkpoints/<name>/<fingerprint>/` every that many steps and at the end; by_clock: at those of them that
    come long enough after the last. The caller calls `discard()` when its outputs are written. carried: what is saved
    and restored beside model and optimizer. clip: largest gradient norm, 0 for none. log: a JSONL file that grows as
    training runs. on_step(done) is called after every step, before any checkpoint; it is not called again for steps
    that a resumed run skips. flops_per_token: of the model, for the MFU of the progress line and the timings. dtype: of
    matrix products (`lm.device.training_dtype`); by default bf16 on CUDA and fp32 on a CPU. processes: those that
    compute the loss here, for the MFU. silent: no progress line. rests: a step may have a gradient of exactly zero, as
    where all rewards are alike. uniform: the loss of a model that holds all tokens equally likely, ln V, where training
    begins with one that has learned something.

    In several processes (`distributed.processes`) the loss and the gradient are the means over them; a loss function
    that weights its rows by world / count of the whole batch (`next_token_loss`) thus gives what one process gives. The
    log, the checkpoints and the progress line are rank 0's.

    SIGTERM and SIGINT are heeded at the end of a step, after a checkpoint; a second one at once. Raises Stopped then;
    DivergedError naming the step and the param; NothingLearnedError for a gradient of exactly zero, or a loss of
    exactly `uniform`; ResourceError if another process trains this very run; PeerError if one of those that train it
    together is lost.
    """
    set_threads()
    state = TrainingState(name, fingerprint) if fingerprint and checkpoint_every > 0 else None
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    start = first
    rows: list[dict[str, float]] = []
    latest: dict[str, float] = {}
    carried, stopped = carried or {}, None
    with _closed_on_error(state), distributed.peer_errors(name), contextlib.ExitStack() as opened:
        saved = state.load() if state else None
        if saved is not None:
            start, rows = restore(saved, model, optimizer, carried)
        distributed.require_same("what they train", (name, fingerprint, start))
        log_row = opened.enter_context(_logs(name, log, rows))
        speed = Speedometer(flops_per_token if start < steps else None, processes)
        call = distributed.caller(model)
        model.train()
        bar = opened.enter_context(Progress(steps - first, label or name, unit="steps", silent=silent))
        bar.start_at(start - first)
        clock, asked = _Clock(), opened.enter_context(held_back())
        for step in range(start, steps):
            rate = set_lr(optimizer, schedule(step))
            try:
                with autocast(dtype):
                    loss, report = call(loss_fn, step)
            except StopTraining as reason:
                stopped = str(reason)
                break
            if loss is not None:
                loss.backward()
            norm = _clip(parameters, clip)
            value = report.pop("loss", None)
            value = distributed.mean(loss.item() if value is None else value)  # type: ignore[union-attr]
            if not (math.isfinite(value) and math.isfinite(norm)):
                raise DivergedError(
                    f"{name}: loss {value:.4g}, gradient norm {norm:.4g} at step {step} of {steps}; lower the "
                    f"learning rate ({rate:.3g} here) or lengthen the warm-up{_last_good(state)}"
                )
            uninformed = uniform is not None and math.isclose(value, uniform, rel_tol=1e-6)
            if uninformed or (norm == 0.0 and not rests):
                told = f"the loss is exactly ln V, {value:.4f}" if uninformed else "the gradient is exactly 0"
                raise NothingLearnedError(
                    f"{name}: {told} at step {step} of {steps}: the weights that it starts with are damaged, or its "
                    "rows have no targets; `trainyard verify` names damaged files: remove them and run `dvc repro`"
                )
            with autocast(dtype):  # of Muon's products
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            speed.add(report.pop("tokens", 0.0))
            rows.append({"step": step, "loss": value, "lr": rate, "grad_norm": norm, **report})
            log_row(rows[-1])
            if on_step is not None:
                on_step(step + 1)
            signals = [number for number in distributed.every(asked()) if number is not None]
            whole = state is not None and (step + 1) % checkpoint_every == 0
            due = (whole and not (by_clock and clock.early())) or (bool(signals) and (whole or not by_clock))
            if state and (due or step + 1 == steps):
                with clock:
                    snapshot = capture(model, optimizer, step + 1, rows, carried)
                    if snapshot is not None:
                        state.save(snapshot)
            if signals:
                raise Stopped(signals[0])
            latest |= {name: report[name] for name in shown if name in report}
            bar.advance(1, loss=value, **latest, **speed.shown())
        timings = speed.timings()
    if distributed.rank() == 0:
        write_json(TIMINGS / f"{name}.train.json", {"steps": steps - start} | timings)
    return TrainResult(rows, timings["seconds"], timings["tokens_per_second"], state, stopped)


def between_checkpoints(took: float) -> float:
    """Seconds from one checkpoint by the clock to the next, where the last took `took`: 15 at least; 50 times as long,
    for 2 % of the time, up to a minute; beyond that 20 times as long, for 5 %."""
    return max(15.0, min(50 * took, 60.0), 20 * took)


class _Clock:
    """`with clock:` around a checkpoint; in between it says whether it is too early for another."""

    def __init__(self) -> None:
        self.last, self.took = time.monotonic(), 0.0

    def early(self) -> bool:
        """The same in all processes that train together."""
        return distributed.every(time.monotonic() - self.last < between_checkpoints(self.took))[0]

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.last = time.monotonic()
        self.took = self.last - self._start


@contextlib.contextmanager
def _closed_on_error(state: TrainingState | None) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if state:
            state.close()
        raise


def _last_good(state: TrainingState | None) -> str:
    return f"; {state.path} holds the last good state" if state and state.path.exists() else ""


def _clip(parameters: Sequence[Tensor], clip: float) -> float:
    """Scale the gradients to a norm of at most `clip`; returns their norm before."""
    gradients = [distributed.local(parameter.grad) for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return 0.0
    norm = torch.stack(torch._foreach_norm(gradients)).norm().item()
    if distributed.strategy() == "fsdp":  # each process has its rows only
        norm = math.sqrt(distributed.total(norm**2))
    if clip > 0 and math.isfinite(norm) and norm > clip:
        torch._foreach_mul_(gradients, clip / norm)
    return norm


@contextlib.contextmanager
def _logs(name: str, log: Path | None, rows: list[dict[str, float]]) -> Iterator[Callable[[dict[str, float]], None]]:
    """A function that adds a row to `log` and, with the time in milliseconds since 1970, to the tracker's file, which
    goes on where a stage trains several times by one name. Both begin with the rows that a resumed run has behind it.
    """
    folder = Path(os.environ.get(GROWING, ""))
    with contextlib.ExitStack() as opened:
        files: list[tuple[TextIO, bool]] = []
        if log is not None and distributed.rank() == 0:
            log.parent.mkdir(parents=True, exist_ok=True)
            files.append((opened.enter_context(log.open("w", encoding="utf-8")), False))
        if GROWING in os.environ and folder.is_dir():
            files.append((opened.enter_context((folder / f"{name}.jsonl").open("a", encoding="utf-8")), True))

        def write(row: dict[str, float]) -> None:
            for file, dated in files:
                when = {"time": round(1000 * time.time())} if dated else {}
                file.write(json.dumps(row | when, sort_keys=True) + "\n")
                file.flush()

        for row in rows:
            write(row)
        yield write
