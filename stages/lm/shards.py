"""The gradient of a batch as the sum, in a fixed order, of those of its shards: the same bits by any processes.

Sums of floating-point numbers depend on their order. So a batch is cut into a number of shards that params set,
whatever computes them; each is computed in one thread, and they are added one after another. On a CPU forked helpers
compute some at the same time: they read the weights, and leave gradients, in memory that they share with the trainer.
"""

import mmap
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

import torch
from torch import Tensor

from stages.base.workers import Child, can_fork
from stages.lm.device import device

# (step, shard) → numbers to add up over shards; leaves the shard's gradients on the parameters.
Compute = Callable[[int, int], dict[str, float]]


def possible_processes(wanted: int) -> int:
    return wanted if device().type == "cpu" and can_fork() else 1


class ShardedGradient:
    """Call it with a step: the gradients of all shards are summed on the parameters.

    parameters: fp32, all of one model. With processes > 1 their memory is moved to where helpers see it; change them in
    place only, and `close` when done. Raises what a helper fails with, and ResourceError where one has died.
    """

    def __init__(self, parameters: Sequence[Tensor], compute: Compute, shards: int, processes: int) -> None:
        self.parameters, self.compute, self.shards = parameters, compute, shards
        self.processes = min(processes, shards)
        self._left: dict[int, list[Tensor]] = {}  # gradients of the shards that helpers compute
        self._helpers: list[Child] = []
        if self.processes > 1:
            for parameter, shared in zip(parameters, _shared_like(parameters), strict=True):
                parameter.data = shared.copy_(parameter.data)
            helped = [shard for shard in range(shards) if shard % self.processes]
            self._left = {shard: _shared_like(parameters) for shard in helped}
        for number in range(1, self.processes):
            name = "a process that computes a part of each batch"
            self._helpers.append(Child(name, self._help, number, fork=True, siblings=self._helpers))

    def __call__(self, step: int) -> dict[str, float]:
        for helper in self._helpers:
            helper.send(step)
        totals: dict[str, float] = {}
        sums: list[Tensor] = []
        for shard in range(self.shards):
            number = shard % self.processes
            if number == 0:
                report, gradients = self.compute(step, shard), self._take()
            else:
                report, gradients = self._helpers[number - 1].receive(), self._left[shard]
            if shard == 0:
                sums = gradients
            else:
                torch._foreach_add_(sums, gradients)
            totals = {name: totals.get(name, 0.0) + value for name, value in report.items()}
        for parameter, gradient in zip(self.parameters, sums, strict=True):
            parameter.grad = gradient
        return totals

    def close(self) -> None:
        for helper in self._helpers:
            helper.close()
        self._helpers = []

    def _take(self) -> list[Tensor]:
        """The gradients on the parameters, which then have none."""
        taken = []
        for parameter in self.parameters:
            taken.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
            parameter.grad = None
        return taken

    def _help(self, trainer: Connection, number: int) -> None:
        while True:
            step = trainer.recv()
            for shard in range(number, self.shards, self.processes):
                report = self.compute(step, shard)
                torch._foreach_copy_(self._left[shard], self._take())
                trainer.send(report)


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
