"""One training loop for pretraining, the scaling ladder, SFT, DPO, reward models and PPO."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.base.errors import TrainyardError
from stages.base.files import write_json
from stages.base.progress import Progress
from stages.lm.checkpoint import TrainingState, capture, restore
from stages.lm.device import autocast, set_threads
from stages.lm.optim import set_lr

LossFunction = Callable[[Any, int], tuple[Tensor, dict[str, float]]]
TIMINGS = Path(".trainyard/timings")


class DivergedError(TrainyardError):
    """The loss or the gradient is no longer a number."""


@dataclass
class TrainResult:
    """rows: one dict a step (step, loss, lr, grad_norm, and what the loss function reported), pure values, ready for
    JSONL.
    """

    rows: list[dict[str, float]]
    seconds: float  # of this process's own steps; for timings only, never for a tracked output
    tokens_per_second: float
    state: TrainingState | None

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
    log: Path | None = None,
    clip: float = 1.0,
    label: str | None = None,
    first: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> TrainResult:
    """Train from step `first` (0) up to `steps`, resuming a matching checkpoint first.

    schedule(step) is the learning-rate multiplier of step 0 .. steps - 1. loss_fn(model, step) returns the loss to
    backpropagate and plain numbers to log; it must be a pure function of the model, the step and torch's RNG, which
    makes a resumed run bitwise equal to an uninterrupted one. It may backpropagate micro-batches itself and report the
    whole as "loss"; a "tokens" entry feeds the tokens per second. With a fingerprint and checkpoint_every > 0 the state
    is saved under `.trainyard/checkpoints/<name>/<fingerprint>/` every that many steps and at the end; the caller calls
    `discard()` when its outputs are written. clip: largest gradient norm, 0 for none. log: a JSONL file that grows as
    training runs. on_step(done) is called after every step, before any checkpoint; it is not called again for steps
    that a resumed run skips.

    Raises DivergedError naming the step; ResourceError if another process trains this very run.
    """
    set_threads()
    state = TrainingState(name, fingerprint) if fingerprint and checkpoint_every > 0 else None
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    start = first
    rows: list[dict[str, float]] = []
    try:
        saved = state.load() if state else None
        if saved is not None:
            start, rows = restore(saved, model, optimizer)
        lines = _open_log(log, rows)
        tokens, began = 0.0, time.monotonic()
        model.train()
        with Progress(steps - first, label or name, unit="steps") as bar:
            bar.start_at(start - first)
            for step in range(start, steps):
                rate = set_lr(optimizer, schedule(step))
                with autocast():
                    loss, report = loss_fn(model, step)
                loss.backward()
                norm = _clip(parameters, clip)
                value = report.pop("loss", None)
                value = loss.item() if value is None else value
                if not (math.isfinite(value) and math.isfinite(norm)):
                    raise DivergedError(
                        f"{name}: loss {value:.4g}, gradient norm {norm:.4g} at step {step} of {steps}; "
                        f"lower the learning rate ({rate:.3g} here) or lengthen the warm-up"
                    )
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                count = report.pop("tokens", 0.0)
                tokens += count
                rows.append({"step": step, "loss": value, "lr": rate, "grad_norm": norm, **report})
                if lines is not None:
                    lines.write(json.dumps(rows[-1], sort_keys=True) + "\n")
                    lines.flush()
                if on_step is not None:
                    on_step(step + 1)
                if state and (step + 1 == steps or (step + 1) % checkpoint_every == 0):
                    state.save(capture(model, optimizer, step + 1, rows))
                seconds = time.monotonic() - began
                bar.advance(1, loss=value, **({"tok/s": tokens / seconds} if tokens else {}))
        seconds = time.monotonic() - began
        if lines is not None:
            lines.close()
    except BaseException:
        if state:
            state.close()
        raise
    speed = tokens / seconds if seconds > 0 else 0.0
    write_json(
        TIMINGS / f"{name}.train.json",
        {"steps": steps - start, "seconds": seconds, "tokens_per_second": speed, "threads": torch.get_num_threads()},
    )
    return TrainResult(rows, seconds, speed, state)


def _clip(parameters: Sequence[Tensor], clip: float) -> float:
    """Scale the gradients to a norm of at most `clip`; returns their norm before."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return 0.0
    norm = torch.stack(torch._foreach_norm(gradients)).norm().item()
    if clip > 0 and math.isfinite(norm) and norm > clip:
        torch._foreach_mul_(gradients, clip / norm)
    return norm


def _open_log(log: Path | None, rows: list[dict[str, float]]) -> Any:
    if log is None:
        return None
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = log.open("w", encoding="utf-8")
    lines.writelines(json.dumps(row, sort_keys=True) + "\n" for row in rows)
    return lines
