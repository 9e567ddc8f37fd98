"""Continue the base model on longer rows with RoPE's base raised (Xiong et al. 2023; Llama 3, sec. 3.4.2)."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.artifacts import MODELS, PACKED
from stages.base.errors import InputError, ParamError
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive
from stages.lm import distributed
from stages.lm.chat import load_tokenizer
from stages.lm.checkpoint import load_model
from stages.lm.data import batch_rows
from stages.lm.extension import ntk_theta, stretch
from stages.lm.packed_training import MICRO_ROWS, Batches, PackedTraining
from stages.lm.rates import wsd
from stages.pretraining.long_rows import (
    bucket_edges,
    long_documents,
    loss_by_position,
    packed_rows,
    segments,
    single_rows,
)
from stages.pretraining.material import SHARED, read_material, write_measures, write_model


class ContextParams(Section):
    seq_len: Annotated[int, Field(ge=32, le=1 << 20)]
    """The new length."""
    rope_theta: Annotated[float, Field(gt=0)] | None
    """The new base; null: NTK-aware, from the lengths."""
    min_tokens: Annotated[int, Field(ge=1)]
    """Of a document to be read."""
    tokens: Annotated[int, Field(gt=0)]
    """To train on."""
    batch_tokens: Annotated[int, Field(gt=0)]
    """Of a step, rounded to whole rows."""
    lr_share: Annotated[float, Field(gt=0, le=1)]
    """Of the plan's peak; it falls to zero."""
    warmup_steps: Annotated[int, Field(ge=0)]
    """Steps over which the rate rises."""


PARAMS: dict[str, type[Section]] = {"pretraining.context": ContextParams} | SHARED
NAME = "pretraining.context"
BASE = f"{MODELS}/base"


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
            f"{PACKED}/{name}.bin: no document of {params.min_tokens} tokens; lower `pretraining.context.min_tokens`"
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
    with stage(NAME, ContextParams, seed="run", parallel=True) as run, distributed.processes():
        material, params = read_material(run), run.params
        pack, length = material.pack, params.seq_len
        base_facts = run.read_json("data/pretraining/anneal/metrics.json")
        check_length(params, pack.seq_len)
        placements = run.read_table(f"{PACKED}/train.documents.parquet", schemas.PLACEMENT)
        learned = read_long("train", material.data.rows, placements, params)
        held_out = read_long("validation", material.validation.rows.rows, material.validation.placements, params)
        base, tokenizer = load_model(run.input(BASE)), load_tokenizer(BASE)
        specials = (pack.bos_id, pack.pad_id)
        rows = packed_rows(learned.pieces, length, *specials, seed=derive(run.seed, "rows"))
        batch = max(1, round(params.batch_tokens / length))
        steps = max(1, round(params.tokens / (batch * length)))
        warmup = min(params.warmup_steps, steps - 1)
        theta = ntk_theta(base.config, length) if params.rope_theta is None else params.rope_theta
        model = stretch(base, length, theta)
        measured = single_rows(held_out.pieces, length, *specials)
        edges = bucket_edges(pack.seq_len, length)
        by_position = partial(loss_by_position, rows=measured, silent=specials, edges=edges)
        positions = {
            "before": by_position(stretch(base, length, base.config.rope_theta)),
            "untrained": by_position(model),
        }
        micro_rows = max(1, material.recipe.micro_rows * pack.seq_len // length)
        batches = Batches(
            lambda step: rows[batch_rows(run.seed, step, batch, len(rows))], batch, length, *specials[::-1]
        )
        with PackedTraining(
            model,
            material.recipe,
            batches,
            steps,
            lr=material.plan.lr * params.lr_share,
            shards=material.shards,
            micro_rows=micro_rows,
            at_fault=f"{NAME}.seq_len" if micro_rows == 1 else MICRO_ROWS,
        ) as training:
            result = training.train(
                lambda step: wsd(step, steps, warmup, steps - warmup),
                steps,
                name=NAME,
                facts=run.facts(),
                checkpoint_every=material.params.checkpoint_every,
                label="extending the context",
                trained=True,
            )
        written = write_model(run, "context", model, tokenizer)
        if written is None:
            return
        positions["after"] = by_position(written)
        by_when = {
            f"loss_by_position_{when}_{where}": loss
            for when, found in positions.items()
            for where, loss in found.items()
        }
        write_measures(
            run, written, material, result.rows, steps * batch * length, **by_when,
            train_documents=learned.documents, validation_documents=held_out.documents, seq_len=length,
            rope_theta=theta, epochs=steps * batch / len(rows), base_validation_loss=base_facts["validation_loss"],
        )  # fmt: skip
        result.discard()


if __name__ == "__main__":
    main()
