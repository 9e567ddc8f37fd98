"""Texts to token ids: pieces from the state machine, a cache of pieces, merges for what the cache lacks.

The ids are those of Hugging Face tokenizers for the same `tokenizer.json`. The cache is set-associative and of a fixed
size; a row is one line of the processor's cache: 32 bytes of a piece, its length and number of ids, up to nine ids. It
remembers and decides nothing: ids are the same whatever it holds.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np

from stages.base.engine import map_batches
from stages.base.errors import InputError
from stages.tokens.characters import kinds_for
from stages.tokens.merging import merge, merge_table
from stages.tokens.pretokenizers import PRETOKENIZERS, byte_characters, hugging_face
from stages.tokens.splitter import join_texts, piece_end, rule_of

WAYS, SETS = 4, 1 << 13  # 2 MiB of 64-byte rows
LONGEST, MOST = 32, 9  # bytes and ids of a piece that fits a row
ID_BITS = np.uint64(21)
FIRST_BYTES = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)  # masks


class Encoded(NamedTuple):
    """Texts as ids, one after the other."""

    ids: np.ndarray  # uint16, or uint32 where the vocabulary is over 65,536
    starts: np.ndarray  # int64 [texts + 1]

    def documents(self) -> list[np.ndarray]:
        """The ids of each text: views."""
        return [self.ids[first:last] for first, last in zip(self.starts[:-1], self.starts[1:], strict=True)]


@numba.njit(cache=True)
def _eight(text, place):
    """The eight bytes at a place as a number; the compiler makes one load of it."""
    at, one, bits = np.uint64(place), np.uint64(1), np.uint64(8)
    word, shift = np.uint64(0), np.uint64(0)
    for _ in range(8):
        word |= np.uint64(text[at]) << shift
        at += one
        shift += bits
    return word


@numba.njit(cache=True)
def _part(text, first, size, offset):
    """Eight bytes of a piece, zeros behind its end."""
    if size <= offset:
        return np.uint64(0)
    return _eight(text, first + offset) & FIRST_BYTES[min(size - offset, 8)]


@numba.njit(cache=True)
def _way(cache, key, size):
    """(row, whether it holds the piece): if not, the row to write it to."""
    digest = key[0] ^ (key[1] * np.uint64(0xC2B2AE3D27D4EB4F)) ^ (key[2] * np.uint64(0x165667B19E3779F9))
    digest = (digest ^ (key[3] * np.uint64(0x27D4EB2F165667C5)) ^ np.uint64(size)) * np.uint64(0x9E3779B97F4A7C15)
    digest ^= digest >> np.uint64(32)
    base = (digest & np.uint64(len(cache) // WAYS - 1)) * np.uint64(WAYS)
    victim = base + ((digest >> np.uint64(40)) & np.uint64(WAYS - 1))
    for way in range(WAYS):
        row = base + np.uint64(way)
        filled = cache[row, 4]
        if filled >> np.uint64(32) == np.uint64(size) and (
            cache[row, 0] == key[0] and cache[row, 1] == key[1] and cache[row, 2] == key[2] and cache[row, 3] == key[3]
        ):
            return row, True
        if filled == 0:
            victim = row
    return victim, False


@numba.njit(cache=True)
def _encode(text, starts, kinds, rule, byte_ids, merges, cache):
    """(uint32 ids, int64 starts)"""
    out, out_starts = np.empty(len(text), np.uint32), np.zeros(len(starts), np.int64)
    symbols, ranks = np.empty(256, np.int64), np.empty(256, np.int64)
    written = np.int64(0)
    for number in range(len(starts) - 1):
        first, end = starts[number], starts[number + 1]
        while first < end:
            last = piece_end(text, first, end, kinds, rule)
            size = last - first
            row, known = np.uint64(0), False
            key = (np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0))
            if size <= LONGEST:
                key = (
                    _part(text, first, size, 0),
                    _part(text, first, size, 8),
                    _part(text, first, size, 16),
                    _part(text, first, size, 24),
                )
                row, known = _way(cache, key, size)
            if known:
                count = np.int64(cache[row, 4] & np.uint64(0xFFFFFFFF))
                for place in range(count):
                    shift = np.uint64(place % 3) * ID_BITS
                    out[written + place] = (cache[row, 5 + place // 3] >> shift) & np.uint64(0x1FFFFF)
            else:
                if size > len(symbols):
                    symbols, ranks = np.empty(size, np.int64), np.empty(size, np.int64)
                for place in range(size):
                    symbols[place] = byte_ids[text[first + place]]
                count = merge(symbols, ranks, size, merges)
                for place in range(count):
                    out[written + place] = symbols[place]
                if size <= LONGEST and count <= MOST:
                    for part in range(4):
                        cache[row, part] = key[part]
                    cache[row, 4] = (np.uint64(size) << np.uint64(32)) | np.uint64(count)
                    cache[row, 5:] = 0
                    for place in range(count):
                        shift = np.uint64(place % 3) * ID_BITS
                        cache[row, 5 + place // 3] |= np.uint64(symbols[place]) << shift
            written += count
            first = last
        out_starts[number + 1] = written
    return out[:written], out_starts


class AddedTokens:
    """Ordinary tokens added behind a trained vocabulary (`lm.extension`): cut out of a text before anything else, the
    leftmost first, of several there the longest.
    """

    def __init__(self, ids: dict[str, int]) -> None:
        self.ids = ids
        self._lengths = sorted({len(token) for token in ids}, reverse=True)
        self._begins = re.compile("|".join(re.escape(first) for first in sorted({token[0] for token in ids})))

    def cut(self, texts: Sequence[str]) -> tuple[list[str | int], np.ndarray]:
        """Texts as stretches without added tokens and ids of added tokens, in order; and whose each part is."""
        parts: list[str | int] = []
        owners: list[int] = []
        for number, text in enumerate(texts):
            before = len(parts)
            done = place = 0
            while found := self._begins.search(text, place):
                place = found.start()
                candidates = (text[place : place + length] for length in self._lengths)
                token = next((candidate for candidate in candidates if candidate in self.ids), None)
                if token is None:
                    place += 1
                    continue
                parts += [text[done:place], self.ids[token]]
                done = place = place + len(token)
            parts.append(text[done:])
            owners += [number] * (len(parts) - before)
        return parts, np.array(owners, np.int64)


class Encoder:
    """The encoder of a `tokenizer.json` that `tokens.tokenizer` wrote, given as text. Raises InputError for another."""

    def __init__(self, tokenizer: str) -> None:
        document = json.loads(tokenizer)
        vocabulary: dict[str, int] = document["model"].get("vocab", {})
        characters = byte_characters()
        if document["model"]["type"] != "BPE" or document["normalizer"] or not set(characters) <= set(vocabulary):
            raise InputError("tokenizer.json: no byte-level BPE of tokens.tokenizer's; run tokens.tokenizer again")
        name = _name(document["pre_tokenizer"])
        pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in document["model"]["merges"]]
        sides = [[vocabulary[left], vocabulary[right]] for left, right in pairs]
        made = [vocabulary[left + right] for left, right in pairs]
        self._merges = merge_table(np.array(sides, np.int64).reshape(-1, 2), np.array(made, np.int64))
        self._byte_ids = np.array([vocabulary[character] for character in characters], np.int64)
        self._kinds, self._rule = kinds_for(name), rule_of(name)
        self._cache = np.zeros((WAYS * SETS, 8), np.uint64)
        added = document["added_tokens"]
        if any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added):
            raise InputError("tokenizer.json: an added token that strips or asks for word boundaries; add it plainly")
        self._added = AddedTokens({token["content"]: token["id"] for token in added if not token["special"]})
        largest = max([*vocabulary.values(), *(token["id"] for token in added)])
        self.dtype = np.dtype(np.uint16 if largest < 1 << 16 else np.uint32)
        if largest >= 1 << int(ID_BITS):
            raise InputError(f"tokenizer.json: a vocabulary of {largest + 1} tokens is over {1 << int(ID_BITS)}")

    def encode(self, texts: Sequence[str]) -> Encoded:
        """No special tokens: what looks like one is text. InputError for a text that is no Unicode (a surrogate)."""
        if not self._added.ids:
            return self._encode_plain(list(texts))
        parts, owners = self._added.cut(texts)
        encoded = self._encode_plain([part if isinstance(part, str) else "" for part in parts])
        pieces = [
            ids if isinstance(part, str) else np.array([part], self.dtype)
            for part, ids in zip(parts, encoded.documents(), strict=True)
        ]
        sizes = np.bincount(owners, [len(piece) for piece in pieces], minlength=len(texts)).astype(np.int64)
        return Encoded(np.concatenate([np.zeros(0, self.dtype), *pieces]), np.concatenate([[0], np.cumsum(sizes)]))

    def _encode_plain(self, texts: list[str]) -> Encoded:
        try:
            joined, starts = join_texts(texts)
        except UnicodeEncodeError as error:
            raise InputError(f"a text can't be encoded as UTF-8: {error}") from None
        ids, ends = _encode(joined, starts, self._kinds, self._rule, self._byte_ids, self._merges, self._cache)
        return Encoded(ids.astype(self.dtype), ends)


def _name(declared: Any) -> str:
    """Which of `PRETOKENIZERS` a `tokenizer.json` declares."""
    for name in PRETOKENIZERS:
        if json.loads(hugging_face(name).__getstate__()) == declared:
            return name
    raise InputError("tokenizer.json: its pre-tokenizer is none of tokens.tokenizer's; run tokens.tokenizer again")


@lru_cache(maxsize=2)
def encoder_of(tokenizer: str) -> Encoder:
    """The encoder of the text of a `tokenizer.json`, made once in a process."""
    return Encoder(tokenizer)


def encode_batch(texts: Sequence[str], tokenizer: str) -> Encoded:
    """A batch of texts, for `map_batches`; the context is the text of `tokenizer.json`."""
    return encoder_of(tokenizer).encode(texts)


def encode_batches(batches: Iterable[Sequence[str]], tokenizer: str) -> Iterator[Encoded]:
    """Each batch of texts, in order, on the engine (`base.engine`): the same ids on any."""
    return map_batches(encode_batch, batches, tokenizer)
