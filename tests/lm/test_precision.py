import copy

import pytest
import torch

from stages.lm import device, transformer
from stages.lm.build import build_model
from stages.lm.device import autocast, compute_dtype, multiplies_bf16, training_dtype
from stages.lm.loop import TrainResult, train
from stages.lm.loss import Kernel, chunk_kernel, linear_cross_entropy, next_token_loss
from stages.lm.optim import build_optimizer, orthogonalise
from tests.lm.conftest import shaken, tiny


@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
@pytest.mark.parametrize("kernel", [None, chunk_kernel])
def test_cross_entropy_in_bf16_is_that_of_the_rounded_inputs(z_loss: float, kernel: Kernel | None) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(700, 32, generator=generator).requires_grad_()
    weight = torch.randn(128, 32, generator=generator).requires_grad_()
    targets = torch.randint(0, 128, (700,), generator=generator)
    with autocast(torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, targets, z_loss=z_loss, kernel=kernel)
    found = torch.autograd.grad(loss, (hidden, weight))
    rounded = [part.bfloat16().double().detach().requires_grad_() for part in (hidden, weight)]
    logits = rounded[0] @ rounded[1].T
    naive = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    naive = naive + z_loss * logits.logsumexp(dim=1).square().sum()
    wanted = torch.autograd.grad(naive, rounded)
    assert loss.item() == pytest.approx(naive.item(), rel=2e-3)
    for got, want in zip(found, wanted, strict=True):
        assert got.dtype == torch.float32
        assert (got - want).norm() < 0.02 * want.norm()


def run(dtype: torch.dtype, steps: int, first: int = 0, model: torch.nn.Module | None = None) -> TrainResult:
    model = model or build_model(tiny(), 0)
    rows = torch.randint(0, 128, (4, 49), generator=torch.Generator().manual_seed(1))
    optimizer = build_optimizer(model, 0.01)
    result = train(
        model, optimizer, lambda step: 1.0, lambda module, step: next_token_loss(module, rows, None, 2), steps,
        name="precision", dtype=dtype,
    )  # fmt: skip
    for group in optimizer.param_groups:
        assert all(parameter.dtype == torch.float32 for parameter in group["params"])
        assert all(v.dtype != torch.bfloat16 for p in group["params"] for v in optimizer.state[p].values())
    return result


def test_training_in_bf16_follows_fp32_and_repeats_bitwise(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # type: ignore[arg-type]
    full, half, again = (run(dtype, 30) for dtype in (torch.float32, torch.bfloat16, torch.bfloat16))
    assert half.rows == again.rows
    assert half.rows != full.rows
    assert full.rows[-1]["loss"] < 0.5 * full.rows[0]["loss"]
    for one, other in zip(full.rows, half.rows, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.05)


def flat_gradient(model: torch.nn.Module, rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    model.zero_grad()
    with autocast(dtype):
        next_token_loss(model, rows, None)[0].backward()
    assert all(parameter.grad.dtype == parameter.dtype for parameter in model.parameters())
    return torch.cat([parameter.grad.double().flatten() for parameter in model.parameters()])


def test_a_stream_in_bf16_errs_no_more_than_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CUDA: states go from block to block in bf16, and autocast is off inside the model."""
    model = shaken(build_model(tiny(n_layer=4), 0))
    rows = torch.randint(0, 128, (4, 49), generator=torch.Generator().manual_seed(1))
    exact = flat_gradient(copy.deepcopy(model).double(), rows, torch.float64)
    cast = flat_gradient(model, rows, torch.bfloat16)
    monkeypatch.setattr(transformer, "stream_dtype", compute_dtype)
    with autocast(torch.bfloat16):
        hidden = model.hidden(rows[:, :-1])
    assert hidden.dtype == torch.bfloat16
    streamed = flat_gradient(model, rows, torch.bfloat16)
    assert 0 < (streamed - exact).norm() < 1.5 * (cast - exact).norm() < 0.1 * exact.norm()
    assert torch.equal(flat_gradient(model, rows, torch.float32), flat_gradient(model, rows, torch.float32))


def test_newton_schulz_computes_as_training_does() -> None:
    matrix = torch.randn(3, 24, 16, generator=torch.Generator().manual_seed(0))
    exact = orthogonalise(matrix)
    with autocast(torch.bfloat16):
        rough = orthogonalise(matrix)
    assert rough.dtype == torch.float32 and not torch.equal(rough, exact)
    values = torch.linalg.svdvals(rough)
    assert values.min() > 0.6 and values.max() < 1.3


def test_the_policy_is_by_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_DEVICE", "cpu")
    for able in (True, False):
        monkeypatch.setattr(device, "multiplies_bf16", lambda able=able: able)
        assert training_dtype("auto") == (torch.bfloat16 if able else torch.float32)
        assert training_dtype("bf16") == torch.bfloat16
        assert training_dtype("fp32") == torch.float32


def test_what_is_measured_on_a_cpu_is_fp32_and_the_hardware_is_in_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_DEVICE", "cpu")
    with autocast():
        assert not torch.is_autocast_enabled("cpu")
    assert device.environment()["bf16"] == multiplies_bf16()
