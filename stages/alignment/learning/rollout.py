"""PPO's rollouts: answers sampled from the policy, with the numbers that its update needs."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from stages.alignment.answering.answers import Answer
from stages.alignment.learning.batches import Exchange, pad
from stages.alignment.rewards.scalar import ScalarModel
from stages.lm.build import LanguageModel
from stages.lm.scoring import masked_logprobs


@dataclass(frozen=True)
class Rollout:
    """B answers, T positions of the padded exchanges.

    Everything but `tokens` is (B, T - 1), aligned with the tokens to be predicted: column t speaks of token t + 1.
    """

    tokens: Tensor  # (B, T) int64
    mask: Tensor  # 1.0 on sampled tokens
    logprobs: Tensor  # of the sampled tokens under the policy that sampled them
    values: Tensor  # before the token was seen
    advantages: Tensor  # whitened
    returns: Tensor

    def rows(self, indices: Sequence[int]) -> "Rollout":
        picked = torch.tensor(indices, device=self.tokens.device)
        return Rollout(*(getattr(self, field.name)[picked] for field in fields(self)))


def spread_logprobs(model: LanguageModel, tokens: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of each sampled token (B, T - 1), 0 elsewhere; differentiable. `mask` is (B, T - 1)."""
    full = torch.cat((torch.zeros_like(mask[:, :1]), mask), dim=1)
    flat = masked_logprobs(model, tokens, full)
    return torch.zeros_like(mask).masked_scatter(mask.bool(), flat)


def collect(
    policy: LanguageModel,
    reference: LanguageModel,
    critic: ScalarModel,
    answers: Sequence[Answer],
    scores: Sequence[float],
    padding: int,
    end: int,
    *,
    kl: float,
    gamma: float,
    lam: float,
) -> tuple[Rollout, dict[str, float]]:
    """Score the answers' tokens and turn `scores`, one an answer, into advantages.

    Returns what to log as well: `kl` to the reference per answer in nats (k1), `entropy` of the policy per token in
    nats, as its samples tell (mean of -log p), `tokens_per_answer`, `ended`.
    """
    exchanges: list[Exchange] = [given.exchange(end) for given in answers]
    home = policy.head_weight.device
    tokens, full_mask = (tensor.to(home) for tensor in pad(exchanges, padding))
    mask = full_mask[:, 1:]
    with torch.no_grad():
        logprobs = spread_logprobs(policy, tokens, mask)
        reference_logprobs = spread_logprobs(reference, tokens, mask)
        values = critic(tokens[:, :-1]) * mask
        scored = torch.tensor(scores, device=home, dtype=torch.float32)
        rewards = token_rewards(scored, logprobs, reference_logprobs, mask, kl)
        advantages, returns = generalized_advantages(rewards, values, mask, gamma, lam)
        divergence = float((logprobs - reference_logprobs).sum(dim=1).mean())
    return Rollout(tokens, mask, logprobs, values, whiten(advantages, mask), returns), {
        "kl": divergence,
        "entropy": -float(logprobs.sum() / mask.sum()),
        "tokens_per_answer": float(mask.sum(dim=1).mean()),
        "ended": sum(given.ended for given in answers) / len(answers),
    }


def token_rewards(scores: Tensor, logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor, kl: float) -> Tensor:
    """Reward of each token (B, T): minus `kl` times the k1 estimate of the KL divergence to the reference policy
    (log p - log p_ref of the sampled token), plus the answer's score (B,) on its last counted token
    (Ziegler et al. 2019, eq. 2; Ouyang et al. 2022, eq. 2 per token)."""
    rewards = -kl * (logprobs - reference_logprobs) * mask
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = (positions * (mask > 0)).argmax(dim=1)
    rewards[torch.arange(len(rewards), device=mask.device), last] += scores
    return rewards


def generalized_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation (Schulman et al. 2016, eq. 16): advantages and returns, both (B, T).

    Both are 0 where nothing counts. The value beyond a row's last token is 0: an answer ends there.
    """
    values = values * mask
    advantages = torch.zeros_like(rewards)
    ahead = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        following = values[:, t + 1] if t + 1 < rewards.shape[1] else torch.zeros_like(ahead)
        error = rewards[:, t] + gamma * following - values[:, t]
        ahead = (error + gamma * lam * ahead) * mask[:, t]
        advantages[:, t] = ahead
    return advantages, (advantages + values) * mask


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """`values` (B, T), shifted and scaled to mean 0 and variance 1 (n - 1 in its denominator) where `mask` counts."""
    count = mask.sum()
    mean = (values * mask).sum() / count
    variance = ((values - mean).square() * mask).sum() / (count - 1).clamp(min=1)
    return (values - mean) * torch.rsqrt(variance + 1e-8) * mask
