"""A policy that answers, and learns from its answers, round after round: the loop of PPO and GRPO."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from stages.alignment.data.records import Instruction, of_split
from stages.alignment.learning.selection import Checkpoint
from stages.alignment.learning.tuning import BatchLoss, Report, Tuning, evenly, optimise, sharded
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import StageRun
from stages.base.seeds import derive
from stages.lm.chat import ChatTokenizer
from stages.lm.checkpoint import Stateful
from stages.lm.loop import TrainResult
from stages.lm.shards import ShardedGradient


@dataclass(frozen=True)
class Round:
    """What was answered and found, to be learned from in as many updates as there are batches."""

    loss: BatchLoss
    batches: Sequence[list[int]]
    weights: Sequence[float]  # of each example in the mean of its batch
    report: Report  # for the row of the first update


class Improvement:
    """`roll_out(iteration)` answers prompts with the model as it is; `updates` updates follow each time. It may raise
    StopTraining."""

    def __init__(self, model: nn.Module, roll_out: Callable[[int], Round], *, iterations: int, updates: int) -> None:
        self.model, self.roll_out = model, roll_out
        self.iterations, self.updates = iterations, updates
        self._shards = 1
        self._gradient: ShardedGradient | None = None

    def train(
        self,
        optimizer: torch.optim.Optimizer,
        clip: float,
        validations: int,
        tuning: Tuning[Section],
        on_checkpoint: Callable[[int], None],
        carried: Mapping[str, Stateful],
    ) -> TrainResult:
        """Train the model in place; one row an update. `on_checkpoint(step)` is called after whole iterations,
        `validations` times at equal distances. A run that was killed goes on with a whole iteration; carried: what it
        must have as it was."""
        self._shards = tuning.shards
        try:
            return optimise(
                self.model,
                optimizer,
                self._step,
                self.iterations * self.updates,
                lambda step: 1.0,
                clip,
                tuning=tuning,
                checkpoints={done * self.updates for done in evenly(self.iterations, validations)},
                on_checkpoint=on_checkpoint,
                carried=carried,
                every=self.updates,
                rests=True,
            )
        finally:
            self._close()

    def _step(self, step: int) -> Report:
        iteration, update = divmod(step, self.updates)
        report: Report = {}
        if update == 0:
            self._close()
            self.model.eval()
            found = self.roll_out(iteration)
            self.model.train()
            # Its processes are forked here, so that they have what was answered.
            self._gradient = sharded(self.model, found.loss, found.batches, found.weights, self._shards)
            report = {"iteration": iteration, **found.report}
        assert self._gradient is not None
        return self._gradient(update) | report

    def _close(self) -> None:
        if self._gradient is not None:
            self._gradient.close()
            self._gradient = None


def note_stop(run: StageRun[Any], result: TrainResult, best: Checkpoint) -> None:
    """Record and say why training ended early, if it did, and what is kept."""
    run.note("stopped", result.stopped)
    if result.stopped is not None:
        kept = f"the checkpoint of step {best.step}" if best.step >= 0 else "the SFT model"
        print(f"{run.name}: stopped at {result.stopped}; {kept} is kept", file=sys.stderr)


def minibatches(count: int, size: int, epochs: int, seed: int) -> list[list[int]]:
    """Indices of each update of one iteration: every example once an epoch, in seeded order."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(count).tolist() for _ in range(epochs)]
    return [order[at : at + size] for order in orders for at in range(0, count, size)]


def asked_in(iteration: int, count: int, of: int, seed: int) -> list[int]:
    """Which `count` of the `of` prompts are answered in an iteration: none twice before each was once."""
    order = np.random.default_rng(derive(seed, "prompts", iteration)).permutation(np.arange(max(count, of)) % of)
    return order[:count].tolist()


def prompted(instructions: Sequence[Instruction]) -> list[Instruction]:
    """Those of the preference split; of the sft split where there is none."""
    return [row for row in instructions if row.split == "preference"] or of_split(instructions, "sft")


def with_room(rows: Sequence[Instruction], tokenizer: ChatTokenizer, limit: int) -> list[Instruction]:
    """Those whose prompts leave room for an answer in a context of `limit` tokens. InputError where none does."""
    found = [row for row in rows if len(tokenizer.encode_prompt(row.asked)) < limit]
    if not found:
        raise InputError(
            f"none of {len(rows)} prompts leaves room for an answer in the model's context of {limit} tokens"
        )
    return found
