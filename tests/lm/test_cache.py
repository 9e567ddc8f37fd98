import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.lm.cache import KeyValueCache
from tests.lm.conftest import tiny

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@settings(max_examples=25, deadline=None)
@given(LENGTHS, st.sampled_from([1, 2, 4]), st.integers(1, 3))
def test_attention_over_the_cache_is_softmax_attention_of_each_row_and_head(
    lengths: list[int], kv_heads: int, count: int
) -> None:
    config = tiny(n_kv_head=kv_heads)
    cache = KeyValueCache(config, len(lengths), max(lengths), torch.float32)
    keys, values = (
        random(len(lengths), kv_heads, max(lengths), 8),
        random(len(lengths), kv_heads, max(lengths), 9)[..., 1:],
    )
    cache.prefill(1, keys, values)
    queries = random(len(lengths) * count, 4, 8)
    sees = torch.tensor(lengths)[:, None] - torch.arange(count)
    bias = torch.where(torch.arange(cache.length) < sees.clamp(min=1)[:, :, None], 0.0, float("-inf"))
    mixed = cache.attend(1, queries, bias[:, None, :, None]).view(len(lengths), count, 4, 8)
    for row, turn, head in itertools.product(range(len(lengths)), range(count), range(4)):
        length, group = max(1, lengths[row] - turn), head // (4 // kv_heads)
        weights = torch.softmax(keys[row, group, :length] @ queries[row * count + turn, head], dim=0)
        torch.testing.assert_close(mixed[row, turn, head], weights @ values[row, group, :length])


@settings(max_examples=25, deadline=None)
@given(LENGTHS, st.integers(1, 3))
def test_new_tokens_are_put_at_their_places(positions: list[int], count: int) -> None:
    batch = len(positions)
    cache = KeyValueCache(tiny(), batch, 43, torch.float32)
    keys, values = random(batch * count, 2, 8), random(batch * count, 2, 9)[..., 1:]
    places = torch.tensor(positions)[:, None] + torch.arange(count)
    cache.append(0, keys, values, cache.slots(places))
    for held, given_ in ((cache.keys, keys), (cache.values, values)):
        wanted = torch.zeros_like(held[0])
        for row, turn in itertools.product(range(batch), range(count)):
            wanted[row, :, places[row, turn]] = given_[row * count + turn]
        assert torch.equal(held[0], wanted) and not held[1].any()


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
    chosen = cache.select(torch.tensor([1, 1, 0]))
    assert torch.equal(chosen.keys[0][:, :, :10], keys[[1, 1, 2]])
