"""Cool the trunk down on a better mixture: the finish of the recipe (Llama 3, sec. 3.4.3; MiniCPM, Hu et al. 2024)."""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from stages.base.artifacts import PACKED
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.lm import distributed
from stages.lm.checkpoint import load_model, load_optimizer
from stages.lm.data import PackedRows
from stages.lm.packed_training import PackedTraining
from stages.lm.rates import wsd
from stages.pretraining.material import SHARED, read_material, read_tokenizer, write_measures, write_model
from stages.pretraining.samples import continuations


class AnnealParams(Section):
    tokens: Annotated[int, Field(gt=0)]
    """Over which the rate falls to zero."""
    share: Annotated[float, Field(ge=0, le=1)]
    """Of each batch's rows that come from the anneal mixture."""


PARAMS: dict[str, type[Section]] = {"pretraining.anneal": AnnealParams} | SHARED
PRETRAINED = "data/pretraining/pretrain"


def mixed_rows(
    step: int, batch: int, share: float, train_rows: int, anneal_rows: int, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row indices of one batch: from the training stream, going on at its step `first`, and from the anneal mixture.

    Over any number of steps the anneal mixture gets its share to within one row.
    """
    before, after = round(step * batch * share), round((step + 1) * batch * share)
    ordinary = np.arange(step * batch - before, (step + 1) * batch - after) + first * batch
    return ordinary % train_rows, np.arange(before, after) % anneal_rows


def cool_down(run: StageRun[Any], params: AnnealParams, key: str, label: str) -> None:
    """Train from the trunk to a rate of zero on the mixture that params ask for; write data/models/<key>/ and its
    measures.
    """
    material = read_material(run)
    pack, data, rows = material.pack, material.data, material.rows
    better, tokenizer = PackedRows.of(run.input(f"{PACKED}/anneal.bin"), pack), read_tokenizer(run, pack)
    pretrained, trunk = run.read_json(f"{PRETRAINED}/metrics.json"), run.input(f"{PRETRAINED}/trunk")
    model = load_model(trunk)
    steps, first = max(1, round(params.tokens / (rows * pack.seq_len))), int(pretrained["trunk_steps"])

    def batch(step: int) -> np.ndarray:
        ordinary, chosen = mixed_rows(step, rows, params.share, len(data), len(better), first)
        return np.concatenate([data.rows[ordinary], better.rows[chosen]])

    with PackedTraining(
        model, material.recipe, material.batches(batch), steps, lr=material.plan.lr, shards=material.shards
    ) as training:
        load_optimizer(trunk / "optimizer.safetensors", training.optimizer)
        result = training.train(
            lambda step: wsd(step, steps, 0, steps),
            steps,
            name=f"{run.name}@{run.item}" if run.item else run.name,
            facts=run.facts(),
            checkpoint_every=material.params.checkpoint_every,
            label=label,
            trained=True,
        )
    written = write_model(run, key, model, tokenizer)
    if written is None:
        return
    before = pretrained["validation_loss"]
    write_measures(run, written, material, result.rows, steps * rows * pack.seq_len, pretrain_validation_loss=before)
    samples = continuations(written, tokenizer, material.validation, pack, material.params.samples)
    run.write_json("samples.json", samples)
    result.discard()


def main() -> None:
    distributed.launch("stages.pretraining.anneal")
    with stage("pretraining.anneal", AnnealParams, seed="run", parallel=True) as run, distributed.processes():
        cool_down(run, run.params, "base", "annealing")


if __name__ == "__main__":
    main()
