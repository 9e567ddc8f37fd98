"""One point of the ladder: a small model trained on the head of the packed stream, measured on the validation rows."""

import math
import sys
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from stages.base.closure import code_digest
from stages.base.errors import ParamError
from stages.base.files import sha256_file
from stages.base.params import Section
from stages.base.recipe import TrainingRecipe
from stages.base.record import StageRun, stage
from stages.lm.build import LanguageModel, build_model, parameter_count
from stages.lm.checkpoint import fingerprint
from stages.lm.config import ModelConfig
from stages.lm.data import PackedRows, in_order
from stages.lm.device import device, environment, set_threads, training_dtype
from stages.lm.loop import TrainResult, train
from stages.lm.loss import next_token_loss
from stages.lm.optim import optimizer_for
from stages.lm.rates import wsd
from stages.lm.scoring import rows_loss
from stages.scaling.budget.shapes import Recipe, Shape, model_config, train_flops

Positive = Annotated[int, Field(ge=1)]


class LadderParams(Recipe, TrainingRecipe):
    """What all points share; a point's own shape and tokens are `scaling.points.<key>`."""

    batch_tokens: Positive
    lr: Annotated[float, Field(gt=0)]  # of the matrices, at width 128; `lm.rates` says what it is at others
    checkpoint_every: Annotated[int, Field(ge=0)]  # steps; 0: no checkpoints


class PointParams(Shape):
    arch: Literal["transformer", "lstm"]
    tokens: Positive


PARAMS: dict[str, type[Section]] = {"scaling.ladder": LadderParams, "scaling.points.*": PointParams}
PACK = "data/tokens/pack"


def steps_of(shared: LadderParams, tokens: int, seq_len: int) -> tuple[int, int, int]:
    """(batch rows, steps, cooldown steps). Raises ParamError if the run is too short for its schedule."""
    rows = max(1, round(shared.batch_tokens / seq_len))
    steps = max(1, round(tokens / (rows * seq_len)))
    cooldown = max(shared.min_cooldown_steps, round(shared.cooldown * steps))
    if steps < shared.warmup_steps + cooldown:
        raise ParamError(
            f"{tokens} tokens are {steps} steps of {rows * seq_len}: fewer than {shared.warmup_steps} of warm-up and "
            f"{cooldown} of cooldown; raise the point's tokens or lower `scaling.ladder.batch_tokens`"
        )
    return rows, steps, cooldown


def train_point(
    run: StageRun[LadderParams], config: ModelConfig, point: PointParams, pack: dict[str, Any], rows: PackedRows
) -> tuple[LanguageModel, TrainResult, int]:
    """The trained model, its log and the tokens it saw."""
    shared = run.params
    batch, steps, cooldown = steps_of(shared, point.tokens, pack["seq_len"])
    if steps * batch > len(rows):
        raise ParamError(
            f"`scaling.points.{run.item}.tokens` = {point.tokens} needs {steps * batch} rows, the packed stream has "
            f"{len(rows)}; lower it (a ladder must not repeat more than the run it predicts)"
        )
    home = device()
    model = build_model(config, run.seed).to(home)
    optimizer = optimizer_for(model, shared, shared.lr)

    def loss_fn(module: LanguageModel, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        tokens = rows.batch(in_order(step, batch, len(rows))).to(home)
        return next_token_loss(module, tokens, tokens != pack["pad_id"])

    result = train(
        model,
        optimizer,
        lambda step: wsd(step, steps, shared.warmup_steps, cooldown),
        loss_fn,
        steps,
        name=f"scaling.ladder@{run.item}",
        fingerprint=fingerprint(
            {
                "shared": shared.model_dump(),
                "point": point.model_dump(),
                "seed": run.seed,
                "pack": pack,
                "stream": sha256_file(rows.path),
                "code": code_digest("stages.scaling.ladder"),
            }
        ),
        checkpoint_every=shared.checkpoint_every,
        clip=shared.clip,
        dtype=training_dtype(shared.precision),
        label=f"ladder {run.item}",
    )
    return model, result, steps * batch * pack["seq_len"]


def main() -> None:
    key = sys.argv[1]
    with stage("scaling.ladder", LadderParams, item=key, seed="run.seed") as run:
        set_threads()
        point = run.section(f"scaling.points.{key}", PointParams)
        pack = run.read_json(f"{PACK}/pack.json")
        rows = PackedRows.of(run.input(f"{PACK}/train.bin"), pack)
        validation = PackedRows.of(run.input(f"{PACK}/validation.bin"), pack)
        config = model_config(point.arch, point, run.params, pack["vocab_size"], pack["seq_len"])
        model, result, tokens = train_point(run, config, point, pack, rows)
        measured = rows_loss(model, validation, (pack["pad_id"], pack["bos_id"]))
        facts = {
            "n_params": parameter_count(model),
            "n_nonembedding": config.non_embedding_count(),
            "tokens": tokens,
            "flops": train_flops(config, tokens, pack["seq_len"]),
            "loss": measured.loss,
            "bpb": measured.bits_per_byte(pack["validation"]["bytes"]),
            "train_loss": math.fsum(row["loss"] for row in result.rows[-10:]) / len(result.rows[-10:]),
            "lr": run.params.lr,
            "steps": len(result.rows),
        }
        run.write_json("metrics.json", facts)
        recipe = run.params.model_dump(mode="json", exclude={"checkpoint_every"})
        run.write_json("point.json", facts | {"arch": point.arch, "model": config.to_dict(), "recipe": recipe})
        run.write_jsonl("steps.jsonl", result.rows)
        run.note("arch", point.arch)
        run.note("environment", environment())
        result.discard()


if __name__ == "__main__":
    main()
