"""How well a tokenizer compresses: sums over documents, and the ratios made of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from stages.base.errors import InputError
from stages.tokens.pretokenizers import byte_characters

_BYTE_OF = {character: byte for byte, character in enumerate(byte_characters())}


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of each ordinary token, by id; special tokens have none."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    return [
        bytes(_BYTE_OF[character] for character in token) for token in sorted(vocabulary, key=vocabulary.__getitem__)
    ]


def is_digits(token: bytes) -> bool:
    """Digits, whatever white space before them."""
    return token.strip().isdigit()


def is_code_space(token: bytes) -> bool:
    """White space that only code and layout have: more than one character of it, or a newline or tab."""
    return token.isspace() and token != b" "


@dataclass
class Sums:
    """What some documents add up to."""

    bytes: int = 0
    characters: int = 0
    words: int = 0  # separated by white space
    tokens: int = 0

    def add(self, text: str, tokens: int) -> None:
        self.bytes += len(text.encode("utf-8"))
        self.characters += len(text)
        self.words += len(text.split())
        self.tokens += tokens

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / max(self.tokens, 1)


@dataclass
class Measured:
    """A tokenizer on documents."""

    total: Sums = field(default_factory=Sums)
    by_source: dict[str, Sums] = field(default_factory=dict)
    by_domain: dict[str, Sums] = field(default_factory=dict)
    uses: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # of each token

    def groups(self) -> Iterator[tuple[str, str, Sums]]:
        """(kind, name, sums) of all sources, then of all domains."""
        yield from (("source", name, self.by_source[name]) for name in sorted(self.by_source))
        yield from (("domain", name or "none", self.by_domain[name]) for name in sorted(self.by_domain))


def measure(
    ids: Sequence[np.ndarray], texts: Sequence[str], sources: Sequence[str], domains: Sequence[str], size: int
) -> Measured:
    """Sums over documents and their ids; `size` is the number of ordinary tokens. InputError for no documents."""
    if not texts:
        raise InputError("no documents to measure the tokenizer on; look at corpus.mix")
    measured = Measured(uses=np.bincount(np.concatenate([*ids, np.zeros(0, np.uint16)]), minlength=size))
    for document, text, source, domain in zip(ids, texts, sources, domains, strict=True):
        for sums in (
            measured.total,
            measured.by_source.setdefault(source, Sums()),
            measured.by_domain.setdefault(domain, Sums()),
        ):
            sums.add(text, len(document))
    return measured


def metrics(measured: Measured, tokenizer: Tokenizer) -> dict[str, Any]:
    """Flat figures. A tokenizer of single bytes has 1 byte a token, one of characters `bytes_per_character`."""
    total, uses = measured.total, measured.uses
    known = token_bytes(tokenizer)
    digits = np.array([is_digits(token) for token in known])
    spaces = np.array([is_code_space(token) for token in known])
    return {
        "bytes_per_token": total.bytes_per_token,
        "bytes_per_character": total.bytes / max(total.characters, 1),
        "characters_per_token": total.characters / max(total.tokens, 1),
        "tokens_per_word": total.tokens / max(total.words, 1),
        "digit_share": float(uses[digits].sum() / max(total.tokens, 1)),
        "code_space_share": float(uses[spaces].sum() / max(total.tokens, 1)),
        "vocabulary_used": int(np.count_nonzero(uses)),
        "vocabulary_used_share": float(np.count_nonzero(uses) / len(known)),
        **{f"bytes_per_token_{kind}_{name}": sums.bytes_per_token for kind, name, sums in measured.groups()},
    }
