"""PPO on a toy reward, best-of-n's choice, and the rollout's bookkeeping against single sequences."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from stages.alignment.answering.answers import Answer, Sampling, answer
from stages.alignment.best_of_n import expected_best, kl_bound, over_optimisation, pick
from stages.alignment.data.records import Instruction
from stages.alignment.learning.improvement import minibatches, prompted
from stages.alignment.learning.rollout import collect
from stages.alignment.learning.tuning import Tuning
from stages.alignment.ppo import ActorCritic, PpoParams, Rollouts, Standardised, improve, split_rates
from stages.alignment.rewards.scalar import ScalarModel
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.optim import build_optimizer


def ppo_params(**changes: float | None) -> PpoParams:
    values = {
        "iterations": 12, "rollouts": 32, "epochs": 2, "minibatch_size": 16, "lr": 1e-2, "value_lr": 3e-3, "kl": 0.01,
        "kl_target": None, "kl_gain": 0.1, "max_kl": None,
        "gamma": 1.0, "lam": 0.95, "clip_ratio": 0.2, "clip_value": 0.2, "value_weight": 0.5,
        "missing_end_penalty": 0.0, "clip": 1.0, "validations": 3, "max_new_tokens": 6, "reward": "score",
    }  # fmt: skip
    return PpoParams(**(values | changes))  # type: ignore[arg-type]


def small_letters(answers: Sequence[Answer]) -> list[float]:
    """The toy: a share of small letters among the sampled bytes."""
    return [sum(letter.islower() for letter in given.text) / 6 for given in answers]


def test_ppo_improves_a_toy_reward(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    marks: list[int] = []

    def run(workers: str) -> list[dict[str, float]]:
        monkeypatch.setenv("TRAINYARD_WORKERS", workers)
        model = ActorCritic(make_model(), ScalarModel(make_model(), "last"))
        prompts = [f"{k}?" for k in range(40)]
        rollouts = Rollouts(model, make_model(), tokenizer, prompts, small_letters, ppo_params(), seed=3)
        return improve(model, rollouts, Tuning(ppo_params(), 3, 2, "test"), marks.append).rows

    rows = run("1")
    rewards = [row["reward"] for row in rows if "reward" in row]
    assert len(rewards) == 12 and len(rows) == 48
    assert marks == [15, 31, 47]
    assert sum(rewards[-3:]) / 3 > 2 * max(sum(rewards[:2]) / 2, 0.05)
    assert rows == run("2")  # bitwise, in any number of processes


def test_binary_reward_is_the_side_of_the_first_mean() -> None:
    def raw(answers: Sequence[Answer]) -> list[float]:
        return [float(given.text) for given in answers]

    def given(*values: int) -> list[Answer]:
        return [Answer((), (), str(value), value != 9) for value in values]

    score, sign = (Standardised(raw, 2.0, binary=binary) for binary in (False, True))
    assert sign(given(1, 3))[0] == [-1.0, 1.0]
    scores = score(given(1, 3))[0]
    assert scores == pytest.approx([-(0.5**0.5), 0.5**0.5])
    assert sign(given(5, 0, 9)) == ([1.0, -1.0, -1.0], pytest.approx(14 / 3))  # the mean stays 2; an answer without end


def test_prompts_are_those_of_the_preference_split_if_there_is_one() -> None:
    rows = [Instruction(split, split, "own", "", [], split, "") for split in ("sft", "preference", "test")]
    assert prompted(rows) == rows[1:2]
    assert prompted(rows[:1]) == rows[:1]


def test_rollout_numbers_are_those_of_single_sequences(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]
) -> None:
    policy, reference, critic = make_model(seed=0), make_model(seed=1), ScalarModel(make_model(seed=2), "last")
    torch.nn.init.normal_(critic.head.weight, generator=torch.Generator().manual_seed(0))
    sampling = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=5)
    groups = answer(policy, tokenizer, ["a?", "bcd?", "e?"], sampling, seed=4)
    answers = [given for (given,) in groups]
    answers.append(Answer(answers[0].prompt_ids, (), "", True))  # ended at once: only <|end|> was sampled
    scores = [1.0, -2.0, 0.5, 3.0]
    rollout, report = collect(
        policy, reference, critic, answers, scores, tokenizer.pad_id, tokenizer.end_id, kl=0.1, gamma=1.0, lam=1.0
    )
    divergences = []
    for index, given in enumerate(answers):
        exchange = given.exchange(tokenizer.end_id)
        tokens = torch.tensor([exchange.ids])
        targets = slice(exchange.start - 1, len(exchange) - 1)
        with torch.no_grad():
            own, other = (
                torch.log_softmax(model(tokens)[0, :-1], dim=-1).gather(1, tokens[0, 1:, None]).squeeze(1)[targets]
                for model in (policy, reference)
            )
            values = critic(tokens)[0, :-1][targets]
        counted = rollout.mask[index].bool()
        torch.testing.assert_close(rollout.logprobs[index][counted], own, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(rollout.values[index][counted], values, rtol=1e-4, atol=1e-5)
        rewards = -0.1 * (own - other)
        rewards[-1] += scores[index]
        torch.testing.assert_close(
            rollout.returns[index][counted], rewards.flip(0).cumsum(0).flip(0), rtol=1e-4, atol=1e-4
        )
        assert float(rollout.advantages[index][~counted].abs().sum()) == 0.0
        divergences.append(float((own - other).sum()))
    assert report["kl"] == pytest.approx(sum(divergences) / 4, rel=1e-3, abs=1e-4)


def test_every_rollout_is_used_once_an_epoch() -> None:
    batches = minibatches(10, 4, 3, seed=1)
    assert [len(batch) for batch in batches] == [4, 4, 2] * 3
    for epoch in range(3):
        assert sorted(index for batch in batches[3 * epoch : 3 * epoch + 3] for index in batch) == list(range(10))


def test_critic_has_its_own_rate(make_model: Callable[..., LanguageModel]) -> None:
    model = ActorCritic(make_model(), ScalarModel(make_model(), "last"))
    optimizer = build_optimizer(model, 1e-5, kind="adamw")
    split_rates(optimizer, model, 1e-5, 1e-3)
    rates = {id(p): group["peak_lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {rates[id(p)] for p in model.policy.parameters()} == {1e-5}
    assert {rates[id(p)] for p in model.critic.parameters()} == {1e-3}


def test_best_of_n_takes_the_first_of_the_best() -> None:
    given = [Answer((1,), (k,), str(k), True) for k in range(6)]
    assert [best.text for best in pick([given[:3], given[3:]], [0.0, 2.0, 2.0, -1.0, -3.0, -2.0])] == ["1", "3"]
    assert kl_bound(1) == 0.0
    assert kl_bound(4) == pytest.approx(math.log(4) - 0.75)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_expected_best_is_the_mean_over_all_choices(n: int) -> None:
    rng = np.random.default_rng(n)
    rewards, values = rng.integers(0, 4, 5).tolist(), rng.normal(size=5).tolist()  # with equal rewards
    chosen = [max(some, key=lambda k: (rewards[k], -k)) for some in itertools.combinations(range(5), n)]
    assert expected_best(values, rewards, n) == pytest.approx(np.mean([values[k] for k in chosen]))


def test_over_optimisation_by_the_reward_and_by_the_truth() -> None:
    found = over_optimisation([[0.0, 1.0], [3.0, 2.0]], [[1.0, -1.0], None])
    assert [row["reward"] for row in found] == [1.5, 2.0] and [row["exact_score"] for row in found] == [0.0, -1.0]
    assert over_optimisation([[0.0]], [None]) == [{"n": 1.0, "kl_bound": 0.0, "reward": 0.0, "exact_score": None}]
