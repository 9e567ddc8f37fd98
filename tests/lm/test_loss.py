import pytest
import torch
import torch.nn.functional as F

from stages.lm.build import build_model
from stages.lm.loss import chunk_kernel, linear_cross_entropy, linear_logprobs, next_token_loss
from stages.lm.scoring import completion_logprobs
from tests.lm.conftest import shaken, tiny


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
@pytest.mark.parametrize("weighted", [False, True])
def test_linear_cross_entropy_equals_the_naive_one(chunk: int, weighted: bool) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(50, 16, requires_grad=True), torch.randn(96, 16, requires_grad=True)
    targets = torch.randint(0, 96, (50,))
    weights = torch.rand(50) * (torch.rand(50) > 0.3) if weighted else None
    losses = F.cross_entropy(hidden @ weight.T, targets, reduction="none")
    expected = (losses if weights is None else losses * weights).sum() * 3
    expected_grads = torch.autograd.grad(expected, (hidden, weight))
    got = linear_cross_entropy(hidden, weight, targets, weights, chunk) * 3
    torch.testing.assert_close(got, expected)
    for mine, theirs in zip(torch.autograd.grad(got, (hidden, weight)), expected_grads, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_no_gradient_is_computed_when_none_is_wanted() -> None:
    weight = torch.randn(96, 16, requires_grad=True)
    with torch.no_grad():
        assert not linear_cross_entropy(torch.randn(5, 16), weight, torch.arange(5)).requires_grad


@pytest.mark.parametrize("chunk", [3, 1000])
def test_linear_logprobs_equal_the_naive_ones(chunk: int) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(20, 8, requires_grad=True), torch.randn(64, 8, requires_grad=True)
    targets, upstream = torch.randint(0, 64, (20,)), torch.randn(20)
    expected = (hidden @ weight.T).log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    got = linear_logprobs(hidden, weight, targets, chunk)
    torch.testing.assert_close(got, expected)
    grads = torch.autograd.grad(expected, (hidden, weight), upstream)
    for mine, theirs in zip(torch.autograd.grad(got, (hidden, weight), upstream), grads, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("micro", [1, 3, 8])
def test_accumulated_gradients_are_those_of_the_big_batch(micro: int) -> None:
    torch.manual_seed(0)
    rows, mask = torch.randint(0, 128, (8, 17)), torch.rand(8, 17) > 0.2
    gradients, losses = [], []
    for size in (None, micro):
        model = shaken(build_model(tiny(), 0))
        loss, report = next_token_loss(model, rows, mask, size)
        loss.backward()
        gradients.append([p.grad for p in model.parameters()])
        losses.append(report["loss"])
    assert abs(losses[0] - losses[1]) < 1e-6
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, parts, atol=1e-6, rtol=1e-3)


def test_completion_logprobs_count_only_the_marked_tokens() -> None:
    model = shaken(build_model(tiny(), 0))
    ids = torch.randint(0, 128, (3, 10))
    mask = torch.zeros(3, 10, dtype=torch.bool)
    mask[0, 4:7], mask[1, 1:] = True, True
    table = model(ids).log_softmax(-1)
    expected = [
        sum(table[row, t - 1, ids[row, t]] for t in range(1, 10) if mask[row, t]) + torch.zeros(()) for row in range(3)
    ]
    got = completion_logprobs(model, ids, mask)
    torch.testing.assert_close(got, torch.stack(expected), atol=1e-4, rtol=1e-4)
    got[0].backward()
    assert model.embed_tokens.weight.grad is not None


@pytest.mark.parametrize("chunk", [7, 1000])
def test_z_loss_equals_autograd_s(chunk: int) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(20, 8, requires_grad=True), torch.randn(64, 8, requires_grad=True)
    targets, weights = torch.randint(0, 64, (20,)), torch.rand(20)
    logits = hidden @ weight.T
    losses = F.cross_entropy(logits, targets, reduction="none") + 0.3 * logits.logsumexp(dim=1).square()
    expected = torch.autograd.grad((losses * weights).sum(), (hidden, weight))
    got = linear_cross_entropy(hidden, weight, targets, weights, chunk, z_loss=0.3)
    torch.testing.assert_close(got, (losses * weights).sum())
    for mine, theirs in zip(torch.autograd.grad(got, (hidden, weight)), expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_the_kernel_that_is_compiled_computes_the_same(z_loss: float) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(130, 8, generator=generator), torch.randn(64, 8, generator=generator) * 3
    targets, weights = torch.randint(0, 64, (130,), generator=generator), torch.rand(130, generator=generator)
    results = []
    for kernel in (None, chunk_kernel):
        parts = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
        loss = linear_cross_entropy(parts[0], parts[1], targets, weights, chunk=50, z_loss=z_loss, kernel=kernel)
        results.append([loss, *torch.autograd.grad(loss, parts)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
