"""Muon on several processes: each whole matrix is at one of them while it is orthogonalised (Jordan et al. 2024).

Newton–Schulz needs all rows of a matrix, and one process's worth of it is enough: matrices are dealt over the processes
by size. Under `fsdp` the rows travel to the owner and back, all matrices in one exchange, so that no process ever holds
more than its share of them; under `ddp` every process has the matrices already, and gets the owners' results.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from stages.lm.distributed import rank, rows_of, strategy, world


def deal(shapes: Sequence[torch.Size]) -> list[int]:
    """The owner of each matrix: the largest first, each to whom has least."""
    loads = [0] * world()
    owners = [0] * len(shapes)
    for index in sorted(range(len(shapes)), key=lambda i: (-shapes[i].numel(), i)):
        owners[index] = min(range(len(loads)), key=lambda process: (loads[process], process))
        loads[owners[index]] += shapes[index].numel()
    return owners


def to_owners(parts: list[Tensor], shapes: Sequence[torch.Size]) -> dict[int, Tensor]:
    """Index → whole matrix, of those that this process owns; parts are what each process has of every matrix."""
    owners = deal(shapes)
    mine = [index for index, owner in enumerate(owners) if owner == rank()]
    if strategy() != "fsdp":
        return {index: parts[index] for index in mine}
    outgoing = [[parts[index] for index, owner in enumerate(owners) if owner == process] for process in range(world())]
    counts = [[_count(shapes[index], process) for index in mine] for process in range(world())]
    received = [part.split(sizes) for part, sizes in zip(_exchange(outgoing, counts), counts, strict=True)]
    return {
        index: torch.cat([pieces[place] for pieces in received]).view(shapes[index]) for place, index in enumerate(mine)
    }


def from_owners(matrices: dict[int, Tensor], parts: list[Tensor], shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Undo `to_owners` for the results: this process's part of every matrix. Under `ddp`, `parts` are overwritten."""
    owners = deal(shapes)
    if strategy() == "none":
        return [matrices[index] for index in range(len(shapes))]
    if strategy() == "ddp":
        results = [matrices.get(index, part) for index, part in enumerate(parts)]
        started = [dist.broadcast(result, owner, async_op=True) for result, owner in zip(results, owners, strict=True)]
        for work in started:
            work.wait()  # type: ignore[union-attr]
        return results
    outgoing = [
        [matrix[slice(*rows_of(len(matrix), process))] for _, matrix in sorted(matrices.items())]
        for process in range(world())
    ]
    expected = [[i for i, owner in enumerate(owners) if owner == process] for process in range(world())]
    counts = [[_count(shapes[index], rank()) for index in indices] for indices in expected]
    results = list(parts)
    for indices, received, sizes in zip(expected, _exchange(outgoing, counts), counts, strict=True):
        for index, piece in zip(indices, received.split(sizes), strict=True):
            results[index] = piece.view_as(parts[index])
    return results


def _count(shape: torch.Size, process: int) -> int:
    """Numbers of a matrix that a process holds."""
    start, stop = rows_of(shape[0], process)
    return (stop - start) * shape[1]


def _exchange(outgoing: list[list[Tensor]], counts: list[list[int]]) -> tuple[Tensor, ...]:
    """Send outgoing[p] to process p, flat; receive sum(counts[p]) numbers from it."""
    sizes = [sum(numbers) for numbers in counts]
    sent = [sum(piece.numel() for piece in pieces) for pieces in outgoing]
    flat = torch.cat([piece.reshape(-1) for pieces in outgoing for piece in pieces])
    received = flat.new_empty(sum(sizes))
    dist.all_to_all_single(received, flat, sizes, sent)
    return received.split(sizes)
