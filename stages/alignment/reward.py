"""The reward model: the SFT model with a scalar head, fitted to the preferences by Bradley-Terry."""

from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from stages.alignment.batches import Exchange, bucketed, encode_exchange, pad
from stages.alignment.inputs import SFT, read_model, read_preferences, read_tokenizer
from stages.alignment.losses import reward_loss
from stages.alignment.scalar import ScalarModel, rewards_of, save_scalar
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive
from stages.lm.chat import ChatTokenizer
from stages.lm.device import environment
from stages.lm.loop import train
from stages.lm.optim import build_optimizer
from stages.lm.rates import cosine

PairOfExchanges = tuple[Exchange, Exchange]  # chosen, rejected


class RewardParams(Section):
    pooling: Literal["last", "mean"]  # what the reward reads: the answer's last position, or all of them
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]  # pairs
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    warmup: Annotated[float, Field(ge=0, le=1)]
    clip: Annotated[float, Field(ge=0)]
    centring: Annotated[float, Field(ge=0)]  # weight of mean (r_chosen + r_rejected)^2
    held_out: Annotated[float, Field(gt=0, lt=1)]  # share of the prompts


PARAMS = {"alignment.reward": RewardParams}


def encode_pairs(
    tokenizer: ChatTokenizer, preferences: Sequence[dict[str, Any]], max_length: int
) -> list[PairOfExchanges]:
    """Raises InputError for an exchange longer than the model's context."""
    return [
        (
            encode_exchange(tokenizer, row["prompt"], row["chosen"], max_length),
            encode_exchange(tokenizer, row["prompt"], row["rejected"], max_length),
        )
        for row in preferences
    ]


def is_held_out(instruction: str, share: float, seed: int) -> bool:
    """Whether a prompt's pairs are kept from training: all pairs of a prompt fall on one side."""
    return derive(seed, "held_out", instruction) / 2**63 < share


def fit(
    model: ScalarModel, pairs: Sequence[PairOfExchanges], params: RewardParams, padding: int, seed: int, name: str
) -> list[dict[str, float]]:
    """Train `model` in place; one row a step. Chosen and rejected of a pair share a batch."""
    lengths = [max(len(chosen), len(rejected)) for chosen, rejected in pairs]
    batches = [batch for epoch in range(params.epochs) for batch in bucketed(lengths, params.batch_size, seed, epoch)]
    home = model.head.weight.device

    def loss(current: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        batch = batches[step]
        rows, mask = pad([pairs[i][0] for i in batch] + [pairs[i][1] for i in batch], padding)
        chosen, rejected = current.reward(rows.to(home), mask.to(home)).chunk(2)
        found = reward_loss(chosen, rejected, params.centring)
        return found.loss, {"accuracy": found.accuracy, "margin": found.margin, "tokens": float(rows.numel())}

    optimizer = build_optimizer(model, params.lr, kind="adamw", weight_decay=params.weight_decay)
    warmup = round(params.warmup * len(batches))
    schedule = lambda step: cosine(step, len(batches), warmup)  # noqa: E731
    rows = train(model, optimizer, schedule, loss, len(batches), name=name, clip=params.clip).rows
    model.eval()
    return rows


def evaluate(model: ScalarModel, pairs: Sequence[PairOfExchanges], padding: int) -> dict[str, float]:
    """`accuracy`: share of the pairs whose chosen answer has the higher reward; `margin`: mean difference."""
    flat = rewards_of(model, [exchange for pair in pairs for exchange in pair], padding)
    margins = [chosen - rejected for chosen, rejected in zip(flat[::2], flat[1::2], strict=True)]
    return {"accuracy": fmean(margin > 0 for margin in margins), "margin": fmean(margins)}


def by_known_score(preferences: Sequence[dict[str, Any]]) -> list[tuple[int, bool]]:
    """(index, whether the annotator chose the higher exact score) of the pairs that differ in it."""
    return [
        (index, row["chosen_score"] > row["rejected_score"])
        for index, row in enumerate(preferences)
        if row["chosen_score"] is not None and row["chosen_score"] != row["rejected_score"]
    ]


def score_accuracy(
    model: ScalarModel, preferences: Sequence[dict[str, Any]], pairs: Sequence[PairOfExchanges], padding: int
) -> float:
    """Share of the pairs that differ in exact score whose better answer has the higher reward, whatever the label."""
    known = by_known_score(preferences)
    ordered = [pairs[index] if agreed else pairs[index][::-1] for index, agreed in known]
    return evaluate(model, ordered, padding)["accuracy"] if ordered else float("nan")


def main() -> None:
    with stage("alignment.reward", RewardParams, seed="run.seed") as run:
        params = run.params
        preferences = read_preferences(run)
        tokenizer = read_tokenizer(run)
        model = ScalarModel(read_model(run, SFT), params.pooling)
        padding = tokenizer.pad_id
        away = [row for row in preferences if is_held_out(row["id"], params.held_out, run.seed)]
        kept = [row for row in preferences if not is_held_out(row["id"], params.held_out, run.seed)]
        if not away or not kept:
            raise InputError(
                f"preferences.parquet: {len(kept)} pairs to train on and {len(away)} held out; annotate more prompts "
                "or change `alignment.reward.held_out`"
            )
        limit = model.decoder.config.max_seq_len
        training, held_out = encode_pairs(tokenizer, kept, limit), encode_pairs(tokenizer, away, limit)
        steps = fit(model, training, params, padding, run.seed, "alignment.reward")
        save_scalar(run.output(""), model)
        run.write_jsonl("steps.jsonl", steps)
        found = evaluate(model, held_out, padding)
        longer = [len(row["chosen"]) > len(row["rejected"]) for row in away]
        run.write_json(
            "metrics.json",
            {
                "training_pairs": len(training),
                "held_out_pairs": len(held_out),
                "training_accuracy": evaluate(model, training, padding)["accuracy"],
                "held_out_accuracy": found["accuracy"],
                "held_out_margin": found["margin"],
                "held_out_score_accuracy": score_accuracy(model, away, held_out, padding),
                "held_out_longer_accuracy": fmean(longer),  # the control: always prefer the longer answer
            },
        )
        run.rows(len(preferences), len(training) + len(held_out), {}, max_drop=0.0)
        run.note("environment", environment())


if __name__ == "__main__":
    main()
