"""Losses of the alignment stages, on log-probabilities that the caller has computed.

Shapes: B examples or pairs, T token positions. Masks are 1.0 where a position counts and 0.0 elsewhere.
Everything is a mean per pair (DPO, reward model) or per counted token (PPO), in nats.
"""

from dataclasses import dataclass
from typing import Literal

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


DpoKind = Literal["sigmoid", "ipo", "hinge"]


def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
    kind: DpoKind = "sigmoid",
    lengths: tuple[Tensor, Tensor] | None = None,
) -> PairLoss:
    """Direct preference losses on summed log-probabilities of the completions, each (B,).

    With h = log(policy / reference) of the chosen completion minus that of the rejected one:

    `sigmoid`  −log σ(beta · h)         Rafailov et al. 2023, eq. 7; at policy = reference it is ln 2
    `hinge`    max(0, 1 − beta · h)     Zhao et al. 2023 (SLiC), as DPO's implementations have it
    `ipo`      (h − 1 / (2 beta))²      Azar et al. 2023, eq. 17

    `lengths` (tokens of chosen and rejected, each (B,)): the log-ratios are means over a completion's tokens (Meng et
    al. 2024, SimPO, section 2.2, with a reference); TRL's `ipo` always has them so. The implicit reward of a completion
    is beta · log(policy / reference).
    """
    ratios = chosen - reference_chosen, rejected - reference_rejected
    if lengths is not None:
        ratios = ratios[0] / lengths[0], ratios[1] / lengths[1]
    gap = ratios[0] - ratios[1]
    if kind == "sigmoid":
        losses = -F.logsigmoid(beta * gap)
    elif kind == "hinge":
        losses = torch.relu(1 - beta * gap)
    else:
        losses = (gap - 1 / (2 * beta)).square()
    return PairLoss(losses.mean(), (beta * ratios[0]).detach(), (beta * ratios[1]).detach())


def sft_loss(logprobs: Tensor, mask: Tensor) -> Tensor:
    """Mean negative log-probability of the tokens that `mask` counts, both (B, T)."""
    return -masked_mean(logprobs, mask)


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


@dataclass(frozen=True)
class GroupLoss:
    """GRPO's loss, the share of tokens whose ratio was clipped, and the divergence estimate per token in nats."""

    loss: Tensor
    clipped: float
    divergence: float


def grpo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    reference_logprobs: Tensor,
    advantages: Tensor,
    weights: Tensor,
    clip: float,
    kl: float,
) -> GroupLoss:
    """Clipped surrogate minus `kl` times an estimate of the divergence from the reference, negated (Shao et al. 2024,
    eqs. 3 and 4). All of one shape, a number a token; `weights` sum to 1 over the tokens that count (in the paper: each
    answer the same, each of its tokens an equal part).

    The estimate is π_ref/π − log(π_ref/π) − 1 (Schulman 2020, k3), never negative.
    """
    ratio = torch.exp(logprobs - old_logprobs)
    plain, clipped = advantages * ratio, advantages * ratio.clamp(1 - clip, 1 + clip)
    away = reference_logprobs - logprobs
    divergence = torch.exp(away) - away - 1
    loss = -((torch.minimum(plain, clipped) - kl * divergence) * weights).sum()
    share = weights.sum()
    return GroupLoss(
        loss, float(((clipped < plain) * weights).sum() / share), float((divergence.detach() * weights).sum() / share)
    )
