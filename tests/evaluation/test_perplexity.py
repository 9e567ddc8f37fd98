import json
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.base import schemas
from stages.base.errors import InputError
from stages.base.stats import paired_interval
from stages.evaluation.entropy import joined
from stages.evaluation.perplexity import (
    Loss,
    ModelLosses,
    TokenizersDiffer,
    bits_difference,
    bits_interval,
    bits_per_byte,
    by_position,
    check_bounds,
    contributions,
    grouped,
    perplexity_ratio,
    read,
    text_loss,
    tokenizer_digest,
    total,
    windows,
)
from stages.evaluation.text import sample_documents
from stages.lm.build import build_model
from stages.lm.checkpoint import save_model
from tests.evaluation.conftest import make_model, make_tokenizer

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
    for text, loss in zip(TEXTS, read(model, tokenizer, TEXTS, overlap).losses, strict=True):
        assert loss.nats == pytest.approx(naive_loss(model, tokenizer, text, overlap), rel=1e-5, abs=1e-6)
        assert loss.tokens == len(tokenizer.encode(text))
        assert loss.bytes == len(text.encode())


def test_a_uniform_model_pays_log2_of_the_vocabulary_a_token(model, tokenizer) -> None:
    fresh = build_model(model.config, 0).eval()  # its head is zero: every token has probability 1 / V
    (loss,) = read(fresh, tokenizer, [TEXTS[0]], 0).losses
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


# ------------------------------------------------------------------------------------------------ uncertainty


def drawn(n: int, seed: int, bits: float = 1.5) -> list[Loss]:
    """Documents of unequal length that cost about `bits` a byte, each its own."""
    random = np.random.default_rng(seed)
    sizes = random.integers(50, 1500, n)
    costs = sizes * random.normal(bits, 0.4, n) * math.log(2)
    return [Loss(float(cost), int(size) // 4, int(size)) for cost, size in zip(costs, sizes, strict=True)]


def test_contributions_average_to_bits_per_byte_and_spread_as_the_jackknife_says() -> None:
    losses = drawn(400, 0)
    assert contributions(losses).mean() == pytest.approx(total(losses).bits_per_byte)
    left_out = [total(losses[:i] + losses[i + 1 :]).bits_per_byte for i in range(len(losses))]
    jackknife = math.sqrt((len(losses) - 1) ** 2 / len(losses) * np.var(left_out, ddof=1))
    assert contributions(losses).std(ddof=1) / math.sqrt(len(losses)) == pytest.approx(jackknife, rel=0.01)


def test_intervals_hold_the_truth() -> None:
    found = [bits_interval(drawn(30, seed)) for seed in range(400)]
    assert 0.91 < np.mean([one.low <= 1.5 <= one.high for one in found]) < 0.98


def test_the_difference_of_two_models_is_paired() -> None:
    a = drawn(40, 1)
    b = [Loss(x.nats + 0.05 * math.log(2) * x.bytes * (1 + 0.1 * (-1) ** i), 9, x.bytes) for i, x in enumerate(a)]
    found = bits_difference(b, a)
    assert found.mean == pytest.approx(total(b).bits_per_byte - total(a).bits_per_byte)
    assert found == pytest.approx(paired_interval(contributions(b), contributions(a)))
    assert 0 < found.low < found.high < 0.1  # documents differ by .4, models by .005
    with pytest.raises(InputError, match="other documents"):
        bits_difference(a, a[1:])


def test_one_document_has_no_interval() -> None:
    assert math.isnan(bits_interval(drawn(1, 0)).low)


def test_perplexities_of_two_tokenizers_are_not_compared() -> None:
    a, b = ModelLosses("small", "aa11", tuple(drawn(20, 0))), ModelLosses("large", "bb22", tuple(drawn(20, 0)))
    with pytest.raises(TokenizersDiffer) as error:
        perplexity_ratio(a, b)
    bits = f"{total(a.losses).bits_per_byte:.4f}"
    assert all(word in str(error.value) for word in ("small", "large", "aa11", "bb22", f"{bits} and {bits}"))


def test_perplexities_of_one_tokenizer_are() -> None:
    a = ModelLosses("small", "aa11", tuple(drawn(20, 0)))
    b = ModelLosses("large", "aa11", tuple(Loss(x.nats + 0.3 * x.tokens, x.tokens, x.bytes) for x in a.losses))
    assert perplexity_ratio(b, a) == pytest.approx((math.exp(0.3),) * 3)
    assert perplexity_ratio(b, a).mean == pytest.approx(total(b.losses).perplexity / total(a.losses).perplexity)


def test_a_tokenizer_is_known_by_how_it_cuts_text(tokenizer, tmp_path: Path) -> None:
    assert tokenizer_digest(tokenizer) == tokenizer_digest(make_tokenizer(tmp_path / "same"))
    assert tokenizer_digest(tokenizer) != tokenizer_digest(make_tokenizer(tmp_path / "smaller", 300))


# ------------------------------------------------------------------------------------------------ the contract


def test_positions_have_every_token_and_its_loss(model, tokenizer) -> None:
    found = joined(read(model, tokenizer, TEXTS, 7).tokens)
    positions = by_position(found)
    assert [(one.begin, one.end) for one in positions] == [(2**i, 2 ** (i + 1)) for i in range(len(positions))]
    assert sum(one.tokens for one in positions) == len(found)
    assert sum(one.tokens * one.nats_per_token for one in positions) == pytest.approx(found.nats.sum())
    first = [nats for nats, context in zip(found.nats, found.context, strict=True) if context in (2, 3)]
    assert positions[1].nats_per_token == pytest.approx(np.mean(first))


def test_the_contract_of_a_text(model, tokenizer) -> None:
    documents = table([("a", "Web!", TEXTS[0]), ("b", "atlas", TEXTS[3]), ("c", "atlas", "salt")])
    texts = documents["text"].to_pylist()
    reading = read(model, tokenizer, texts, 7, "tiny")
    found = text_loss(reading, documents, "held_out")
    every = total(read(model, tokenizer, texts, 7).losses)
    assert found.bpb == pytest.approx(every.bits_per_byte)
    assert found.bpb_low < found.bpb < found.bpb_high
    assert found.word_perplexity == pytest.approx(math.exp(every.nats / sum(len(text.split(" ")) for text in texts)))
    assert math.log2(found.byte_perplexity) == pytest.approx(found.bpb)
    assert (found.window, found.stride) == (160, 153)
    assert found.sources["atlas"] == pytest.approx(total(reading.losses[1:]).bits_per_byte)
    assert set(found.sources) == {"web", "atlas"}
    assert found.next_token.n == found.tokens == every.tokens
    assert found.controls["uniform_tokens"] == pytest.approx(math.log2(448) * every.tokens / every.bytes)


def test_a_model_below_chance_is_named(model, tokenizer) -> None:
    loud = make_model()
    with torch.no_grad():
        loud.head_weight.mul_(30.0)
    documents = table([("a", "web", TEXTS[0]), ("b", "web", TEXTS[3])])
    texts = documents["text"].to_pylist()
    (warning,) = text_loss(read(loud, tokenizer, texts, 0, "loud"), documents, "held_out").warnings
    assert warning.startswith("loud needs") and "held_out" in warning
    fresh = build_model(model.config, 0).eval()
    assert not text_loss(read(fresh, tokenizer, texts, 0, "fresh"), documents, "held_out").warnings


@pytest.mark.parametrize("nats", [math.nan, math.inf, -1.0, 8000.0])
def test_a_loss_that_is_none_is_refused(nats: float) -> None:
    with pytest.raises(InputError, match=r"broken.*held_out"):
        check_bounds(Loss(nats, 10, 40), 448, "broken", "held_out")


# ------------------------------------------------------------------------------------------------ another harness


def test_word_and_byte_perplexity_equal_those_of_the_lm_evaluation_harness(tmp_path: Path) -> None:
    """Whole documents within the context: longer ones are read in other windows there (one token of context)."""
    root = Path(__file__).resolve().parents[2]
    python = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(root / ".venv-peers" / "bin" / "python")
    if not Path(python).exists() or subprocess.run([python, "-c", "import lm_eval"], capture_output=True).returncode:
        pytest.skip("no lm-eval: set TRAINYARD_PEERS_PYTHON, or make .venv-peers from bench/requirements.lock")
    model, tokenizer = make_model(), make_tokenizer(tmp_path / "tokenizer")
    save_model(tmp_path / "model", model, tokenizer)
    texts = ["Velmora lies in the province of Anthar.\n\nIts people trade in copper.", "Äöü ✓ salt  and glass\n", "A"]
    rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "documents.jsonl").write_text(rows, encoding="utf-8")
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
    done = subprocess.run(
        [python, str(Path(__file__).with_name("rolling_peer.py")), str(tmp_path / "model"),
         str(tmp_path / "documents.jsonl")],
        env={**os.environ, **offline, "HF_HOME": str(tmp_path / "hub"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    ours = total(read(model, tokenizer, texts, 0).losses)
    assert ours.word_perplexity == pytest.approx(theirs["word_perplexity"], rel=1e-4)
    assert ours.byte_perplexity == pytest.approx(theirs["byte_perplexity"], rel=1e-4)
    assert ours.bits_per_byte == pytest.approx(theirs["bits_per_byte"], abs=1e-4)
