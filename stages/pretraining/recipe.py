"""What pretraining and annealing share: the params of a step, the plan, the loss of a batch, and the measurements
after.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from stages.base.closure import code_digest
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import StageRun
from stages.lm.build import LanguageModel
from stages.lm.checkpoint import fingerprint
from stages.lm.config import ModelConfig
from stages.lm.data import PackedRows
from stages.lm.device import device, environment
from stages.lm.flops import flops_per_token
from stages.lm.loss import next_token_loss
from stages.lm.optim import MuonAdamW, build_optimizer
from stages.lm.scoring import rows_loss

PACK = "data/tokens/pack"
PLAN = "data/scaling/plan/plan.json"


class PretrainParams(Section):
    optimizer: Literal["muon", "adamw"]
    weight_decay: Annotated[float, Field(ge=0)]
    clip: Annotated[float, Field(ge=0)]  # largest gradient norm, 0 for none
    warmup_steps: Annotated[int, Field(ge=0)]
    cooldown: Annotated[float, Field(gt=0, lt=1)]  # share of the steps over which the rate falls to zero
    min_cooldown_steps: Annotated[int, Field(ge=1)]
    micro_rows: Annotated[int, Field(ge=1)]  # rows computed at once; gradients accumulate up to the plan's batch
    checkpoint_every: Annotated[int, Field(ge=0)]  # steps; 0 for none


@dataclass(frozen=True)
class Plan:
    """The part of plan.json that training needs."""

    config: ModelConfig
    tokens: int
    rows: int  # a batch
    lr: float
    predicted: float | None

    @property
    def steps(self) -> int:
        return max(1, round(self.tokens / (self.rows * self.config.max_seq_len)))


def read_plan(values: dict[str, Any], pack: dict[str, Any]) -> Plan:
    """Raises InputError if the plan was made for another tokenizer or row length."""
    config = ModelConfig.from_dict(values["model"])
    if (config.vocab_size, config.max_seq_len) != (pack["vocab_size"], pack["seq_len"]):
        raise InputError(
            f"{PLAN}: made for a vocabulary of {config.vocab_size} and rows of {config.max_seq_len}, but {PACK} has "
            f"{pack['vocab_size']} and {pack['seq_len']}; run scaling.plan again"
        )
    rows = max(1, round(values["batch_tokens"] / pack["seq_len"]))
    predicted = values.get("predicted_loss")
    return Plan(
        config, int(values["tokens"]), rows, float(values["lr"]), None if predicted is None else float(predicted)
    )


def optimizer_for(model: LanguageModel, params: PretrainParams, lr: float) -> MuonAdamW:
    return build_optimizer(model, lr, kind=params.optimizer, weight_decay=params.weight_decay)


Batch = Callable[[int], np.ndarray]


def loss_on(batch: Batch, pad_id: int, micro_rows: int) -> Callable[[Any, int], tuple[torch.Tensor, dict[str, float]]]:
    """Loss function for `lm.loop.train` over batch(step) → token rows; padding is no target."""
    home = device()

    def loss(model: LanguageModel, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rows = torch.from_numpy(batch(step).astype(np.int64)).to(home)
        return next_token_loss(model, rows, rows != pad_id, micro_rows)

    return loss


def run_fingerprint(run: StageRun[Any], module: str, sections: dict[str, Section], inputs: dict[str, Any]) -> str:
    """Identity of a training run: params, seed, what was read, code; the environment is added by `fingerprint`."""
    facts = {
        "params": {name: section.model_dump() for name, section in sections.items()},
        "seed": run.seed,
        "inputs": inputs,
        "code": code_digest(module),
    }
    return fingerprint(facts)


def measure(
    model: LanguageModel, validation: PackedRows, pack: dict[str, Any], prefix: str = "validation"
) -> dict[str, float]:
    """Validation loss in nats per token and bits per byte, over all rows and by source."""
    silent = (pack["pad_id"], pack["bos_id"])
    metrics: dict[str, float] = {}
    nats = tokens = size = 0.0
    for source, facts in sorted(pack["validation"]["sources"].items()):
        part = rows_loss(model, validation, silent, limit=facts["rows"], first=facts["first_row"])
        metrics[f"{prefix}_loss_{source}"] = part.loss
        metrics[f"{prefix}_bpb_{source}"] = part.bits_per_byte(facts["bytes"])
        nats, tokens, size = nats + part.nats, tokens + part.tokens, size + facts["bytes"]
    metrics[f"{prefix}_loss"] = nats / tokens
    metrics[f"{prefix}_bpb"] = nats / (math.log(2) * size)
    return metrics


def training_facts(config: ModelConfig, tokens: int, rows: list[dict[str, float]]) -> dict[str, float]:
    last = rows[-20:]
    return {
        "n_params": config.param_count(),
        "n_nonembedding": config.non_embedding_count(),
        "tokens": tokens,
        "flops": flops_per_token(config, config.max_seq_len) * tokens,
        "steps": len(rows),
        "train_loss": math.fsum(row["loss"] for row in last) / len(last),
    }


def note_environment(run: StageRun[Any]) -> None:
    run.note("environment", environment())
