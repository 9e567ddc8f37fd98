"""One tuning run: batches of similar lengths, optimizer, rate schedule, clipping, and pauses for validation."""

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from stages.alignment.learning.batches import bucketed
from stages.base.params import Section
from stages.base.recipe import Run
from stages.base.record import StageRun
from stages.base.workers import worker_count
from stages.lm.checkpoint import Stateful, fingerprint
from stages.lm.loop import TrainResult, train
from stages.lm.optim import build_optimizer
from stages.lm.rates import Kind, Rates, cosine
from stages.lm.shards import ShardedGradient, possible_processes

Report = dict[str, float]
BatchLoss = Callable[[list[int]], tuple[Tensor, Report]]  # indices of examples → means over them; "tokens" is a sum
SHOWN = ("reward", "kl", "accuracy", "margin")  # in the progress line, where a method reports them


class TuningParams(Section):
    """How weights are tuned on examples."""

    epochs: Annotated[int, Field(ge=1)]
    """Passes over the examples."""
    batch_size: Annotated[int, Field(ge=1)]
    """Examples (SFT) or pairs (DPO, reward) of a step."""
    lr: Annotated[float, Field(gt=0)]
    """Peak learning rate; half a cosine from there to zero."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Decoupled, of matrices."""
    warmup: Annotated[float, Field(ge=0, le=1)]
    """Share of the steps over which the rate rises."""
    clip: Annotated[float, Field(ge=0)]
    """Largest gradient norm, 0 for none."""
    max_drop: Annotated[float, Field(ge=0, lt=1)]
    """Largest share of the examples that may be left out as longer than the model's context: cut, they would teach
    answers without an end."""


P = TypeVar("P", bound=Section, covariant=True)


@dataclass(frozen=True)
class Tuning(Generic[P]):
    """A run's params and identity. shards: parts of a batch whose gradients are summed in a fixed order, by as many
    processes as there are workers. run: the stage's, by whose facts a run that was killed is found and goes on; None:
    nothing is kept. setting: what this training differs in from others by the same name, beside the params."""

    params: P
    seed: int
    shards: int
    name: str
    run: StageRun[Any] | None = None
    setting: Mapping[str, float] = field(default_factory=dict)


def tuning_of(run: StageRun[P]) -> Tuning[P]:
    return Tuning(run.params, run.seed, run.section("run", Run).shards, run.name, run)


def tune(
    model: nn.Module,
    loss: BatchLoss,
    lengths: Sequence[int],
    weights: Sequence[float],
    tuning: Tuning[TuningParams],
    *,
    kind: Kind = "adamw",
    rates: Rates | None = None,
    validations: int = 0,
    on_checkpoint: Callable[[int], None] | None = None,
    carried: Mapping[str, Stateful] | None = None,
    uniform: float | None = None,
) -> list[Report]:
    """Train `model` in place on examples of these lengths, every example once an epoch; one row a step.

    weights: how much of a batch's mean each example is. `on_checkpoint(step)` is called `validations` times at equal
    distances, the last step included. carried: what else a run that goes on after a kill must have as it was.
    uniform: see `lm.loop.train`.
    """
    params = tuning.params
    batches = [
        batch for epoch in range(params.epochs) for batch in bucketed(lengths, params.batch_size, tuning.seed, epoch)
    ]
    steps, warmup = len(batches), round(params.warmup * len(batches))
    with contextlib.closing(sharded(model, loss, batches, weights, tuning.shards)) as gradient:
        return optimise(
            model,
            build_optimizer(model, rates or params.lr, kind=kind, weight_decay=params.weight_decay),
            gradient,
            steps,
            lambda step: cosine(step, steps, warmup),
            params.clip,
            tuning=tuning,
            checkpoints=evenly(steps, validations),
            on_checkpoint=on_checkpoint,
            carried=carried,
            uniform=uniform,
        ).rows


def sharded(
    model: nn.Module, loss: BatchLoss, batches: Sequence[list[int]], weights: Sequence[float], shards: int
) -> ShardedGradient:
    """What leaves the gradient of `batches[step]` on the parameters, and reports its means."""

    def compute(step: int, shard: int) -> Report:
        batch = batches[step]
        part = batch[shard::shards]
        share = sum(weights[index] for index in part) / sum(weights[index] for index in batch)
        mean, report = loss(part or batch[:1])  # an empty part has the names of the numbers, too, but no share
        (mean * share).backward()
        tokens = report.pop("tokens")
        return {"loss": mean.item() * share, "tokens": tokens} | {key: value * share for key, value in report.items()}

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return ShardedGradient(parameters, compute, shards, possible_processes(worker_count()))


def evenly(steps: int, count: int) -> set[int]:
    """How many of `steps` are done at each of `count` checkpoints; fewer where there are fewer steps."""
    return {round(steps * (k + 1) / count) for k in range(count)} - {0}


def optimise(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    gradient: Callable[[int], Report],
    steps: int,
    schedule: Callable[[int], float],
    clip: float,
    *,
    tuning: Tuning[Section],
    checkpoints: Collection[int],
    on_checkpoint: Callable[[int], None] | None,
    carried: Mapping[str, Stateful] | None = None,
    every: int = 1,
    rests: bool = False,
    uniform: float | None = None,
) -> TrainResult:
    """Train `model` in place and leave it in eval mode; one row a step.

    `gradient(step)` leaves a step's gradient on the parameters. `on_checkpoint(step)` is called when as many steps are
    done as `checkpoints` says, the model in eval mode. A run that was killed goes on where its state was last saved:
    after a multiple of `every` steps, some seconds to a minute ago (`lm.loop`). rests, uniform: see there.
    """

    def pause(done: int) -> None:
        if on_checkpoint is not None and done in checkpoints:
            model.eval()
            on_checkpoint(done - 1)
            model.train()

    run = tuning.run
    result = train(
        model,
        optimizer,
        schedule,
        lambda _, step: (None, gradient(step)),
        steps,
        name=tuning.name,
        fingerprint=fingerprint({**run.facts(), "setting": dict(tuning.setting)}) if run else None,
        checkpoint_every=every,
        by_clock=True,
        carried=carried,
        clip=clip,
        on_step=pause,
        shown=SHOWN,
        rests=rests,
        uniform=uniform,
    )
    if run is not None:
        run.when_done(result.discard)
    model.eval()
    return result
