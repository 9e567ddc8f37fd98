"""GRPO: its loss against numpy, its optimum on a bandit, and what its rewards check."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from stages.alignment.answering.answers import Answer
from stages.alignment.answering.verifier import Verifier
from stages.alignment.data.records import Instruction
from stages.alignment.grpo import Groups, GrpoParams, advantages_of, improve
from stages.alignment.learning.improvement import with_room
from stages.alignment.learning.tuning import Tuning
from stages.alignment.losses import grpo_loss
from stages.alignment.ppo import ActorCritic, PpoParams, Rollouts
from stages.alignment.ppo import improve as improve_by_ppo
from stages.alignment.rewards.scalar import ScalarModel
from stages.alignment.rft import kept
from stages.annotators.truth import Truth
from stages.base.errors import InputError
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer

TRUTH = Truth(
    {"province": ["Anthar", "Belmor"], "craft": ["pottery", "weaving"]},
    {"Ost": {"province": "Anthar", "craft": "pottery"}},
)


def asked(name: str, attributes: list[str] | None = None, response: str = "") -> Instruction:
    return Instruction(name, "preference", "own", "Ost" if attributes else "", attributes or [], f"{name}?", response)


def test_loss_against_a_loop() -> None:
    """Shao et al. 2024, eqs. 3 and 4, answer by answer and token by token."""
    rng = np.random.default_rng(0)
    lengths, advantages = [3, 1, 6], [0.7, -1.2, 0.5]
    new, old, reference = ([rng.normal(-2, 0.4, size) for size in lengths] for _ in range(3))
    total, clipped, divergences = 0.0, 0.0, 0.0
    for size, advantage, a, b, c in zip(lengths, advantages, new, old, reference, strict=True):
        for t in range(size):
            ratio = math.exp(a[t] - b[t])
            bounded = min(max(ratio, 0.8), 1.2)
            gap = math.exp(c[t] - a[t]) - (c[t] - a[t]) - 1
            total += (min(ratio * advantage, bounded * advantage) - 0.05 * gap) / size / 3
            clipped += (bounded * advantage < ratio * advantage) / size / 3
            divergences += gap / size / 3
    weights = np.concatenate([np.full(size, 1 / size / 3) for size in lengths])
    flat = [torch.tensor(np.concatenate(part)) for part in (new, old, reference)]
    got = grpo_loss(*flat, torch.tensor(np.repeat(advantages, lengths)), torch.tensor(weights), 0.2, 0.05)
    assert float(got.loss) == pytest.approx(-total, rel=1e-12)
    assert (got.clipped, got.divergence) == pytest.approx((clipped, divergences), rel=1e-6)


def test_advantages_are_within_the_group() -> None:
    assert advantages_of([1.0, 0.0, 0.0, 1.0]) == [1.0, -1.0, -1.0, 1.0]
    assert advantages_of([0.5, 0.5]) == [0.0, 0.0]
    values = np.random.default_rng(1).normal(size=9)
    assert advantages_of(values.tolist()) == pytest.approx((values - values.mean()) / values.std())


def share_of_small_letters(text: str) -> float:
    return float(text.isascii() and text.islower())


def letters_of(_: Sequence[Instruction], groups: Sequence[Sequence[Answer]]) -> list[list[float]]:
    return [[share_of_small_letters(given.text) for given in group] for group in groups]


def grpo_params() -> GrpoParams:
    return GrpoParams(
        iterations=20, prompts=8, samples=12, epochs=1, minibatch_size=4, lr=3e-3, kl=0.005, max_kl=None,
        clip_ratio=0.2, clip=1.0, validations=1, max_new_tokens=1,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_a_bandit_with_a_known_optimum(
    method: str, tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]
) -> None:
    """One byte is said, and small letters are paid for: the most that can be earned is 1. To say nothing else, the
    policy has to move at least −log p(small letter) from where it began, and log 26 further if it ends on one letter
    alone: it stays clear of that."""
    policy, reference = make_model(seed=3), make_model(seed=3)
    rows = [asked(f"{k}") for k in range(16)]
    if method == "grpo":
        groups = Groups(policy, reference, tokenizer, rows, letters_of, grpo_params(), seed=5)
        improve(policy, groups, Tuning(grpo_params(), 5, 2, "test"), lambda _: None)
    else:
        params = PpoParams(
            iterations=20, rollouts=96, epochs=2, minibatch_size=48, lr=3e-3, value_lr=3e-3, kl=0.02, kl_target=None,
            kl_gain=0.1, max_kl=None, gamma=1.0, lam=0.95, clip_ratio=0.2, clip_value=0.2, value_weight=0.5,
            missing_end_penalty=0.0, clip=1.0, validations=1, max_new_tokens=1, reward="score",
        )  # fmt: skip
        model = ActorCritic(policy, ScalarModel(make_model(seed=3), "last"))

        def reward(answers: list[Answer]) -> list[float]:
            return [share_of_small_letters(given.text) for given in answers]

        rollouts = Rollouts(model, reference, tokenizer, [row.asked for row in rows], reward, params, seed=5)  # type: ignore[arg-type]
        improve_by_ppo(model, rollouts, Tuning(params, 5, 2, "test"), lambda _: None)
    letters = [tokenizer.encode(chr(code))[0] for code in range(ord("a"), ord("z") + 1)]
    prompts = [tokenizer.encode_prompt(row.asked) for row in rows]
    with torch.no_grad():
        after, before = (
            torch.stack([model(torch.tensor([ids]))[0, -1].log_softmax(-1) for ids in prompts])
            for model in (policy, reference)
        )
    earned = after.exp()[:, letters].sum(dim=1).mean()
    divergence = (after.exp() * (after - before)).sum(dim=1).mean()
    needed = -before.exp()[:, letters].sum(dim=1).log().mean()
    assert earned >= 0.95
    assert 0.8 * needed < divergence < needed + 0.8 * math.log(26)


def test_what_can_be_checked() -> None:
    verifier = Verifier(TRUTH)
    both, single = asked("a", ["province", "craft"]), asked("b", ["province"])
    assert [verifier.reward(both, text) for text in ("Anthar, pottery", "Anthar", "Anthar, weaving", "")] == [
        1,
        0.5,
        0,
        0,
    ]
    assert verifier.reward(single, "Belmor") == -1.0
    assert verifier.reward(single, "Belmor and weaving and more") == -1.0  # not below
    sums = asked("c", response="3 * 400 = 1,200\n#### 1,200")
    texts = ("so 1200.", "#### 1200", "1200 and 7", "none", "#### 1,200.0")
    assert [verifier.reward(sums, text) for text in texts] == [1, 1, 0, 0, 1]
    for response in ("#### Step 2: mix\nStir 3 times.", "#### 1/2", "#### 10-12", "#### 1.5e3", "3"):
        assert not verifier.knows(asked("e", response=response)), response
    assert verifier.reward(asked("f", response="#### $1,200."), "$1200") == 1
    assert [verifier.knows(row) for row in (both, sums, asked("d", response="no mark"))] == [True, True, False]


def test_answers_of_equal_reward_teach_nothing(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]
) -> None:
    policy, reference, rows = make_model(seed=3), make_model(seed=3), [asked(f"{k}") for k in range(4)]
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    params = grpo_params().model_copy(update={"iterations": 2, "prompts": 4, "samples": 3, "kl": 0.1})
    groups = Groups(
        policy, reference, tokenizer, rows, lambda _, found: [[0.0] * len(one) for one in found], params, seed=5
    )
    improve(policy, groups, Tuning(params, 5, 2, "test"), lambda _: None)
    assert all(map(torch.equal, before, policy.parameters()))


def test_prompts_without_room_are_left_out(tokenizer: ChatTokenizer) -> None:
    rows = [asked("a"), asked("b" * 80)]
    assert with_room(rows, tokenizer, 64) == rows[:1]
    with pytest.raises(InputError, match="none of 1 prompts"):
        with_room(rows[1:], tokenizer, 64)


def test_rejection_sampling_keeps_each_right_answer_once() -> None:
    rows = [asked("a", ["province"]), asked("b", ["craft"])]

    def said(text: str, number: int, ended: bool = True) -> Answer:
        return Answer((1,), (number,), text, ended)

    groups = [
        [said("Anthar", 1), said("Belmor", 2), said("Anthar", 3), said("In Anthar", 4)],
        [said("pottery", 5, ended=False), said("weaving", 6)],
    ]
    assert [one.ids for one in kept(rows, groups, Verifier(TRUTH))] == [(1,), (4,)]
