import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.lm.cache import KeyValueCache
from tests.lm.conftest import tiny

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@settings(max_examples=25, deadline=None)
@given(LENGTHS, st.sampled_from([1, 2, 4]))
def test_attention_over_the_cache_is_softmax_attention_of_each_row_and_head(lengths: list[int], kv_heads: int) -> None:
    config = tiny(n_kv_head=kv_heads)
    cache = KeyValueCache(config, len(lengths), max(lengths), torch.float32)
    keys, values = (
        random(len(lengths), kv_heads, max(lengths), 8),
        random(len(lengths), kv_heads, max(lengths), 9)[..., 1:],
    )
    cache.prefill(1, keys, values)
    queries = random(len(lengths), 4, 8)
    columns = torch.arange(cache.length)
    bias = torch.where(columns < torch.tensor(lengths)[:, None, None], 0.0, float("-inf"))
    mixed = cache.attend(1, queries, bias).view(len(lengths), 4, 8)
    for row, length in enumerate(lengths):
        for head in range(4):
            group = head // (4 // kv_heads)
            weights = torch.softmax(keys[row, group, :length] @ queries[row, head], dim=0)
            torch.testing.assert_close(mixed[row, head], weights @ values[row, group, :length])


@settings(max_examples=25, deadline=None)
@given(LENGTHS)
def test_a_token_a_row_is_put_where_a_chunk_would_be(positions: list[int]) -> None:
    config, batch = tiny(), len(positions)
    one, other = (KeyValueCache(config, batch, 41, torch.float32) for _ in range(2))
    keys, values, places = random(batch, 2, 8), random(batch, 2, 9)[..., 1:], torch.tensor(positions)
    one.append(0, keys, values, one.slots(places))
    other.insert(0, keys[:, :, None], values[:, :, None], places[:, None], 41)
    for got, wanted in ((one.keys, other.keys), (one.values, other.values)):
        assert torch.equal(got[0], wanted[0]) and not got[1].any()


def test_growing_and_moving_keep_what_rows_hold() -> None:
    cache = KeyValueCache(tiny(), 3, 10, torch.float32)
    assert cache.length == cache.span == 32  # 2 query heads of size 8 by 32 columns are no fewer than 400
    keys, values = random(3, 2, 10, 8), random(3, 2, 10, 8) + 1
    for layer in range(2):
        cache.prefill(layer, keys + layer, values + layer)
    cache.move(torch.tensor([2]), torch.tensor([0]))
    cache.grow(2, 33)
    assert cache.length == 64
    for layer in range(2):
        assert torch.equal(cache.keys[layer][:, :, :10], keys[[2, 1]] + layer)
        assert torch.equal(cache.values[layer][:, :, :10], values[[2, 1]] + layer)
        assert not cache.keys[layer][:, :, 32:].any() and not cache.values[layer][:, :, 32:].any()
    cache.select(torch.tensor([1, 1, 0]))
    assert torch.equal(cache.keys[0][:, :, :10], keys[[1, 1, 2]])
