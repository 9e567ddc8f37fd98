"""One contender of `training.py` in a process of its own: builds a model, then takes steps as it is told to.

Reads lines from standard input: a number of steps to take. Answers each with one line of JSON: CPU seconds, and the
peak memory so far. Batches are random tokens, the same for all. Every contender has its own model, loss and optimizer,
gradients clipped where it clips them. A name that ends in "bf16" has its matrix products in bf16.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from bench.lm.held import Held, resident_mib  # noqa: E402  (the path is the project's root)

CONTEXT, VOCABULARY, ROWS, HEADS = 256, 8192, 16, 4
WARM, PROBE = 2, 2  # steps

Step = Callable[[Tensor, int], float]  # rows [16, 257], rows at once → loss


class Batches:
    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self) -> Tensor:
        return torch.randint(0, VOCABULARY, (ROWS, CONTEXT + 1), generator=self.generator)


def d_ff(width: int) -> int:
    """Of SwiGLU's three matrices, so that they have the weights of the two of 4 x width."""
    return 8 * round(width / 3)


def accumulating(
    model: nn.Module, optimizer: Any, loss_of: Callable[[Tensor, Tensor], Tensor], clip: float, bf16: bool = False
) -> Step:
    def step(rows: Tensor, micro: int) -> float:
        total = 0.0
        for part in rows.split(micro):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = loss_of(part[:, :-1].contiguous(), part[:, 1:].contiguous()) * (len(part) / len(rows))
            loss.backward()
            total += loss.item()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    return step


def nanogpt(layers: int, width: int, folder: Path, variant: str) -> tuple[nn.Module, Step]:
    sys.path.insert(0, str(folder))
    from model import GPT, GPTConfig

    model = GPT(GPTConfig(CONTEXT, VOCABULARY, layers, HEADS, width, dropout=0.0, bias=False))
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.95), "cpu")
    called = torch.compile(model, dynamic=False) if "compiled" in variant else model
    return model, accumulating(model, optimizer, lambda x, y: called(x, y)[1], clip=1.0, bf16="bf16" in variant)


def nanochat(layers: int, width: int, folder: Path, variant: str) -> tuple[nn.Module, Step]:
    if "bf16" in variant:
        os.environ["NANOCHAT_DTYPE"] = "bfloat16"
    sys.path.insert(0, str(folder))
    from nanochat.gpt import GPT, GPTConfig

    model = GPT(GPTConfig(CONTEXT, VOCABULARY, layers, HEADS, HEADS, width, window_pattern="L"))
    model.init_weights()
    optimizer = model.setup_optimizer()
    called = torch.compile(model, dynamic=False) if "compiled" in variant else model
    return model, accumulating(model, optimizer, called, clip=0.0)


def litgpt(layers: int, width: int) -> tuple[nn.Module, Step]:
    from litgpt import GPT, Config

    shape = {"n_layer": layers, "n_head": HEADS, "n_embd": width, "intermediate_size": d_ff(width)}
    sizes = {"block_size": CONTEXT, "vocab_size": VOCABULARY, "padded_vocab_size": VOCABULARY}
    llama = {"norm_class_name": "RMSNorm", "mlp_class_name": "LLaMAMLP", "rotary_percentage": 1.0, "bias": False}
    model = GPT(Config(**shape, **sizes, **llama, parallel_residual=False))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    return model, accumulating(model, optimizer, loss_of, clip=1.0)


def huggingface(layers: int, width: int, family: str) -> tuple[nn.Module, Step]:
    import transformers

    model: nn.Module
    if family == "llama":
        shape = {"hidden_size": width, "intermediate_size": d_ff(width), "num_hidden_layers": layers}
        sizes = {"num_attention_heads": HEADS, "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT}
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**shape, **sizes, tie_word_embeddings=True, use_cache=False)
        )
    else:
        drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "use_cache": False}
        model = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=width, n_layer=layers, n_head=HEADS, **drops
            )
        )
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(input_ids=x).logits.flatten(0, 1), y.flatten())

    return model, accumulating(model, optimizer, loss_of, clip=1.0)


def train_ours(variant: str, layers: int, width: int) -> None:
    """`stages.lm.loop.train` itself, held between steps until it is told to go on."""
    from stages.lm.build import build_model
    from stages.lm.compile import CompiledModel
    from stages.lm.config import ModelConfig
    from stages.lm.loop import train
    from stages.lm.loss import next_token_loss
    from stages.lm.optim import build_optimizer

    arch = "lstm" if "lstm" in variant else "transformer"
    config = ModelConfig(
        arch, VOCABULARY, layers, width, HEADS, HEADS, d_ff(width), CONTEXT, 10000.0, True, True, 1e-6
    )  # fmt: skip
    model, batches, held = build_model(config, 0), Batches(), held_at(4, WARM)
    called = CompiledModel(model) if "compiled" in variant else model
    with tempfile.TemporaryDirectory() as folder:  # for the loop's own timings
        os.chdir(folder)
        train(
            model,
            build_optimizer(model, 0.02, kind="adamw" if "adamw" in variant else "muon"),
            lambda _: 1.0,
            lambda _, __: next_token_loss(called, batches(), None, 4),
            10**6,
            name="bench",
            on_step=held.on_step,
            dtype=torch.bfloat16 if "bf16" in variant else torch.float32,
        )


def held_at(micro: int, first: int = 1) -> Held:
    def answer(seconds: float) -> dict[str, Any]:
        return {"cpu": seconds, "peak": resident_mib(), "micro": micro}

    return Held(time.process_time, answer, first)


def follow(step: Step, micros: list[int]) -> None:
    """Takes the rows at once that are faster, then steps as told."""
    batches, taken = Batches(), {}
    for micro in micros:
        for _ in range(WARM):
            step(batches(), micro)
        began = time.process_time()
        for _ in range(PROBE):
            step(batches(), micro)
        taken[micro] = time.process_time() - began
    best = min(taken, key=lambda micro: taken[micro])
    held = held_at(best)
    while True:
        for _ in range(held.next()):
            step(batches(), best)


def multiply() -> None:
    """The machine's matrix product: a "step" is one of 1,024³."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    held = held_at(0)
    while True:
        for _ in range(held.next()):
            torch.mm(a, b)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("layers", type=int)
    parser.add_argument("width", type=int)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--micro", type=int, nargs="+", default=[ROWS, 4])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape, (name, _, variant) = (arguments.layers, arguments.width), arguments.name.partition(" ")
    if name == "gemm":
        multiply()
    if name == "ours":
        train_ours(variant, *shape)
    if name in ("nanogpt", "nanochat"):
        build = nanogpt if name == "nanogpt" else nanochat
        _, step = build(*shape, arguments.folder, variant)
    elif name == "litgpt":
        _, step = litgpt(*shape)
    else:
        _, step = huggingface(*shape, variant)
    follow(step, arguments.micro)


if __name__ == "__main__":
    main()
