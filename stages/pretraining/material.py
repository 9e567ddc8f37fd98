"""What the stages that train share: what they read, and what they leave."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from stages.base.artifacts import PACK, PACKED, PLAN, TOKENIZER
from stages.base.contracts.pack import Pack
from stages.base.contracts.plan import Plan
from stages.base.errors import InputError
from stages.base.files import sha256_file
from stages.base.params import Section
from stages.base.recipe import Recipe, Run
from stages.base.record import StageRun
from stages.lm import distributed
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model, save_model
from stages.lm.config import ModelConfig
from stages.lm.data import PackedRows
from stages.lm.device import environment, set_threads
from stages.lm.packed_training import Batches
from stages.pretraining.validation import Validation, measure, read_validation


class SampleParams(Section):
    """Greedy continuations of validation documents, for a reader to look at."""

    per_source: Annotated[int, Field(ge=0)]
    """Documents of each source."""
    prompt_tokens: Annotated[int, Field(ge=1)]
    """Tokens of the document that are given."""
    new_tokens: Annotated[int, Field(ge=1)]
    """Tokens that the model adds."""


class PretrainParams(Section):
    """Of pretraining and of what goes on from its result; how they train is `recipe`."""

    checkpoint_every: Annotated[int, Field(ge=0)]
    """Steps between checkpoints; 0 for none."""
    samples: SampleParams


SHARED: dict[str, type[Section]] = {"run": Run, "recipe": Recipe, "pretraining.pretrain": PretrainParams}


@dataclass(frozen=True)
class Material:
    """What every training stage starts from."""

    recipe: Recipe
    shards: int
    params: PretrainParams
    pack: Pack
    plan: Plan
    config: ModelConfig  # the planned model's
    data: PackedRows
    validation: Validation

    @property
    def rows(self) -> int:
        """Of a batch."""
        return max(1, round(self.plan.batch_tokens / self.pack.seq_len))

    def batches(self, batch: Callable[[int], np.ndarray]) -> Batches:
        return Batches(batch, self.rows, self.pack.seq_len, self.pack.pad_id, self.pack.bos_id)


def read_material(run: StageRun[Any]) -> Material:
    """Also fixes the threads, which a result depends on."""
    set_threads()
    recipe, params = run.section("recipe", Recipe), run.section("pretraining.pretrain", PretrainParams)
    pack, plan = run.read_contract(PACK, Pack), run.read_contract(PLAN, Plan)
    data, validation = PackedRows.of(run.input(f"{PACKED}/train.bin"), pack), read_validation(run, pack)
    shards = run.section("run", Run).shards
    return Material(recipe, shards, params, pack, plan, planned_config(plan, recipe, pack), data, validation)


def planned_config(plan: Plan, recipe: Recipe, pack: Pack) -> ModelConfig:
    """Raises InputError if the plan was made for another tokenizer, row length or recipe."""
    config = ModelConfig.from_dict(plan.model)
    if (config.vocab_size, config.max_seq_len) != (pack.vocab_size, pack.seq_len):
        raise InputError(
            f"{PLAN}: made for a vocabulary of {config.vocab_size} and rows of {config.max_seq_len}, but {PACK} has "
            f"{pack.vocab_size} and {pack.seq_len}; run scaling.plan again"
        )
    if plan.tokenizer_sha256 != pack.tokenizer_sha256:  # of the same size, with other ids
        raise InputError(f"{PLAN}: made for another tokenizer than {PACK} was packed with; run scaling.plan again")
    if plan.recipe != recipe:
        raise InputError(f"{PLAN}: of a ladder with another `recipe`, whose law predicts no other run; run it again")
    return config


def read_tokenizer(run: StageRun[Any], pack: Pack) -> ChatTokenizer:
    """Raises InputError if the rows were packed with another one."""
    folder = run.input(TOKENIZER)
    if sha256_file(folder / "tokenizer.json") != pack.tokenizer_sha256:
        raise InputError(f"{PACK}: packed with another tokenizer than {folder}; run tokens.pack again")
    return load_tokenizer(folder)


def write_model(run: StageRun[Any], key: str, model: LanguageModel, tokenizer: ChatTokenizer) -> LanguageModel | None:
    """The model as written to data/models/<key>/, whole, at rank 0; None at others."""
    folder = run.model_folder(key)
    save_model(folder, model, tokenizer)
    return load_model(folder) if distributed.rank() == 0 else None


def write_measures(
    run: StageRun[Any],
    model: LanguageModel,
    material: Material,
    rows: list[dict[str, float]],
    tokens: int,
    **more: float,
) -> None:
    """metrics.json and steps.jsonl of a run over `tokens` tokens whose log is `rows`, and where it was made."""
    last = rows[-20:]
    facts = {
        "n_params": model.config.param_count(),
        "n_nonembedding": model.config.non_embedding_count(),
        "tokens": tokens,
        "flops": model.config.flops_per_token(model.config.max_seq_len) * tokens,
        "steps": len(rows),
        "train_loss": math.fsum(row["loss"] for row in last) / len(last),
    }
    measured = measure(model, material.validation, material.pack, material.recipe.document_mask)
    run.write_json("metrics.json", facts | measured | more)
    run.write_jsonl("steps.jsonl", rows)
    run.note("environment", environment() | distributed.environment())
