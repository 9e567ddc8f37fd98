"""Several processes that train one model: which rows are whose, and the few collectives that the trainer needs.

`torchrun` starts the processes; `TRAINYARD_PARALLEL` says what they share. `ddp`: every process holds the whole model
and gradients are averaged while the backward pass runs (Li et al. 2020). `fsdp`: every process holds its rows of every
matrix, and gathers a block when it computes it (FSDP2; Zhao et al. 2023). In one process all of this is the identity.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from stages.base.errors import ParamError, TrainyardError
from stages.base.workers import die_with_parent, process_count
from stages.lm.device import device

STRATEGIES = ("ddp", "fsdp")
LOST = re.compile(r"gloo|nccl|connection|timed? ?out|peer|socket|broken pipe", re.IGNORECASE)


class PeerError(TrainyardError):
    """Another process of this training run has died, hangs, or trains something else."""


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def strategy() -> str:
    """`ddp` or `fsdp`, from TRAINYARD_PARALLEL; `none` in one process."""
    chosen = os.environ.get("TRAINYARD_PARALLEL", "ddp")
    if chosen not in STRATEGIES:
        raise ParamError(f"TRAINYARD_PARALLEL is {chosen!r}; use one of {', '.join(STRATEGIES)}")
    return chosen if world() > 1 else "none"


def environment() -> dict[str, Any]:
    """What of this a result depends on: sums over processes round otherwise than sums in one."""
    return {"processes": world(), "parallel": strategy()}


def launch(module: str) -> None:
    """With TRAINYARD_PROCESSES above 1, become torchrun with that many processes of `module` on this machine."""
    count = os.environ.get("TRAINYARD_PROCESSES", "1")
    if not count.isdigit() or int(count) < 1:
        raise ParamError(f"environment variable TRAINYARD_PROCESSES must be a positive integer, got {count!r}")
    if int(count) > 1 and "WORLD_SIZE" not in os.environ:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count]
        os.execv(sys.executable, [*torchrun, "-m", module, *sys.argv[1:]])


@contextmanager
def processes() -> Iterator[None]:
    """Join the other processes that torchrun has started (gloo on CPUs, NCCL on CUDA); alone, do nothing.

    A collective that waits longer than TRAINYARD_PEER_TIMEOUT seconds (600) for a peer fails as PeerError. They end
    with the torchrun that started them, however that ends (on Linux).
    """
    if process_count() == 1:
        yield
        return
    die_with_parent()
    seconds = os.environ.get("TRAINYARD_PEER_TIMEOUT", "600")
    if not seconds.isdigit() or int(seconds) < 1:
        raise ParamError(f"TRAINYARD_PEER_TIMEOUT must be a whole number of seconds, got {seconds!r}")
    on_cuda = device().type == "cuda"
    if on_cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    with peer_errors("starting"):
        dist.init_process_group("nccl" if on_cuda else "gloo", timeout=timedelta(seconds=int(seconds)))
    try:
        strategy()
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def peer_errors(name: str) -> Iterator[None]:
    """Turn the failure of a collective into a PeerError, one line that says what to do."""
    try:
        yield
    except RuntimeError as error:
        if process_count() == 1 or not LOST.search(str(error)):
            raise
        reason = " ".join(str(error).split())[:160]
        raise PeerError(
            f"{name}: process {rank()} of {process_count()} lost another one ({reason}); read what that one said, then "
            "run the same command again: it goes on from the last checkpoint"
        ) from error


def total(value: float) -> float:
    """The sum over processes."""
    if world() == 1:
        return value
    number = torch.tensor(value, dtype=torch.float64, device=device())
    dist.all_reduce(number)
    return float(number)


def mean(value: float) -> float:
    """The mean over processes."""
    return total(value) / world()


def every(value: Any) -> list[Any]:
    """The (small, picklable) value of each process, by rank."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def require_same(what: str, value: Any) -> None:
    """Raises PeerError if processes differ in `value`: they would train something that is no run at all."""
    values = every(value)
    if any(other != values[0] for other in values):
        raise PeerError(
            f"the processes differ in {what}: {values}; they need the same params, code, machine, data/ and "
            ".trainyard/ (a shared file system)"
        )


def share_rows(rows: np.ndarray, pad_id: int) -> np.ndarray:
    """This process's rows of a batch [B, T]: every world-th, so that the batch is the same at any number of processes.

    All get ⌈B / world⌉ rows, as FSDP's collectives must meet; rows of padding, which count for nothing, fill the rest.
    """
    count = world()
    mine = rows[rank() :: count]
    missing = -(-len(rows) // count) - len(mine)
    return np.concatenate([mine, np.full((missing, rows.shape[1]), pad_id, rows.dtype)]) if missing else mine


def gathers_narrow(dtype: torch.dtype) -> bool:
    """Whether FSDP gathers weights in the dtype of matrix products: on CUDA, half the bytes of fp32 through the links
    and in memory. On a CPU autocast casts what was gathered."""
    return dtype != torch.float32 and device().type == "cuda"


def shard(model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Under `fsdp`, leave each process its rows of every parameter, in place; build the optimizer after it.

    dtype: of matrix products (`gathers_narrow`); gradients are summed, and weights kept, in fp32 whatever it is.
    """
    if strategy() != "fsdp":
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    policy = MixedPrecisionPolicy()
    if gathers_narrow(dtype):
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    mesh = init_device_mesh(device().type, (world(),))
    splits = {name: vars(value)["splits"] for name, value in model.named_parameters() if "splits" in vars(value)}
    for block in getattr(model, "layers", ()):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(model, "hidden")
    for name, value in model.named_parameters():  # new objects
        if name in splits:
            value.splits = splits[name]  # type: ignore[attr-defined]


class _Call(nn.Module):
    """DistributedDataParallel watches forward(); here that is whatever a loss function does with the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[Any, int], Any], step: int) -> Any:
        return function(self.model, step)


def caller(model: nn.Module) -> Callable[[Callable[[Any, int], Any], int], Any]:
    """call(function, step) = function(model, step); under `ddp`, the backward pass of what it returns averages
    gradients over the processes. What the function backpropagates itself (micro-batches) stays local until then.
    """
    if strategy() == "ddp":
        return nn.parallel.DistributedDataParallel(
            _Call(model), forward_sync_buffers=False, gradient_as_bucket_view=True
        )
    return lambda function, step: function(model, step)


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a parameter, a gradient or an optimizer's buffer: all of it, or its rows."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a parameter or buffer; a collective under `fsdp`."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def assign(target: Tensor, full: Tensor) -> None:
    """Put this process's rows of `full` into `target`."""
    if hasattr(target, "to_local"):
        start, stop = rows_of(full.shape[0], rank())
        full = full[start:stop]
    local(target).copy_(full)


def rows_of(count: int, process: int) -> tuple[int, int]:
    """First and last + 1 of the rows that FSDP leaves with a process: chunks of ⌈count / world⌉, the last ones short
    or empty.
    """
    chunk = -(-count // world())
    return min(process * chunk, count), min((process + 1) * chunk, count)
