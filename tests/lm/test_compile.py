import pytest
import torch

from stages.lm import compile as compiling
from stages.lm.build import build_model
from stages.lm.compile import MIN_FLOPS, CompiledModel, compiled, wanted
from stages.lm.loss import next_token_loss
from tests.lm.conftest import shaken, tiny


def test_auto_compiles_long_runs_on_cuda_only() -> None:
    assert wanted("on", "cpu", 1) and not wanted("off", "cuda", 10**6)
    assert wanted("auto", "cuda", MIN_FLOPS) and not wanted("auto", "cuda", MIN_FLOPS / 2)
    assert not wanted("auto", "cpu", 10**6)


def test_a_compiled_model_trains_as_the_eager_one() -> None:
    model = shaken(build_model(tiny(n_layer=1), 0))
    rows = torch.randint(0, 128, (2, 17), generator=torch.Generator().manual_seed(0))
    view = compiled(model, rows[:, :-1])
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


class Broken(CompiledModel):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(model)

        def hidden(*_: object, **__: object) -> torch.Tensor:
            raise RuntimeError("no C++ compiler")

        self.hidden = hidden


def test_without_a_compiler_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "CompiledModel", Broken)
    with pytest.warns(UserWarning, match="goes on without it: no C"):
        assert compiled(build_model(tiny(), 0), torch.zeros((1, 4), dtype=torch.int64)) is None
