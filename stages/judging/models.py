"""`judging.models`: what stands on the leaderboard, and where its answers come from."""

from typing import Any, Literal

from pydantic import ConfigDict

from stages.base.params import Section, parse

Kind = Literal["checkpoint", "outputs", "constant", "shuffled", "nearest_neighbour", "padded"]
CONTROL_KINDS = ("constant", "shuffled", "nearest_neighbour", "padded")


class ModelSpec(Section):
    kind: Kind
    source: str  # a model's weights (beside its config.json), a table of outputs (also for `padded`), or the truth file


class Models(Section):
    """The whole of `judging.models`; its fields are the models' names."""

    model_config = ConfigDict(extra="allow")

    @property
    def specs(self) -> dict[str, ModelSpec]:
        """name → spec, in the order of params.yaml. Raises ParamError for a bad one."""
        values: dict[str, Any] = self.model_extra or {}
        return {name: parse(f"judging.models.{name}", value, ModelSpec) for name, value in values.items()}
