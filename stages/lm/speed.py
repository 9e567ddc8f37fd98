"""How fast training goes and what it takes: clock readings, for the progress line and the timings, never for a tracked
output.
"""

import resource
import time
from typing import Any

import torch

from stages.lm import accelerators, distributed
from stages.lm.device import device


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


class Speedometer:
    """Tokens per second and model FLOPs utilisation since it was made, over all processes that train together:
    `processes` here, under each of those that torchrun has started.

    MFU = tokens per second · FLOPs a token / (processes · peak): against the data sheet's peak, where the accelerator
    is known, and against the median rate of matrix products measured here. `seconds`, GPU hours and kWh are those of
    this process: a run that was killed and resumed has taken more.
    """

    def __init__(self, flops_per_token: float | None, processes: int = 1) -> None:
        cuda = device().type == "cuda"
        self.flops_per_token, self.peaks = flops_per_token, dict[str, float]()
        self.processes = processes * distributed.world()
        self.board = accelerators.driven(torch.cuda.get_device_name()) if cuda else None
        if flops_per_token is not None:
            if self.board is not None:
                self.peaks["datasheet"] = self.board.peak_tflops * 1e12
            with torch.random.fork_rng():  # a run draws the same numbers whether it is measured or not
                self.peaks["gemm"] = gemm_peak(seconds=0.1)[0]
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        self.tokens, self.began = 0.0, time.monotonic()

    def add(self, tokens: float) -> None:
        self.tokens += tokens

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def shown(self) -> dict[str, float]:
        """What the progress line says beside the loss."""
        if not self.tokens:
            return {}
        speed = self._speed(self.seconds)
        shares = {f"MFU ({name})": self._utilisation(speed, name) for name in self.peaks}
        return {"tok/s": speed} | {name: share for name, share in shares.items() if share is not None}

    def timings(self) -> dict[str, Any]:
        """For every process to call: the peak memory is that of the one that took most. What isn't known is None."""
        seconds, cuda = self.seconds, device().type == "cuda"
        speed = self._speed(seconds)
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        peak_memory = torch.cuda.max_memory_allocated() if cuda else resident
        hours = seconds * distributed.world() / 3600 if cuda else 0.0
        return {
            "seconds": seconds,
            "tokens_per_second": speed,
            "mfu_datasheet": self._utilisation(speed, "datasheet"),
            "mfu_gemm": self._utilisation(speed, "gemm"),
            "gemm_flops_per_second": self.peaks.get("gemm"),
            "peak_memory_mib": max(distributed.every(peak_memory)) / 2**20,
            "gpu_hours": hours,
            "kwh": self.board.kwh(hours) if self.board is not None else None,
            "processes": self.processes,
        }

    def _speed(self, seconds: float) -> float:
        return self.tokens / max(seconds, 1e-9)

    def _utilisation(self, speed: float, peak: str) -> float | None:
        if self.flops_per_token is None or peak not in self.peaks:
            return None
        return speed * self.flops_per_token / (self.peaks[peak] * self.processes)
