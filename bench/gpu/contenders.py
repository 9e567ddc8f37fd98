"""One contender of `bench/gpu/run.py` in a process of its own: builds a model, then takes steps as it is told to.

Reads lines from standard input: a number of steps to take. Answers each with one line of JSON: the seconds they took
and the peak memory so far. Every contender trains as its own script does: ours through `stages.lm.loop.train` with Muon
and deterministic kernels, nanoGPT as its `train.py` (bf16 autocast, TF32 allowed, fused AdamW, gradients clipped at 1).
A step is the same number of random tokens for all. How many rows are computed at once is each contender's own: the
fastest of those that fit into its share of the GPU's memory, found with the eager model.
"""

import argparse
import contextlib
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from bench.lm.held import Held, resident_mib  # noqa: E402  (the path is the project's root)

PAD = 0


@dataclass(frozen=True)
class Shape:
    """Of a decoder with tied embeddings. `rows`: the numbers of rows at once that are tried, ascending."""

    layers: int
    width: int
    heads: int
    context: int
    vocabulary: int
    batch_tokens: int
    rows: tuple[int, ...]

    @property
    def d_ff(self) -> int:
        """Of SwiGLU's three matrices, so that they have the weights of the two of 4 x width."""
        return 64 * round(self.width / 24)

    @property
    def batch_rows(self) -> int:
        return self.batch_tokens // self.context

    @property
    def flops_per_token(self) -> float:
        """6·N + 12·L·C·T (PaLM, appendix B) of blocks of 12·C² and the head: nanoGPT's, and ours within 1 %."""
        blocks = 12 * self.layers * self.width**2
        return 6.0 * (blocks + self.vocabulary * self.width) + 12.0 * self.layers * self.width * self.context


SHAPES = {
    "124M": Shape(12, 768, 12, 1024, 50304, 2**19, (4, 8, 16, 32, 64)),
    "350M": Shape(24, 1024, 16, 2048, 50304, 2**19, (2, 4, 8, 16, 32)),
    "1.3B": Shape(24, 2048, 16, 2048, 50304, 2**19, (1, 2, 4, 8, 16)),
    "tiny": Shape(2, 48, 2, 32, 256, 128, (1, 2)),  # for tests
}


def clock() -> float:
    """Now, with everything done that was started."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_mib() -> float:
    """What torch has allocated at most on the GPU; on a CPU the largest resident set."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    return resident_mib()


class Batches:
    """Random rows [n, context + 1] on the CPU, as a trainer's come from a file."""

    def __init__(self, shape: Shape) -> None:
        self.shape, self.generator = shape, torch.Generator().manual_seed(0)

    def __call__(self, rows: int) -> Tensor:
        size = (rows, self.shape.context + 1)
        return torch.randint(PAD + 1, self.shape.vocabulary, size, generator=self.generator)


def held_at(rows: int) -> Held:
    return Held(clock, lambda seconds: {"seconds": seconds, "peak_mib": peak_mib(), "rows": rows})


def fastest(compute: Callable[[Tensor], None], shape: Shape, home: torch.device) -> int:
    """Of `shape.rows` the number of rows at once with the most tokens a second. compute: forward and backward pass."""
    batches, best, speed = Batches(shape), shape.rows[0], 0.0
    for count in shape.rows:
        rows = batches(count).to(home)
        try:
            compute(rows)  # the first time chooses kernels
            began = clock()
            compute(rows)
            taken = clock() - began
        except torch.OutOfMemoryError:
            break
        if count / taken > speed:
            best, speed = count, count / taken
    gc.collect()
    if home.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return best


def ours(shape: Shape, home: torch.device, compiled: bool, rows: int | None) -> None:
    """`stages.lm.loop.train` itself, held between steps until it is told to go on."""
    from stages.lm.build import build_model
    from stages.lm.compile import CompiledModel
    from stages.lm.config import ModelConfig
    from stages.lm.device import autocast, set_threads
    from stages.lm.loop import train
    from stages.lm.loss import next_token_loss
    from stages.lm.optim import build_optimizer

    set_threads()
    config = ModelConfig(
        "transformer", shape.vocabulary, shape.layers, shape.width, shape.heads, shape.heads, shape.d_ff, shape.context,
        10000.0, True, True, 1e-6,
    )  # fmt: skip
    model = build_model(config, 0).to(home)
    optimizer = build_optimizer(model, 0.02)

    def compute(part: Tensor) -> None:
        with autocast():
            loss, _ = next_token_loss(model, part, part != PAD)
        loss.backward()

    if rows is None:
        compute(Batches(shape)(1).to(home))
        optimizer.step()  # its state takes memory, too
        rows = fastest(compute, shape, home)
        optimizer.zero_grad(set_to_none=True)
    called: Any = CompiledModel(model) if compiled else model
    batches, held = Batches(shape), held_at(rows)

    def loss_fn(_: nn.Module, __: int) -> tuple[Tensor, dict[str, float]]:
        batch = batches(shape.batch_rows).to(home)
        return next_token_loss(called, batch, batch != PAD, rows)

    with tempfile.TemporaryDirectory() as folder:  # for the loop's own timings
        os.chdir(folder)
        train(model, optimizer, lambda _: 1.0, loss_fn, 10**6, name="bench", on_step=held.on_step)


def nanogpt(shape: Shape, home: torch.device, compiled: bool, rows: int | None, folder: Path) -> None:
    """The step of its train.py, but for what that reads from files and writes to the terminal."""
    sys.path.insert(0, str(folder))
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    cuda = home.type == "cuda"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    context = torch.autocast("cuda", dtype=torch.bfloat16) if cuda else contextlib.nullcontext()
    with home:
        model = GPT(GPTConfig(shape.context, shape.vocabulary, shape.layers, shape.heads, shape.width, 0.0, False))
    optimizer = model.configure_optimizers(0.1, 6e-4, (0.9, 0.95), home.type)

    def compute(part: Tensor, called: Any = model, share: float = 1.0) -> None:
        with context:
            _, loss = called(part[:, :-1].contiguous(), part[:, 1:].contiguous())
        (loss * share).backward()

    if rows is None:
        compute(Batches(shape)(1).to(home))
        optimizer.step()
        rows = fastest(compute, shape, home)
        optimizer.zero_grad(set_to_none=True)
    called = torch.compile(model) if compiled else model
    batches, held, waiting = Batches(shape), held_at(rows), 1
    while True:
        for _ in range(waiting):
            batch = batches(shape.batch_rows).to(home)
            for part in batch.split(rows):
                compute(part, called, len(part) / len(batch))
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        waiting = held.next()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=("ours", "nanogpt"))
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("mode", choices=("eager", "compiled"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--share", type=float, default=0.9, help="of the GPU's memory that it may take")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    os.environ["TRAINYARD_DEVICE"] = arguments.device
    home = torch.device(arguments.device)
    if home.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(arguments.share)
    torch.manual_seed(0)
    shape, compiled = SHAPES[arguments.shape], arguments.mode == "compiled"
    if arguments.name == "ours":
        ours(shape, home, compiled, arguments.rows)
    else:
        nanogpt(shape, home, compiled, arguments.rows, arguments.folder)


if __name__ == "__main__":
    main()
