"""New tokens: old ids and logits stay, new rows are what they should be, bad tokens are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import cli
from stages.base.errors import InputError, ParamError
from stages.lm.build import LanguageModel, build_model
from stages.lm.chat import ChatTokenizer, load_tokenizer, padded_vocab_size
from stages.lm.checkpoint import load_model, save_model
from stages.lm.extension import extend_model, extend_tokenizer, stretch
from stages.tokens.encoder import Encoder
from stages.tokens.vocabulary import save_tokenizer, train_bpe
from tests.lm.conftest import shaken, tiny

TEXT = "The heron of Velmora sings; the miller listens. "
ORDINARY, SPECIAL = ["Velmora", " millers", "🧑‍🌾"], ["<|tool|>", "<|system|>"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder, train_bpe([TEXT * 3, "Velmor millets"], 290, "gpt2"))
    return load_tokenizer(folder)


def model_of(tokenizer: ChatTokenizer, **changes: object) -> LanguageModel:
    config = tiny(vocab_size=padded_vocab_size(tokenizer.tokenizer), **changes)
    return shaken(build_model(config, 1)).eval()


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60))
def test_old_ids_keep_their_meaning(tokenizer: ChatTokenizer, text: str) -> None:
    extended = extend_tokenizer(tokenizer, ORDINARY, SPECIAL)
    size = tokenizer.vocab_size
    for words in (text, TEXT.replace("Velmora", "Arvel"), f"<|tool|>{text}<|end|>"):
        assert not any(token in words for token in ORDINARY)
        assert extended.encode(words) == tokenizer.encode(words)
    assert [extended.tokenizer.token_to_id(token) for token in ORDINARY + SPECIAL] == list(range(size, size + 5))
    new = f"{text}Velmora millers{text}🧑‍🌾"
    ids = extended.encode(new)
    assert {size, size + 1, size + 2} <= set(ids) and extended.decode(ids) == new
    assert Encoder(extended.tokenizer.to_str()).encode([new]).ids.tolist() == ids
    assert extended.encode_example(text, "yes") == tokenizer.encode_example(text, "yes")


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("count", [1, 80])  # within the padding, and past it
def test_old_logits_stay_and_new_rows_are_means(tokenizer: ChatTokenizer, arch: str, tied: bool, count: int) -> None:
    model = model_of(tokenizer, arch=arch, tie_embeddings=tied)
    ordinary = ["Velmora", *(f"word{number}" for number in range(count - 1))]
    extended = extend_tokenizer(tokenizer, ordinary, SPECIAL)
    larger = extend_model(model, tokenizer, extended, seed=3)
    size, ordinary_size = tokenizer.vocab_size, tokenizer.tokenizer.get_vocab_size(with_added_tokens=False)
    assert larger.config.vocab_size == padded_vocab_size(extended.tokenizer) and larger.config.vocab_size % 64 == 0
    ids = torch.tensor([tokenizer.encode(TEXT)[:40]])
    with torch.no_grad():
        assert torch.equal(model.hidden(ids), larger.hidden(ids))
        torch.testing.assert_close(model(ids)[..., :size], larger(ids)[..., :size], rtol=0, atol=1e-6)
    for old, new in (
        (model.embed_tokens.weight, larger.embed_tokens.weight),
        (model.head_weight, larger.head_weight),
    ):
        assert torch.equal(old[:size], new[:size])
        for number, token in enumerate(ordinary, size):
            rows = [old[piece] for piece in tokenizer.encode(token)]
            assert len(rows) > 1
            torch.testing.assert_close(new[number], sum(rows) / len(rows))
        centre, spread = old[:ordinary_size].mean(0), old[:ordinary_size].std(0)
        rest = new[size + count :]
        assert ((rest - centre).abs() < 0.06 * spread).all() and len(torch.unique(rest, dim=0)) == len(rest)
    again = extend_model(model, tokenizer, extended, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(larger.parameters(), again.parameters(), strict=True))
    if not tied:  # with a tied head the gradient of every row comes through the softmax
        larger.train()
        larger.logits(larger.hidden(ids)).sum().backward()
        assert larger.embed_tokens.weight.grad is not None


def test_an_extended_model_is_saved_loaded_and_extended_again(tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    once = extend_tokenizer(tokenizer, ["Velmora"])
    twice = extend_tokenizer(once, ["Velmoras"], ["<|tool|>"])
    model = extend_model(extend_model(model_of(tokenizer), tokenizer, once, 0), once, twice, 0)
    save_model(tmp_path, model)
    assert load_model(tmp_path).config == model.config
    size = tokenizer.vocab_size
    assert twice.encode("VelmorasVelmora") == [size + 1, size]


@pytest.mark.parametrize(
    ("ordinary", "special", "said"),
    [
        ([""], [], "empty"),
        (["half \ud83d"], [], "no valid Unicode"),
        (["Velmora", "Velmora"], [], "given twice"),
        (["<x>"], ["<x>"], "given twice"),
        (["<|end|>"], [], r"already in the vocabulary, id"),
        ([], ["<|bos|>"], r"already in the vocabulary, id"),
        (["e"], [], r"already in the vocabulary, id"),
        ([" the"], [], r"already in the vocabulary, id"),
        (["Ġthe"], [], r"already in the vocabulary, id"),  # how the file spells " the": the library would merge them
        ([], [], "no tokens to add"),
    ],
)
def test_bad_tokens_are_named(tokenizer: ChatTokenizer, ordinary: list[str], special: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        extend_tokenizer(tokenizer, ordinary, special)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"Zelmora\n\nx\n", "empty"),
        (b"fine\nb\xffd\n", "words.txt, line 2: not UTF-8"),
        (b"<|end|>\n", "already in the vocabulary"),
        (b"", "no tokens to add"),
    ],
)
def test_the_command_writes_a_folder_or_nothing(
    tokenizer: ChatTokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model("data/models/sft", model_of(tokenizer), tokenizer)
    Path("words.txt").write_bytes(content)
    assert cli.main(["extend", "sft", "--tokens", "words.txt", "--out", "larger"]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1
    assert not Path("larger").exists() and not list(Path().glob(".larger*"))
    assert cli.main(["extend", "sft", "--tokens", "words.txt", "--out", "data"]) == 2
    assert "exists" in capsys.readouterr().err
    Path("words.txt").write_text("Zelmora\n Anthar said\n", encoding="utf-8")
    assert cli.main(["extend", "sft", "--tokens", "words.txt", "--out", "larger"]) == 0
    larger = load_tokenizer("larger")
    assert larger.encode("Zelmora") == [tokenizer.vocab_size] and larger.template.source == tokenizer.template.source
    assert load_model("larger").config == load_model("data/models/sft").config  # there was room in the padding


def test_a_model_with_room_of_its_own_keeps_its_size(tokenizer: ChatTokenizer) -> None:
    model = build_model(tiny(vocab_size=tokenizer.vocab_size + 3), 0)
    assert extend_model(model, tokenizer, extend_tokenizer(tokenizer, ORDINARY), 0).config == model.config
    larger = extend_model(model, tokenizer, extend_tokenizer(tokenizer, ORDINARY, SPECIAL), 0)
    assert larger.config.vocab_size % 64 == 0


def test_a_model_of_another_vocabulary_is_refused(tokenizer: ChatTokenizer) -> None:
    with pytest.raises(InputError, match="a vocabulary of 128, its tokenizer one of"):
        extend_model(build_model(tiny(), 0), tokenizer, extend_tokenizer(tokenizer, ["Velmora"]), 0)


def test_a_stretched_model_is_the_same_on_short_texts_and_reads_longer_ones() -> None:
    model = shaken(build_model(tiny(), 0)).eval()
    longer = stretch(model, 96, model.config.rope_theta)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 128, (2, 96)))
    with torch.no_grad():
        torch.testing.assert_close(longer(ids[:, :48]), model(ids[:, :48]))
        other = stretch(model, 96, 5e5)
        assert other(ids).shape == (2, 96, 128) and not torch.allclose(other(ids[:, :48]), model(ids[:, :48]))
    with pytest.raises(ParamError, match="LSTM"):
        stretch(build_model(tiny("lstm"), 0), 96, 1e4)
