"""Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019): training, saving, encoding many documents."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from stages.base.errors import InputError, ParamError
from stages.base.files import atomic_path, write_json
from stages.base.progress import Progress
from stages.lm.chat import BOS, END, PAD, SPECIALS, TEMPLATE

# OpenAI's cl100k_base pattern, as Llama 3 carries it: contractions, words, up to three digits.
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def pre_tokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    """gpt2: GPT-2's pattern. digits: the same, every digit by itself (the lecture's rule). cl100k: digits in threes,
    code whitespace.
    """
    if name == "gpt2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name == "digits":
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    if name == "cl100k":
        split = pre_tokenizers.Split(Regex(_CL100K), behavior="isolated")
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    raise ParamError(f"tokens.tokenizer.pretokenizer is {name!r}; it must be gpt2, cl100k or digits")


def train_bpe(texts: Iterable[str], vocab_size: int, pretokenizer: str) -> Tokenizer:
    """Byte-level BPE of at most `vocab_size` tokens, the chat's special tokens at the end. Equal texts give equal
    merges.
    """
    if vocab_size < 256 + len(SPECIALS):
        raise ParamError(
            f"tokens.tokenizer.vocab_size is {vocab_size}; bytes and special tokens alone are {256 + len(SPECIALS)}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer(pretokenizer)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIALS),
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    tokenizer.encode_special_tokens = True
    return tokenizer


def save_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """`tokenizer.json` and a `tokenizer_config.json` with the chat template, as transformers reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "tokenizer.json") as temporary:
        temporary.write_text(_canonical(tokenizer.to_str()), encoding="utf-8")
    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token,
            "special": True,
            "normalized": False,
            "lstrip": False,
            "rstrip": False,
            "single_word": False,
        }
        for token in SPECIALS
    }
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": END,
            "pad_token": PAD,
            "clean_up_tokenization_spaces": False,
            "added_tokens_decoder": added,
            "chat_template": TEMPLATE,
        },
    )


def _canonical(text: str) -> str:
    """The library's JSON as it stands, checked and with a final newline (its key order is fixed, its merges are a
    list).
    """
    json.loads(text)
    return text + "\n"


def encode_documents(tokenizer: Tokenizer, texts: Sequence[str], label: str = "encoding") -> list[np.ndarray]:
    """uint16 ids of each text, no specials. `ParamError` for a vocabulary over uint16."""
    if tokenizer.get_vocab_size(with_added_tokens=True) > 65536:
        raise ParamError("tokens.tokenizer.vocab_size is over 65536; tokens are stored as uint16: lower it")
    out: list[np.ndarray] = []
    with Progress(len(texts), label, unit="documents") as bar:
        for start in range(0, len(texts), 512):
            batch = list(texts[start : start + 512])
            out += [
                np.asarray(item.ids, dtype=np.uint16)
                for item in tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            ]
            bar.advance(len(batch))
    return out


def compression(ids: Sequence[np.ndarray], texts: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
    """UTF-8 bytes per token of each group of documents, and tokens per whitespace-separated word over all
    (fertility).
    """
    if not texts:
        raise InputError("no documents to measure the tokenizer on")
    size: dict[str, int] = {}
    count: dict[str, int] = {}
    words = 0
    for document, text, group in zip(ids, texts, groups, strict=True):
        size[group] = size.get(group, 0) + len(text.encode("utf-8"))
        count[group] = count.get(group, 0) + len(document)
        words += len(text.split())
    metrics = {f"bytes_per_token_{group or 'none'}": size[group] / max(count[group], 1) for group in sorted(size)}
    total = sum(count.values())
    return metrics | {
        "bytes_per_token": sum(size.values()) / max(total, 1),
        "tokens_per_word": total / max(words, 1),
        "vocabulary_used": len(np.unique(np.concatenate(list(ids)))) if total else 0,
    }
