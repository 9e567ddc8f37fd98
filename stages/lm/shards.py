"""The gradient of a batch as the sum, in a fixed order, of those of its shards: the same bits by any processes.

Sums of floating-point numbers depend on their order. So a batch is cut into a number of shards that params set,
whatever computes them; each is computed in one thread, and they are added one after another. On a CPU forked helpers
compute some at the same time: they read the weights, and leave gradients, in memory that they share with the trainer.
"""

import mmap
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from stages.base.errors import TrainyardError
from stages.lm.device import device

# (step, shard) → numbers to add up over shards; leaves the shard's gradients on the parameters.
Compute = Callable[[int, int], dict[str, float]]


class HelperError(TrainyardError):
    """A process that computes shards has died."""


def possible_processes(wanted: int) -> int:
    """Helpers are forked: on Linux, and before any CUDA."""
    return wanted if device().type == "cpu" and sys.platform == "linux" else 1


class ShardedGradient:
    """Call it with a step: the gradients of all shards are summed on the parameters.

    parameters: fp32, all of one model. With processes > 1 their memory is moved to where helpers see it; change them in
    place only, and `close` when done.
    """

    def __init__(self, parameters: Sequence[Tensor], compute: Compute, shards: int, processes: int) -> None:
        self.parameters, self.compute, self.shards = parameters, compute, shards
        self.processes = min(processes, shards)
        self._helpers: list[tuple[Any, Connection]] = []
        self._left: dict[int, list[Tensor]] = {}
        if self.processes > 1:
            for parameter, shared in zip(parameters, _shared_like(parameters), strict=True):
                parameter.data = shared.copy_(parameter.data)
            helped = [shard for shard in range(shards) if shard % self.processes]
            self._left = {shard: _shared_like(parameters) for shard in helped}
            self._start()

    def __call__(self, step: int) -> dict[str, float]:
        for _, connection in self._helpers:
            self._send(connection, step)
        totals: dict[str, float] = {}
        sums: list[Tensor] = []
        for shard in range(self.shards):
            if shard % self.processes == 0:
                report, gradients = self.compute(step, shard), self._take()
            else:
                report, gradients = self._receive(shard), self._left[shard]
            if shard == 0:
                sums = gradients
            else:
                torch._foreach_add_(sums, gradients)
            totals = {name: totals.get(name, 0.0) + value for name, value in report.items()}
        for parameter, gradient in zip(self.parameters, sums, strict=True):
            parameter.grad = gradient
        return totals

    def close(self) -> None:
        for process, connection in self._helpers:
            connection.close()
            process.join()
        self._helpers = []

    def _take(self) -> list[Tensor]:
        """The gradients on the parameters, which then have none."""
        taken = []
        for parameter in self.parameters:
            taken.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
            parameter.grad = None
        return taken

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        for number in range(1, self.processes):
            mine, theirs = context.Pipe()
            inherited = [connection for _, connection in self._helpers] + [mine]
            process = context.Process(target=self._help, args=(number, theirs, inherited), daemon=True)
            process.start()
            theirs.close()
            self._helpers.append((process, mine))

    def _help(self, number: int, trainer: Connection, inherited: list[Connection]) -> None:
        """A helper's life: it ends when the trainer closes its end of the pipe, or has died."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the trainer's to handle
        for connection in inherited:
            connection.close()
        try:
            while True:
                step = trainer.recv()
                for shard in range(number, self.shards, self.processes):
                    try:
                        report: Any = self.compute(step, shard)
                        torch._foreach_copy_(self._left[shard], self._take())
                    except Exception as error:  # said by the trainer, whatever it is
                        report = error
                    trainer.send(report)
        except (EOFError, OSError):
            os._exit(0)

    def _send(self, connection: Connection, step: int) -> None:
        try:
            connection.send(step)
        except OSError:
            raise self._lost() from None

    def _receive(self, shard: int) -> dict[str, float]:
        try:
            report = self._helpers[shard % self.processes - 1][1].recv()
        except (EOFError, OSError):
            raise self._lost() from None
        if isinstance(report, Exception):
            raise report
        return report

    def _lost(self) -> HelperError:
        for process, _ in self._helpers:
            process.join(1.0)
        codes = sorted({process.exitcode for process, _ in self._helpers if process.exitcode})
        return HelperError(
            f"a process that computes a part of each batch has ended (exit status {', '.join(map(str, codes))}; -9 may "
            "be a lack of memory); run the same command again, with TRAINYARD_WORKERS=1 if memory is short"
        )


def _shared_like(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of these shapes in memory that forked processes share (not in /dev/shm, which containers keep small),
    each at 64 bytes' alignment, as torch allocates: matrix products may round otherwise at another one.
    """
    starts, size = [], 0
    for tensor in tensors:
        starts.append(size)
        size += -(-tensor.numel() // 16) * 16
    flat = torch.frombuffer(mmap.mmap(-1, 4 * size), dtype=torch.float32)
    return [flat[start : start + tensor.numel()].view_as(tensor) for start, tensor in zip(starts, tensors, strict=True)]
