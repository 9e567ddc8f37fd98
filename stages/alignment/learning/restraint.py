"""What keeps a policy near the model it began as: a penalty whose weight adapts, and an end where it has collapsed."""

import math
from collections.abc import Sequence
from typing import Any

from stages.alignment.answering.answers import Answer
from stages.base.errors import InputError
from stages.lm.loop import StopTraining

LARGEST_ERROR = 0.2  # of the controller, as a share of the target


class KlWeight:
    """The weight β of the KL penalty, moved toward a target divergence by the proportional controller of Ziegler et al.
    (2019, section 2.2): e = clip((KL − target) / target, ±0.2), β ← β (1 + gain · e). Without a target β stays.
    """

    def __init__(self, start: float, target: float | None, gain: float) -> None:
        self.value, self.target, self.gain = start, target, gain

    def update(self, kl: float) -> None:
        """After an iteration whose answers were so many nats from the reference, each on average."""
        if self.target is None or not math.isfinite(kl):
            return
        error = min(max((kl - self.target) / self.target, -LARGEST_ERROR), LARGEST_ERROR)
        self.value *= 1.0 + self.gain * error

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


class Collapse:
    """Ends training where a policy answers everything alike, as the model it began as didn't, or is too far from it."""

    def __init__(self, max_kl: float | None) -> None:
        self.max_kl = max_kl
        self.varied: bool | None = None  # whether the answers of the first iteration differed

    def check(self, iteration: int, answers: Sequence[Answer], kl: float) -> None:
        """The answers of an iteration to all its prompts; `kl` per answer, in nats. Raises StopTraining."""
        kinds = {given.ids for given in answers}
        if self.varied is None:
            self.varied = len(kinds) > 1
        if self.varied and len(kinds) == 1:
            what = "the same" if any(kinds) else "empty"
            raise StopTraining(f"iteration {iteration}: all {len(answers)} answers are {what}")
        if self.max_kl is not None and not kl <= self.max_kl:
            raise StopTraining(
                f"iteration {iteration}: {kl:.4g} nats an answer from the SFT model, above `max_kl` {self.max_kl:g}"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"varied": self.varied}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.varied = state["varied"]


def require_finite(rewards: Sequence[float]) -> None:
    """Raises InputError for rewards of the reward model that are NaN or infinite."""
    broken = sum(not math.isfinite(value) for value in rewards)
    if broken:
        raise InputError(
            f"data/alignment/reward: the reward model gives {broken} of {len(rewards)} answers no finite reward; run "
            "alignment.reward again with a lower `lr`"
        )
