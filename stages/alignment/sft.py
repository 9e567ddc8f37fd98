"""Supervised fine-tuning of the base model on instructions: loss on the answers only, in the chat format."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from stages.alignment.answers import Validation
from stages.alignment.batches import Exchange, bucketed, encode_exchange, pad
from stages.alignment.inputs import BASE, read_instructions, read_model, read_tokenizer, read_truth
from stages.base import schemas
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.checkpoint import save_model
from stages.lm.device import autocast, environment
from stages.lm.loop import train
from stages.lm.loss import linear_cross_entropy
from stages.lm.optim import build_optimizer
from stages.lm.rates import Rates, cosine


class SftParams(Section):
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    optimizer: Literal["muon", "adamw"]
    lr: Annotated[float, Field(gt=0)]
    adam_lr: Annotated[float, Field(gt=0)]  # of what Muon leaves over; unused with adamw
    weight_decay: Annotated[float, Field(ge=0)]
    warmup: Annotated[float, Field(ge=0, le=1)]  # share of the steps
    clip: Annotated[float, Field(ge=0)]  # largest gradient norm, 0 for none
    validations: Annotated[int, Field(ge=1)]  # checkpoints compared on the validation split, the last step included
    max_new_tokens: Annotated[int, Field(ge=1)]
    self_instruct_share: Annotated[float, Field(ge=0)]  # machine-written examples for every human one


PARAMS = {"alignment.sft": SftParams}


def mix(
    human: Sequence[dict[str, Any]], machine: Sequence[dict[str, Any]], share: float, seed: int
) -> list[dict[str, Any]]:
    """All human rows, and of the machine-written ones a seeded choice of `share` times as many, as far as there are."""
    wanted = min(len(machine), round(share * len(human)))
    chosen = sorted(np.random.default_rng(derive(seed, "mix")).permutation(len(machine))[:wanted].tolist())
    return [*human, *(machine[index] for index in chosen)]


def plan_batches(exchanges: Sequence[Exchange], batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """Indices of every step's batch over all epochs."""
    lengths = [len(exchange) for exchange in exchanges]
    return [batch for epoch in range(epochs) for batch in bucketed(lengths, batch_size, seed, epoch)]


def completion_loss(
    model: LanguageModel, rows: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """Mean negative log-likelihood of the tokens that `mask` marks, both (B, T), in nats, and how many they are.

    The vocabulary's head runs at those positions only.
    """
    with autocast():
        hidden = model.hidden(rows[:, :-1])
        wanted = mask[:, 1:].bool()
        count = int(wanted.sum())
        loss = linear_cross_entropy(hidden[wanted], model.head_weight, rows[:, 1:][wanted]) / count
    return loss, {"tokens": float(rows.numel())}


def fine_tune(
    model: LanguageModel,
    tokenizer: ChatTokenizer,
    exchanges: Sequence[Exchange],
    params: SftParams,
    seed: int,
    validate: Callable[[LanguageModel], dict[str, float]],
    name: str,
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Train `model` in place and leave it at the checkpoint with the most validation answers right.

    Of equals it is the earliest. Returns one row a step and one row a checkpoint (step, and what `validate` says).
    """
    batches = plan_batches(exchanges, params.batch_size, params.epochs, seed)
    steps = len(batches)
    marks = {round(steps * (k + 1) / params.validations) for k in range(params.validations)} - {0}
    padding = tokenizer.pad_id
    home = model.head_weight.device
    checkpoints: list[dict[str, float]] = []
    best: dict[str, Any] = {}

    def loss(current: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rows, mask = pad([exchanges[index] for index in batches[step]], padding)
        return completion_loss(current, rows.to(home), mask.to(home))

    def keep_best(done: int) -> None:
        if done not in marks:
            return
        found = validate(model)
        if not checkpoints or found["exact_right"] > max(row["exact_right"] for row in checkpoints):
            best.update({key: value.detach().clone() for key, value in model.state_dict().items()})
        checkpoints.append({"step": done - 1, **found})

    rates = Rates.uniform(params.lr, params.adam_lr if params.optimizer == "muon" else None)
    optimizer = build_optimizer(model, rates, kind=params.optimizer, weight_decay=params.weight_decay)
    warmup = round(params.warmup * steps)
    result = train(
        model,
        optimizer,
        lambda step: cosine(step, steps, warmup),
        loss,
        steps,
        name=name,
        clip=params.clip,
        on_step=keep_best,
    )
    model.load_state_dict(best)
    model.eval()
    return result.rows, checkpoints


def chosen_checkpoint(checkpoints: Sequence[dict[str, float]], metric: str) -> dict[str, float]:
    """The checkpoint with the highest `metric`, the earliest of equals."""
    return max(checkpoints, key=lambda row: (row[metric], -row["step"]))


def main() -> None:
    with stage("alignment.sft", SftParams, seed="run.seed") as run:
        params = run.params
        instructions = read_instructions(run)
        human = [row for row in instructions if row["split"] == "sft"]
        machine = run.read_table("data/alignment/self_instruct/generated.parquet", schemas.INSTRUCTION).to_pylist()
        rows = mix(human, machine, params.self_instruct_share, run.seed)
        tokenizer = read_tokenizer(run)
        model = read_model(run, BASE)
        truth = read_truth(run)
        validation = Validation(tokenizer, truth, instructions, params.max_new_tokens)
        limit = model.config.max_seq_len
        exchanges = [encode_exchange(tokenizer, row["prompt"], row["response"], limit) for row in rows]
        before = validation.greedy(model)
        steps, checkpoints = fine_tune(
            model, tokenizer, exchanges, params, run.seed, validation.greedy, "alignment.sft"
        )
        best = chosen_checkpoint(checkpoints, "exact_right")
        save_model(run.output(""), model)
        at = {row["step"]: row for row in checkpoints}
        run.write_jsonl("steps.jsonl", [with_validation(row, at.get(row["step"])) for row in steps])
        run.write_json(
            "metrics.json",
            {
                "examples": len(rows),
                "machine_examples": len(rows) - len(human),
                "final_loss": steps[-1]["loss"],
                "best_step": best["step"],
                **{f"validation_{key}": value for key, value in best.items() if key != "step"},
                **{f"validation_base_{key}": value for key, value in before.items()},
            },
        )
        run.rows(len(rows), len(exchanges), {}, max_drop=0.0)
        run.note("environment", environment())


def with_validation(row: dict[str, float], found: dict[str, float] | None) -> dict[str, float]:
    """A step's row with its checkpoint's validation numbers, where there was one."""
    return row | {f"validation_{key}": value for key, value in (found or {}).items() if key != "step"}


if __name__ == "__main__":
    main()
