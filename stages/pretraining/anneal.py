"""Cool the trunk down on a better mixture: the finish of the recipe (Llama 3, sec. 3.4.3; MiniCPM, Hu et al. 2024)."""

from typing import Annotated

import numpy as np
from pydantic import Field

from stages.base.params import Section
from stages.base.record import stage
from stages.lm.checkpoint import load_model, load_optimizer, save_model
from stages.lm.data import PackedRows
from stages.lm.device import set_threads
from stages.lm.loop import train
from stages.lm.schedule import wsd
from stages.pretraining.recipe import (
    PACK,
    PLAN,
    PretrainParams,
    loss_on,
    measure,
    note_environment,
    optimizer_for,
    read_plan,
    run_fingerprint,
    training_facts,
)


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


def main() -> None:
    with stage(NAME, AnnealParams, seed="run.seed") as run:
        set_threads()
        params, recipe = run.params, run.section("pretraining.pretrain", PretrainParams)
        pack = run.read_json(f"{PACK}/pack.json")
        plan, pretrained = read_plan(run.read_json(PLAN), pack), run.read_json(TRUNK_METRICS)
        data = PackedRows(run.input(f"{PACK}/train.bin"), pack["seq_len"])
        better = PackedRows(run.input(f"{PACK}/anneal.bin"), pack["seq_len"])
        validation = PackedRows(run.input(f"{PACK}/validation.bin"), pack["seq_len"])
        trunk = run.input(TRUNK)
        identity = run_fingerprint(
            run,
            "stages.pretraining.anneal",
            {NAME: params, "pretraining.pretrain": recipe},
            {"pack": pack, "lr": plan.lr, "rows": plan.rows, "trunk": pretrained},
        )

        model = load_model(trunk)
        optimizer = optimizer_for(model, recipe, plan.lr)
        load_optimizer(trunk / "optimizer.safetensors", optimizer)
        steps, first = max(1, round(params.tokens / (plan.rows * pack["seq_len"]))), int(pretrained["trunk_steps"])

        def batch(step: int) -> np.ndarray:
            ordinary, chosen = mixed_rows(step, plan.rows, params.share, len(data), len(better), first)
            return np.concatenate([data.rows[ordinary], better.rows[chosen]])

        result = train(
            model,
            optimizer,
            lambda step: wsd(step, steps, 0, steps),
            loss_on(batch, pack["pad_id"], recipe.micro_rows),
            steps,
            name=NAME,
            fingerprint=identity,
            checkpoint_every=recipe.checkpoint_every,
            clip=recipe.clip,
            label="annealing",
        )
        save_model(run.output("config.json").parent, model)
        tokens = steps * plan.rows * pack["seq_len"]
        metrics = training_facts(model.config, tokens, result.rows) | measure(model, validation, pack)
        metrics["pretrain_validation_loss"] = pretrained["validation_loss"]
        run.write_json("metrics.json", metrics)
        run.write_jsonl("steps.jsonl", result.rows)
        note_environment(run)
        result.discard()


if __name__ == "__main__":
    main()
