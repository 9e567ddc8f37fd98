"""The whole of `bench/gpu/run.py`, tiny and on a CPU: pieces, report, going on. What it times there means nothing."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from bench.gpu import run as gpu
from bench.gpu.contenders import SHAPES
from bench.gpu.report import markdown

STAND_IN = """
import torch
from dataclasses import dataclass

@dataclass
class GPTConfig:
    block_size: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float
    bias: bool

class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.table = torch.nn.Embedding(config.vocab_size, config.vocab_size)

    def configure_optimizers(self, weight_decay, learning_rate, betas, device_type):
        print("told on standard output, as nanoGPT does")
        return torch.optim.AdamW(self.parameters(), lr=learning_rate, betas=betas, weight_decay=weight_decay)

    def forward(self, idx, targets):
        logits = self.table(idx)
        return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(gpu, "STATE", tmp_path / "state")
    monkeypatch.setenv("TRAINYARD_DEVICE", "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return ["--device", "cpu", "--tiny", "--rounds", "2", "--out", str(tmp_path / "out")]


def test_the_whole_command(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = tmp_path / "nanoGPT"
    peer.mkdir()
    (peer / "model.py").write_text(STAND_IN)
    command += ["--nanogpt", str(peer)]
    with pytest.raises(SystemExit, match="no nanoGPT at its commit 3adf61e"):
        gpu.main(command)
    monkeypatch.setattr(gpu, "NANOGPT", hashlib.sha256(STAND_IN.encode()).hexdigest())
    assert gpu.main([*command, "--seconds", "0.3"]) == 3, "the first piece is ended, not kept"
    assert not list((tmp_path / "state").rglob("*.json"))

    assert gpu.main(command) == 0
    (path,) = (tmp_path / "out").glob("*.json")
    report = json.loads(path.read_text())
    assert report["missing"] == [] and path.name.startswith(report["date"])
    assert len(report["pieces"]["checks"]) == 9 and all(check["met"] for check in report["pieces"]["checks"])
    for piece in ("tiny eager", "tiny compiled"):
        for facts in report["pieces"][piece]["contenders"].values():
            assert len(facts["turns"]) == 2 and min(facts["turns"]) > 0 and facts["rows"] in SHAPES["tiny"].rows
    rows = [
        {name: facts["rows"] for name, facts in report["pieces"][f"tiny {mode}"]["contenders"].items()}
        for mode in ("eager", "compiled")
    ]
    assert rows[0] == rows[1], "what the first trial found"
    assert "| tiny nanoGPT | compiled |" in path.with_suffix(".md").read_text()

    monkeypatch.setattr(gpu.Bench, "run", lambda *_: pytest.fail("a finished piece ran again"))
    assert gpu.main(command) == 0
    assert json.loads(path.read_text()) == report


def made_up(speed: float) -> dict[str, Any]:
    return {"turns": [speed * 0.9, speed, speed * 1.2], "rows": 8, "peak_mib": 2048.0}


def test_the_report_names_bars_misses_and_failures() -> None:
    shape, sheet = SHAPES["124M"], 989e12
    flops = 6 * (12 * 12 * 768**2 + 50304 * 768) + 12 * 12 * 768 * 1024
    assert shape.flops_per_token == flops
    ours, peer = 0.46 * sheet / flops, 0.40 * sheet / flops
    piece = {"shape": "124M", "flops_per_token": flops, "gemm_flops_per_second": 0.8 * sheet}
    report = {
        "date": "2026-11-25", "missing": ["1.3B eager"],
        "machine": {"device": "NVIDIA H200", "memory_gib": 139.8, "peak_tflops": 989, "torch": "2.11", "cuda": "12.8"},
        "pieces": {
            "checks": [{"name": "step", "measured": 0.2, "bar": 0.1, "met": False}],
            "124M eager": piece
            | {"mode": "eager", "contenders": {"ours": made_up(ours / 2), "nanogpt": made_up(peer)}},
            "124M compiled": piece
            | {"mode": "compiled", "contenders": {"ours": made_up(ours), "nanogpt": {"error": "no compiler"}}},
        },
    }  # fmt: skip
    said = markdown(report)
    assert "| step | 0.2 | 0.1 | **missed** |" in said and "Not measured yet: 1.3B eager." in said
    assert "| 124M ours | compiled | 8 |" in said and "| 46.0% | 57.5% | 2.00 |" in said
    assert "| 124M nanoGPT | compiled | **failed**: no compiler |" in said
    assert "| 124M: ≥ 1.25x nanoGPT, better modes | 1.15x | **missed** |" in said
    assert "| 124M: MFU ≥ 45% of the data sheet | 46.0% | met |" in said
