"""Memory of a training step, estimated before it starts: a run that can't fit ends in a line, not with the kernel's
kill.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import torch

from stages.base.errors import ResourceError
from stages.lm.attention import BLOCK, LONGEST
from stages.lm.config import ModelConfig
from stages.lm.loss import CHUNK

CODE = 84 * 2**20  # what the first step of any model takes on a CPU
HOLES = 0.5  # of the activations; glibc's heap keeps freed blocks between them (measured: without it, 0)
CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True)
class StepMemory:
    """Bytes above what the process holds before the model is built."""

    weights: int
    gradients: int
    optimizer: int  # momentum, or mean and square, and the copies that a step makes
    activations: int  # of one micro-batch, kept for the backward pass
    logits: int  # of a chunk of rows, with the head's gradient
    overhead: int  # code loaded on first use; holes in the heap of a CPU

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        parts = (f"{field.name} {getattr(self, field.name) / 2**20:,.0f}" for field in fields(self))
        return f"{self.total / 2**20:,.0f} MiB ({', '.join(parts)})"


def step_memory(
    config: ModelConfig,
    micro_tokens: int,
    optimizer: str,
    dtype: torch.dtype = torch.float32,
    home: str = "cpu",
    processes: int = 1,
    shards: int = 1,
    computing: int = 1,
    compiled: bool = False,
) -> StepMemory:
    """Estimate for micro-batches of `micro_tokens` tokens; weights, gradients and optimizer state are fp32.

    optimizer: muon or adamw. dtype: of matrix products; in bf16 the weights are held once more. home: cpu or cuda.
    processes: over which FSDP shards what the model holds (1 for none). shards, computing: of a batch, and how many of
    them are computed at once (`lm.shards`).

    On a CPU a decoder's block keeps, for each token, 6·C (of both norms the input, the quotient and the output), 4·Q +
    4·K (queries and keys before and after norm and rotation, values, mixed values) and 4·F (gate, up, SiLU, product);
    an LSTM's layer 8·C (gates, states, outputs). Attention keeps no [T, T] on CUDA (`_narrow_block`), and on a CPU the
    lower half of it for each head (`lm.attention`). compiled: its blocks are (`lm.compile`).
    """
    everything, width = config.param_count(), config.d_model
    head = config.vocab_size * width
    matrices = config.non_embedding_count()
    # Muon: one momentum; its update, stacked, and three products of Newton-Schulz live for a moment.
    muon = 8 * (everything - matrices) + (4 + 16) * matrices
    state = muon if optimizer == "muon" else 8 * everything + 4 * head
    if config.arch == "lstm":
        layer = 8 * width
    else:
        queries, keys = config.n_head * config.head_dim, config.n_kv_head * config.head_dim
        layer = 6 * width + 4 * queries + 4 * keys + 4 * config.d_ff
        if home == "cpu" and config.max_seq_len <= LONGEST:
            layer += config.n_head * (config.max_seq_len + BLOCK) // 2
    # The backward pass holds about one more block's worth of gradients; the norm, its input and the embedding remain.
    size, narrow = dtype.itemsize, dtype != torch.float32
    kept = micro_tokens * ((config.n_layer + 1) * layer + 5 * width) * size
    if home == "cuda" and narrow and config.arch == "transformer":
        kept = micro_tokens * ((config.n_layer + 1) * _narrow_block(config, compiled) + 5 * width * size)
    chunk = min(CHUNK[home], micro_tokens) * config.vocab_size
    # Of shards, the sum and the one at hand; of those that helpers compute, all.
    gradients = 1 if shards == 1 else max(2, shards - shards // computing + 1)
    return StepMemory(
        weights=(6 if narrow else 4) * everything // processes,
        gradients=4 * everything * gradients // processes,
        optimizer=state // processes,
        activations=computing * kept,
        logits=computing * (4 * chunk + (2 * chunk if narrow else 0) + 4 * head),
        overhead=computing * (CODE + int(HOLES * kept)) if home == "cpu" else 0,
    )


def _narrow_block(config: ModelConfig, compiled: bool) -> int:
    """Bytes a token that a block in bf16 keeps on CUDA for the backward pass.

    Eager: of both norms input and output, of queries and keys the norm's output in bf16, its product with the scale in
    fp32 and what was rotated; qkv, mixed values, and gate, up, SiLU, product. Compiled, what is cheap to compute again
    is: 36.5·C at F = 2.75·C where eager keeps 54·C.
    """
    width, feed_forward = config.d_model, config.d_ff
    queries, keys = config.n_head * config.head_dim, config.n_kv_head * config.head_dim
    attention = 2 * (queries + 2 * keys) + 2 * (queries + keys) + 2 * queries
    if compiled:
        return attention + 2 * queries + 6 * width + 6 * feed_forward
    return attention + 6 * (queries + keys) + 8 * width + 8 * feed_forward


def available(home: torch.device) -> int:
    """Bytes that this process may still take: of the GPU, or of the machine and the control group it runs in."""
    if home.type == "cuda":
        return torch.cuda.mem_get_info(home)[0]
    free = [int(line.split()[1]) * 1024 for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable")]
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if limit.is_file() and used.is_file() and limit.read_text().strip() != "max":
        free.append(int(limit.read_text()) - int(used.read_text()))
    return min(free)


def require_memory(needed: StepMemory, home: torch.device, param: str, remedy: str) -> None:
    """Raises ResourceError that names `param` and `remedy` if the step doesn't fit into what is free on `home`."""
    free = available(home)
    if needed.total > free:
        raise ResourceError(
            f"`{param}`: a training step needs about {needed}, and {free / 2**20:,.0f} MiB of memory are free; {remedy}"
        )
