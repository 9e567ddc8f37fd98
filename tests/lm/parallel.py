"""One process of a run that several train together: started by tests/lm/test_distributed.py.

Usage: parallel.py <result folder> <case,…> [key=value …]; rank 0 writes rows and weights to <result folder>/<case>.
"""

import functools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from stages.base.errors import TrainyardError
from stages.lm import distributed, transformer
from stages.lm.build import build_model
from stages.lm.checkpoint import save_model, save_optimizer
from stages.lm.compile import compiled
from stages.lm.device import compute_dtype, set_threads
from stages.lm.loop import train
from stages.lm.loss import next_token_loss
from stages.lm.optim import build_optimizer
from stages.lm.rates import Rates, wsd
from tests.lm.conftest import tiny

PAD, ROWS = 0, 7  # an odd number of rows: the last process gets one of padding


def batch(step: int) -> torch.Tensor:
    """Rows that count upwards, with very different amounts of padding."""
    generator = torch.Generator().manual_seed(step)
    rows = 1 + (torch.arange(33)[None] + torch.randint(0, 127, (ROWS, 1), generator=generator)) % 127
    lengths = torch.randint(4, 33, (ROWS, 1), generator=generator)
    return torch.where(torch.arange(33)[None] < lengths, rows, PAD)


CASES = {
    "muon": {"kind": "muon", "arch": "transformer", "tied": False},
    "adamw": {"kind": "adamw", "arch": "transformer", "tied": True},
    "lstm": {"kind": "muon", "arch": "lstm", "tied": False},
}


GATHERED: list[torch.dtype] = []
GRAPHS: list[int] = []  # operations of each graph that was compiled


def counted(graph: torch.fx.GraphModule, _: Any) -> Any:
    GRAPHS.append(len(graph.graph.nodes))
    return graph.forward


def main(folder: Path, case: str, options: dict[str, str]) -> None:
    """Train CASES[case] for 8 steps, saving every options["every"]; at step options["at"] the process of rank 1 sends
    itself options["signal"]. options["graphs"]: compiled, by a compiler that computes eagerly and counts its graphs.
    options["narrow"]: as on CUDA, weights are gathered, and states carried, in bf16.
    """
    facts, every = CASES[case], int(options.get("every", "0"))

    def loss(model: torch.nn.Module, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        if os.environ.get("RANK") == "1" and step == int(options.get("at", "-1")):
            os.kill(os.getpid(), getattr(signal, options["signal"]))
        rows = torch.from_numpy(distributed.share_rows(batch(step).numpy(), PAD))
        return next_token_loss(view or model, rows, rows != PAD, 2)

    set_threads()
    torch.manual_seed(int(os.environ.get("RANK", "0")))
    model = build_model(tiny(facts["arch"], tie_embeddings=facts["tied"]), 0)
    dtype = torch.float32
    if "narrow" in options:
        dtype = torch.bfloat16
        distributed.gathers_narrow = lambda _: True
        transformer.stream_dtype = compute_dtype
        model.layers[0].mlp.register_forward_pre_hook(lambda mlp, _: GATHERED.append(mlp.down_proj.weight.dtype))
    distributed.shard(model, dtype)
    view = None
    if "graphs" in options:
        torch.compile = functools.partial(torch.compile, backend=counted)
        example = torch.zeros((4, 33), dtype=torch.int64)
        view = compiled(model, lambda view: [next_token_loss(view, example, example == PAD, 2)[0]])
        assert view is not None
        GRAPHS.append(-1)  # what follows was not compiled before the first step
    optimizer = build_optimizer(model, Rates.uniform(0.02, 0.01), kind=facts["kind"], weight_decay=0.1)
    result = train(
        model, optimizer, lambda step: wsd(step, 8, 2, 4), loss, 8,
        name="parallel", fingerprint="b" * 16 if every else None, checkpoint_every=every,
        dtype=dtype,
    )  # fmt: skip
    save_model(folder / case, model)
    save_optimizer(folder / case / "optimizer.safetensors", optimizer)
    assert not GATHERED or set(GATHERED) == {torch.bfloat16}
    if distributed.rank() == 0:
        (folder / case / "rows.json").write_text(json.dumps(result.rows))
        (folder / case / "graphs.json").write_text(json.dumps(GRAPHS))


if __name__ == "__main__":
    try:
        with distributed.processes():
            for case in sys.argv[2].split(","):
                main(Path(sys.argv[1]), case, dict(option.split("=") for option in sys.argv[3:]))
    except TrainyardError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
