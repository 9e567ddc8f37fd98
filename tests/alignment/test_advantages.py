"""Token rewards, GAE and whitening against plain numpy loops over single rollouts."""

import numpy as np
import pytest
import torch

from stages.alignment.learning.rollout import generalized_advantages, token_rewards, whiten

LENGTHS = [5, 1, 3, 4]


@pytest.fixture
def rollout() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    mask = (np.arange(5)[None] < np.array(LENGTHS)[:, None]).astype(float)
    names = ("logprobs", "reference", "values")
    return {"mask": mask, "scores": rng.normal(size=4)} | {name: rng.normal(size=(4, 5)) for name in names}


def as_tensors(rollout: dict[str, np.ndarray], *names: str) -> list[torch.Tensor]:
    return [torch.tensor(rollout[name]) for name in names]


def naive_rewards(rollout: dict[str, np.ndarray], kl: float) -> np.ndarray:
    rewards = np.zeros((4, 5))
    for i, length in enumerate(LENGTHS):
        for t in range(length):
            rewards[i, t] = -kl * (rollout["logprobs"][i, t] - rollout["reference"][i, t])
        rewards[i, length - 1] += rollout["scores"][i]
    return rewards


def test_score_lands_on_the_last_token(rollout: dict[str, np.ndarray]) -> None:
    got = token_rewards(*as_tensors(rollout, "scores", "logprobs", "reference", "mask"), kl=0.05)
    np.testing.assert_allclose(got.numpy(), naive_rewards(rollout, 0.05), rtol=1e-12)


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.8), (1.0, 1.0), (0.99, 0.0)])
def test_gae_is_the_sum_of_discounted_errors(rollout: dict[str, np.ndarray], gamma: float, lam: float) -> None:
    """Schulman et al. 2016, eq. 16, as the explicit sum and not as the recursion."""
    rewards, values = naive_rewards(rollout, 0.05), rollout["values"]
    expected = np.zeros((4, 5))
    for i, length in enumerate(LENGTHS):
        ahead = [*values[i, 1:length], 0.0]
        errors = [rewards[i, t] + gamma * ahead[t] - values[i, t] for t in range(length)]
        for t in range(length):
            expected[i, t] = sum((gamma * lam) ** k * errors[t + k] for k in range(length - t))
    mask = torch.tensor(rollout["mask"])
    advantages, returns = generalized_advantages(torch.tensor(rewards), torch.tensor(values), mask, gamma, lam)
    np.testing.assert_allclose(advantages.numpy(), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(returns.numpy(), (expected + values) * rollout["mask"], rtol=1e-10, atol=1e-12)


def test_undiscounted_monte_carlo_returns(rollout: dict[str, np.ndarray]) -> None:
    """With gamma = lambda = 1 the return of a token is the sum of the rewards from it on, whatever the values say."""
    rewards = naive_rewards(rollout, 0.05)
    mask = torch.tensor(rollout["mask"])
    _, returns = generalized_advantages(torch.tensor(rewards), torch.tensor(rollout["values"]), mask, 1.0, 1.0)
    for i, length in enumerate(LENGTHS):
        np.testing.assert_allclose(returns[i, :length].numpy(), rewards[i, :length][::-1].cumsum()[::-1], rtol=1e-9)


def test_padding_never_matters(rollout: dict[str, np.ndarray]) -> None:
    rewards, mask = torch.tensor(naive_rewards(rollout, 0.05)), torch.tensor(rollout["mask"])
    values = torch.tensor(rollout["values"])
    noisy = torch.where(mask == 1, values, torch.full_like(values, 1e6))
    for clean, dirty in zip(
        generalized_advantages(rewards, values, mask, 1.0, 0.95),
        generalized_advantages(rewards, noisy, mask, 1.0, 0.95),
        strict=True,
    ):
        assert torch.equal(clean, dirty)


def test_whitening_divides_by_n_minus_1(rollout: dict[str, np.ndarray]) -> None:
    counted = rollout["values"][rollout["mask"] == 1]
    got = whiten(*as_tensors(rollout, "values", "mask")).numpy()
    expected = (counted - counted.mean()) / np.sqrt(counted.var(ddof=1) + 1e-8)
    np.testing.assert_allclose(got[rollout["mask"] == 1], expected, rtol=1e-10)
    assert (got[rollout["mask"] == 0] == 0).all()


def test_a_prompt_in_front_changes_nothing(rollout: dict[str, np.ndarray]) -> None:
    """The same answers, shifted right behind prompts of two tokens whose numbers must not count."""

    def run(shift: int) -> tuple[torch.Tensor, torch.Tensor]:
        def shifted(name: str, fill: float) -> torch.Tensor:
            return torch.cat((torch.full((4, shift), fill), torch.tensor(rollout[name])), dim=1)

        mask = shifted("mask", 0.0)
        rewards = token_rewards(
            torch.tensor(rollout["scores"]), shifted("logprobs", 7.0), shifted("reference", -7.0), mask, kl=0.05
        )
        advantages, returns = generalized_advantages(rewards, shifted("values", 9.0), mask, 1.0, 0.95)
        return whiten(advantages, mask)[:, shift:], returns[:, shift:]

    for plain, moved in zip(run(0), run(2), strict=True):
        torch.testing.assert_close(plain, moved)
