"""Spend the budget: train the planned model, and keep its trunk (before the cooldown) for annealing."""

import numpy as np

from stages.base.params import Section
from stages.base.record import stage
from stages.lm import distributed
from stages.lm.build import build_model
from stages.lm.checkpoint import save_model, save_optimizer
from stages.lm.data import in_order
from stages.lm.device import device, training_dtype
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
from stages.pretraining.validation import measure

PARAMS: dict[str, type[Section]] = {"pretraining.pretrain": PretrainParams}
NAME = "pretraining.pretrain"


def main() -> None:
    distributed.launch("stages.pretraining.pretrain")
    with stage(NAME, PretrainParams, seed="run.seed", parallel=True) as run, distributed.processes():
        material = read_material(run)
        params, pack, plan, data = run.params, material.pack, material.plan, material.data
        tokenizer = read_tokenizer(run, pack)
        steps = plan.steps
        cooldown = min(max(params.min_cooldown_steps, round(params.cooldown * steps)), steps)
        model = build_model(plan.config, run.seed).to(device())
        distributed.shard(model)
        options = loss_options(model, params, pack, steps, params.micro_rows, pack["seq_len"])
        identity = run_fingerprint(
            run,
            "stages.pretraining.pretrain",
            {NAME: params},
            {
                "plan": vars(plan) | {"config": plan.config.to_dict()},
                "pack": pack,
                "compiled": bool(options["compiled"]),
            },
        )
        optimizer = optimizer_for(model, params, plan.lr)

        def batch(step: int) -> np.ndarray:
            return data.rows[in_order(step, plan.rows, len(data))]

        loss = loss_on(batch, pack["pad_id"], **options)
        # Two runs in a row, so that the trunk is a finished thing that a killed cooldown finds again.
        results = []
        for phase, first, last in (("trunk", 0, steps - cooldown), ("cooldown", steps - cooldown, steps)):
            results.append(
                train(
                    model,
                    optimizer,
                    lambda step: wsd(step, steps, params.warmup_steps, cooldown),
                    loss,
                    last,
                    first=first,
                    name=f"{NAME}@{phase}",
                    fingerprint=identity,
                    checkpoint_every=params.checkpoint_every,
                    clip=params.clip,
                    dtype=training_dtype(params.precision),
                    label=f"pretraining ({phase})",
                    flops_per_token=flops_per_token(plan.config, pack["seq_len"]),
                )
            )
            if phase == "trunk":
                save_model(run.output("trunk/config.json").parent, model)
                save_optimizer(run.output("trunk/optimizer.safetensors"), optimizer)
        model = saved(run, model)
        if distributed.rank() > 0:
            return
        rows = results[0].rows + results[1].rows
        metrics = training_facts(plan.config, steps * plan.rows * pack["seq_len"], rows) | measure(
            model, material.validation, pack, params.document_mask
        )
        metrics |= {"lr": plan.lr, "epochs": steps * plan.rows / len(data), "trunk_steps": steps - cooldown}
        if plan.predicted is not None:
            metrics |= {"predicted_loss": plan.predicted}
        run.write_json("metrics.json", metrics)
        run.write_jsonl("steps.jsonl", rows)
        run.write_json("samples.json", continuations(model, tokenizer, material.validation, pack, params.samples))
        note_environment(run)
        for result in results:
            result.discard()


if __name__ == "__main__":
    main()
