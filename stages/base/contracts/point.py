"""`point.json`: one trained model of the ladder; `points.json`: which of them there are."""

from typing import Any, Literal

from stages.base.contracts import Contract
from stages.base.recipe import Recipe


class Ladder(Contract):
    """data/scaling/ladder/points.json"""

    points: list[str]
    """Keys of the points, in the order of params.yaml; each has a folder beside this file."""


class Point(Contract):
    """data/scaling/ladder/<key>/point.json"""

    key: str
    arch: Literal["transformer", "lstm"]
    n_params: int
    """All parameters, embeddings included."""
    n_nonembedding: int
    """Parameters apart from the input embedding and the output head."""
    tokens: int
    """Trained on, repeats counted."""
    flops: float
    """Of training, attention included."""
    loss: float
    """Validation loss, nats per token of text."""
    bpb: float
    """Validation loss, bits per byte."""
    train_loss: float
    """Mean of the last ten steps."""
    lr: float
    steps: int
    model: dict[str, Any]
    """`lm.config.ModelConfig` as a dict."""
    recipe: Recipe
