"""The first pass of dedup: what a batch of documents leaves behind for the search, some hundred bytes a document."""

import hashlib
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.corpus.duplicates import minhash
from stages.corpus.duplicates.ngrams import code_points, shingles, words
from stages.corpus.duplicates.paragraphs import line_hashes
from stages.corpus.links.url import canonical, host

COLUMNS = ["id", "source", "url", "text", "text_hash", "links"]


class Settings(NamedTuple):
    """How texts are hashed."""

    ngram: int
    bands: int
    rows: int
    min_words: int
    seed: int


class Sketches(NamedTuple):
    """One batch, an entry a document unless said otherwise."""

    ids: pa.ChunkedArray
    sources: pa.ChunkedArray
    characters: np.ndarray  # int64
    urls: np.ndarray  # uint64 hash of the canonical URL; 0 where there is none
    texts: np.ndarray  # uint64: the first 8 bytes of the text's sha256
    keys: np.ndarray  # uint64 [documents, bands]
    long: np.ndarray  # bool: has words enough to be compared
    links: np.ndarray  # uint64 hashes of the canonical URLs that documents link to, each once a document
    lines: np.ndarray  # uint64 hashes of lines, salted by source, each once a document
    lines_each: np.ndarray  # int64: number of `lines` of each document


def string_hash(value: str) -> int:
    """64 bits, the same on every machine."""
    digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def url_hash(url: str) -> int:
    """Hash of the canonical URL, 0 where there is no host: the name of a local file isn't unique across sources."""
    name = canonical(url) if host(url) else ""
    return string_hash(name) if name else 0


def banded(text: np.ndarray, settings: Settings, family: minhash.Family) -> tuple[np.ndarray, bool]:
    """(uint64 keys of a text's bands, has it words enough?) of its code points."""
    hashes = words(text).hashes
    grams = shingles(hashes, settings.ngram)
    keys = minhash.band_keys(minhash.signature(grams, *family), settings.bands)
    return keys, len(hashes) >= max(1, settings.min_words)


def sketch(batch: pa.Table, settings: Settings) -> Sketches:
    """Sketches of a batch of documents (at least `COLUMNS`)."""
    family = minhash.family(settings.bands * settings.rows, settings.seed)
    urls = np.array([url_hash(url) for url in batch["url"].to_pylist()], np.uint64)
    keys = np.empty((batch.num_rows, settings.bands), np.uint64)
    long = np.empty(batch.num_rows, bool)
    lines, links = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    sources = batch["source"].to_pylist()
    for row, (text, source, targets) in enumerate(
        zip(batch["text"].to_pylist(), sources, batch["links"].to_pylist(), strict=True)
    ):
        codes = code_points(text)
        keys[row], long[row] = banded(codes, settings, family)
        hashes = np.unique(line_hashes(codes))
        lines.append(hashes[hashes != 0] ^ np.uint64(string_hash(source)))
        links.append(np.array(sorted({url_hash(link) for link in targets or []} - {int(urls[row])}), np.uint64))
    return Sketches(
        ids=batch["id"],
        sources=batch["source"],
        characters=pc.utf8_length(batch["text"]).to_numpy(),
        urls=urls,
        texts=np.array([int(digest[:16], 16) for digest in batch["text_hash"].to_pylist()], np.uint64),
        keys=keys,
        long=long,
        links=np.concatenate(links),
        lines=np.concatenate(lines),
        lines_each=np.array([len(part) for part in lines[1:]], np.int64),
    )
