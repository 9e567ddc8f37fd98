"""Shapes of candidate models; no torch, so that planning stays light."""

from typing import Annotated

from pydantic import Field

from stages.base.params import Section
from stages.base.recipe import Recipe
from stages.lm.config import ModelConfig

Count = Annotated[int, Field(ge=1)]


class Shape(Section):
    n_layer: Count
    d_model: Count
    n_head: Count
    n_kv_head: Count
    """Heads of keys and values; a divisor of n_head."""
    d_ff: Count
    """Width of SwiGLU's inner layer."""


def model_config(arch: str, shape: Shape, recipe: Recipe, vocab_size: int, seq_len: int) -> ModelConfig:
    """Raises ParamError for a shape that can't be built."""
    return ModelConfig(
        arch=arch,
        vocab_size=vocab_size,
        n_layer=shape.n_layer,
        d_model=shape.d_model,
        n_head=shape.n_head,
        n_kv_head=shape.n_kv_head,
        d_ff=shape.d_ff,
        max_seq_len=seq_len,
        rope_theta=recipe.rope_theta,
        tie_embeddings=recipe.tie_embeddings,
        qk_norm=recipe.qk_norm,
        norm_eps=recipe.norm_eps,
    )
