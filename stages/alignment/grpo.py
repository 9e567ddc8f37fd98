"""Group-relative policy optimisation of the SFT model: an answer is compared with the others to its prompt, so that no
value function is needed (Shao et al. 2024, DeepSeekMath, section 4.1).

Rewards are checked, not guessed, where instructions can be checked (`Verifier`); where none can, the reward model gives
them.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from stages.alignment.answering.answers import Answer, Measured, Sampling, Validation, answer
from stages.alignment.answering.kept_answers import KeptAnswers, kept_answers
from stages.alignment.answering.verifier import Verifier
from stages.alignment.data.inputs import read_model
from stages.alignment.data.records import Instruction, read_instructions, read_truth
from stages.alignment.learning.batches import Exchange, lay_out, token_logprobs
from stages.alignment.learning.improvement import (
    Improvement,
    Round,
    asked_in,
    minibatches,
    note_stop,
    prompted,
    with_room,
)
from stages.alignment.learning.restraint import Collapse, require_finite
from stages.alignment.learning.selection import MEAN_REWARD, Selection, chosen_by, validated
from stages.alignment.learning.tuning import Report, Tuning, tuning_of
from stages.alignment.losses import grpo_loss
from stages.alignment.rewards.scalar import read_reward
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


class GrpoParams(Section):
    iterations: Annotated[int, Field(ge=1)]
    """Rounds of answering and learning from the answers."""
    prompts: Annotated[int, Field(ge=1)]
    """Answered in each iteration."""
    samples: Annotated[int, Field(ge=2)]
    """Answers of each prompt: the group that they are compared within."""
    epochs: Annotated[int, Field(ge=1)]
    """Passes over an iteration's answers."""
    minibatch_size: Annotated[int, Field(ge=1)]
    """Prompts of a step, with all their answers."""
    lr: Annotated[float, Field(gt=0)]
    """Constant."""
    kl: Annotated[float, Field(ge=0)]
    """Weight of the divergence from the SFT model, per token."""
    max_kl: Annotated[float, Field(gt=0)] | None
    """Nats per answer from the SFT model at which training ends, the best checkpoint being kept; null: none."""
    clip_ratio: Annotated[float, Field(gt=0)]
    """How far a token's probability may move for free, as a share."""
    clip: Annotated[float, Field(ge=0)]
    """Largest gradient norm, 0 for none."""
    validations: Annotated[int, Field(ge=1)]
    """Checkpoints compared, after whole iterations, the last one included."""
    max_new_tokens: Annotated[int, Field(ge=1)]
    """Longest answer."""


PARAMS = {"alignment.grpo": GrpoParams, "run": Run}
# Rows that were asked and the answers to each → their rewards.
RewardFunction = Callable[[Sequence[Instruction], Sequence[Sequence[Answer]]], list[list[float]]]


@dataclass(frozen=True)
class Group:
    """The answers to one prompt and how each compares with the others."""

    exchanges: list[Exchange]
    advantages: list[float]
    logprobs: list[Tensor]  # of the answers' tokens, under the policy that sampled them
    reference: list[Tensor]  # and under the SFT model


def advantages_of(rewards: Sequence[float]) -> list[float]:
    """Rewards in standard deviations from their group's mean (section 4.1.2); all zero where they are equal."""
    mean, spread = fmean(rewards), pstdev(rewards)
    return [(reward - mean) / spread if spread > 1e-8 else 0.0 for reward in rewards]


def scored(model: LanguageModel, groups: Sequence[Sequence[Exchange]], size: int) -> list[list[Tensor]]:
    """`token_logprobs` by group and answer, `size` groups at a time, without gradients."""
    found: list[list[Tensor]] = []
    with torch.no_grad():
        for start in range(0, len(groups), size):
            part = groups[start : start + size]
            rows = lay_out(part, model.head_weight.device)
            flat = iter(token_logprobs(model, rows).split(rows.lengths.long().tolist()))
            found += [[next(flat) for _ in group] for group in part]
    return found


def update_loss(model: LanguageModel, batch: Sequence[Group], params: GrpoParams) -> tuple[Tensor, Report]:
    """Loss of the answers of some prompts, each answer a mean over its tokens, and what to log of it.

    Where no answer is better than another the gradient is exactly zero: of the divergence alone little more than
    rounding would be left, which AdamW scales up to whole steps.
    """
    rows = lay_out([group.exchanges for group in batch], model.head_weight.device)
    logprobs = token_logprobs(model, rows)
    old, reference = (
        torch.cat([part for group in batch for part in parts(group)])
        for parts in (lambda group: group.logprobs, lambda group: group.reference)
    )
    advantages = torch.tensor([one for group in batch for one in group.advantages], device=logprobs.device)
    weights = 1.0 / (rows.exchanges * rows.lengths)
    found = grpo_loss(
        logprobs, old, reference, advantages[rows.owners], weights[rows.owners], params.clip_ratio, params.kl
    )
    loss = found.loss if any(any(group.advantages) for group in batch) else 0.0 * logprobs.sum()
    return loss, {"clipped": found.clipped, "divergence": found.divergence, "tokens": float(rows.tokens.numel())}


class Groups:
    """Iterations of answering each prompt several times, and what the updates learn from the answers."""

    def __init__(
        self,
        model: LanguageModel,
        reference: LanguageModel,
        tokenizer: ChatTokenizer,
        asked: Sequence[Instruction],
        reward: RewardFunction,
        params: GrpoParams,
        seed: int,
        keep: KeptAnswers | None = None,
    ) -> None:
        self.model, self.reference, self.tokenizer, self.asked = model, reference, tokenizer, asked
        self.reward, self.params, self.seed, self.keep = reward, params, seed, keep
        self.collapse = Collapse(params.max_kl)

    def __call__(self, iteration: int) -> Round:
        params, seed = self.params, self.seed
        rows = [self.asked[index] for index in asked_in(iteration, params.prompts, len(self.asked), seed)]
        answered = answer(
            self.model,
            self.tokenizer,
            [row.asked for row in rows],
            Sampling(temperature=1.0, top_p=1.0, max_new_tokens=params.max_new_tokens),
            seed=derive(seed, "answers", iteration),
            samples=params.samples,
            keep=self.keep,
        )
        rewards = self.reward(rows, answered)
        exchanges = [[one.exchange(self.tokenizer.end_id) for one in group] for group in answered]
        old = scored(self.model, exchanges, params.minibatch_size)
        reference = scored(self.reference, exchanges, params.minibatch_size)
        moved = fmean(
            float((a - b).sum())
            for own, origin in zip(old, reference, strict=True)
            for a, b in zip(own, origin, strict=True)
        )
        self.collapse.check(iteration, [one for group in answered for one in group], moved)
        surprise = torch.cat([one for own in old for one in own])
        groups = [
            Group(own, advantages_of(found), before, origin)
            for own, found, before, origin in zip(exchanges, rewards, old, reference, strict=True)
        ]

        def loss(batch: list[int]) -> tuple[Tensor, Report]:
            return update_loss(self.model, [groups[index] for index in batch], params)

        batches = minibatches(len(groups), params.minibatch_size, params.epochs, derive(seed, "minibatches", iteration))
        return Round(
            loss,
            batches,
            [1.0] * len(groups),
            {
                "reward": fmean(value for group in rewards for value in group),
                "informative": fmean(len(set(group)) > 1 for group in rewards),
                "kl": moved,
                "entropy": -float(surprise.mean()),
                "tokens_per_answer": fmean(len(one.ids) for group in answered for one in group),
            },
        )


def improve(
    model: LanguageModel,
    groups: Groups,
    tuning: Tuning[GrpoParams],
    on_checkpoint: Callable[[int], None],
    carried: Mapping[str, Stateful] | None = None,
) -> TrainResult:
    """Train `model` in place; one row an update."""
    params = groups.params
    updates = len(minibatches(params.prompts, params.minibatch_size, params.epochs, 0))
    improvement = Improvement(model, groups, iterations=params.iterations, updates=updates)
    optimizer = build_optimizer(model, params.lr, kind="adamw")
    return improvement.train(
        optimizer,
        params.clip,
        params.validations,
        tuning,
        on_checkpoint,
        {**(carried or {}), "collapse": groups.collapse},
    )


def main() -> None:
    with stage("alignment.grpo", GrpoParams, seed="run") as run:
        params = run.params
        instructions = read_instructions(run)
        (reference, tokenizer), (policy, _) = read_model(run, "sft"), read_model(run, "sft")
        judged = read_reward(run)
        truth = read_truth(run)
        verifier = Verifier(truth)
        rows = prompted(instructions)
        asked_of = with_room(rows, tokenizer, policy.config.max_seq_len)
        checkable = [row for row in asked_of if verifier.knows(row)]
        keep = kept_answers(run)
        validation = Validation(tokenizer, truth, instructions, params.max_new_tokens, policy.config.max_seq_len, keep)

        def checked(asked: Sequence[Instruction], groups: Sequence[Sequence[Answer]]) -> list[list[float]]:
            return [[verifier.reward(row, one.text) for one in group] for row, group in zip(asked, groups, strict=True)]

        def modelled(asked: Sequence[Instruction], groups: Sequence[Sequence[Answer]]) -> list[list[float]]:
            rewards = judged([one.exchange(tokenizer.end_id) for group in groups for one in group])
            require_finite(rewards)
            flat = iter(rewards)
            return [[next(flat) for _ in group] for group in groups]

        reward = checked if checkable else modelled

        def answered() -> Measured:
            given = validation.answers(policy)
            known = [n for n, row in enumerate(validation.rows) if verifier.knows(row) or not checkable]
            shown, answers = [validation.rows[n] for n in known], [[given[n]] for n in known]
            earned = [value for (value,) in reward(shown, answers)]
            return {"reward": fmean(earned) if earned else None, **validation.summary(given)}

        def measure() -> Measured:
            moved = validation.divergence(policy, reference, derive(run.seed, "divergence"))
            return {**answered(), "kl_to_sft": moved}

        selection = Selection(policy, chosen_by(MEAN_REWARD, validation.knows_truth), measure)
        before = answered()
        asked = checkable or asked_of
        groups = Groups(policy, reference, tokenizer, asked, reward, params, run.seed, keep)
        result = improve(policy, groups, tuning_of(run), selection.visit, {"selection": selection})
        if not any(row.get("informative") for row in result.rows):
            print(
                "alignment.grpo: no group had answers of different rewards, so nothing is learned and the SFT model "
                "stays as it is; raise `alignment.grpo.samples`, or ask what it answers rightly at times",
                file=sys.stderr,
            )
            selection.best = None
        selection.keep(reference, {**before, "kl_to_sft": 0.0})
        note_stop(run, result, selection.restore())
        save_model(run.model_folder("grpo"), policy, tokenizer)
        run.write_jsonl("steps.jsonl", selection.joined(result.rows))
        rewards = [row["reward"] for row in result.rows if "reward" in row]
        run.write_json(
            "metrics.json",
            {
                "prompts": len(asked),
                "first_reward": rewards[0],
                "last_reward": rewards[-1],
                "stopped": result.stopped,
                **selection.found(),
                **validated(before, "sft_"),
            },
        )
        run.note("chosen_by", selection.chosen_by)
        run.note("rewards", "checked" if checkable else "reward model")
        run.note("too_long", len(rows) - len(asked_of))
        run.note("environment", environment())


if __name__ == "__main__":
    main()
