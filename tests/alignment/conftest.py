"""A tokenizer of single bytes and tiny models for the alignment tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from stages.lm.build import LanguageModel, build_model
from stages.lm.chat import (
    BOS,
    END,
    PAD,
    SPECIALS,
    TEMPLATE,
    ChatTokenizer,
    load_tokenizer,
    padded_vocab_size,
    write_tokenizer,
)
from stages.lm.config import ModelConfig


def byte_tokenizer(folder: Path) -> ChatTokenizer:
    """One token a byte, with the chat's special tokens at the end."""
    vocabulary = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIALS])
    write_tokenizer(folder, tokenizer, TEMPLATE, {"bos_token": BOS, "eos_token": END, "pad_token": PAD})
    return load_tokenizer(folder)


def tiny_model(tokenizer: ChatTokenizer, seed: int = 0, tie: bool = True) -> LanguageModel:
    """A two-layer decoder whose residual writers are random, not zero, so that context matters from the first step."""
    config = ModelConfig(
        arch="transformer",
        vocab_size=padded_vocab_size(tokenizer.tokenizer),
        n_layer=2,
        d_model=32,
        n_head=2,
        n_kv_head=2,
        d_ff=64,
        max_seq_len=64,
        rope_theta=10000.0,
        tie_embeddings=tie,
        qk_norm=True,
        norm_eps=1e-6,
    )
    model = build_model(config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.1, generator=generator)
    return model


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def make_model(tokenizer: ChatTokenizer) -> Callable[..., LanguageModel]:
    """make_model(seed=0, tie=True) → a tiny model."""
    return lambda seed=0, tie=True: tiny_model(tokenizer, seed, tie)


@pytest.fixture(autouse=True)
def in_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training writes its timings below the working folder."""
    monkeypatch.chdir(tmp_path)
