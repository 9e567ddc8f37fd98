"""What the stages that train share: the params of a step, what they read, the loss of a batch, what they leave."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

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
from stages.lm.device import device, environment, set_threads, training_dtype
from stages.lm.flops import flops_per_token
from stages.lm.loss import document_ids, next_token_loss
from stages.lm.memory import require_memory, step_memory
from stages.pretraining.validation import PACK, Validation, read_validation

PLAN = "data/scaling/plan/plan.json"
MICRO_ROWS = "pretraining.pretrain.micro_rows"


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


def require_ladder_recipe(plan: dict[str, Any], recipe: PretrainParams) -> None:
    """Raises ParamError where the recipe isn't that of the ladder behind the plan, whose law predicts no other run. A
    plan without a "recipe" was made by hand and predicts nothing.
    """
    ladder = plan.get("recipe") or {}
    own = recipe.model_dump(mode="json", include=set(TrainingRecipe.model_fields))
    for name, value in own.items():
        if name in ladder and ladder[name] != value:
            raise ParamError(
                f"`pretraining.pretrain.{name}` is {value}, but the ladder behind {PLAN} was trained with "
                f"{ladder[name]}, and its law predicts no other run; set `scaling.ladder.{name}` to the same"
            )


@dataclass(frozen=True)
class Material:
    """What every training stage starts from."""

    recipe: PretrainParams
    pack: dict[str, Any]  # pack.json
    plan: Plan
    data: PackedRows
    validation: Validation


def read_material(run: StageRun[Any]) -> Material:
    """Also fixes the threads, which a result depends on."""
    set_threads()
    recipe, pack = run.section("pretraining.pretrain", PretrainParams), run.read_json(f"{PACK}/pack.json")
    planned = run.read_json(PLAN)
    require_ladder_recipe(planned, recipe)
    plan = read_plan(planned, pack)
    return Material(recipe, pack, plan, PackedRows.of(run.input(f"{PACK}/train.bin"), pack), read_validation(run, pack))


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


def loss_options(
    model: LanguageModel,
    recipe: PretrainParams,
    pack: dict[str, Any],
    steps: int,
    micro_rows: int,
    seq_len: int,
    param: str = MICRO_ROWS,
) -> dict[str, Any]:
    """What the recipe says of the loss of rows of `seq_len` tokens, `micro_rows` at once, as keywords of `loss_on`.

    Compiles the model where that is wanted and works; what was done belongs to the run's identity. Raises ResourceError
    that names `param` if a step won't fit into memory.
    """
    model.train()
    home, sharded = device(), distributed.strategy() == "fsdp"
    needed = step_memory(
        model.config,
        micro_rows * seq_len,
        recipe.optimizer,
        training_dtype(recipe.precision),
        home.type,
        processes=distributed.world() if sharded else 1,
    )
    require_memory(needed, home, param, "lower it, or plan a smaller model")
    bos_id = pack["bos_id"] if recipe.document_mask else None
    view = None
    # FSDP gathers weights around the eager `hidden`; a compiled one would meet this process's rows only.
    if not sharded and wanted(recipe.compile, home.type, steps):
        example = torch.zeros((micro_rows, seq_len), dtype=torch.int64, device=home)
        documents = None if bos_id is None else document_ids(example, bos_id)
        view = compiled(model, example, documents, training_dtype(recipe.precision))
        distributed.require_same("whether the model is compiled", view is not None)
    return {"micro_rows": micro_rows, "bos_id": bos_id, "z_loss": recipe.z_loss, "compiled": view}


def run_fingerprint(run: StageRun[Any], module: str, sections: dict[str, Section], inputs: dict[str, Any]) -> str:
    """Identity of a training run: params, seed, what was read, code; the environment is added by `fingerprint`."""
    facts = {
        "params": {name: section.model_dump() for name, section in sections.items()},
        "seed": run.seed,
        "inputs": inputs,
        "code": code_digest(module),
    }
    return fingerprint(facts)


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
