"""Losses of the alignment stages, on log-probabilities that the caller has computed.

Shapes: B examples or pairs, T token positions. Masks are 1.0 where a position counts and 0.0 elsewhere.
Everything is a mean per pair (DPO, reward model) or per counted token (PPO), in nats.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is 1; the mask must count at least one position."""
    return (values * mask).sum() / mask.sum()


@dataclass(frozen=True)
class PairLoss:
    """A preference loss with the margins behind it (both (B,), detached)."""

    loss: Tensor
    chosen_reward: Tensor
    rejected_reward: Tensor

    @property
    def accuracy(self) -> float:
        return float((self.chosen_reward > self.rejected_reward).float().mean())

    @property
    def margin(self) -> float:
        return float((self.chosen_reward - self.rejected_reward).mean())


def dpo_loss(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float
) -> PairLoss:
    """Sigmoid DPO (Rafailov et al. 2023, eq. 7) on summed log-probabilities of the completions, each (B,).

    The implicit reward of a completion is beta * log(policy / reference); at policy = reference the loss is ln 2.
    """
    chosen_reward = beta * (chosen - reference_chosen)
    rejected_reward = beta * (rejected - reference_rejected)
    loss = -F.logsigmoid(chosen_reward - rejected_reward).mean()
    return PairLoss(loss, chosen_reward.detach(), rejected_reward.detach())


def reward_loss(chosen: Tensor, rejected: Tensor, centring: float = 0.0) -> PairLoss:
    """Bradley-Terry negative log-likelihood of scalar rewards, each (B,) (Ouyang et al. 2022, eq. 1).

    `centring` adds its multiple of mean (r_chosen + r_rejected)^2, because the likelihood leaves the level of the
    rewards free (Eisenstein et al. 2023, section 2).
    """
    loss = -F.logsigmoid(chosen - rejected).mean()
    if centring:
        loss = loss + centring * (chosen + rejected).square().mean()
    return PairLoss(loss, chosen.detach(), rejected.detach())


@dataclass(frozen=True)
class PolicyLoss:
    """Clipped surrogate loss and the share of tokens whose ratio was clipped."""

    loss: Tensor
    clipped: float


def ppo_policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, clip: float
) -> PolicyLoss:
    """Clipped surrogate objective per token, all (B, T) (Schulman et al. 2017, eq. 7), negated."""
    ratio = torch.exp((logprobs - old_logprobs) * mask)
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip, 1 + clip)
    loss = masked_mean(torch.maximum(plain, clipped), mask)
    return PolicyLoss(loss, float(masked_mean((clipped > plain).float(), mask)))


def ppo_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the squared error of the values, the worse of clipped and plain per token (as in OpenAI's baselines PPO2 and
    Ziegler et al. 2019): a value may move at most `clip` from the rollout's for free. All (B, T)."""
    near = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * masked_mean(torch.maximum((values - returns).square(), (near - returns).square()), mask)
