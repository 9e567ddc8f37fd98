"""Proximal policy optimisation of the SFT model against the reward model (Schulman et al. 2017; Ouyang et al. 2022)."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from stages.alignment.answering.answers import Answer, Measured, Sampling, Validation, answer
from stages.alignment.answering.kept_answers import KeptAnswers, kept_answers
from stages.alignment.data.inputs import read_model
from stages.alignment.data.records import read_instructions, read_truth
from stages.alignment.learning.improvement import (
    Improvement,
    Round,
    asked_in,
    minibatches,
    note_stop,
    prompted,
    with_room,
)
from stages.alignment.learning.restraint import Collapse, KlWeight, require_finite
from stages.alignment.learning.rollout import Rollout, collect, spread_logprobs
from stages.alignment.learning.selection import MEAN_REWARD, Selection, chosen_by, validated
from stages.alignment.learning.tuning import Report, Tuning, tuning_of
from stages.alignment.losses import masked_mean, ppo_policy_loss, ppo_value_loss
from stages.alignment.rewards.scalar import ScalarModel, read_reward, read_value_function
from stages.base.conversation import Asked
from stages.base.params import Section
from stages.base.recipe import Run
from stages.base.record import stage
from stages.base.seeds import derive
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.checkpoint import Stateful, save_model
from stages.lm.device import environment
from stages.lm.loop import TrainResult
from stages.lm.optim import build_optimizer


class PpoParams(Section):
    iterations: Annotated[int, Field(ge=1)]
    """Rounds of answering and learning from the answers."""
    rollouts: Annotated[int, Field(ge=2)]
    """Prompts answered in each iteration."""
    epochs: Annotated[int, Field(ge=1)]
    """Passes over an iteration's rollouts."""
    minibatch_size: Annotated[int, Field(ge=1)]
    """Rollouts of a step."""
    lr: Annotated[float, Field(gt=0)]
    """Of the policy, constant."""
    value_lr: Annotated[float, Field(gt=0)]
    """Of the value function."""
    kl: Annotated[float, Field(ge=0)]
    """Weight of the per-token penalty, against scores of standard deviation 1; the first, where it adapts."""
    kl_target: Annotated[float, Field(gt=0)] | None
    """Divergence from the SFT model, in nats per answer, that the weight is adapted to (Ziegler et al. 2019); null: the
    weight stays."""
    kl_gain: Annotated[float, Field(gt=0)]
    """How fast it adapts: 0.1 in the paper, whose runs have thousands of iterations; unused without a target."""
    max_kl: Annotated[float, Field(gt=0)] | None
    """Nats per answer from the SFT model at which training ends, the best checkpoint being kept; null: none."""
    gamma: Annotated[float, Field(gt=0, le=1)]
    """Discount of a token's later rewards."""
    lam: Annotated[float, Field(ge=0, le=1)]
    """Of generalized advantage estimation: 0 trusts the values, 1 the rewards."""
    clip_ratio: Annotated[float, Field(gt=0)]
    """How far a token's probability may move for free, as a share."""
    clip_value: Annotated[float, Field(gt=0)]
    """How far a value may move for free."""
    value_weight: Annotated[float, Field(ge=0)]
    """Of the value loss beside the policy's."""
    missing_end_penalty: Annotated[float, Field(ge=0)]
    """Taken from the score of an answer that was cut off, in standard deviations of the reward."""
    clip: Annotated[float, Field(ge=0)]
    """Largest gradient norm, policy and value function together; 0 for none."""
    validations: Annotated[int, Field(ge=1)]
    """Checkpoints compared, after whole iterations, the last one included."""
    max_new_tokens: Annotated[int, Field(ge=1)]
    """Longest answer."""
    reward: Literal["score", "sign"]
    """What is learned from: the reward model's score, or only its side of the SFT answers' mean (1 or -1)."""

    @model_validator(mode="after")
    def _adapts_from_a_weight(self) -> "PpoParams":
        if self.kl_target is not None and self.kl == 0:
            raise ValueError("with a `kl_target`, `kl` must be above 0: it is what the weight is adapted from")
        return self


PARAMS = {"alignment.ppo": PpoParams, "run": Run}
RewardFunction = Callable[[Sequence[Answer]], list[float]]


class ActorCritic(nn.Module):
    """Policy and value function, trained together, sharing no weights."""

    def __init__(self, policy: LanguageModel, critic: ScalarModel) -> None:
        super().__init__()
        self.policy, self.critic = policy, critic


class Standardised:
    """Scores shifted and scaled by the mean and standard deviation of the first ones (the SFT model's answers), so that
    `kl` means the same for any reward model (Stiennon et al. 2020; Huang et al. 2024, detail 5)."""

    def __init__(self, reward: RewardFunction, missing_end_penalty: float, *, binary: bool = False) -> None:
        self.reward, self.penalty, self.binary = reward, missing_end_penalty, binary
        self.mean, self.scale = 0.0, 0.0

    def __call__(self, answers: Sequence[Answer]) -> tuple[list[float], float]:
        """(standardised scores, or their signs, with the penalty; mean of the raw ones)."""
        raw = self.reward(answers)
        require_finite(raw)
        if not self.scale:
            self.mean, self.scale = fmean(raw), max(stdev(raw), 1e-6)
        scores = [(value - self.mean) / self.scale for value in raw]
        if self.binary:
            scores = [math.copysign(1.0, score) for score in scores]
        penalties = [0.0 if given.ended else self.penalty for given in answers]
        return [score - penalty for score, penalty in zip(scores, penalties, strict=True)], fmean(raw)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "scale": self.scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean, self.scale = state["mean"], state["scale"]


def update_loss(model: ActorCritic, batch: Rollout, params: PpoParams) -> tuple[Tensor, Report]:
    """Policy loss + value_weight * value loss of one minibatch, means over its tokens, and what to log of it."""
    logprobs = spread_logprobs(model.policy, batch.tokens, batch.mask)
    values = model.critic(batch.tokens[:, :-1])
    policy = ppo_policy_loss(logprobs, batch.logprobs, batch.advantages, batch.mask, params.clip_ratio)
    value = ppo_value_loss(values, batch.values, batch.returns, batch.mask, params.clip_value)
    with torch.no_grad():
        moved = float(masked_mean(batch.logprobs - logprobs, batch.mask))
    return policy.loss + params.value_weight * value, {
        "policy_loss": policy.loss.item(),
        "value_loss": value.item(),
        "clipped": policy.clipped,
        "approximate_kl": moved,
        "tokens": float(batch.tokens.numel()),
    }


class Rollouts:
    """Iterations of answering prompts with the policy of an actor-critic, and what its updates learn from the answers.

    Answers are sampled at temperature 1 from the whole distribution, because the ratios and the KL penalty are those of
    the model's own distribution.
    """

    def __init__(
        self,
        model: ActorCritic,
        reference: LanguageModel,
        tokenizer: ChatTokenizer,
        prompts: Sequence[Asked],
        reward: RewardFunction,
        params: PpoParams,
        seed: int,
        keep: KeptAnswers | None = None,
    ) -> None:
        self.model, self.reference, self.tokenizer, self.prompts = model, reference, tokenizer, prompts
        self.params, self.seed, self.keep = params, seed, keep
        self.scores = Standardised(reward, params.missing_end_penalty, binary=params.reward == "sign")
        self.weight = KlWeight(params.kl, params.kl_target, params.kl_gain)
        self.collapse = Collapse(params.max_kl)

    @property
    def carried(self) -> dict[str, Stateful]:
        """What an iteration depends on beside the model."""
        return {"scores": self.scores, "weight": self.weight, "collapse": self.collapse}

    def __call__(self, iteration: int) -> Round:
        params, seed = self.params, self.seed
        groups = answer(
            self.model.policy,
            self.tokenizer,
            [self.prompts[index] for index in asked_in(iteration, params.rollouts, len(self.prompts), seed)],
            Sampling(temperature=1.0, top_p=1.0, max_new_tokens=params.max_new_tokens),
            seed=derive(seed, "answers", iteration),
            keep=self.keep,
        )
        answers = [given for (given,) in groups]
        scores, raw = self.scores(answers)
        rollout, found = collect(
            self.model.policy, self.reference, self.model.critic, answers, scores,
            self.tokenizer.pad_id, self.tokenizer.end_id, kl=self.weight.value, gamma=params.gamma, lam=params.lam,
        )  # fmt: skip
        self.collapse.check(iteration, answers, found["kl"])
        found["kl_weight"] = self.weight.value
        self.weight.update(found["kl"])

        def loss(batch: list[int]) -> tuple[Tensor, Report]:
            return update_loss(self.model, rollout.rows(batch), params)

        batches = minibatches(
            params.rollouts, params.minibatch_size, params.epochs, derive(seed, "minibatches", iteration)
        )
        lengths = rollout.mask.sum(dim=1).tolist()
        return Round(loss, batches, lengths, {"reward": raw, "score": fmean(scores), **found})


def improve(
    model: ActorCritic,
    rollouts: Rollouts,
    tuning: Tuning[PpoParams],
    on_checkpoint: Callable[[int], None],
    carried: Mapping[str, Stateful] | None = None,
) -> TrainResult:
    """Train `model` in place; one row an update."""
    params = rollouts.params
    updates = len(minibatches(params.rollouts, params.minibatch_size, params.epochs, 0))
    optimizer = build_optimizer(model, params.lr, kind="adamw")
    split_rates(optimizer, model, params.lr, params.value_lr)
    improvement = Improvement(model, rollouts, iterations=params.iterations, updates=updates)
    return improvement.train(
        optimizer, params.clip, params.validations, tuning, on_checkpoint, {**rollouts.carried, **(carried or {})}
    )


def split_rates(optimizer: torch.optim.Optimizer, model: ActorCritic, lr: float, value_lr: float) -> None:
    """Give the critic's parameters a learning rate of their own."""
    critic = {id(parameter) for parameter in model.critic.parameters()}
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        for own, rate in ((False, lr), (True, value_lr)):
            members = [parameter for parameter in group["params"] if (id(parameter) in critic) is own]
            if members:
                groups.append({**group, "params": members, "lr": rate, "peak_lr": rate})
    optimizer.param_groups[:] = groups


def main() -> None:
    with stage("alignment.ppo", PpoParams, seed="run") as run:
        params = run.params
        instructions = read_instructions(run)
        (reference, tokenizer), (policy, _) = read_model(run, "sft"), read_model(run, "sft")
        judged = read_reward(run)
        model = ActorCritic(policy, read_value_function(run))
        keep = kept_answers(run)
        validation = Validation(
            tokenizer, read_truth(run), instructions, params.max_new_tokens, policy.config.max_seq_len, keep
        )

        def reward(answers: Sequence[Answer]) -> list[float]:
            return judged([given.exchange(tokenizer.end_id) for given in answers])

        def answered() -> Measured:
            given = validation.answers(policy)
            return {"reward": fmean(reward(given)), **validation.summary(given)}

        def measure() -> Measured:
            moved = validation.divergence(policy, reference, derive(run.seed, "divergence"))
            return {**answered(), "kl_to_sft": moved}

        selection = Selection(policy, chosen_by(MEAN_REWARD, validation.knows_truth), measure)
        before = answered()
        rows = prompted(instructions)
        prompts = [row.asked for row in with_room(rows, tokenizer, policy.config.max_seq_len)]
        rollouts = Rollouts(model, reference, tokenizer, prompts, reward, params, run.seed, keep)
        result = improve(model, rollouts, tuning_of(run), selection.visit, {"selection": selection})
        selection.keep(reference, {**before, "kl_to_sft": 0.0})
        note_stop(run, result, selection.restore())
        save_model(run.model_folder("ppo"), policy, tokenizer)
        run.write_jsonl("steps.jsonl", selection.joined(result.rows))
        rewards = [row["reward"] for row in result.rows if "reward" in row]
        run.write_json(
            "metrics.json",
            {
                "first_reward": rewards[0],
                "last_reward": rewards[-1],
                "stopped": result.stopped,
                **selection.found(),
                **validated(before, "sft_"),
            },
        )
        run.note("too_long", len(rows) - len(prompts))
        run.note("chosen_by", selection.chosen_by)
        run.note("environment", environment())


if __name__ == "__main__":
    main()
