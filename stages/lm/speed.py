"""How fast training goes: clock readings, for the progress line and the timings, never for a tracked output."""

import resource
import time
from typing import Any

import torch

from stages.lm import distributed
from stages.lm.device import device
from stages.lm.flops import gemm_peak


class Speedometer:
    """Tokens per second and model FLOPs utilisation since it was made, over all processes that train together.

    MFU = tokens per second · FLOPs a token / (processes · this machine's median measured matrix-product rate).
    """

    def __init__(self, flops_per_token: float | None) -> None:
        self.flops_per_token, self.peak = flops_per_token, 0.0
        if flops_per_token is not None:
            with torch.random.fork_rng():  # a run draws the same numbers whether it is measured or not
                self.peak = gemm_peak(seconds=0.1)[0]
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
        speed = self.tokens / max(self.seconds, 1e-9)
        return {"tok/s": speed} | ({"MFU": self._utilisation(speed)} if self.peak else {})

    def timings(self) -> dict[str, Any]:
        speed, cuda = self.tokens / max(self.seconds, 1e-9), device().type == "cuda"
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "seconds": self.seconds,
            "tokens_per_second": speed,
            "mfu": self._utilisation(speed) if self.peak else None,
            "gemm_flops_per_second": self.peak or None,
            "peak_memory_mib": (torch.cuda.max_memory_allocated() if cuda else resident) / 2**20,
            "gpu_hours": self.seconds * distributed.world() / 3600 if cuda else 0.0,
            "threads": torch.get_num_threads(),
            "processes": distributed.world(),
        }

    def _utilisation(self, tokens_per_second: float) -> float:
        return tokens_per_second * (self.flops_per_token or 0.0) / (self.peak * distributed.world())
