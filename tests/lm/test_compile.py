import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.lm import compile as compiling
from stages.lm.build import build_model
from stages.lm.compile import MIN_FLOPS, CompiledModel, compiled, wanted
from stages.lm.loss import next_token_loss
from stages.lm.packed_training import Batches, PackedTraining
from tests.lm.conftest import shaken, tiny
from tests.lm.test_packed_training import recipe


def example(view: CompiledModel) -> list[torch.Tensor]:
    return [next_token_loss(view, torch.zeros((1, 9), dtype=torch.int64), None)[0]]


def test_auto_compiles_long_runs_on_cuda_only() -> None:
    assert wanted("on", "cpu", 1) and not wanted("off", "cuda", 10**6)
    assert wanted("auto", "cuda", MIN_FLOPS) and not wanted("auto", "cuda", MIN_FLOPS / 2)
    assert not wanted("auto", "cpu", 10**6)


def test_a_compiled_model_trains_as_the_eager_one() -> None:
    model = shaken(build_model(tiny(n_layer=1), 0))
    rows = torch.randint(0, 128, (2, 17), generator=torch.Generator().manual_seed(0))
    view = compiled(model, lambda view: [next_token_loss(view, rows, None)[0]])
    if view is None:
        pytest.skip("no compiler on this machine")
    assert all(parameter.grad is None for parameter in model.parameters())
    gradients = []
    for contender in (model, view):
        model.zero_grad()
        loss, _ = next_token_loss(contender, rows, None)
        loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for eager, fused in zip(*gradients, strict=True):
        torch.testing.assert_close(fused, eager, atol=1e-4, rtol=1e-3)


def count_graphs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Operations of each graph that torch.compile is given from now on; they are computed eagerly."""
    graphs: list[int] = []

    def counted(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counted))
    return graphs


@pytest.mark.parametrize(("micro_rows", "sizes"), [(2, 2), (5, 1), (16, 1)])  # of 5 rows: 2 and the last 1; all
@pytest.mark.parametrize("document_mask", [False, True])
def test_nothing_is_compiled_after_the_first_step_began(
    micro_rows: int, sizes: int, document_mask: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    graphs = count_graphs(monkeypatch)
    changed = recipe(compile="on", document_mask=document_mask, micro_rows=micro_rows, precision="bf16")
    batches = Batches(lambda step: np.random.default_rng(step).integers(1, 128, (5, 33)), 5, 32, 0, 1)
    with PackedTraining(build_model(tiny(n_layer=3), 0), changed, batches, 4, silent=True) as training:
        before = len(graphs)
        training.train(lambda step: 1.0, 4, name="counted", facts={})
    assert len(graphs) == before == 2 * sizes  # the blocks', however many there are, and the cross-entropy's
    assert torch._dynamo.utils.counters["unimplemented"] == torch._dynamo.utils.counters["graph_break"] == {}


def test_the_model_itself_stays_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = count_graphs(monkeypatch)
    model = build_model(tiny(n_layer=2), 0)
    view = compiled(model, example)
    count = len(graphs)
    for length in (4, 5, 6):
        model.hidden(torch.zeros((1, length), dtype=torch.int64))
    assert len(graphs) == count and view is not None and all(parameter.grad is None for parameter in model.parameters())


class Broken(CompiledModel):
    def hidden(self, *_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("no C++ compiler")


def test_without_a_compiler_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "CompiledModel", Broken)
    with pytest.warns(UserWarning, match="goes on without it: no C"):
        assert compiled(build_model(tiny(), 0), example) is None
