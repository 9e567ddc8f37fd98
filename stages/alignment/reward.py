"""The reward model: the SFT model with a scalar head, fitted to the preferences by Bradley-Terry."""

from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from stages.alignment.batches import lay_out
from stages.alignment.inputs import read_model
from stages.alignment.losses import reward_loss
from stages.alignment.pairs import Pair, accuracy, encode_pairs, hold_out, that_fit
from stages.alignment.records import Preference, read_preferences
from stages.alignment.scalar import ScalarModel, rewards_of, save_scalar
from stages.alignment.tuning import BatchLoss, Report, Tuning, TuningParams, tune, tuning_of
from stages.base.recipe import Run
from stages.base.record import stage
from stages.lm.device import environment


class RewardParams(TuningParams):
    pooling: Literal["last", "mean"]
    """What the reward reads: the answer's last position, or all of them."""
    centring: Annotated[float, Field(ge=0)]
    """Weight of mean (r_chosen + r_rejected)^2."""
    held_out: Annotated[float, Field(gt=0, lt=1)]
    """Share of the prompts that are never trained on."""


PARAMS = {"alignment.reward": RewardParams, "run": Run}


def pair_loss(model: ScalarModel, pairs: Sequence[Pair], centring: float) -> BatchLoss:
    """Of a batch of pairs. Chosen and rejected of a pair share a batch, and their prompt is read once."""
    home = model.head.weight.device

    def loss(batch: list[int]) -> tuple[Tensor, Report]:
        rows = lay_out([pairs[index].sides for index in batch], home, ends=True)
        rewards = model.reward(rows)
        found = reward_loss(rewards[::2], rewards[1::2], centring)
        return found.loss, {"accuracy": found.accuracy, "margin": found.margin, "tokens": float(rows.tokens.numel())}

    return loss


def fit(model: ScalarModel, pairs: Sequence[Pair], tuning: Tuning[RewardParams]) -> list[Report]:
    """Train `model` in place; one row a step."""
    loss = pair_loss(model, pairs, tuning.params.centring)
    return tune(model, loss, [len(pair) for pair in pairs], [1.0] * len(pairs), tuning)


def margins_of(model: ScalarModel, pairs: Sequence[Pair]) -> list[float]:
    """Reward of the chosen answer minus that of the rejected one."""
    flat = rewards_of(model, [exchange for pair in pairs for exchange in pair.sides])
    return [chosen - rejected for chosen, rejected in zip(flat[::2], flat[1::2], strict=True)]


def score_accuracy(preferences: Sequence[Preference], margins: Sequence[float]) -> float | None:
    """Share of the pairs that differ in exact score whose better answer has the higher reward, whatever the label; None
    where there are none."""
    agreed = [
        (row.chosen_score > row.rejected_score) == (margin > 0)
        for row, margin in zip(preferences, margins, strict=True)
        if row.chosen_score is not None and row.rejected_score is not None and row.chosen_score != row.rejected_score
    ]
    return fmean(agreed) if agreed else None


def main() -> None:
    with stage("alignment.reward", RewardParams, seed="run") as run:
        params = run.params
        decoder, tokenizer = read_model(run, "sft")
        limit = decoder.config.max_seq_len
        preferences = read_preferences(run)
        fitting = that_fit(tokenizer, preferences, limit)
        pairs = encode_pairs(tokenizer, fitting, limit)
        kept, away = hold_out([row.prompt for row in fitting], params.held_out, run.seed)
        training, held_out = [pairs[place] for place in kept], [pairs[place] for place in away]
        unseen = [fitting[place] for place in away]
        model = ScalarModel(decoder, params.pooling)
        steps = fit(model, training, tuning_of(run))
        save_scalar(run.output(""), model, tokenizer)
        run.write_jsonl("steps.jsonl", steps)
        seen, margins = (margins_of(model, pairs) for pairs in (training, held_out))
        run.write_json(
            "metrics.json",
            {
                "training_pairs": len(training),
                "held_out_pairs": len(held_out),
                "training_accuracy": accuracy(seen),
                "held_out_accuracy": accuracy(margins),
                "held_out_margin": fmean(margins),
                "held_out_score_accuracy": score_accuracy(unseen, margins),
                # The control: always prefer the longer answer.
                "held_out_longer_accuracy": fmean(len(row.chosen) > len(row.rejected) for row in unseen),
            },
        )
        too_long = {"too_long": len(preferences) - len(fitting)}
        run.rows(len(preferences), len(training) + len(held_out), too_long, params.max_drop)
        run.note("environment", environment())


if __name__ == "__main__":
    main()
