"""`judging.models`: what stands on the leaderboard, and where its answers come from."""

from typing import Any, Literal

from pydantic import ConfigDict, model_validator

from stages.annotators.server import ServerSettings
from stages.base.params import Section, parse

Kind = Literal[
    "checkpoint", "huggingface", "endpoint", "outputs", "constant", "shuffled", "nearest_neighbour", "padded"
]
CONTROL_KINDS = ("constant", "shuffled", "nearest_neighbour", "padded")


class ModelSpec(Section):
    kind: Kind
    # A model folder, a Hugging Face folder that we exported, the prompt template that an endpoint is asked with,
    # outputs (parquet, or AlpacaEval's JSON; a parquet table for `padded`), or the truth file.
    source: str
    endpoint: ServerSettings | None = None  # of kind `endpoint`, and of no other

    @model_validator(mode="after")
    def _endpoint_where_one_is_asked(self) -> "ModelSpec":
        if (self.kind == "endpoint") != (self.endpoint is not None):
            raise ValueError("a model has `endpoint:` settings if and only if its kind is `endpoint`")
        return self


class Models(Section):
    """The whole of `judging.models`; its fields are the models' names."""

    model_config = ConfigDict(extra="allow")

    @property
    def specs(self) -> dict[str, ModelSpec]:
        """name → spec, in the order of params.yaml. Raises ParamError for a bad one."""
        values: dict[str, Any] = self.model_extra or {}
        return {name: parse(f"judging.models.{name}", value, ModelSpec) for name, value in values.items()}
