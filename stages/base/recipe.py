"""The training recipe that a ladder and the run it predicts share, as params."""

from typing import Annotated, Literal

from pydantic import Field

from stages.base.params import Section

Positive = Annotated[float, Field(gt=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class RateShares(Section):
    """Learning rates of what isn't a matrix of the blocks, as shares of theirs, at width 128 (`lm.rates`)."""

    embedding: Positive
    head: Positive  # unused where embeddings are tied
    rest: Positive


class TrainingRecipe(Section):
    optimizer: Literal["muon", "adamw"]
    shares: RateShares
    betas: Annotated[list[Momentum], Field(min_length=2, max_length=2)]  # AdamW's
    weight_decay: Annotated[float, Field(ge=0)]  # of the matrices of the blocks
    clip: Annotated[float, Field(ge=0)]  # largest gradient norm, 0 for none
    warmup_steps: Annotated[int, Field(ge=0)]
    cooldown: Annotated[float, Field(gt=0, lt=1)]  # share of the steps over which the rate falls to zero
    min_cooldown_steps: Annotated[int, Field(ge=1)]  # a shorter one corrupts the final loss (Porian et al. 2024)
    precision: Literal["auto", "fp32", "bf16"]  # of matrix products; auto: bf16 where the hardware multiplies it
