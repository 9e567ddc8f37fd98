"""Spend the budget: train the planned model, and keep its trunk (before the cooldown) for annealing."""

import numpy as np

from stages.base.params import Section
from stages.base.record import stage
from stages.lm import distributed
from stages.lm.build import build_model
from stages.lm.checkpoint import save_model, save_optimizer
from stages.lm.data import in_order
from stages.lm.device import device
from stages.lm.packed_training import PackedTraining
from stages.lm.rates import wsd
from stages.pretraining.material import (
    SHARED,
    PretrainParams,
    read_material,
    read_tokenizer,
    write_measures,
    write_model,
)
from stages.pretraining.samples import continuations

PARAMS: dict[str, type[Section]] = SHARED
NAME = "pretraining.pretrain"


def main() -> None:
    distributed.launch("stages.pretraining.pretrain")
    with stage(NAME, PretrainParams, seed="run", parallel=True) as run, distributed.processes():
        material = read_material(run)
        recipe, plan, rows, data = material.recipe, material.plan, material.rows, material.data
        tokenizer = read_tokenizer(run, material.pack)
        steps = max(1, round(plan.tokens / (rows * material.pack.seq_len)))
        cooldown = min(max(recipe.min_cooldown_steps, round(recipe.cooldown * steps)), steps)
        model = build_model(material.config, run.seed).to(device())

        def batch(step: int) -> np.ndarray:
            return data.rows[in_order(step, rows, len(data))]

        results = []
        with PackedTraining(
            model, recipe, material.batches(batch), steps, lr=plan.lr, shards=material.shards
        ) as training:
            # Two runs in a row, so that the trunk is a finished thing that a killed cooldown finds again.
            for phase, first, last in (("trunk", 0, steps - cooldown), ("cooldown", steps - cooldown, steps)):
                results.append(
                    training.train(
                        lambda step: wsd(step, steps, recipe.warmup_steps, cooldown),
                        last,
                        first=first,
                        name=f"{NAME}@{phase}",
                        facts=run.facts(),
                        checkpoint_every=material.params.checkpoint_every,
                        label=f"pretraining ({phase})",
                    )
                )
                if phase == "trunk":
                    save_model(run.output("trunk/config.json").parent, model)
                    save_optimizer(run.output("trunk/optimizer.safetensors"), training.optimizer)
        written = write_model(run, "pretrain", model, tokenizer)
        if written is None:
            return
        tokens = steps * rows * material.pack.seq_len
        more = {"lr": plan.lr, "epochs": steps * rows / len(data), "trunk_steps": steps - cooldown}
        log = results[0].rows + results[1].rows
        write_measures(run, written, material, log, tokens, **more, predicted_loss=plan.predicted_loss)
        samples = continuations(written, tokenizer, material.validation, material.pack, material.params.samples)
        run.write_json("samples.json", samples)
        for result in results:
            result.discard()


if __name__ == "__main__":
    main()
