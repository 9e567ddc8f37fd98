"""From scores of whole answers to advantages of tokens, as in TRL's PPO trainer up to 1.10 (removed since).

Shapes: B rollouts, T positions. `mask` is 1.0 on the tokens that were sampled, the closing <|end|> included, and 0.0 on
the prompt before and the padding after them; the counted positions of a row are contiguous and at least one.
"""

import torch
from torch import Tensor


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
