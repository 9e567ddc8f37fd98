"""Is what runs on this device right? `bench/gpu/run.py` runs it in a process of its own; prints one line of JSON.

Step: loss and gradients against cross-entropy of all logits in fp64 on the CPU. In fp32 they must agree; as trained
(bf16 on CUDA) the gradient's error must stay near that of the naive loss in the same precision, eager and compiled.

Decode: greedy tokens from the cache against the fp32 model reading prompt and answer without one. A token is off by
what its logit lacks to the best one. In fp32 none may be off by more than rounding; in the precision of decoding as few
may differ as when the same precision reads without a cache.
"""

import argparse
import contextlib
import copy
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stages.lm import incremental
from stages.lm.build import LanguageModel, build_model
from stages.lm.compile import CompiledModel
from stages.lm.config import ModelConfig
from stages.lm.device import autocast, device, set_threads
from stages.lm.generate import generate
from stages.lm.loss import next_token_loss

SIZES = {"full": (4, 256, 8192, 256, 32, 64), "tiny": (2, 32, 128, 32, 4, 8)}


def random_model(layers: int, width: int, vocabulary: int, context: int) -> LanguageModel:
    """Weights as large as a trained model's: fresh ones end in zeros, which hide what blocks do."""
    heads = max(2, width // 64)
    config = ModelConfig(
        "transformer", vocabulary, layers, width, heads, heads // 2, 3 * width, context, 10000.0, False, True, 1e-6
    )
    model, generator = build_model(config, 0), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model.to(device())


def naive_loss(model: LanguageModel, rows: Tensor) -> Tensor:
    logits = model(rows[:, :-1])
    return F.cross_entropy(
        logits.flatten(0, 1).to(torch.promote_types(logits.dtype, torch.float32)), rows[:, 1:].flatten()
    )


def result(model: LanguageModel, compute: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Loss and flat gradient, in fp64 on the CPU; compute() may have backpropagated a part already."""
    model.zero_grad(set_to_none=True)
    loss = compute()
    loss.backward()
    gradient = torch.cat([parameter.grad.double().cpu().flatten() for parameter in model.parameters()])  # type: ignore[union-attr]
    return loss.item(), gradient


def check(name: str, measured: float, bar: float) -> dict[str, Any]:
    return {"name": name, "measured": measured, "bar": bar, "met": measured <= bar}


def check_step(model: LanguageModel, rows: Tensor) -> list[dict[str, Any]]:
    exact = copy.deepcopy(model).double().cpu()
    true_loss, true_gradient = result(exact, lambda: naive_loss(exact, rows))
    rows = rows.to(device())
    losses: dict[str, float] = {}

    def fused(name: str, called: Any, context: Callable[[], Any]) -> Callable[[], Tensor]:
        def compute() -> Tensor:
            with context():
                loss, report = next_token_loss(called, rows, None, max(1, len(rows) // 2))
            losses[name] = report["loss"]
            return loss

        return compute

    def naive() -> Tensor:
        with autocast():
            return naive_loss(model, rows)

    def error(compute: Callable[[], Tensor]) -> float:
        return float((result(model, compute)[1] - true_gradient).norm() / true_gradient.norm())

    unfused = error(naive)
    found = [
        check("step, fp32: relative error of the gradient", error(fused("fp32", model, contextlib.nullcontext)), 1e-4)
    ]
    for name, called in (("eager", model), ("compiled", CompiledModel(model))):
        bar = max(1e-4, 1.25 * unfused)
        found.append(
            check(
                f"step, as trained, {name}: relative error of the gradient", error(fused(name, called, autocast)), bar
            )
        )
    bars = {"fp32": 1e-5, "eager": 5e-3, "compiled": 5e-3}
    found += [
        check(f"step, {name}: error of the loss, nats", abs(losses[name] - true_loss), bars[name]) for name in bars
    ]
    return found


@torch.inference_mode()
def shortfalls(model: LanguageModel, prompts: list[list[int]], answers: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Of each generated token, and of the one that the same model would choose without a cache in the precision of
    decoding: what its fp32 logit lacks to the best one.
    """
    chosen, plain = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt + answer[:-1]], device=device())
        logits = model(ids)[0, len(prompt) - 1 :]
        with autocast():
            without_cache = model(ids)[0, len(prompt) - 1 :].float().argmax(dim=1, keepdim=True)
        best = logits.amax(dim=1, keepdim=True)
        chosen.append(best - logits.gather(1, torch.tensor(answer, device=ids.device)[:, None]))
        plain.append(best - logits.gather(1, without_cache))
    return torch.cat(chosen).flatten().cpu(), torch.cat(plain).flatten().cpu()


def check_decode(model: LanguageModel, batch: int, new: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    lengths = [new // 4 + (new - new // 4) * index // (batch - 1) for index in range(batch)]
    prompts = [torch.randint(0, model.config.vocab_size, (n,), generator=generator).tolist() for n in lengths]

    def answers() -> list[list[int]]:
        return generate(
            model, prompts, max_new_tokens=new, temperature=0.0, top_p=1.0, seed=0, stop_ids=[], batch_size=batch
        )

    with mock.patch.object(incremental, "autocast", contextlib.nullcontext):
        exact, _ = shortfalls(model, prompts, answers())
    cached, plain = shortfalls(model, prompts, answers())
    differ, differ_plain = (float((lacks > 0).double().mean()) for lacks in (cached, plain))
    return [
        check("decode, fp32: largest shortfall of a logit", float(exact.max()), 1e-3),
        check("decode, as run: share of tokens that fp32 would not choose", differ, max(0.01, 1.5 * differ_plain)),
        check("decode, as run: largest shortfall of a logit", float(cached.max()), max(1e-3, 2 * float(plain.max()))),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    os.environ["TRAINYARD_DEVICE"] = arguments.device
    set_threads()
    layers, width, vocabulary, context, batch, new = SIZES[arguments.size]
    model = random_model(layers, width, vocabulary, context)
    rows = torch.randint(0, vocabulary, (8, context + 1), generator=torch.Generator().manual_seed(0))
    print(json.dumps(check_step(model, rows) + check_decode(model.eval(), batch, new)), flush=True)


if __name__ == "__main__":
    main()
