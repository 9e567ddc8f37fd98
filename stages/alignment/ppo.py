"""Proximal policy optimisation of the SFT model against the reward model (Schulman et al. 2017; Ouyang et al. 2022)."""

from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from stages.alignment.answers import Answer, Validation, answer
from stages.alignment.inputs import (
    SFT,
    read_instructions,
    read_model,
    read_tokenizer,
    read_truth,
)
from stages.alignment.losses import masked_mean, ppo_policy_loss, ppo_value_loss
from stages.alignment.rollout import Rollout, collect, spread_logprobs
from stages.alignment.scalar import ScalarModel, read_reward_model, rewards_of
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.checkpoint import save_model
from stages.lm.device import environment
from stages.lm.loop import train
from stages.lm.optim import build_optimizer


class PpoParams(Section):
    iterations: Annotated[int, Field(ge=1)]
    rollouts: Annotated[int, Field(ge=2)]  # prompts answered in each iteration
    epochs: Annotated[int, Field(ge=1)]  # passes over an iteration's rollouts
    minibatch_size: Annotated[int, Field(ge=1)]
    lr: Annotated[float, Field(gt=0)]
    value_lr: Annotated[float, Field(gt=0)]
    kl: Annotated[float, Field(ge=0)]  # weight of the per-token penalty, against scores of standard deviation 1
    gamma: Annotated[float, Field(gt=0, le=1)]
    lam: Annotated[float, Field(ge=0, le=1)]
    clip_ratio: Annotated[float, Field(gt=0)]
    clip_value: Annotated[float, Field(gt=0)]
    value_weight: Annotated[float, Field(ge=0)]
    missing_end_penalty: Annotated[float, Field(ge=0)]  # taken from the score of an answer that was cut off
    clip: Annotated[float, Field(ge=0)]  # largest gradient norm, policy and critic together
    validations: Annotated[int, Field(ge=1)]
    max_new_tokens: Annotated[int, Field(ge=1)]


PARAMS = {"alignment.ppo": PpoParams}
RewardFunction = Callable[[Sequence[Answer]], list[float]]


class ActorCritic(nn.Module):
    """Policy and value function, trained together, sharing no weights."""

    def __init__(self, policy: LanguageModel, critic: ScalarModel) -> None:
        super().__init__()
        self.policy, self.critic = policy, critic


class Standardised:
    """Scores shifted and scaled by the mean and standard deviation of the first ones (the SFT model's answers), so that
    `kl` means the same for any reward model (Stiennon et al. 2020; Huang et al. 2024, detail 5)."""

    def __init__(self, reward: RewardFunction, missing_end_penalty: float) -> None:
        self.reward, self.penalty = reward, missing_end_penalty
        self.mean, self.scale = 0.0, 0.0

    def __call__(self, answers: Sequence[Answer]) -> tuple[list[float], float]:
        """(standardised scores with the penalty, mean of the raw ones)."""
        raw = self.reward(answers)
        if not self.scale:
            self.mean, self.scale = fmean(raw), max(stdev(raw), 1e-6)
        scores = [
            (value - self.mean) / self.scale - (0.0 if given.ended else self.penalty)
            for value, given in zip(raw, answers, strict=True)
        ]
        return scores, fmean(raw)


def minibatches(count: int, size: int, epochs: int, seed: int) -> list[list[int]]:
    """Indices of each update of one iteration: every rollout once an epoch, in seeded order."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(count).tolist() for _ in range(epochs)]
    return [order[at : at + size] for order in orders for at in range(0, count, size)]


def update_loss(model: ActorCritic, batch: Rollout, params: PpoParams) -> tuple[torch.Tensor, dict[str, float]]:
    """Policy loss + value_weight * value loss of one minibatch, and what to log of it."""
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


def improve(
    model: ActorCritic,
    reference: LanguageModel,
    tokenizer: ChatTokenizer,
    prompts: Sequence[str],
    reward: RewardFunction,
    params: PpoParams,
    seed: int,
    on_checkpoint: Callable[[int], None],
    name: str,
) -> list[dict[str, float]]:
    """Train `model` in place; one row an update.

    Answers are sampled at temperature 1 from the whole distribution, because the ratios and the KL penalty are those of
    the model's own distribution. `on_checkpoint(step)` is called `validations` times, after whole iterations, the last
    one included.
    """
    standardised = Standardised(reward, params.missing_end_penalty)
    updates = len(minibatches(params.rollouts, params.minibatch_size, params.epochs, 0))
    marks = {round(params.iterations * (k + 1) / params.validations) * updates for k in range(params.validations)} - {0}
    state: dict[str, Any] = {}

    def roll_out(iteration: int) -> None:
        order = np.random.default_rng(derive(seed, "prompts", iteration)).permutation(
            np.arange(max(params.rollouts, len(prompts))) % len(prompts)
        )
        model.eval()
        groups = answer(
            model.policy,
            tokenizer,
            [prompts[index] for index in order[: params.rollouts]],
            max_new_tokens=params.max_new_tokens,
            temperature=1.0,
            top_p=1.0,
            seed=derive(seed, "answers", iteration),
        )
        answers = [given for (given,) in groups]
        scores, raw = standardised(answers)
        rollout, found = collect(
            model.policy, reference, model.critic, answers, scores, tokenizer.pad_id, tokenizer.end_id,
            kl=params.kl, gamma=params.gamma, lam=params.lam,
        )  # fmt: skip
        model.train()
        state["rollout"] = rollout
        state["report"] = {"iteration": iteration, "reward": raw, "score": fmean(scores), **found}
        state["batches"] = minibatches(
            params.rollouts, params.minibatch_size, params.epochs, derive(seed, "minibatches", iteration)
        )

    def loss(current: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        iteration, update = divmod(step, updates)
        if update == 0:
            roll_out(iteration)
        found, report = update_loss(current, state["rollout"].rows(state["batches"][update]), params)
        return found, report | (state["report"] if update == 0 else {})

    optimizer = build_optimizer(model, params.lr, kind="adamw")
    split_rates(optimizer, model, params.lr, params.value_lr)
    result = train(
        model,
        optimizer,
        lambda step: 1.0,
        loss,
        params.iterations * updates,
        name=name,
        clip=params.clip,
        on_step=lambda done: on_checkpoint(done - 1) if done in marks else None,
    )
    model.eval()
    return result.rows


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
    with stage("alignment.ppo", PpoParams, seed="run.seed") as run:
        params = run.params
        instructions = read_instructions(run)
        tokenizer = read_tokenizer(run)
        reference, reward_model = read_model(run, SFT), read_reward_model(run)
        model = ActorCritic(read_model(run, SFT), read_reward_model(run))
        truth = read_truth(run)
        validation = Validation(tokenizer, truth, instructions, params.max_new_tokens)
        prompts = [row["prompt"] for row in instructions if row["split"] == "preference"]
        checkpoints: list[dict[str, float]] = []
        best: dict[str, Any] = {}

        def reward(answers: Sequence[Answer]) -> list[float]:
            return rewards_of(reward_model, [given.exchange(tokenizer.end_id) for given in answers], tokenizer.pad_id)

        def keep_best(step: int) -> None:
            found = validation.greedy(model.policy)
            if not checkpoints or found["exact_score"] > max(row["exact_score"] for row in checkpoints):
                best.update({key: value.detach().clone() for key, value in model.policy.state_dict().items()})
            checkpoints.append({"step": step, **found})

        steps = improve(model, reference, tokenizer, prompts, reward, params, run.seed, keep_best, "alignment.ppo")
        model.policy.load_state_dict(best)
        chosen = max(checkpoints, key=lambda row: (row["exact_score"], -row["step"]))
        at = {row["step"]: {f"validation_{k}": v for k, v in row.items() if k != "step"} for row in checkpoints}
        save_model(run.output(""), model.policy)
        run.write_jsonl("steps.jsonl", [row | at.get(row["step"], {}) for row in steps])
        rewards = [row["reward"] for row in steps if "reward" in row]
        run.write_json(
            "metrics.json",
            {
                "first_reward": rewards[0],
                "last_reward": rewards[-1],
                "best_step": chosen["step"],
                "validation_kl_to_sft": validation.divergence(model.policy, reference, derive(run.seed, "divergence")),
                **{f"validation_{key}": value for key, value in chosen.items() if key != "step"},
                **{f"validation_sft_{key}": value for key, value in validation.greedy(reference).items()},
            },
        )
        run.note("environment", environment())


if __name__ == "__main__":
    main()
