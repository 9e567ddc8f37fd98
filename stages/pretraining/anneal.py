"""Cool the trunk down on a better mixture: the finish of the recipe (Llama 3, sec. 3.4.3; MiniCPM, Hu et al. 2024)."""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.lm import distributed
from stages.lm.checkpoint import load_model, load_optimizer
from stages.lm.data import PackedRows
from stages.lm.device import training_dtype
from stages.lm.flops import flops_per_token
from stages.lm.loop import train
from stages.lm.optim import optimizer_for
from stages.lm.rates import wsd
from stages.pretraining.recipe import (
    PretrainParams,
    loss_on,
    loss_options,
    note_environment,
    read_material,
    run_fingerprint,
    saved,
    training_facts,
)
from stages.pretraining.samples import continuations, read_tokenizer
from stages.pretraining.validation import PACK, measure


class AnnealParams(Section):
    tokens: Annotated[int, Field(gt=0)]  # over which the rate falls to zero
    share: Annotated[float, Field(ge=0, le=1)]  # of each batch's rows that come from the anneal mixture


PARAMS: dict[str, type[Section]] = {"pretraining.anneal": AnnealParams, "pretraining.pretrain": PretrainParams}
NAME = "pretraining.anneal"
TRUNK = "data/pretraining/pretrain/trunk"
TRUNK_METRICS = "data/pretraining/pretrain/metrics.json"


def mixed_rows(
    step: int, batch: int, share: float, train_rows: int, anneal_rows: int, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row indices of one batch: from the training stream, going on at its step `first`, and from the anneal mixture.

    Over any number of steps the anneal mixture gets its share to within one row.
    """
    before, after = round(step * batch * share), round((step + 1) * batch * share)
    ordinary = np.arange(step * batch - before, (step + 1) * batch - after) + first * batch
    return ordinary % train_rows, np.arange(before, after) % anneal_rows


def cool_down(run: StageRun[Any], module: str, params: AnnealParams, label: str) -> None:
    """Train from the trunk to a rate of zero on the mixture that params ask for; write the model and its measures."""
    material = read_material(run)
    recipe, pack, plan, data = material.recipe, material.pack, material.plan, material.data
    better, tokenizer = PackedRows.of(run.input(f"{PACK}/anneal.bin"), pack), read_tokenizer(run, pack)
    pretrained = run.read_json(TRUNK_METRICS)
    trunk = run.input(TRUNK)
    model = load_model(trunk)
    distributed.shard(model)
    steps, first = max(1, round(params.tokens / (plan.rows * pack["seq_len"]))), int(pretrained["trunk_steps"])
    options = loss_options(model, recipe, pack, steps, recipe.micro_rows, pack["seq_len"])
    identity = run_fingerprint(
        run,
        module,
        {"pretraining.anneal": params, "pretraining.pretrain": recipe},
        {"pack": pack, "lr": plan.lr, "rows": plan.rows, "trunk": pretrained, "compiled": bool(options["compiled"])},
    )
    optimizer = optimizer_for(model, recipe, plan.lr)
    load_optimizer(trunk / "optimizer.safetensors", optimizer)

    def batch(step: int) -> np.ndarray:
        ordinary, chosen = mixed_rows(step, plan.rows, params.share, len(data), len(better), first)
        return np.concatenate([data.rows[ordinary], better.rows[chosen]])

    result = train(
        model,
        optimizer,
        lambda step: wsd(step, steps, 0, steps),
        loss_on(batch, pack["pad_id"], **options),
        steps,
        name=f"{run.name}@{run.item}" if run.item else run.name,
        fingerprint=identity,
        checkpoint_every=recipe.checkpoint_every,
        clip=recipe.clip,
        dtype=training_dtype(recipe.precision),
        label=label,
        flops_per_token=flops_per_token(plan.config, pack["seq_len"]),
    )
    model = saved(run, model)
    if distributed.rank() > 0:
        return
    tokens = steps * plan.rows * pack["seq_len"]
    metrics = training_facts(model.config, tokens, result.rows)
    metrics |= measure(model, material.validation, pack, recipe.document_mask)
    metrics["pretrain_validation_loss"] = pretrained["validation_loss"]
    run.write_json("metrics.json", metrics)
    run.write_jsonl("steps.jsonl", result.rows)
    run.write_json("samples.json", continuations(model, tokenizer, material.validation, pack, recipe.samples))
    note_environment(run)
    result.discard()


def main() -> None:
    distributed.launch("stages.pretraining.anneal")
    with stage(NAME, AnnealParams, seed="run.seed", parallel=True) as run, distributed.processes():
        cool_down(run, "stages.pretraining.anneal", run.params, "annealing")


if __name__ == "__main__":
    main()
