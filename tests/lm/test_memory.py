import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stages.base.errors import ResourceError
from stages.lm import attention, memory, transformer
from stages.lm.build import build_model
from stages.lm.config import ModelConfig
from stages.lm.device import autocast, compute_dtype
from stages.lm.memory import require_memory, step_memory
from tests.lm.conftest import tiny

MEASURE = """
import json, sys
import torch
from stages.lm.build import build_model
from stages.lm.config import ModelConfig
from stages.lm.device import autocast
from stages.lm.loss import next_token_loss
from stages.lm.optim import build_optimizer

def status(key):
    return int(open("/proc/self/status").read().split(key)[1].split()[0]) * 1024

torch.set_num_threads(1)
config, rows, kind = ModelConfig.from_dict(json.loads(sys.argv[1])), int(sys.argv[2]), sys.argv[3]
dtype = getattr(torch, sys.argv[4])
x = torch.randn(64, 64, requires_grad=True)  # what is loaded lazily
(x @ x).sum().backward()
before = status("VmRSS:")
model = build_model(config, 0)
optimizer = build_optimizer(model, 0.01, kind=kind)
for _ in range(3):
    tokens = torch.randint(0, config.vocab_size, (2 * rows, config.max_seq_len + 1))
    with autocast(dtype):
        loss, _ = next_token_loss(model, tokens, None, rows)
    loss.backward()
    with autocast(dtype):
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
print(status("VmHWM:") - before)
"""


@pytest.mark.parametrize(
    ("shape", "rows", "kind", "dtype"),
    [
        ({"vocab_size": 8192, "d_model": 128, "d_ff": 344, "n_layer": 4, "max_seq_len": 256}, 4, "muon", "float32"),
        ({"vocab_size": 8192, "d_model": 128, "d_ff": 344, "n_layer": 4, "max_seq_len": 256}, 4, "muon", "bfloat16"),
        ({"vocab_size": 4096, "d_model": 512, "d_ff": 1376, "n_layer": 3, "max_seq_len": 128}, 2, "adamw", "float32"),
        ({"vocab_size": 1024, "d_model": 64, "d_ff": 176, "n_layer": 8, "max_seq_len": 256}, 32, "muon", "float32"),
        ({"vocab_size": 8192, "d_model": 128, "arch": "lstm", "max_seq_len": 256}, 8, "muon", "float32"),
    ],
)
def test_the_estimate_is_near_the_measured_peak(shape: dict[str, object], rows: int, kind: str, dtype: str) -> None:
    config = tiny(**shape, tie_embeddings=True)
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(config.to_dict()), str(rows), kind, dtype],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    measured = int(found.stdout)
    estimated = step_memory(config, rows * config.max_seq_len, kind, getattr(torch, dtype)).total
    assert measured / 1.5 < estimated < 1.5 * measured, (measured / 2**20, estimated / 2**20)


def kept_bytes(layers: int, backend: str | None) -> int:
    """What a model of bf16 states keeps for the backward pass of 512 tokens, beside weights."""
    width, tokens = 256, 512
    config = ModelConfig("transformer", 512, layers, width, 4, 2, 704, 256, 1e4, True, True, 1e-6)
    model = build_model(config, 0)
    if backend:
        torch.compiler.reset()
        for block in model.layers:
            block.forward = torch.compile(block.forward, dynamic=False, fullgraph=True, backend=backend)
    found: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        # Activations have a dimension of all tokens, or of rows and their tokens; weights and tables of angles don't.
        if tensor.shape[0] in (2, tokens):
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast(torch.bfloat16):
        model.hidden(torch.zeros((2, 256), dtype=torch.int64))
    return sum(size for size, _ in found.values())


@pytest.mark.parametrize("compiled", [False, True])
def test_a_block_on_cuda_keeps_what_is_estimated(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted on a CPU with the attention of CUDA, which keeps no matrix of tokens by tokens, and with the partitioner
    that torch.compile has there too. Eagerly torch's norm for CPUs keeps its input and the quotient in fp32 where
    CUDA's keeps the input in bf16: 2 · (8 − 2) bytes a width."""
    monkeypatch.setattr(transformer, "stream_dtype", compute_dtype)
    monkeypatch.setattr(attention, "LONGEST", 0)
    backend = "aot_eager_decomp_partition" if compiled else None
    measured = (kept_bytes(3, backend) - kept_bytes(2, backend)) / 512
    if not compiled:
        measured -= 2 * (8 - 2) * 256
    config = ModelConfig("transformer", 512, 1, 256, 4, 2, 704, 256, 1e4, True, True, 1e-6)
    estimated = [
        step_memory(dataclasses.replace(config, n_layer=layers), 512, "muon", torch.bfloat16, "cuda", compiled=compiled)
        for layers in (2, 3)
    ]
    block = (estimated[1].activations - estimated[0].activations) / 512
    assert block == pytest.approx(measured, rel=0.1)
    assert not compiled or block <= 40 * 256


def test_too_little_memory_names_the_param_and_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needed = step_memory(tiny(), 1024, "muon")
    home = torch.device("cpu")
    require_memory(needed, home, "a.micro_rows", "lower it")
    (tmp_path / "memory.max").write_text(str(needed.total + 99))
    (tmp_path / "memory.current").write_text("100")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    with pytest.raises(ResourceError, match=r"`a\.micro_rows`: .* MiB of memory are free; lower it"):
        require_memory(needed, home, "a.micro_rows", "lower it")


def test_fsdp_shards_what_the_model_holds_and_bf16_halves_activations() -> None:
    one, four = step_memory(tiny(), 1024, "adamw"), step_memory(tiny(), 1024, "adamw", torch.bfloat16, processes=4)
    assert four.gradients * 4 == one.gradients and four.optimizer * 4 == one.optimizer
    assert four.weights * 8 == one.weights * 3  # fp32, and once more in bf16
    assert four.activations * 2 == one.activations
