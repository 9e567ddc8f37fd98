"""torch.compile for training, with a way back.

Compiled kernels round otherwise than eager ones, so whether a run is compiled belongs to its identity: it is settled,
by `compiled`, before the fingerprint is made.
"""

import contextlib
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from stages.lm.build import LanguageModel
from stages.lm.device import autocast
from stages.lm.loss import Kernel, chunk_kernel

MIN_FLOPS = 1e17  # minutes on one H100: a shorter run doesn't win back the minute or more that compiling takes
TIMEOUT = 600.0  # seconds


class CompiledModel:
    """What a loss function needs of a model, `hidden`, `head_weight` and cross-entropy's kernel, with its blocks
    compiled.

    Block by block: all blocks share one graph, so a deep model compiles as fast as a shallow one, and what DDP and FSDP
    do between blocks (reducing gradients, gathering weights) stays there. The model itself, which is measured and
    generates in other shapes, computes eagerly as before.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        # A shape of its own for every kernel: the last, smaller micro-batch of a step compiles once more.
        self._forwards = [
            (block, torch.compile(block.forward, dynamic=False, fullgraph=True))
            for block in getattr(model, "layers", ())
        ]
        self.chunk_kernel: Kernel = torch.compile(chunk_kernel, dynamic=False)

    def hidden(self, *arguments: Any, **options: Any) -> Tensor:
        for block, forward in self._forwards:
            block.forward = forward
        try:
            return self.model.hidden(*arguments, **options)
        finally:
            for block, _ in self._forwards:
                del block.forward

    @property
    def head_weight(self) -> Tensor:
        return self.model.head_weight


def wanted(choice: str, device: str, flops: float) -> bool:
    """`choice` is on, off or auto. Auto, a pure function of its arguments: on CUDA, where a run has `MIN_FLOPS`.

    Not on a CPU, where most of a step is in matrix products that compiling leaves as they are: it won 3 % and cost a
    minute (`bench/pretraining/training.py`).
    """
    return choice == "on" or (choice == "auto" and device == "cuda" and flops >= MIN_FLOPS)


def compiled(
    model: LanguageModel,
    losses: Callable[[CompiledModel], Iterable[Tensor]],
    dtype: torch.dtype | None = None,
    timeout: float = TIMEOUT,
) -> CompiledModel | None:
    """The model with its forward and backward pass compiled for what `losses` computes with it: examples of all that a
    step computes, in its shapes and as they stand in memory. Matrix products are in `dtype`, as `train` takes it.

    None, with a warning that says why, where there is no compiler, or it fails or takes longer than `timeout` seconds.
    Of a model without gradients, and leaves none.
    """
    candidate = CompiledModel(model)
    try:
        with _limited(timeout), autocast(dtype):
            for loss in losses(candidate):
                loss.backward()  # under FSDP gradients reach the sharded weights by this way only
    except Exception as error:  # torch names no common base of what a compiler can fail with
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        warnings.warn(f"torch.compile failed, training goes on without it: {reason}", stacklevel=2)
        torch.compiler.reset()
        return None
    finally:
        model.zero_grad(set_to_none=True)
    return candidate


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the main thread after so many seconds; elsewhere no signal can be caught."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"not done within {seconds:g} s")

    try:
        before = signal.signal(signal.SIGALRM, stop)
    except ValueError:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
