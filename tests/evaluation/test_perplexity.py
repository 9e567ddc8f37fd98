import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.base import schemas
from stages.evaluation.perplexity import Loss, bits_per_byte, grouped, text_losses, total, windows
from stages.evaluation.text import sample_documents

TEXTS = ["Velmora lies in the province of Anthar. " * 20, "salt", "", "Äöü ✓ <|end|> is text here"]


def naive_loss(model, tokenizer, text: str, overlap: int) -> float:
    """One forward pass a token, over the window that the token belongs to."""
    ids, limit, bos = tokenizer.encode(text), model.config.max_seq_len, tokenizer.bos_id
    nats, begin, end = 0.0, 0, 0
    for t, token in enumerate(ids):
        if t == end:
            begin = max(0, t - overlap)
            end = begin + limit
        with torch.no_grad():
            logits = model(torch.tensor([[bos, *ids[begin:t]]]))[0, -1]
        nats -= torch.log_softmax(logits.double(), -1)[token].item()
    return nats


@pytest.mark.parametrize("arch", ["model", "lstm"])
@pytest.mark.parametrize("overlap", [0, 7])
def test_losses_equal_a_naive_loop(arch, overlap, tokenizer, request) -> None:
    model = request.getfixturevalue(arch)
    assert len(tokenizer.encode(TEXTS[0])) > model.config.max_seq_len
    for text, loss in zip(TEXTS, text_losses(model, tokenizer, TEXTS, overlap), strict=True):
        assert loss.nats == pytest.approx(naive_loss(model, tokenizer, text, overlap), rel=1e-5, abs=1e-6)
        assert loss.tokens == len(tokenizer.encode(text))
        assert loss.bytes == len(text.encode())


def test_a_uniform_model_pays_log2_of_the_vocabulary_a_token(model, tokenizer) -> None:
    from stages.lm.build import build_model

    fresh = build_model(model.config, 0).eval()  # its head is zero: every token has probability 1 / V
    (loss,) = text_losses(fresh, tokenizer, [TEXTS[0]], 0)
    assert loss.nats == pytest.approx(loss.tokens * math.log(model.config.vocab_size), rel=1e-6)
    assert loss.perplexity == pytest.approx(model.config.vocab_size, rel=1e-6)
    expected = loss.tokens * math.log2(model.config.vocab_size) / len(TEXTS[0].encode())
    assert loss.bits_per_byte == pytest.approx(expected, rel=1e-6)


def test_one_of_256_bytes_is_eight_bits() -> None:
    assert bits_per_byte(1000 * math.log(256), 1000) == pytest.approx(8.0)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_bits_per_byte_do_not_depend_on_the_tokens(text: bytes, data: st.DataObject) -> None:
    """A model of independent bytes pays the same for a text however it is cut into tokens; perplexity does not stay."""
    costs = -np.log(np.random.default_rng(0).dirichlet(np.ones(256)))[list(text)]
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(text) - 1)))))
    parts = [part for part in np.split(costs, cuts) if len(part)]
    as_tokens = Loss(math.fsum(part.sum() for part in parts), len(parts), len(text))
    as_bytes = Loss(float(costs.sum()), len(text), len(text))
    assert as_tokens.bits_per_byte == pytest.approx(as_bytes.bits_per_byte, rel=1e-9, abs=1e-9)


def test_groups_add_up_to_the_total() -> None:
    losses = [Loss(float(i), i + 1, 3 * i + 1) for i in range(9)]
    groups = grouped(losses, ["b", "a", "c"] * 3)
    assert list(groups) == ["a", "b", "c"]
    assert total(list(groups.values())) == total(losses)


@given(st.integers(0, 300), st.integers(1, 40), st.integers(0, 39))
def test_windows_score_each_token_once_and_never_exceed_the_limit(length: int, limit: int, overlap: int) -> None:
    if overlap >= limit:
        with pytest.raises(ValueError, match="overlap"):
            windows(length, limit, overlap)
        return
    found = windows(length, limit, overlap)
    assert [t for _, score_from, end in found for t in range(score_from, end)] == list(range(length))
    assert all(end - begin <= limit for begin, _, end in found)
    assert all(score_from - begin == min(overlap, score_from) for begin, score_from, _ in found)


def table(rows: list[tuple[str, str, str]]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"id": id, "source": source, "domain": "d", "text": text, "epochs": 1.0} for id, source, text in rows],
        schema=schemas.MIXED,
    )


def test_a_sample_takes_from_every_source_and_cuts_between_characters() -> None:
    rows = [(f"{i:02}", source, "ä" * 50) for i in range(10) for source in ("web", "atlas")]
    sample = sample_documents(table(rows[::-1]), bytes_per_source=60, bytes_per_document=25).to_pylist()
    assert [row["id"] for row in sample] == ["00", "01", "02"] * 2
    assert {row["text"] for row in sample} == {"ä" * 12}
