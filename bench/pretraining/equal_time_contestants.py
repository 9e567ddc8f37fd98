"""The contestants of `equal_time.py`: each project's own model, initial weights, optimizer and schedule.

All have 4 layers of width 128 with 4 heads and nearly the same number of weights in the blocks. All run compiled, with
matrix products in bf16 where the CPU multiplies it, which makes every one of them faster; the peers' scripts would
stay with fp32 there. What those scripts compute (rates, schedules) is stated here in their terms.
"""

import contextlib
import math
import os
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.pretraining.equal_time_rows import CONTEXT, VOCABULARY
from stages.lm.device import multiplies_bf16

LAYERS, WIDTH, HEADS, BATCH_ROWS = 4, 128, 4, 4
BATCH_TOKENS = BATCH_ROWS * CONTEXT
IGNORED = -1  # a target that doesn't count, for both peers


class Contestant(ABC):
    """A model and its training step."""

    model: nn.Module
    optimizer: Any
    lr: float
    embeddings: tuple[str, ...]  # what N without embeddings leaves out, by the start of the parameters' names
    clip = 1.0
    dtype = torch.bfloat16 if multiplies_bf16() else torch.float32

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    @abstractmethod
    def new_optimizer(self) -> Any: ...

    @abstractmethod
    def set_rates(self, step: int, total: int) -> None:
        """What the schedule says at `step` of a run of `total` steps."""

    @abstractmethod
    def loss(self, rows: Tensor, pad: int) -> Tensor:
        """Mean over the targets of rows [B, T + 1] that aren't padding."""

    @abstractmethod
    def logits(self, inputs: Tensor) -> Tensor:
        """[B, T, V] of ids [B, T], uncompiled."""

    def step(self, rows: Tensor, pad: int, step: int, total: int) -> float:
        """One training step; returns the loss."""
        self.set_rates(step, total)
        with self.autocast():
            loss = self.loss(rows, pad)
        loss.backward()
        if self.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        with self.autocast():
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    @torch.no_grad()
    def nats(self, rows: np.ndarray, excluded: tuple[int, ...]) -> tuple[float, int]:
        """Summed cross-entropy of rows [n, T + 1] over the targets that aren't `excluded` ids, and their number."""
        self.model.eval()
        total, count = 0.0, 0
        for part in torch.from_numpy(rows.astype(np.int64)).split(16):
            targets = part[:, 1:].flatten()
            counted = ~torch.isin(targets, torch.tensor(excluded))
            logits = self.logits(part[:, :-1].contiguous()).flatten(0, 1)[counted].float()
            total += F.cross_entropy(logits, targets[counted], reduction="sum").double().item()
            count += int(counted.sum())
        self.model.train()
        return total, count

    def counts(self) -> dict[str, int]:
        sizes = {name: parameter.numel() for name, parameter in self.model.named_parameters()}
        rest = [size for name, size in sizes.items() if not name.startswith(self.embeddings)]
        return {"parameters": sum(sizes.values()), "without_embeddings": sum(rest)}


def peer_targets(rows: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    targets = rows[:, 1:]
    return rows[:, :-1].contiguous(), targets.masked_fill(targets == pad, IGNORED)


class Ours(Contestant):
    """Muon for the blocks, AdamW for the rest; warm-up, constant rate, linear cooldown to zero. Compiled, as the peers.

    As the pipeline (params.yaml, pretraining.pretrain), but for a longer cooldown: nothing follows this one.
    """

    embeddings = ("embed_tokens", "lm_head")
    warmup, cooldown = 10, 0.5
    shares = SimpleNamespace(embedding=20.0, head=1.2, rest=0.5)
    recipe = SimpleNamespace(optimizer="muon", shares=shares, betas=[0.8, 0.95], weight_decay=0.0)

    def __init__(self, lr: float, seed: int) -> None:
        from stages.lm.build import build_model
        from stages.lm.compile import compiled
        from stages.lm.config import ModelConfig
        from stages.lm.device import set_threads
        from stages.lm.loss import next_token_loss

        set_threads()
        # SwiGLU's three matrices of 336 against the peers' two of 512: no more weights than theirs.
        shape = (VOCABULARY, LAYERS, WIDTH, HEADS, HEADS, 336, CONTEXT)
        config = ModelConfig("transformer", *shape, rope_theta=1e4, tie_embeddings=False, qk_norm=True, norm_eps=1e-6)
        self.lr, self.model = lr, build_model(config, seed)
        rows = torch.zeros(BATCH_ROWS, CONTEXT + 1, dtype=torch.int64)
        trial = compiled(self.model, lambda view: [next_token_loss(view, rows, rows == 0)[0]], self.dtype)
        self.compiled = trial or self.model

    def new_optimizer(self) -> Any:
        from stages.lm.optim import optimizer_for

        return optimizer_for(self.model, self.recipe, self.lr)

    def set_rates(self, step: int, total: int) -> None:
        from stages.lm.optim import set_lr
        from stages.lm.rates import wsd

        set_lr(self.optimizer, wsd(step, total, self.warmup, round(self.cooldown * total)))

    def loss(self, rows: Tensor, pad: int) -> Tensor:
        from stages.lm.loss import next_token_loss

        return next_token_loss(self.compiled, rows, rows != pad)[0]

    def logits(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)


class NanoGPT(Contestant):
    """train.py: AdamW (fused), warm-up of 100 steps, cosine to a tenth.

    Its configs ask for choices: beta2 .99 and the warm-up are those of its small models (train_shakespeare_char.py);
    no dropout and no biases, as no text is repeated; weight decay .1 is its default.
    """

    embeddings = ("transformer.wte", "transformer.wpe", "lm_head")
    warmup, floor = 100, 0.1

    def __init__(self, lr: float, seed: int, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        from model import GPT, GPTConfig

        torch.manual_seed(seed)
        self.lr, self.model = lr, GPT(GPTConfig(CONTEXT, VOCABULARY, LAYERS, HEADS, WIDTH, dropout=0.0, bias=False))
        self.compiled = torch.compile(self.model, dynamic=False)

    def new_optimizer(self) -> Any:
        # Its test for "cuda" only guards the fused kernel, which torch has for CPUs by now.
        return self.model.configure_optimizers(0.1, self.lr, (0.9, 0.99), "cuda")  # type: ignore[operator]

    def set_rates(self, step: int, total: int) -> None:
        if step < self.warmup:
            share = (step + 1) / (self.warmup + 1)
        else:
            progress = min(1.0, (step - self.warmup) / max(total - self.warmup, 1))
            share = self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * share

    def loss(self, rows: Tensor, pad: int) -> Tensor:
        return self.compiled(*peer_targets(rows, pad))[1]

    def logits(self, inputs: Tensor) -> Tensor:
        return self.model(inputs, inputs)[0]  # without targets it answers for the last position only


class NanoChat(Contestant):
    """scripts/base_train.py: Muon and AdamW with momentum, rate and decay schedules of its own, no clipping.

    `lr` is its --matrix-lr after its correction for the batch; its other rates keep their ratios to it. Its rule keeps
    rate · decay · steps at what it is for its reference model, and so does this. Full attention on every layer, as it
    recommends where its attention kernel isn't available.
    """

    embeddings = ("transformer.wte", "value_embeds", "lm_head")
    clip = 0.0
    warmup, warmdown, floor = 40, 0.65, 0.05
    reference_lr = 0.02
    rates = (("unembedding_lr", 0.008), ("embedding_lr", 0.3), ("scalar_lr", 0.5))
    # .28 at the reference rate over the steps of its reference: 12 layers of 768, 12 tokens a weight, 2^19 a step.
    decay_times_steps = 0.28 * 12 * (12 * 12 * 768**2 + VOCABULARY * 768) / 2**19

    def __init__(self, lr: float, seed: int, folder: Path) -> None:
        if self.dtype == torch.bfloat16:
            os.environ["NANOCHAT_DTYPE"] = "bfloat16"  # its own switch; it casts its weights itself
        sys.path.insert(0, str(folder))
        from nanochat.gpt import GPT, GPTConfig

        torch.manual_seed(seed)
        self.lr = lr
        self.model = GPT(GPTConfig(CONTEXT, VOCABULARY, LAYERS, HEADS, HEADS, WIDTH, window_pattern="L"))
        self.model.init_weights()  # type: ignore[operator]
        self.compiled = torch.compile(self.model, dynamic=False)

    def new_optimizer(self) -> Any:
        scale = self.lr / self.reference_lr
        rates = {name: rate * scale for name, rate in self.rates}
        return self.model.setup_optimizer(matrix_lr=self.lr, weight_decay=0.0, **rates)  # type: ignore[operator]

    def set_rates(self, step: int, total: int) -> None:
        down = max(1, round(self.warmdown * total))
        left = min(1.0, (total - step) / down)  # 1 before the cooldown, then towards 0
        share = (step + 1) / self.warmup if step < self.warmup else left + (1 - left) * self.floor
        momentum = 0.85 + 0.12 * step / 400 if step < 400 else 0.90 + 0.07 * left
        decay = self.decay_times_steps * self.reference_lr / (self.lr * total)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share
            if group["kind"] == "muon":
                group["momentum"] = momentum
                group["weight_decay"] = decay * 0.5 * (1 + math.cos(math.pi * step / total))

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def loss(self, rows: Tensor, pad: int) -> Tensor:
        return self.compiled(*peer_targets(rows, pad))

    def logits(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)
