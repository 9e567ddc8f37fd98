"""Shapes of candidate models and the FLOPs of training them; no torch, so that planning stays light."""

from typing import Annotated

from pydantic import Field

from stages.base.params import Section
from stages.lm.config import ModelConfig
from stages.scaling.budget.cost import Attention, flops_per_token

Count = Annotated[int, Field(ge=1)]


class Shape(Section):
    n_layer: Count
    d_model: Count
    n_head: Count
    n_kv_head: Count
    d_ff: Count


class Recipe(Section):
    """What every model of a family shares."""

    rope_theta: Annotated[float, Field(gt=0)]
    tie_embeddings: bool
    qk_norm: bool
    norm_eps: Annotated[float, Field(gt=0)]


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


def active_params(config: ModelConfig) -> int:
    """Weights in matrix products: matrices and the head, without norms, biases, and the input embedding's lookup."""
    per_layer = 2 * config.d_model + (2 * config.head_dim if config.qk_norm else 0)
    if config.arch == "lstm":
        per_layer = 8 * config.d_model  # two biases of four gates
    vectors = config.n_layer * per_layer + config.d_model
    return config.non_embedding_count() - vectors + config.vocab_size * config.d_model


def train_flops(config: ModelConfig, tokens: float, seq_len: int) -> float:
    """FLOPs of training on `tokens` tokens in rows of `seq_len`, attention included."""
    width = config.n_head * config.head_dim
    attention = Attention(config.n_layer, width, seq_len) if config.arch == "transformer" else None
    return flops_per_token(active_params(config), attention) * float(tokens)
