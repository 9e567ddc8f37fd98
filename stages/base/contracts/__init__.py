"""What the JSON files between phases hold, one module a file: the writer builds its model, the reader gets it."""

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _null(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_null)]
"""A number, or null where there is none: NaN and infinity become null, which is what JSON can hold."""


class Contract(BaseModel):
    """Base of all contracts: unknown keys are refused and nothing is changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
