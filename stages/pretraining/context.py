"""Continue the base model on longer rows with RoPE's base raised (Xiong et al. 2023; Llama 3, sec. 3.4.2)."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.errors import InputError, ParamError
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive
from stages.lm import distributed
from stages.lm.checkpoint import load_model
from stages.lm.data import batch_rows
from stages.lm.device import training_dtype
from stages.lm.extension import ntk_theta, stretch
from stages.lm.flops import flops_per_token
from stages.lm.loop import train
from stages.lm.optim import optimizer_for
from stages.lm.rates import wsd
from stages.pretraining.long_rows import (
    bucket_edges,
    long_documents,
    loss_by_position,
    packed_rows,
    segments,
    single_rows,
)
from stages.pretraining.recipe import (
    MICRO_ROWS,
    PretrainParams,
    loss_on,
    loss_options,
    note_environment,
    read_material,
    run_fingerprint,
    saved,
    training_facts,
)
from stages.pretraining.validation import PACK, measure


class ContextParams(Section):
    seq_len: Annotated[int, Field(ge=32, le=1 << 20)]  # the new length
    rope_theta: Annotated[float, Field(gt=0)] | None  # the new base; null: NTK-aware, from the lengths
    min_tokens: Annotated[int, Field(ge=1)]  # of a document to be read
    tokens: Annotated[int, Field(gt=0)]  # to train on
    batch_tokens: Annotated[int, Field(gt=0)]
    lr_share: Annotated[float, Field(gt=0, le=1)]  # of the plan's peak; it falls to zero
    warmup_steps: Annotated[int, Field(ge=0)]


PARAMS: dict[str, type[Section]] = {"pretraining.context": ContextParams, "pretraining.pretrain": PretrainParams}
NAME = "pretraining.context"
BASE = "data/pretraining/anneal"


@dataclass(frozen=True)
class LongTexts:
    """Long documents of one shard, cut to the new length."""

    documents: int
    pieces: list[np.ndarray]  # of at most seq_len tokens


def read_long(name: str, rows: np.ndarray, placements: pa.Table, params: ContextParams) -> LongTexts:
    """Raises InputError for a shard without a long document."""
    documents = long_documents(rows, placements, params.min_tokens)
    if not documents:
        raise InputError(
            f"{PACK}/{name}.bin: no document of {params.min_tokens} tokens; lower `pretraining.context.min_tokens`"
        )
    return LongTexts(len(documents), segments(documents, params.seq_len))


def check_length(params: ContextParams, trained: int) -> None:
    if params.seq_len <= trained:
        raise ParamError(
            f"params.yaml: `pretraining.context.seq_len` is {params.seq_len}; the base model already reads {trained} "
            "tokens (tokens.pack.seq_len): use more"
        )


def main() -> None:
    distributed.launch("stages.pretraining.context")
    with stage(NAME, ContextParams, seed="run.seed", parallel=True) as run, distributed.processes():
        material, params = read_material(run), run.params
        recipe, pack, plan, validation = material.recipe, material.pack, material.plan, material.validation
        length = params.seq_len
        base_facts = run.read_json(f"{BASE}/metrics.json")
        check_length(params, pack["seq_len"])
        placements = run.read_table(f"{PACK}/train.documents.parquet", schemas.PLACEMENT)
        learned = read_long("train", material.data.rows, placements, params)
        held_out = read_long("validation", validation.rows.rows, validation.placements, params)
        base = load_model(run.input(BASE))
        specials = (pack["bos_id"], pack["pad_id"])
        rows = packed_rows(learned.pieces, length, *specials, seed=derive(run.seed, "rows"))
        batch = max(1, round(params.batch_tokens / length))
        steps = max(1, round(params.tokens / (batch * length)))
        warmup = min(params.warmup_steps, steps - 1)
        theta = ntk_theta(base.config, length) if params.rope_theta is None else params.rope_theta
        model = stretch(base, length, theta)
        measured = single_rows(held_out.pieces, length, *specials)
        by_position = partial(
            loss_by_position, rows=measured, silent=specials, edges=bucket_edges(pack["seq_len"], length)
        )
        positions = {
            "before": by_position(stretch(base, length, base.config.rope_theta)),
            "untrained": by_position(model),
        }
        distributed.shard(model)
        micro_rows = max(1, recipe.micro_rows * pack["seq_len"] // length)
        at_fault = f"{NAME}.seq_len" if micro_rows == 1 else MICRO_ROWS
        options = loss_options(model, recipe, pack, steps, micro_rows, length, at_fault)
        identity = run_fingerprint(
            run,
            "stages.pretraining.context",
            {NAME: params, "pretraining.pretrain": recipe},
            {"pack": pack, "lr": plan.lr, "base": base_facts, "compiled": bool(options["compiled"])},
        )
        result = train(
            model,
            optimizer_for(model, recipe, plan.lr * params.lr_share),
            lambda step: wsd(step, steps, warmup, steps - warmup),
            loss_on(lambda step: rows[batch_rows(run.seed, step, batch, len(rows))], pack["pad_id"], **options),
            steps,
            name=NAME,
            fingerprint=identity,
            checkpoint_every=recipe.checkpoint_every,
            clip=recipe.clip,
            dtype=training_dtype(recipe.precision),
            label="extending the context",
            flops_per_token=flops_per_token(model.config, length),
        )
        trained = saved(run, model)
        if distributed.rank() > 0:
            return
        positions["after"] = by_position(trained)
        metrics = training_facts(trained.config, steps * batch * length, result.rows) | measure(
            trained, validation, pack, recipe.document_mask
        )
        for when, losses in positions.items():
            metrics |= {f"loss_by_position_{when}_{where}": loss for where, loss in losses.items()}
        metrics |= {"train_documents": learned.documents, "validation_documents": held_out.documents}
        metrics |= {"seq_len": length, "rope_theta": theta, "epochs": steps * batch / len(rows)}
        run.write_json("metrics.json", metrics | {"base_validation_loss": base_facts["validation_loss"]})
        run.write_jsonl("steps.jsonl", result.rows)
        note_environment(run)
        result.discard()


if __name__ == "__main__":
    main()
