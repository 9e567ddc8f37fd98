import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stages.base.errors import ResourceError
from stages.lm import memory
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
