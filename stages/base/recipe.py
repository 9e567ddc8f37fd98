"""The training recipe: one section of params that the ladder, the run it predicts and what is trained after share."""

from typing import Annotated, Literal

from pydantic import Field

from stages.base.params import Section

Positive = Annotated[float, Field(gt=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class RateShares(Section):
    """Learning rates of what isn't a matrix of the blocks, as shares of theirs, at width 128 (`lm.rates`)."""

    embedding: Positive
    """Of the input embedding, tied or not."""
    head: Positive
    """Of the output head; unused where embeddings are tied."""
    rest: Positive
    """Of norms and biases."""


class Recipe(Section):
    """How a model is trained on packed rows, and what every architecture of a family has in common."""

    optimizer: Literal["muon", "adamw"]
    """Of the matrices of the blocks; everything else is AdamW's."""
    lr: Positive
    """Peak learning rate of the matrices of the blocks, at width 128; `lm.rates` says what it is at others."""
    shares: RateShares
    betas: Annotated[list[Momentum], Field(min_length=2, max_length=2)]
    """AdamW's."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Of the matrices of the blocks."""
    clip: Annotated[float, Field(ge=0)]
    """Largest gradient norm, 0 for none."""
    batch_tokens: Count
    """Tokens of a step, rounded to whole rows."""
    micro_rows: Count
    """Rows computed at once; their gradients accumulate up to the batch."""
    warmup_steps: Annotated[int, Field(ge=0)]
    """Steps over which the rate rises."""
    cooldown: Annotated[float, Field(gt=0, lt=1)]
    """Share of the steps over which the rate falls to zero."""
    min_cooldown_steps: Count
    """Fewest steps of the cooldown: a shorter one corrupts the final loss (Porian et al. 2024)."""
    precision: Literal["auto", "fp32", "bf16"]
    """Of matrix products; auto: bf16 where the hardware multiplies it."""
    document_mask: bool
    """Whether a token sees its own document only."""
    z_loss: Annotated[float, Field(ge=0)]
    """Factor of log² of the softmax's normaliser."""
    compile: Literal["off", "on", "auto"]
    """torch.compile; auto: for long runs on CUDA."""
    rope_theta: Positive
    """Base of the rotary positions."""
    tie_embeddings: bool
    """Whether the output head is the input embedding."""
    qk_norm: bool
    """Whether each head's queries and keys are normalised."""
    norm_eps: Positive
    """Epsilon of RMSNorm."""


class Shape(Section):
    """Of a decoder; an LSTM uses n_layer and d_model only."""

    n_layer: Count
    """Blocks."""
    d_model: Count
    """Width of the residual stream."""
    n_head: Count
    """Heads of queries."""
    n_kv_head: Count
    """Heads of keys and values; a divisor of n_head."""
    d_ff: Count
    """Width of SwiGLU's inner layer."""


class Run(Section):
    """What everything trained has in common beside the recipe."""

    seed: Annotated[int, Field(ge=0)]
    """Root of all seeds of what is trained or judged."""
    shards: Count
    """Parts of a batch whose gradients are summed in a fixed order: so many processes may train at once."""
