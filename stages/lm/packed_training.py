"""A training run on packed rows: what the ladder, pretraining, its finishes and the contamination probe share."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stages.base.workers import worker_count
from stages.lm import distributed
from stages.lm.build import LanguageModel
from stages.lm.checkpoint import fingerprint
from stages.lm.compile import CompiledModel, compiled, wanted
from stages.lm.config import ModelConfig
from stages.lm.device import autocast, device, set_threads, training_dtype
from stages.lm.loop import TrainResult, train
from stages.lm.loss import next_token_loss
from stages.lm.memory import StepMemory, require_memory, step_memory
from stages.lm.optim import optimizer_for
from stages.lm.shards import ShardedGradient, possible_processes

if TYPE_CHECKING:
    from stages.base.recipe import Recipe

MICRO_ROWS = "recipe.micro_rows"


@dataclass(frozen=True)
class Batches:
    """What a run reads: batch(step) is token rows [rows, seq_len + 1], whatever processes there are. Padding is no
    target.
    """

    batch: Callable[[int], np.ndarray]
    rows: int
    seq_len: int
    pad_id: int
    bos_id: int


class PackedTraining:
    """A model on its way through `steps` batches, by a recipe.

    Made, it has checked the memory (ResourceError naming `at_fault`), compiled the model where that is wanted and
    works, and built the optimizer, at the peak rate `lr` (the recipe's). shards: parts of a batch whose gradients are
    summed in a fixed order (`lm.shards`), by as many processes as there are cores for; started by torchrun, its
    processes share the rows instead. micro_rows: rows computed at once (the recipe's). silent: no progress line.
    """

    def __init__(
        self,
        model: LanguageModel,
        recipe: "Recipe",
        batches: Batches,
        steps: int,
        *,
        lr: float | None = None,
        shards: int = 1,
        micro_rows: int | None = None,
        at_fault: str = MICRO_ROWS,
        silent: bool = False,
    ) -> None:
        set_threads()
        self.dtype = training_dtype(recipe.precision)
        distributed.shard(model, self.dtype)
        self.model, self.recipe, self.batches, self.silent = model.train(), recipe, batches, silent
        self.micro_rows = micro_rows or recipe.micro_rows
        self.flops_per_token = model.config.flops_per_token(batches.seq_len)
        self._bos_id = batches.bos_id if recipe.document_mask else None
        self._shards = min(shards, batches.rows) if distributed.world() == 1 else 1
        self.processes = possible_processes(min(self._shards, worker_count()))
        flops = steps * batches.rows * batches.seq_len * self.flops_per_token
        to_compile = wanted(recipe.compile, device().type, flops)
        needed = memory_of(
            model.config, recipe, batches.seq_len, self.micro_rows, self._shards, self.processes, to_compile
        )
        require_memory(needed, device(), at_fault, "lower it, or plan a smaller model")
        self._compiled = self._compile() if to_compile else None
        if self._compiled is not None:
            self.processes = 1
        self.optimizer = optimizer_for(model, recipe, recipe.lr if lr is None else lr)
        self._gradient: ShardedGradient | None = None
        if self._shards > 1:
            weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
            self._gradient = ShardedGradient(weights, self._shard, self._shards, self.processes)

    def __enter__(self) -> "PackedTraining":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._gradient is not None:
            self._gradient.close()

    def train(
        self,
        schedule: Callable[[int], float],
        until: int,
        *,
        name: str,
        facts: dict[str, Any],
        checkpoint_every: int = 0,
        first: int = 0,
        label: str | None = None,
        log: Path | None = None,
        on_step: Callable[[int], None] | None = None,
        trained: bool = False,
    ) -> TrainResult:
        """Steps `first` to `until` − 1, at schedule(step) of the peak rate. facts: what the run is a function of,
        beside the machine (`StageRun.facts`); a checkpoint of other facts is another run's. trained: the model has
        learned something before. The rest is `lm.loop.train`'s.
        """
        return train(
            self.model,
            self.optimizer,
            schedule,
            self._loss,
            until,
            name=name,
            fingerprint=fingerprint(facts | {"compiled": self._compiled is not None}),
            checkpoint_every=checkpoint_every,
            log=log,
            clip=self.recipe.clip,
            label=label,
            first=first,
            on_step=on_step,
            flops_per_token=None if self.silent else self.flops_per_token,
            dtype=self.dtype,
            processes=self.processes,
            silent=self.silent,
            uniform=math.log(self.model.config.vocab_size) if trained else None,
        )

    def _loss(self, model: LanguageModel, step: int) -> tuple[Tensor | None, dict[str, float]]:
        if self._gradient is not None:
            return None, self._gradient(step)
        rows = distributed.share_rows(self.batches.batch(step), self.batches.pad_id)
        return self._next_token_loss(self._compiled or model, rows, None)

    def _shard(self, step: int, shard: int) -> dict[str, float]:
        """Leaves the gradients of one shard of the batch; returns its part of the loss, and its tokens."""
        rows = self.batches.batch(step)
        targets = int(np.count_nonzero(rows[:, 1:] != self.batches.pad_id))
        own = rows[shard :: self._shards]
        with autocast(self.dtype):
            loss, report = self._next_token_loss(self._compiled or self.model, own, targets)
        loss.backward()
        return report | {"tokens": float(np.count_nonzero(own[:, 1:] != self.batches.pad_id))}

    def _next_token_loss(
        self, model: LanguageModel | CompiledModel, rows: np.ndarray, targets: int | None
    ) -> tuple[Tensor, dict[str, float]]:
        ids = torch.from_numpy(rows.astype(np.int64)).to(device())
        mask = ids != self.batches.pad_id
        return next_token_loss(
            model, ids, mask, self.micro_rows, bos_id=self._bos_id, z_loss=self.recipe.z_loss, targets=targets
        )

    def _compile(self) -> CompiledModel | None:
        """Whether a run is compiled belongs to its identity, so it is settled before the first step."""
        view = compiled(self.model, self._example_losses, self.dtype)
        distributed.require_same("whether the model is compiled", view is not None)
        return view

    def _example_losses(self, view: CompiledModel) -> Iterator[Tensor]:
        """Of steps on padding: of every number of rows that this process, or one of its shards, has of a batch."""
        parts = distributed.world() * self._shards
        for rows in {-(-(self.batches.rows - part) // parts) for part in range(self._shards)}:
            example = np.full((rows, self.batches.seq_len + 1), self.batches.pad_id)
            yield self._next_token_loss(view, example, rows * self.batches.seq_len)[0]


def memory_of(
    config: ModelConfig,
    recipe: "Recipe",
    seq_len: int,
    micro_rows: int,
    shards: int = 1,
    computing: int = 1,
    compiled: bool = False,
) -> StepMemory:
    """Estimate for this process and its helpers."""
    return step_memory(
        config,
        micro_rows * seq_len,
        recipe.optimizer,
        training_dtype(recipe.precision),
        device().type,
        processes=distributed.world() if distributed.strategy() == "fsdp" else 1,
        shards=shards,
        computing=computing,
        compiled=compiled,
    )
