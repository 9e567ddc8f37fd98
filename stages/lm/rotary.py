"""Rotary positions (Su et al. 2021), plain or scaled to longer texts as Hugging Face's families do."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from stages.lm.config import ModelConfig

KINDS = ("default", "linear", "llama3", "yarn")
KEYS = {  # of each kind: those that it must have, those that it may have
    "default": ((), ()),
    "linear": (("factor",), ()),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"), ()),
    "yarn": (
        ("factor",),
        (
            "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale",
            "mscale_all_dim", "truncate",
        ),
    ),
}  # fmt: skip


def scaling_of(values: Mapping[str, Any], longest: int) -> dict[str, Any] | None:
    """What a config says of scaling, complete; None for none. longest: its `max_position_embeddings`.

    ValueError for a kind or a key that isn't computed here.
    """
    said = {"type": values.get("rope_type", values.get("type", "default"))}
    kind = said["type"]
    if kind not in KINDS:
        raise ValueError(f"rope_type {kind!r} is not read, only {', '.join(KINDS)}")
    needed, optional = KEYS[kind]
    given = {key: value for key, value in values.items() if key not in ("rope_type", "type", "rope_theta")}
    if given.get("partial_rotary_factor") == 1.0:
        del given["partial_rotary_factor"]
    for key, value in given.items():
        if key not in (*needed, *optional):
            raise ValueError(f"rope_parameters.{key} is not understood for {kind}")
        if value is not None and not isinstance(value, int | float):
            raise ValueError(f"rope_parameters.{key} is {value!r}, not a number")
    if missing := next((key for key in needed if given.get(key) is None), None):
        raise ValueError(f"rope_parameters.{missing} is missing")
    if kind == "default" or (kind == "linear" and given["factor"] == 1.0):
        return None
    said |= {key: value for key, value in given.items() if value is not None}
    if kind == "yarn":
        said.setdefault("original_max_position_embeddings", longest)
    return said


def tables(config: "ModelConfig") -> tuple[Tensor, Tensor]:
    """Cosines and sines [max_seq_len, 1, head_dim / 2], float32, of every position's angles."""
    half = torch.arange(0, config.head_dim, 2, dtype=torch.float64, device="cpu") / config.head_dim
    frequencies, scale = _scaled(config.rope_theta**-half, config)
    positions = torch.arange(config.max_seq_len, dtype=torch.float64, device="cpu")
    angles = torch.outer(positions, frequencies)
    return (angles.cos() * scale).float()[:, None], (angles.sin() * scale).float()[:, None]


def _scaled(frequencies: Tensor, config: "ModelConfig") -> tuple[Tensor, float]:
    """Radians a position of each pair of dimensions, and what queries and keys are multiplied by."""
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies, 1.0
    match scaling["type"]:
        case "linear":  # Chen et al. 2023: positions are interpolated
            return frequencies / scaling["factor"], 1.0
        case "llama3":
            return _llama3(frequencies, scaling), 1.0
    return _yarn(frequencies, scaling, config)


def _llama3(frequencies: Tensor, scaling: Mapping[str, Any]) -> Tensor:
    """Llama 3.1's: slow rotations are interpolated, fast ones kept, those between blended."""
    factor, low, high = scaling["factor"], scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)  # within the old context
    kept = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return frequencies * (kept + (1.0 - kept) / factor)


def _yarn(frequencies: Tensor, scaling: Mapping[str, Any], config: "ModelConfig") -> tuple[Tensor, float]:
    """Peng et al. 2023, sec. 3.2 and 3.4: dimensions that turn less than `beta_slow` times within the old context are
    interpolated, those that turn more than `beta_fast` times kept; attention is sharpened by its temperature."""
    factor, old, size = scaling["factor"], scaling["original_max_position_embeddings"], config.head_dim

    def dimension(turns: float) -> float:
        return size * math.log(old / (turns * 2 * math.pi)) / (2 * math.log(config.rope_theta))

    low, high = dimension(scaling.get("beta_fast") or 32), dimension(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    ramp = (torch.arange(size // 2, dtype=torch.float64, device="cpu") - low) / (high - low if high != low else 0.001)
    interpolated = ramp.clamp(0.0, 1.0)
    return frequencies * (interpolated / factor + 1.0 - interpolated), _temperature(scaling)


def _temperature(scaling: Mapping[str, Any]) -> float:
    def of(weight: float) -> float:
        return 0.1 * weight * math.log(scaling["factor"]) + 1.0 if scaling["factor"] > 1 else 1.0

    if (said := scaling.get("attention_factor")) is not None:
        return float(said)
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return of(scaling["mscale"]) / of(scaling["mscale_all_dim"])
    return of(1.0)
