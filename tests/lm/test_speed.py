"""MFU, GPU hours and energy on an accelerator that stands in for one that isn't here."""

import pytest
import torch

from stages.lm import speed
from stages.lm.accelerators import driven
from stages.lm.speed import Speedometer

FLOPS = 6.0e9


@pytest.fixture
def on_a(monkeypatch: pytest.MonkeyPatch):
    """Speedometer after 36 s on two GPUs of a name."""

    def measured(name: str) -> Speedometer:
        clock = [100.0]
        monkeypatch.setattr(speed, "device", lambda: torch.device("cuda"))
        monkeypatch.setattr(speed, "gemm_peak", lambda seconds: (800e12, 900e12))
        monkeypatch.setattr(speed.time, "monotonic", lambda: clock[0])
        monkeypatch.setattr(speed.distributed, "world", lambda: 2)
        monkeypatch.setattr(speed.distributed, "every", lambda value: [value, 3 * value])
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 2**30)
        meter = Speedometer(FLOPS)
        clock[0] += 36.0
        meter.add(36 * 100_000)
        return meter

    return measured


def test_an_accelerator_of_the_table_is_measured_against_both_peaks(on_a) -> None:
    found = on_a("NVIDIA H100 80GB HBM3")
    assert found.shown() == pytest.approx(
        {"tok/s": 1e5, "MFU (datasheet)": 1e5 * FLOPS / (2 * 989e12), "MFU (gemm)": 1e5 * FLOPS / (2 * 800e12)}
    )
    timings = found.timings()
    assert timings["gpu_hours"] == pytest.approx(0.02)
    assert timings["kwh"] == pytest.approx(0.02 * 0.7)
    assert timings["peak_memory_mib"] == 3 * 1024, "that of the process that took most"


@pytest.mark.parametrize("name", ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA GeForce RTX 4090 Laptop GPU", "Zeus 1"])
def test_of_an_unknown_one_only_what_was_measured_is_said(on_a, name: str) -> None:
    found = on_a(name)
    assert set(found.shown()) == {"tok/s", "MFU (gemm)"}
    assert found.timings()["kwh"] is None and found.timings()["mfu_datasheet"] is None


def test_peaks_are_dense() -> None:
    """Tensor cores' dense bf16 rate = SMs · FLOPs a cycle and SM · boost clock (white papers of GA100, GH100, Ada)."""
    for name, rate in {
        "NVIDIA A100-SXM4-80GB": 108 * 2048 * 1.410e9,
        "NVIDIA H100 80GB HBM3": 132 * 4096 * 1.830e9,
        "NVIDIA H100 PCIe": 114 * 4096 * 1.620e9,
        "NVIDIA L40S": 142 * 1024 * 2.490e9,
        "NVIDIA GeForce RTX 4090": 128 * 512 * 2.520e9,
    }.items():
        board = driven(name)
        assert board is not None and board.peak_tflops * 1e12 == pytest.approx(rate, rel=0.02)
