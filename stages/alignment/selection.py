"""Which checkpoint of a tuning run is kept, by one rule for all methods.

Where truth is known it is the one with the most validation answers exactly right; elsewhere what each method can
measure without it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from stages.alignment.answers import Measured


@dataclass(frozen=True)
class Metric:
    """A key of what is measured at a checkpoint."""

    name: str
    higher_is_better: bool = True


EXACT_RIGHT = Metric("exact_right")
VALIDATION_LOSS = Metric("loss", higher_is_better=False)
PREFERENCE_ACCURACY = Metric("preference_accuracy")
MEAN_REWARD = Metric("reward")


@dataclass(frozen=True)
class Checkpoint:
    step: int
    found: Measured
    setting: dict[str, float]  # what the run was tuned with, where several settings are compared


@dataclass
class Selection:
    """The checkpoints of a run, in order, and the weights of the best: of equals, the earliest."""

    model: nn.Module
    metric: Metric
    measure: Callable[[], Measured]
    checkpoints: list[Checkpoint] = field(default_factory=list)
    best: Checkpoint | None = None
    _weights: dict[str, Tensor] = field(default_factory=dict)

    def visit(self, step: int, **setting: float) -> None:
        """Measure the model as it is now, after this step."""
        checkpoint = Checkpoint(step, self.measure(), setting)
        self.checkpoints.append(checkpoint)
        if self.best is None or self._value(checkpoint) > self._value(self.best):
            self.best = checkpoint
            self._weights = {key: value.detach().clone() for key, value in self.model.state_dict().items()}

    def restore(self) -> Checkpoint:
        """Put the best weights back into the model."""
        assert self.best is not None, "no checkpoint was visited"
        self.model.load_state_dict(self._weights)
        self.model.eval()
        return self.best

    def metrics(self) -> dict[str, Any]:
        """For `metrics.json`: by what was chosen, what, and what was measured there."""
        assert self.best is not None, "no checkpoint was visited"
        settings = {f"best_{key}": value for key, value in self.best.setting.items()}
        return {"chosen_by": self.metric.name, "best_step": self.best.step, **settings, **validated(self.best.found)}

    def joined(self, steps: Sequence[dict[str, float]]) -> list[Measured]:
        """Rows of steps, with the numbers of the checkpoints among them."""
        at = {checkpoint.step: checkpoint.found for checkpoint in self.checkpoints}
        return [{**row, **validated(at.get(int(row["step"]), {}))} for row in steps]

    def _value(self, checkpoint: Checkpoint) -> float:
        value = checkpoint.found[self.metric.name]
        assert value is not None, f"{self.metric.name} is unknown"
        return value if self.metric.higher_is_better else -value


def validated(found: Measured, whose: str = "") -> Measured:
    """The same numbers by the names that they have in tables: `validation_…`."""
    return {f"validation_{whose}{key}": value for key, value in found.items()}
