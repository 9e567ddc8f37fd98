"""Scores of continuations, read behind shared beginnings, beside whole sequences through the model one by one."""

import numpy as np
import pytest
import torch

from stages.base.errors import InputError
from stages.lm import prefixes, tree_reader
from stages.lm.build import LanguageModel, build_model
from stages.lm.incremental import IncrementalDecoder
from stages.lm.prefixes import Pairs
from stages.lm.scoring import continuation_logprobs
from stages.lm.tree_reader import TreeReader
from tests.lm.conftest import shaken, tiny

MODELS = {
    "grouped": tiny(),
    "one key head, tied": tiny(n_kv_head=1, tie_embeddings=True),
    "no QK-norm, a layer without positions": tiny(n_kv_head=4, qk_norm=False, unrotated=[1]),
    "one layer, odd vocabulary": tiny(n_layer=1, vocab_size=139),
    "lstm": tiny("lstm"),
}


def pairs_of(seed: int) -> Pairs:
    """Two subjects with a long common beginning, letters and texts; a context that another one begins with; a long
    text; one pair twice."""
    rng = np.random.default_rng(seed)

    def some(low: int, high: int | None = None) -> np.ndarray:
        return rng.integers(1, 128, low if high is None else rng.integers(low, high)).astype(np.int32)

    found = []
    for subject in (some(20), some(9)):
        for number in range(7):
            context = np.concatenate((subject, some(3, 12)))
            size = 1 if number % 2 else 5
            found += [(context, some(1, size + 1)) for _ in range(4)]
        found.append((subject, some(3)))
    return [*found, (some(1), some(48)), (some(40), some(2)), found[0]]


def one_by_one(model: LanguageModel, pairs: Pairs) -> list[tuple[list[float], bool]]:
    out = []
    for context, continuation in pairs:
        ids = torch.from_numpy(np.concatenate((context, continuation)).astype(np.int64))
        with torch.no_grad():
            table = model(ids[None, :-1])[0, len(context) - 1 :].log_softmax(-1)
        wanted = ids[len(context) :]
        greedy = bool((table.argmax(-1) == wanted).all())
        out.append((table.gather(1, wanted[:, None]).flatten().tolist(), greedy))
    return out


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small examples have trunks below trunks, several packs and parts."""
    for name, value in {"TREE": 16, "CHAIN": 30, "PACK": 24, "EDGE": 4, "PART": 40}.items():
        monkeypatch.setattr(prefixes, name, value)
    monkeypatch.setattr(tree_reader, "CHUNK", 13)
    monkeypatch.setattr(tree_reader, "HEAD_ROWS", 3)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sizes", ["small", "usual"])
def test_scores_are_those_of_whole_sequences(name: str, sizes: str, request: pytest.FixtureRequest) -> None:
    if sizes == "small":
        request.getfixturevalue("small_sizes")
    model, pairs = shaken(build_model(MODELS[name], 3)).eval(), pairs_of(5)
    for found, (values, greedy) in zip(continuation_logprobs(model, pairs), one_by_one(model, pairs), strict=True):
        np.testing.assert_allclose(found.logprobs, values, atol=2e-5, rtol=1e-5)
        assert found.greedy == greedy


@pytest.mark.usefixtures("small_sizes")
@pytest.mark.parametrize("workers", ["1", "3"])
def test_neither_order_nor_workers_nor_what_was_read_before_change_a_bit(
    workers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pairs = shaken(build_model(tiny(), 3)).eval(), pairs_of(6)
    monkeypatch.setenv("TRAINYARD_WORKERS", "1")
    first = continuation_logprobs(model, pairs)
    monkeypatch.setenv("TRAINYARD_WORKERS", workers)
    reader = TreeReader(IncrementalDecoder(model))
    continuation_logprobs(model, pairs[3:9], reader=reader)
    order = np.random.default_rng(0).permutation(len(pairs))
    for place, found in zip(order, continuation_logprobs(model, [pairs[i] for i in order], reader=reader), strict=True):
        np.testing.assert_array_equal(found.logprobs, first[place].logprobs)


def test_what_else_is_asked_changes_rounding_only() -> None:
    model, pairs = shaken(build_model(tiny(), 3)).eval(), pairs_of(7)
    together = continuation_logprobs(model, pairs)
    for pair, found in zip(pairs, together, strict=True):
        alone = continuation_logprobs(model, [pair])[0]
        np.testing.assert_allclose(alone.logprobs, found.logprobs, rtol=1e-6, atol=5e-6)
        assert alone.greedy == found.greedy


def test_of_equal_logits_the_first_is_the_likeliest() -> None:
    model = build_model(tiny(), 0).eval()  # a fresh head is zero: all tokens are equally likely
    context = np.array([5, 6], np.int32)
    found = continuation_logprobs(model, [(context, np.array([token], np.int32)) for token in (0, 7)])
    assert [one.greedy for one in found] == [True, False]
    np.testing.assert_allclose([one.logprobs[0] for one in found], -np.log(128), rtol=1e-6)


def test_off_the_cpu_attention_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CUDA, where the weights are multiplied in bfloat16."""
    model, pairs = shaken(build_model(tiny(), 3)).eval(), pairs_of(8)
    exact = continuation_logprobs(model, pairs)
    monkeypatch.setattr("stages.lm.incremental.autocast", lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reader = TreeReader(IncrementalDecoder(model))
        assert reader.keys[0].dtype == torch.bfloat16
        rough = continuation_logprobs(model, pairs, reader=reader)
    for one, other in zip(exact, rough, strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=0.3)


def test_what_cannot_be_read_is_named_by_its_place() -> None:
    model, one, none = build_model(tiny(), 0), np.array([3], np.int32), np.empty(0, np.int32)
    for bad in ((none, one), (one, none), (np.ones(48, np.int32), np.ones(2, np.int32))):
        with pytest.raises(InputError, match="pair 1: "):
            continuation_logprobs(model, [(one, one), bad])
