"""What needs no neural network, on a held-out text: `python -m stages.evaluation.controls <a key of evaluation.texts>`.

A loss says little alone. Beside it stand eight bits a byte, two compressors that learn from the text itself, and an
n-gram model of bytes that has read some of the run's training text.
"""

import gzip
import lzma
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from stages.base import schemas
from stages.base.artifacts import TEXTS, TRAIN
from stages.base.contracts.evaluation import Controls
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.evaluation.text import sample_documents

Array = np.ndarray


class ControlsParams(Section):
    training_bytes: Annotated[int, Field(ge=1)]
    """Of training text, about, that the n-gram model learns from."""
    order: Annotated[int, Field(ge=1, le=5)]
    """Bytes of an n-gram."""


PARAMS: dict[str, type[Section]] = {"evaluation.controls": ControlsParams}


class ByteNgrams:
    """Interpolated n-grams of bytes, smoothed as Witten and Bell 1991 (method C; Chen and Goodman 1998, eq. 16): with h
    the last n − 1 bytes, N(h) how often it was seen and T(h) how many different bytes followed,

        p(b | h) = (count(h b) + T(h) · p(b | h without its first byte)) / (N(h) + T(h)),   p(b) ends at 1 / 256

    so that the probabilities behind every h add up to 1, whatever was seen.
    """

    def __init__(self, texts: Sequence[bytes], order: int) -> None:
        """order: bytes of an n-gram, 1 to 7."""
        self.order = order
        self.tables = []
        for n in range(1, order + 1):
            grams, counts = np.unique(_grams(texts, n)[0], return_counts=True)
            contexts, first = np.unique(grams >> np.uint64(8), return_index=True)
            types = np.diff(first, append=len(grams))
            seen = np.add.reduceat(counts, first) if len(grams) else counts
            self.tables.append((grams, counts, contexts, seen, types))

    def bits(self, text: bytes) -> Array:
        """−log2 p of each byte given those before it in the text, [n]."""
        probability = np.full(len(text), 1 / 256)
        for n, (grams, counts, contexts, seen, types) in enumerate(self.tables, 1):
            found, places = _grams([text], n)
            count = _look_up(grams, counts, found)
            context = found >> np.uint64(8)
            total, kinds = _look_up(contexts, seen, context), _look_up(contexts, types, context)
            known = total > 0
            where = places[known]
            probability[where] = (count[known] + kinds[known] * probability[where]) / (total[known] + kinds[known])
        return -np.log2(probability)


def _grams(texts: Sequence[bytes], n: int) -> tuple[Array, Array]:
    """The runs of n bytes of each text as integers (the last byte lowest), and where in it each ends."""
    grams, places = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
    for text in texts:
        if len(text) < n:
            continue
        values = np.frombuffer(text, dtype=np.uint8)
        gram = np.zeros(len(text) - n + 1, dtype=np.uint64)
        for i in range(n):
            gram = gram << np.uint64(8) | values[i : len(text) - n + 1 + i]
        grams.append(gram)
        places.append(np.arange(n - 1, len(text)))
    return np.concatenate(grams), np.concatenate(places)


def _look_up(keys: Array, values: Array, wanted: Array) -> Array:
    """The value of each wanted key, 0 where it isn't there; keys are sorted."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


def ngram_bits(model: ByteNgrams, texts: Sequence[bytes]) -> float:
    """Bits per byte of texts, each by itself."""
    return math.fsum(float(model.bits(text).sum()) for text in texts) / sum(map(len, texts))


def compressed_bits(texts: Sequence[bytes]) -> dict[str, float]:
    """Bits per byte of the texts as one file; compressors learn as they read, so a longer one needs fewer."""
    whole = b"\n\n".join(texts)
    small = {"gzip": gzip.compress(whole, 9, mtime=0), "lzma": lzma.compress(whole, preset=9)}
    return {name: 8 * len(found) / len(whole) for name, found in small.items()}


def training_sample(batches: Iterator[Sequence[str]], limit: int) -> list[bytes]:
    """Training texts up to about `limit` bytes, in file order, the last one cut: mixed tables are shuffled."""
    found: list[bytes] = []
    left = limit
    for texts in batches:
        for text in texts:
            found.append(text.encode()[:left])
            left -= len(found[-1])
            if left <= 0:
                return found
    return found


def measure(texts: Sequence[str], training: Sequence[bytes], order: int) -> Controls:
    """All controls of held-out texts."""
    held_out = [text.encode() for text in texts]
    return Controls(
        bpb={
            "uniform": 8.0,
            **compressed_bits(held_out),
            "unigram": ngram_bits(ByteNgrams(training, 1), held_out),
            "ngram": ngram_bits(ByteNgrams(training, order), held_out),
        },
        order=order,
        trained_bytes=sum(map(len, training)),
        documents=len(held_out),
        bytes=sum(map(len, held_out)),
    )


def read_training(run: StageRun[ControlsParams]) -> list[bytes]:
    batches = run.batches(TRAIN, schemas.MIXED, ["text"])
    return training_sample((batch["text"].to_pylist() for batch in batches), run.params.training_bytes)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.evaluation.controls <a key of evaluation.texts>")
    key = sys.argv[1]
    with stage("evaluation.controls", ControlsParams, item=key) as run:
        whole = run.read_table(f"{TEXTS}/{key}/documents.parquet", schemas.MIXED)
        sizes = [run.section(f"evaluation.evaluate.bytes_per_{name}", int) for name in ("source", "document")]
        texts = sample_documents(whole, *sizes)["text"].to_pylist()
        found = measure(texts, read_training(run), run.params.order)
        run.write_contract("controls.json", found)
        run.write_json("metrics.json", {f"{name}_bpb": value for name, value in found.bpb.items()})


if __name__ == "__main__":
    main()
