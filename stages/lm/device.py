"""Where and in what precision a model computes, and what of that belongs to a result's identity."""

import contextlib
import os
import platform
from typing import Any, Literal

import torch

from stages.base.errors import ParamError

Precision = Literal["auto", "fp32", "bf16"]


def device() -> torch.device:
    """`TRAINYARD_DEVICE` (cpu, cuda) if set, else CUDA where there is one."""
    chosen = os.environ.get("TRAINYARD_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    if chosen not in ("cpu", "cuda") or (chosen == "cuda" and not torch.cuda.is_available()):
        raise ParamError(f"TRAINYARD_DEVICE is {chosen!r}; use cpu, or cuda on a machine with a CUDA device")
    return torch.device(chosen)


def multiplies_bf16() -> bool:
    """Whether the device has instructions for bf16 products. Without them (AVX512-BF16 or AMX) a CPU emulates them, ~5x
    slower than fp32; with them they are ~2x faster.
    """
    if device().type == "cuda":
        return True
    return torch.backends.mkldnn.is_available() and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def training_dtype(precision: Precision) -> torch.dtype:
    """Of matrix products in training; weights, their gradients' sums and the optimizer's state are fp32 always."""
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and multiplies_bf16()) else torch.float32


def autocast(dtype: torch.dtype | None = None) -> contextlib.AbstractContextManager[Any]:
    """Matrix products in `dtype`; by default in bfloat16 on CUDA and in fp32 on a CPU, where what is measured and
    generated is to be the same on every machine.
    """
    kind = device().type
    if dtype is None:
        dtype = torch.bfloat16 if kind == "cuda" else torch.float32
    return torch.autocast(kind, dtype=dtype) if dtype == torch.bfloat16 else contextlib.nullcontext()


def compute_dtype(weight: torch.Tensor) -> torch.dtype:
    """In what dtype a matrix product with this weight is computed here: autocast's where it is on."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def stream_dtype(weight: torch.Tensor) -> torch.dtype:
    """In what dtype a decoder carries its states from block to block, given its embedding.

    On CUDA that of the matrix products: autocast would carry fp32 and norm in fp32, a quarter more traffic of what is
    not a product once compiled, and the step of a small model is half that. On a CPU fp32, where products take nearly
    all of the time.
    """
    return compute_dtype(weight) if weight.is_cuda else weight.dtype


def set_threads() -> None:
    """On a CPU, compute in one thread: sums are split over threads, and a result must not depend on how many cores a
    machine has. Cores are used by processes, over parts of the work that don't depend on their number either.
    """
    if device().type == "cpu" and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def environment() -> dict[str, Any]:
    """What a training result depends on besides inputs, params and code; no host names."""
    kind = device().type
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if kind == "cuda" else platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability() if kind == "cpu" else "bf16",
        "bf16": multiplies_bf16(),
    }
