"""Adapters: nothing before the first step, the merged model the same, and the gradients of the thin matrices."""

import pytest
import torch

from stages.base.errors import ParamError
from stages.lm.generate import generate
from stages.lm.lora import LoraLinear, adapt, merge
from tests.lm.test_layout import small

TOKENS = torch.randint(0, 64, (2, 20), generator=torch.Generator().manual_seed(1))


def learned(model: torch.nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_merged_is_unmerged() -> None:
    model, plain = small("transformer"), small("transformer")
    names, before = dict(model.named_parameters()).keys(), model(TOKENS)
    adapt(model, rank=3, alpha=6.0, seed=5)
    assert torch.equal(model(TOKENS), before), "an adapter begins as nothing"
    assert all(name.endswith(("down", "up")) for name in learned(model)) and len(learned(model)) == 2 * 4 * 2
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
    for _ in range(3):
        model(TOKENS).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted = model(TOKENS).detach()
    answers = generate(model, [[1, 2, 3], [4]], max_new_tokens=6, temperature=0.0, top_p=1.0, seed=0, stop_ids=[])
    assert (adapted - before).abs().max() > 0.01
    merge(model)
    torch.testing.assert_close(model(TOKENS), adapted, rtol=1e-4, atol=1e-5)
    assert (
        generate(model, [[1, 2, 3], [4]], max_new_tokens=6, temperature=0.0, top_p=1.0, seed=0, stop_ids=[]) == answers
    )
    assert dict(model.named_parameters()).keys() == names and len(learned(model)) == len(names)
    whole, frozen = dict(model.named_parameters()), dict(plain.named_parameters())
    changed = {name for name in names if not torch.equal(whole[name], frozen[name])}
    assert changed == {name for name in names if "proj" in name}
    assert whole["layers.0.self_attn.qkv_proj.weight"].splits == (32, 16, 16)


def test_gradients_against_the_dense_matrix() -> None:
    """dA = scale · Bᵀ dW and dB = scale · dW Aᵀ, with dW the gradient of the merged matrix."""
    generator = torch.Generator().manual_seed(0)
    linear = torch.nn.Linear(7, 5)
    adapter = LoraLinear(linear, 2, 4.0, generator)
    torch.nn.init.normal_(adapter.up, generator=generator)
    x, weights = torch.randn(11, 7, generator=generator), torch.randn(11, 5, generator=generator)
    dense = adapter.weight.detach().requires_grad_()
    (torch.nn.functional.linear(x, dense, linear.bias) * weights).sum().backward()
    (adapter(x) * weights).sum().backward()
    assert dense.grad is not None and adapter.down.grad is not None and adapter.up.grad is not None
    torch.testing.assert_close(adapter.down.grad, 2.0 * adapter.up.detach().T @ dense.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(adapter.up.grad, 2.0 * dense.grad @ adapter.down.detach().T, rtol=1e-4, atol=1e-5)


def test_an_lstm_has_none() -> None:
    with pytest.raises(ParamError, match="lora: null"):
        adapt(small("lstm"), 2, 4.0, 0)
