"""The reward model: the SFT model with a scalar head, fitted to the preferences by Bradley-Terry; alone or several."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Annotated

from pydantic import Field
from torch import Tensor

from stages.alignment.data.inputs import read_model
from stages.alignment.data.records import read_preferences
from stages.alignment.learning.batches import lay_out
from stages.alignment.learning.pairs import Pair, accuracy, encode_pairs, hold_out, that_fit
from stages.alignment.learning.tuning import BatchLoss, Report, Tuning, TuningParams, tune, tuning_of
from stages.alignment.losses import reward_loss
from stages.alignment.rewards.margins import details, judged, log_loss, summary
from stages.alignment.rewards.scalar import (
    ENSEMBLE,
    Combine,
    Ensemble,
    Pooling,
    ScalarModel,
    member_folder,
    rewards_of,
    save_scalar,
)
from stages.base.recipe import Run
from stages.base.record import StageRun, stage
from stages.base.seeds import derive
from stages.lm.device import environment
from stages.lm.loop import DivergedError


class RewardParams(TuningParams):
    pooling: Pooling
    """What the reward reads: the state at the answer's last position, the mean of those at all of them, or the
    likelihood, the mean log-probability of the answer's tokens."""
    centring: Annotated[float, Field(ge=0)]
    """Weight of mean (r_chosen + r_rejected)^2."""
    held_out: Annotated[float, Field(gt=0, lt=1)]
    """Share of the prompts that are never trained on."""
    members: Annotated[int, Field(ge=1)]
    """Reward models, each from another seed; above 1 an ensemble."""
    combine: Combine
    """How their rewards become one: the mean, the worst, or the mean less `uncertainty` times their variance."""
    uncertainty: Annotated[float, Field(ge=0)]
    """Weight of the members' variance; unused unless `combine` is uncertainty."""


PARAMS = {"alignment.reward": RewardParams, "run": Run}
NOTHING_KNOWN = math.log(2)  # the loss where all rewards are equal, as at the start


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
    """Train `model` in place; one row a step. Raises DivergedError where it ends far worse than it began."""
    loss = pair_loss(model, pairs, tuning.params.centring)
    rows = tune(model, loss, [len(pair) for pair in pairs], [1.0] * len(pairs), tuning)
    last = fmean(row["loss"] for row in rows[-math.ceil(len(rows) / 4) :])
    if last > 10 * NOTHING_KNOWN:
        raise DivergedError(
            f"{tuning.name}: training diverged: the mean loss of its last quarter is {last:.4g}, while a model that "
            f"knows nothing has {NOTHING_KNOWN:.2g}; lower `alignment.reward.lr` ({tuning.params.lr:g} here)"
        )
    return rows


def fit_all(
    run: StageRun[RewardParams], training: Sequence[Pair], save: Callable[[int, ScalarModel], None]
) -> tuple[Ensemble, list[Report]]:
    """The members, each saved when it is done, and one row a step of all of them. A single one has its head start at
    zero; members of an ensemble differ in their head's start and in the order of the pairs."""
    params, tuning = run.params, tuning_of(run)
    models: list[ScalarModel] = []
    steps: list[Report] = []
    for member in range(params.members):
        decoder, _ = read_model(run, "sft")
        if params.members == 1:
            model = ScalarModel(decoder, params.pooling)
            steps = fit(model, training, tuning)
        else:
            seed = derive(run.seed, "member", member)
            model = ScalarModel(decoder, params.pooling, head_seed=derive(seed, "head"))
            rows = fit(model, training, replace(tuning, seed=seed, name=f"{tuning.name}.{member}"))
            done = len(steps)
            steps += [{**row, "step": done + place, "member": member} for place, row in enumerate(rows)]
        save(member, model)
        models.append(model.eval())
    if params.members == 1:
        return Ensemble(models), steps
    levels = [fmean(rewards_of(model, [exchange for pair in training for exchange in pair.sides])) for model in models]
    return Ensemble(models, params.combine, params.uncertainty, levels), steps


def margins_of(ensemble: Ensemble, pairs: Sequence[Pair]) -> list[float]:
    """Reward of the chosen answer minus that of the rejected one."""
    flat = ensemble.combined(ensemble.each([exchange for pair in pairs for exchange in pair.sides]))
    return [chosen - rejected for chosen, rejected in zip(flat[::2], flat[1::2], strict=True)]


def disagreement(ensemble: Ensemble, pairs: Sequence[Pair]) -> dict[str, float]:
    """How members differ on pairs: `members_disagree`, the share on which not all prefer the same answer;
    `member_accuracy`, their mean; `member_deviation`, the mean standard deviation of an answer's rewards."""
    rewards = ensemble.each([exchange for pair in pairs for exchange in pair.sides])
    margins = rewards[:, ::2] - rewards[:, 1::2]
    ahead = margins > 0
    return {
        "members_disagree": float((ahead.any(axis=0) & ~ahead.all(axis=0)).mean()),
        "member_accuracy": fmean(accuracy(own.tolist()) for own in margins),
        "member_deviation": float(rewards.std(axis=0).mean()),
    }


def main() -> None:
    with stage("alignment.reward", RewardParams, seed="run") as run:
        params = run.params
        decoder, tokenizer = read_model(run, "sft")
        limit = decoder.config.max_seq_len
        preferences = read_preferences(run)
        roomy = that_fit(tokenizer, preferences, limit)
        encoded = zip(roomy, encode_pairs(tokenizer, roomy, limit), strict=True)
        usable = [(row, pair) for row, pair in encoded if not pair.same]
        kept, away = hold_out([row.prompt for row, _ in usable], params.held_out, run.seed)
        training, held_out = [usable[place][1] for place in kept], [usable[place][1] for place in away]
        folder = run.output("")

        def save(member: int, model: ScalarModel) -> None:
            save_scalar(member_folder(folder, member), model, tokenizer)

        ensemble, steps = fit_all(run, training, save)
        several = params.members > 1
        if several:
            facts = {"combine": params.combine, "uncertainty": params.uncertainty, "levels": list(ensemble.levels)}
            run.write_json(ENSEMBLE, facts)
        run.write_jsonl("steps.jsonl", steps)
        seen = margins_of(ensemble, training)
        margins = margins_of(ensemble, held_out)
        unseen = judged([usable[place][0] for place in away], margins)
        run.write_json("held_out.json", details(unseen))
        found = {**summary(unseen), **(disagreement(ensemble, held_out) if several else {})}
        if (loss := log_loss(margins)) > NOTHING_KNOWN:
            print(
                f"alignment.reward: the loss on held-out pairs is {loss:.4g}, worse than that of a model that "
                f"knows nothing ({NOTHING_KNOWN:.2g}); lower `alignment.reward.lr` or `epochs`, or give it more pairs",
                file=sys.stderr,
            )
        run.write_json(
            "metrics.json",
            {
                "members": params.members,
                "training_pairs": len(training),
                "training_accuracy": accuracy(seen),
                **{f"held_out_{key}": value for key, value in found.items()},
            },
        )
        dropped = {"too_long": len(preferences) - len(roomy), "identical": len(roomy) - len(usable)}
        run.rows(len(preferences), len(usable), dropped, params.max_drop)
        run.note("environment", environment())


if __name__ == "__main__":
    main()
