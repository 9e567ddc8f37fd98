"""Train the tokenizer on the training mixture."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from stages.base import schemas
from stages.base.errors import ParamError
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive
from stages.lm.chat import padded_vocab_size
from stages.tokens.vocabulary import compression, encode_documents, save_tokenizer, train_bpe


class TokenizerParams(Section):
    vocab_size: Annotated[int, Field(ge=320, le=65536)]  # special tokens included
    pretokenizer: Literal["gpt2", "cl100k", "digits"]
    max_bytes: Annotated[int, Field(gt=0)]  # of text to train on, a seeded subset of the documents
    measured_documents: Annotated[int, Field(gt=0)]  # on which bytes per token are measured


PARAMS: dict[str, type[Section]] = {"tokens.tokenizer": TokenizerParams}


def choose(texts: list[str], max_bytes: int, seed: int) -> list[str]:
    """A seeded subset of about max_bytes of UTF-8, at least one document, in document order."""
    order = np.random.default_rng(seed).permutation(len(texts))
    sizes = np.array([len(texts[i].encode("utf-8")) for i in order], dtype=np.int64)
    count = max(1, int(np.searchsorted(np.cumsum(sizes), max_bytes, side="right")))
    return [texts[i] for i in sorted(order[:count])]


def main() -> None:
    with stage("tokens.tokenizer", TokenizerParams, seed="corpus.seed") as run:
        params = run.params
        if params.vocab_size % 64:
            raise ParamError(f"params.yaml: `tokens.tokenizer.vocab_size` is {params.vocab_size}; use a multiple of 64")
        train = run.read_table("data/corpus/mix/train.parquet", schemas.MIXED)
        texts, domains = train["text"].to_pylist(), train["domain"].to_pylist()
        tokenizer = train_bpe(choose(texts, params.max_bytes, run.seed), params.vocab_size, params.pretokenizer)
        save_tokenizer(run.output("tokenizer.json").parent, tokenizer)
        rng = np.random.default_rng(derive(run.seed, "measure"))
        sample = sorted(rng.permutation(len(texts))[: params.measured_documents].tolist())
        chosen = [texts[i] for i in sample]
        metrics = compression(encode_documents(tokenizer, chosen, "measuring"), chosen, [domains[i] for i in sample])
        metrics["vocab_size"] = padded_vocab_size(tokenizer)
        run.write_json("metrics.json", metrics)


if __name__ == "__main__":
    main()
