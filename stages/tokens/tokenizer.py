"""Train the tokenizer on the training mixture, measure it on held-out text beside other pre-tokenizers of its size."""

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import numpy as np
import pyarrow.compute as pc
from pydantic import Field
from tokenizers import Tokenizer

from stages.base import schemas
from stages.base.artifacts import TRAIN, VALIDATION
from stages.base.errors import InputError, ParamError
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.base.seeds import derive
from stages.lm.chat import padded_vocab_size
from stages.tokens.measures import Measured, measure, metrics, token_bytes
from stages.tokens.page import render
from stages.tokens.vocabulary import encode_documents, save_tokenizer, train_bpe

Name = Literal["gpt2", "digits", "digits2", "cl100k", "code"]


class TokenizerParams(Section):
    vocab_size: Annotated[int, Field(ge=320, le=1 << 21)]
    """Special tokens included; the encoder's ids have 21 bits."""
    pretokenizer: Name
    """How text is split before merges are learned (docs/tokens.md)."""
    max_bytes: Annotated[int, Field(gt=0)]
    """Of text to train on, a seeded subset of the documents."""
    measured_documents: Annotated[int, Field(gt=0)]
    """Of the validation split, a seeded subset of as many."""
    compare: list[Name]
    """Trained to the same size on the same text, and measured beside it."""


PARAMS: dict[str, type[Section]] = {"tokens.tokenizer": TokenizerParams}


def choose(sizes: np.ndarray, max_bytes: int, seed: int) -> np.ndarray:
    """A seeded subset of documents of these sizes that is about max_bytes: their numbers, at least one, ascending."""
    order = np.random.default_rng(seed).permutation(len(sizes))
    count = max(1, int(np.searchsorted(np.cumsum(sizes[order]), max_bytes, side="right")))
    return np.sort(order[:count])


def read_chosen(run: StageRun, path: str, chosen: np.ndarray, columns: list[str]) -> Iterator[dict[str, str]]:
    """The rows of a MIXED table with these numbers (ascending), a batch in memory at a time."""
    start = 0
    for batch in run.batches(path, schemas.MIXED):
        first, last = np.searchsorted(chosen, [start, start + batch.num_rows])
        yield from batch.select(columns).take(chosen[first:last] - start).to_pylist()
        start += batch.num_rows


def text_sizes(run: StageRun, path: str) -> np.ndarray:
    """int64 bytes of UTF-8 of each text. InputError for a table without text."""
    parts = [pc.binary_length(batch["text"]).to_numpy() for batch in run.batches(path, schemas.MIXED)]
    sizes = np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)
    if not sizes.sum():
        raise InputError(f"{path}: no text for the tokenizer; look at corpus.mix")
    return sizes


def compare(
    names: list[Name], train: Callable[[str], Tokenizer], documents: list[dict[str, str]]
) -> dict[str, Measured]:
    """Each pre-tokenizer, trained and measured alike."""
    return {name: measure_on(train(name), documents) for name in names}


def measure_on(tokenizer: Tokenizer, documents: list[dict[str, str]]) -> Measured:
    texts = [row["text"] for row in documents]
    sources, domains = [row["source"] for row in documents], [row["domain"] for row in documents]
    ids = encode_documents(tokenizer, texts, "measuring")
    return measure(ids, texts, sources, domains, len(token_bytes(tokenizer)))


def main() -> None:
    with stage("tokens.tokenizer", TokenizerParams, seed="corpus.seed") as run:
        params = run.params
        if params.vocab_size % 64:
            raise ParamError(f"params.yaml: `tokens.tokenizer.vocab_size` is {params.vocab_size}; use a multiple of 64")
        chosen = choose(text_sizes(run, TRAIN), params.max_bytes, run.seed)

        def train(name: str) -> Tokenizer:
            texts = (row["text"] for row in read_chosen(run, TRAIN, chosen, ["text"]))
            return train_bpe(texts, params.vocab_size, name)

        tokenizer = train(params.pretokenizer)
        save_tokenizer(run.output("tokenizer.json").parent, tokenizer)
        held_out = len(text_sizes(run, VALIDATION))
        sample = np.random.default_rng(derive(run.seed, "measure")).permutation(held_out)[: params.measured_documents]
        documents = list(read_chosen(run, VALIDATION, np.sort(sample), ["source", "domain", "text"]))
        measured = measure_on(tokenizer, documents)
        others = compare([name for name in params.compare if name != params.pretokenizer], train, documents)
        figures = metrics(measured, tokenizer) | {"vocab_size": padded_vocab_size(tokenizer)}
        figures |= {f"bytes_per_token_as_{name}": other.total.bytes_per_token for name, other in others.items()}
        run.write_json("metrics.json", figures)
        compared = {params.pretokenizer: measured} | others
        run.publish("reports/tokenizer.html", render(tokenizer, params.pretokenizer, figures, compared, documents))


if __name__ == "__main__":
    main()
