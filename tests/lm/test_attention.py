import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.lm import attention
from stages.lm.attention import causal_attention

Heads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def heads(batch: int, query: int, kv: int, length: int, size: int, dtype: torch.dtype = torch.float64) -> Heads:
    generator = torch.Generator().manual_seed(length)
    shapes = [(batch, length, count, size) for count in (query, kv, kv)]
    queries, keys, values = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return tuple(part.to(dtype).transpose(1, 2).requires_grad_() for part in (queries, keys, values))  # type: ignore[return-value]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 2), st.integers(1, 200), st.sampled_from([2, 6]))
def test_outputs_and_gradients_are_those_of_softmax_attention(
    batch: int, kv: int, groups: int, length: int, size: int
) -> None:
    parts = heads(batch, kv * groups, kv, length, size)
    upstream = torch.randn(batch, kv * groups, length, size, dtype=torch.float64)
    results = []
    for attend in (causal_attention, _naive):
        mixed = attend(*parts)
        results.append([mixed, *torch.autograd.grad(mixed, parts, upstream)])
    for ours, naive in zip(*results, strict=True):
        torch.testing.assert_close(ours, naive, rtol=1e-9, atol=1e-9)


def _naive(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    groups, length = queries.shape[1] // keys.shape[1], queries.shape[2]
    keys, values = keys.repeat_interleave(groups, dim=1), values.repeat_interleave(groups, dim=1)
    scores = queries @ keys.mT / queries.shape[-1] ** 0.5
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, float("-inf")).softmax(dim=-1) @ values


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_as_exact_as_torchs_own(dtype: torch.dtype) -> None:
    parts, exact = heads(2, 4, 4, 150, 16, dtype), heads(2, 4, 4, 150, 16)
    upstream = torch.randn(2, 4, 150, 16, generator=torch.Generator().manual_seed(0))
    wanted = torch.autograd.grad(_naive(*exact), exact, upstream.double())

    def worst(mixed: torch.Tensor) -> float:
        found = torch.autograd.grad(mixed, parts, upstream.to(dtype))
        return max((got - want).abs().max().item() for got, want in zip(found, wanted, strict=True))

    own = worst(F.scaled_dot_product_attention(*parts, is_causal=True))
    assert worst(causal_attention(*parts)) < 3 * own


def test_rows_too_long_to_keep_their_weights_and_inference_use_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = heads(1, 2, 2, 80, 4)
    blocks = causal_attention(*parts)
    assert type(blocks.grad_fn).__name__ == "ViewBackward0"
    with torch.no_grad():
        torch.testing.assert_close(causal_attention(*parts), blocks)
    monkeypatch.setattr(attention, "LONGEST", 79)
    assert "ScaledDotProduct" in type(causal_attention(*parts).grad_fn).__name__
