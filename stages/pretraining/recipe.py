"""What pretraining and annealing share: the params of a step, the plan, the loss of a batch, and the measurements
after.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field

from stages.base import schemas
from stages.base.closure import code_digest
from stages.base.errors import InputError, ParamError
from stages.base.params import Section
from stages.base.recipe import TrainingRecipe
from stages.base.record import StageRun
from stages.lm import distributed
from stages.lm.build import LanguageModel
from stages.lm.checkpoint import fingerprint, load_model, save_model
from stages.lm.compile import CompiledModel, compiled, wanted
from stages.lm.config import ModelConfig
from stages.lm.data import PackedRows
from stages.lm.device import device, environment, training_dtype
from stages.lm.flops import flops_per_token
from stages.lm.loss import document_ids, next_token_loss
from stages.lm.memory import require_memory, step_memory
from stages.lm.optim import MuonAdamW, build_optimizer
from stages.lm.rates import transferred
from stages.lm.scoring import token_losses

PACK = "data/tokens/pack"
PLAN = "data/scaling/plan/plan.json"


class SampleParams(Section):
    """Greedy continuations of validation documents, for a reader to look at."""

    per_source: Annotated[int, Field(ge=0)]
    prompt_tokens: Annotated[int, Field(ge=1)]
    new_tokens: Annotated[int, Field(ge=1)]


class PretrainParams(TrainingRecipe):
    micro_rows: Annotated[int, Field(ge=1)]  # rows computed at once; gradients accumulate up to the plan's batch
    checkpoint_every: Annotated[int, Field(ge=0)]  # steps; 0 for none
    samples: SampleParams
    document_mask: bool  # a token sees its own document only
    z_loss: Annotated[float, Field(ge=0)]  # factor of log² of the softmax's normaliser
    compile: Literal["off", "on", "auto"]


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
    if values["tokenizer_sha256"] != pack["tokenizer_sha256"]:  # of the same size, with other ids
        raise InputError(f"{PLAN}: made for another tokenizer than {PACK} was packed with; run scaling.plan again")
    rows = max(1, round(values["batch_tokens"] / pack["seq_len"]))
    predicted = values.get("predicted_loss")
    return Plan(
        config, int(values["tokens"]), rows, float(values["lr"]), None if predicted is None else float(predicted)
    )


def require_ladder_recipe(plan: dict[str, Any], params: TrainingRecipe, section: str) -> None:
    """Raises ParamError where the recipe isn't that of the ladder behind the plan, whose law predicts no other run. A
    plan without a "recipe" was made by hand and predicts nothing.
    """
    ladder = plan.get("recipe") or {}
    own = params.model_dump(mode="json", include=set(TrainingRecipe.model_fields))
    for name, value in own.items():
        if name in ladder and ladder[name] != value:
            raise ParamError(
                f"`{section}.{name}` is {value}, but the ladder behind {PLAN} was trained with {ladder[name]}: its law "
                f"doesn't predict this run; set `scaling.ladder.{name}` and `{section}.{name}` to the same"
            )


def optimizer_for(model: LanguageModel, params: TrainingRecipe, lr: float) -> MuonAdamW:
    """lr: of the matrices, at width 128."""
    width, tied = model.config.d_model, model.config.tie_embeddings
    rates = transferred(lr, params.shares, params.optimizer, width, tied)
    return build_optimizer(
        model, rates, kind=params.optimizer, weight_decay=params.weight_decay, betas=(params.betas[0], params.betas[1])
    )


Batch = Callable[[int], np.ndarray]


def loss_on(
    batch: Batch,
    pad_id: int,
    micro_rows: int,
    *,
    bos_id: int | None = None,
    z_loss: float = 0.0,
    compiled: CompiledModel | None = None,
) -> Callable[[Any, int], tuple[torch.Tensor, dict[str, float]]]:
    """Loss function for `lm.loop.train` over this process's share of batch(step) → token rows; padding is no target.

    With `bos_id` a token sees its own document only. `compiled`: the model to compute with, over the same weights.
    """
    home = device()

    def loss(model: LanguageModel, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rows = torch.from_numpy(distributed.share_rows(batch(step), pad_id).astype(np.int64)).to(home)
        return next_token_loss(compiled or model, rows, rows != pad_id, micro_rows, bos_id=bos_id, z_loss=z_loss)

    return loss


def loss_options(model: LanguageModel, params: PretrainParams, pack: dict[str, Any], steps: int) -> dict[str, Any]:
    """What the recipe says of the loss, as keywords of `loss_on`. Compiles the model where that is wanted and works;
    what was done belongs to the run's identity. Raises ResourceError if a step won't fit into memory.
    """
    model.train()
    micro = params.micro_rows * pack["seq_len"]
    sharded = distributed.strategy() == "fsdp"
    needed = step_memory(
        model.config,
        micro,
        params.optimizer,
        training_dtype(params.precision),
        device().type,
        processes=distributed.world() if sharded else 1,
    )
    require_memory(needed, device(), "pretraining.pretrain.micro_rows", "lower it, or plan a smaller model")
    bos_id = pack["bos_id"] if params.document_mask else None
    view = None
    # FSDP gathers weights around the eager `hidden`; a compiled one would meet this process's rows only.
    if distributed.strategy() != "fsdp" and wanted(params.compile, device().type, steps):
        example = torch.zeros((params.micro_rows, pack["seq_len"]), dtype=torch.int64, device=device())
        documents = None if bos_id is None else document_ids(example, bos_id)
        view = compiled(model, example, documents, training_dtype(params.precision))
        distributed.require_same("whether the model is compiled", view is not None)
    return {"bos_id": bos_id, "z_loss": params.z_loss, "compiled": view}


def run_fingerprint(run: StageRun[Any], module: str, sections: dict[str, Section], inputs: dict[str, Any]) -> str:
    """Identity of a training run: params, seed, what was read, code; the environment is added by `fingerprint`."""
    facts = {
        "params": {name: section.model_dump() for name, section in sections.items()},
        "seed": run.seed,
        "inputs": inputs,
        "code": code_digest(module),
    }
    return fingerprint(facts)


@dataclass(frozen=True)
class Validation:
    """Held-out rows, and where their documents stand in them."""

    rows: PackedRows
    placements: pa.Table  # schemas.PLACEMENT


def read_validation(run: StageRun[Any], pack: dict[str, Any]) -> Validation:
    rows = PackedRows.of(run.input(f"{PACK}/validation.bin"), pack)
    return Validation(rows, run.read_table(f"{PACK}/validation.documents.parquet", schemas.PLACEMENT))


def measure(
    model: LanguageModel, validation: Validation, pack: dict[str, Any], prefix: str = "validation"
) -> dict[str, float]:
    """Validation loss in nats per token and bits per byte: over all rows, by source and by domain.

    Raises InputError where the document index doesn't account for every token of the rows.
    """
    losses = token_losses(model, validation.rows.rows, (pack["pad_id"], pack["bos_id"])).astype(np.float64)
    places = {name: validation.placements[name].to_numpy() for name in ("row", "offset", "length")}
    tokens, last = places["length"], len(losses) - 1
    if int(tokens.sum()) != int(np.count_nonzero(~np.isnan(losses))) or int(places["row"].max()) != last:
        raise InputError(
            f"{PACK}/validation.documents.parquet: of other rows than validation.bin; run tokens.pack again"
        )
    first = places["row"] * losses.shape[1] + places["offset"] - 1  # a target stands one place before its token
    running = np.concatenate([[0.0], np.cumsum(np.nan_to_num(losses))])
    nats = running[first + tokens] - running[first]
    metrics: dict[str, float] = {}
    for kind in ("source", "domain"):
        labels = np.array([label or "none" for label in validation.placements[kind].to_pylist()], dtype=object)
        for label, facts in sorted(pack["validation"][f"{kind}s"].items()):
            chosen = labels == label
            if not facts["tokens"]:
                continue
            name = label if kind == "source" else f"domain_{label}"
            metrics[f"{prefix}_loss_{name}"] = float(nats[chosen].sum() / tokens[chosen].sum())
            metrics[f"{prefix}_bpb_{name}"] = float(nats[chosen].sum() / (math.log(2) * facts["bytes"]))
    metrics[f"{prefix}_loss"] = float(np.nansum(losses) / tokens.sum())
    metrics[f"{prefix}_bpb"] = float(np.nansum(losses) / (math.log(2) * pack["validation"]["bytes"]))
    return metrics


def saved(run: StageRun[Any], model: LanguageModel) -> LanguageModel:
    """Write the stage's model folder; what is measured and sampled is what was written, whole on one process."""
    folder = run.output("config.json").parent
    save_model(folder, model)
    return load_model(folder) if distributed.rank() == 0 else model


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
    run.note("environment", environment() | distributed.environment())
