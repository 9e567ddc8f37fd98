"""What the JSON files between phases hold, one module a file. Who writes a file builds its model, who reads it gets one."""

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """Base of all contracts: unknown keys are refused and nothing is changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
