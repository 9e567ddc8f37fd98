"""Which checkpoint of a tuning run is kept, by one rule for all methods.

Where truth is known it is the one with the most validation answers exactly right. Elsewhere, and among equals, it is
the best by what each method can measure without truth.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from stages.alignment.answering.answers import Measured


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


def chosen_by(own: Metric, knows_truth: bool) -> tuple[Metric, ...]:
    """What checkpoints are compared by, the first that differs; `own` is the method's."""
    return (EXACT_RIGHT, own) if knows_truth else (own,)


@dataclass
class Selection:
    """The checkpoints of a run, in order, and the weights of the best: of equals, the earliest.

    max_kl: checkpoints whose `kl_to_sft` is above it are never the best, however well they look on held-out pairs.
    """

    model: nn.Module
    metrics: tuple[Metric, ...]
    measure: Callable[[], Measured]
    max_kl: float | None = None
    checkpoints: list[Checkpoint] = field(default_factory=list)
    best: Checkpoint | None = None
    _weights: dict[str, Tensor] = field(default_factory=dict)

    def visit(self, step: int, **setting: float) -> None:
        """Measure the model as it is now, after this step."""
        checkpoint = Checkpoint(step, self.measure(), setting)
        self.checkpoints.append(checkpoint)
        if self.max_kl is not None and not (checkpoint.found.get("kl_to_sft") or 0.0) <= self.max_kl:
            return
        if self.best is None or self._rank(checkpoint) > self._rank(self.best):
            self.best = checkpoint
            self._weights = {key: value.detach().clone() for key, value in self.model.state_dict().items()}

    def keep(self, model: nn.Module, found: Measured) -> None:
        """The model that training began with, of which this was found, where no checkpoint may be kept."""
        if self.best is None:
            self.best = Checkpoint(-1, found, {})
            self._weights = model.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """For a run that is killed and goes on."""
        best = None if self.best is None else self.checkpoints.index(self.best)
        return {
            "checkpoints": [asdict(checkpoint) for checkpoint in self.checkpoints],
            "best": best,
            "weights": self._weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.checkpoints = [Checkpoint(**checkpoint) for checkpoint in state["checkpoints"]]
        self.best = None if state["best"] is None else self.checkpoints[state["best"]]
        self._weights = state["weights"]

    def restore(self) -> Checkpoint:
        """Put the best weights back into the model."""
        assert self.best is not None, "no checkpoint was visited"
        self.model.load_state_dict(self._weights)
        self.model.eval()
        return self.best

    @property
    def chosen_by(self) -> str:
        return self.metrics[0].name

    def found(self) -> dict[str, Any]:
        """For `metrics.json`: by what was chosen, what, and what was measured there."""
        assert self.best is not None, "no checkpoint was visited"
        settings = {f"best_{key}": value for key, value in self.best.setting.items()}
        return {"chosen_by": self.chosen_by, "best_step": self.best.step, **settings, **validated(self.best.found)}

    def joined(self, steps: Sequence[dict[str, float]]) -> list[Measured]:
        """Rows of steps, with the numbers of the checkpoints among them."""
        at = {checkpoint.step: checkpoint.found for checkpoint in self.checkpoints}
        return [{**row, **validated(at.get(int(row["step"]), {}))} for row in steps]

    def _rank(self, checkpoint: Checkpoint) -> list[float]:
        values = [(metric, checkpoint.found[metric.name]) for metric in self.metrics]
        return [value if metric.higher_is_better else -value for metric, value in values if value is not None]


def validated(found: Measured, whose: str = "") -> Measured:
    """The same numbers by the names that they have in tables: `validation_…`."""
    return {f"validation_{whose}{key}": value for key, value in found.items()}
