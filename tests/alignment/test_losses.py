"""Losses against numpy re-implementations of the papers' formulas, and against values that follow by hand."""

import math

import numpy as np
import pytest
import torch

from stages.alignment.losses import dpo_loss, masked_mean, ppo_policy_loss, ppo_value_loss, reward_loss


def tensors(rng: np.random.Generator, *shape: int) -> tuple[np.ndarray, torch.Tensor]:
    values = rng.normal(size=shape)
    return values, torch.tensor(values)


def test_dpo_at_the_reference_is_ln_2() -> None:
    logprobs = torch.tensor([-3.0, -40.0, -7.5])
    loss = dpo_loss(logprobs, logprobs - 5, logprobs, logprobs - 5, beta=0.1)
    assert float(loss.loss) == pytest.approx(math.log(2), abs=1e-7)
    assert loss.margin == 0.0


def test_dpo_against_numpy() -> None:
    rng = np.random.default_rng(0)
    (c, tc), (r, tr), (rc, trc), (rr, trr) = (tensors(rng, 9) for _ in range(4))
    got = dpo_loss(tc, tr, trc, trr, beta=0.3)
    margin = 0.3 * ((c - r) - (rc - rr))
    assert float(got.loss) == pytest.approx(np.log1p(np.exp(-margin)).mean(), rel=1e-12)
    assert got.accuracy == pytest.approx((margin > 0).mean())
    assert got.margin == pytest.approx(margin.mean(), rel=1e-12)


def test_dpo_gradient_is_the_papers() -> None:
    """Rafailov et al. 2023, section 4: the weight of a pair is beta * sigmoid(rejected reward - chosen reward)."""
    chosen = torch.tensor([-4.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([-3.0], dtype=torch.float64, requires_grad=True)
    dpo_loss(chosen, rejected, torch.tensor([-5.0]), torch.tensor([-2.5]), beta=0.5).loss.backward()
    weight = 0.5 / (1 + math.exp(0.5 * 1.0 - 0.5 * -0.5))
    assert chosen.grad is not None and rejected.grad is not None
    assert float(chosen.grad) == pytest.approx(-weight, rel=1e-9)
    assert float(rejected.grad) == pytest.approx(weight, rel=1e-9)


@pytest.mark.parametrize("normalised", [False, True])
def test_other_preference_losses_against_numpy(normalised: bool) -> None:
    rng = np.random.default_rng(5)
    (c, tc), (r, tr), (rc, trc), (rr, trr) = (tensors(rng, 9) for _ in range(4))
    lengths = (rng.integers(1, 40, 9), rng.integers(1, 40, 9)) if normalised else (np.ones(9), np.ones(9))
    gap = (c - rc) / lengths[0] - (r - rr) / lengths[1]
    given = (torch.tensor(lengths[0]), torch.tensor(lengths[1])) if normalised else None
    for kind, expected in (
        ("sigmoid", np.log1p(np.exp(-0.3 * gap))),
        ("hinge", np.maximum(0, 1 - 0.3 * gap)),
        ("ipo", (gap - 1 / 0.6) ** 2),
    ):
        got = dpo_loss(tc, tr, trc, trr, 0.3, kind, given)
        assert float(got.loss) == pytest.approx(expected.mean(), rel=1e-12)
        assert got.margin == pytest.approx(0.3 * gap.mean(), rel=1e-12)


def test_ipo_is_least_where_the_gap_is_its_target() -> None:
    """Azar et al. 2023: the gap of log-ratios is regressed on 1 / (2 beta)."""
    gap = torch.tensor([5.0], requires_grad=True)
    dpo_loss(gap, torch.zeros(1), torch.zeros(1), torch.zeros(1), 0.1, "ipo").loss.backward()
    assert gap.grad is not None and float(gap.grad) == 0.0


def test_reward_loss_against_numpy() -> None:
    rng = np.random.default_rng(1)
    (c, tc), (r, tr) = tensors(rng, 11), tensors(rng, 11)
    plain = np.log1p(np.exp(-(c - r))).mean()
    assert float(reward_loss(tc, tr).loss) == pytest.approx(plain, rel=1e-12)
    assert float(reward_loss(tc, tr, centring=0.2).loss) == pytest.approx(
        plain + 0.2 * np.mean((c + r) ** 2), rel=1e-12
    )
    assert reward_loss(tc, tr).accuracy == pytest.approx((c > r).mean())


def test_ppo_losses_against_numpy() -> None:
    rng = np.random.default_rng(2)
    (new, tnew), (old, told), (adv, tadv), (val, tval), (oldval, toldval), (ret, tret) = (
        tensors(rng, 4, 6) for _ in range(6)
    )
    mask = (np.arange(6)[None] < np.array([6, 3, 1, 4])[:, None]).astype(float)
    policy_terms, value_terms, clipped = [], [], 0
    for i in range(4):
        for t in range(6):
            if not mask[i, t]:
                continue
            ratio = math.exp(new[i, t] - old[i, t])
            plain, near = ratio * adv[i, t], min(max(ratio, 0.8), 1.2) * adv[i, t]
            policy_terms.append(-min(plain, near))
            clipped += near < plain
            moved = oldval[i, t] + min(max(val[i, t] - oldval[i, t], -0.2), 0.2)
            value_terms.append(0.5 * max((val[i, t] - ret[i, t]) ** 2, (moved - ret[i, t]) ** 2))
    tmask = torch.tensor(mask)
    got = ppo_policy_loss(tnew, told, tadv, tmask, clip=0.2)
    assert float(got.loss) == pytest.approx(np.mean(policy_terms), rel=1e-12)
    assert got.clipped == pytest.approx(clipped / mask.sum(), rel=1e-6)
    assert float(ppo_value_loss(tval, toldval, tret, tmask, clip=0.2)) == pytest.approx(np.mean(value_terms), rel=1e-12)


def test_ppo_without_a_step_is_the_mean_advantage() -> None:
    logprobs, advantages = torch.full((2, 3), -1.5), torch.tensor([[1.0, 2.0, 9.0], [-4.0, 0.0, 0.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    got = ppo_policy_loss(logprobs, logprobs, advantages, mask, clip=0.2)
    assert float(got.loss) == pytest.approx(1 / 3)
    assert got.clipped == 0.0


def test_masked_mean_ignores_what_is_masked() -> None:
    values = torch.tensor([[1.0, 1e30], [3.0, -1e30]])
    assert float(masked_mean(values, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))) == 2.0
