"""Floating-point operations of training, and how fast this machine multiplies matrices: what an MFU is made of."""

import time

import torch

from stages.lm.config import ModelConfig
from stages.lm.device import device


def matmul_params(config: ModelConfig) -> int:
    """Weights that take part in a matrix product for each token: all matrices and the output head, not the input
    lookup.
    """
    width = config.d_model
    head = config.vocab_size * width
    if config.arch == "lstm":
        return config.n_layer * 8 * width * width + head
    attention = width * config.head_dim * (2 * config.n_head + 2 * config.n_kv_head)
    return config.n_layer * (attention + 3 * width * config.d_ff) + head


def flops_per_token(config: ModelConfig, seq_len: int) -> float:
    """Training FLOPs a token, forward and backward: 6·N + 12·L·H·Q·T (PaLM, Chowdhery et al. 2022, appendix B).

    N counts matrix weights with the output head and without the input embedding; T is seq_len; attention is counted in
    full, not halved for causality; no recomputation. An LSTM has no attention term.
    """
    attention = 12 * config.n_layer * config.n_head * config.head_dim * seq_len if config.arch == "transformer" else 0
    return float(6 * matmul_params(config) + attention)


def gemm_peak(size: int = 1024, seconds: float = 1.0) -> tuple[float, float]:
    """Measured matrix-product rate of this machine, (median, best) in FLOP/s, in the training precision.

    A clock reading: for progress lines and timings, never for a tracked output.
    """
    home = device()
    dtype = torch.bfloat16 if home.type == "cuda" else torch.float32
    size = size * (8 if home.type == "cuda" else 1)
    a, b = torch.randn(size, size, device=home, dtype=dtype), torch.randn(size, size, device=home, dtype=dtype)
    rates: list[float] = []
    began = time.monotonic()
    while len(rates) < 5 or time.monotonic() - began < seconds:
        start = time.perf_counter()
        a @ b
        if home.type == "cuda":
            torch.cuda.synchronize()
        rates.append(2.0 * size**3 / (time.perf_counter() - start))
    rates = sorted(rates[2:])
    return rates[len(rates) // 2], rates[-1]
