"""Encode the mixture and pack it into rows that training maps into memory."""

from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field
from tokenizers import Tokenizer

from stages.base import schemas
from stages.base.errors import InputError
from stages.base.files import atomic_path, sha256_file
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.base.seeds import derive
from stages.lm.chat import BOS, PAD, load_tokenizer, padded_vocab_size, special_ids
from stages.tokens.packing import Packed, pack, schedule_copies, shuffle_rows
from stages.tokens.vocabulary import encode_documents


class PackParams(Section):
    seq_len: Annotated[int, Field(ge=16, le=65536)]  # tokens a row predicts
    max_gap: Annotated[int, Field(ge=0)]  # a row's rest of up to this many tokens is padded, not filled with a cut
    lookahead: Annotated[int, Field(ge=1)]  # documents among which the best fit is looked for


PARAMS: dict[str, type[Section]] = {"tokens.pack": PackParams}
TOKENIZER = "data/tokens/tokenizer/tokenizer.json"


def pack_table(table: pa.Table, tokenizer: Tokenizer, params: PackParams, seed: int, label: str) -> tuple[Packed, dict]:
    """Rows of a MIXED table, and what they hold: counts, and per source the unique tokens and bytes and the tokens
    with repeats.
    """
    documents = encode_documents(tokenizer, table["text"].to_pylist(), f"encoding {label}")
    specials = special_ids(tokenizer)
    order = schedule_copies(table["id"].to_pylist(), table["epochs"].to_numpy().astype(np.float64), seed)
    packed = pack(
        documents,
        order.tolist(),
        params.seq_len,
        specials[BOS],
        specials[PAD],
        params.max_gap,
        params.lookahead,
    )
    lengths = np.array([len(document) for document in documents], dtype=np.int64)
    sizes = np.array([len(text.encode("utf-8")) for text in table["text"].to_pylist()], dtype=np.int64)
    sources = np.array(table["source"].to_pylist(), dtype=object)
    facts: dict[str, Any] = {
        "rows": len(packed.rows),
        "tokens": packed.tokens,
        "padding": packed.padding,
        "splits": packed.splits,
        "documents": len(order),
        "bytes": int(sizes[order].sum()),
        "sources": {
            source: {
                "unique_tokens": int(lengths[sources == source].sum()),
                "unique_bytes": int(sizes[sources == source].sum()),
                "tokens": int(lengths[order][sources[order] == source].sum()),
            }
            for source in sorted(set(sources.tolist()))
        },
    }
    if packed.tokens != int(lengths[order].sum()):
        raise InputError(f"tokens.pack lost text: {packed.tokens} tokens packed of {int(lengths[order].sum())}")
    return packed, facts


def pack_by_source(table: pa.Table, tokenizer: Tokenizer, params: PackParams, seed: int) -> tuple[np.ndarray, dict]:
    """Validation rows, one source after another, so that each can be measured by itself: its first row and row count
    are in `sources`.
    """
    parts, sources = [], {}
    first = total = size = 0
    for source in sorted(set(table["source"].to_pylist())):
        chosen = table.filter(pc.equal(table["source"], source))
        packed, facts = pack_table(chosen, tokenizer, params, derive(seed, source), f"validation ({source})")
        sources[source] = {
            "first_row": first,
            "rows": facts["rows"],
            "tokens": facts["tokens"],
            "bytes": facts["bytes"],
        }
        parts.append(packed.rows)
        first, total, size = first + facts["rows"], total + facts["tokens"], size + facts["bytes"]
    return np.concatenate(parts), {"rows": first, "tokens": total, "bytes": size, "sources": sources}


def write_rows(run: StageRun, name: str, rows: np.ndarray) -> None:
    with atomic_path(run.output(name)) as temporary:
        rows.astype("<u2").tofile(temporary)


def main() -> None:
    with stage("tokens.pack", PackParams, seed="corpus.seed") as run:
        path = run.input(TOKENIZER)
        tokenizer = load_tokenizer(path.parent)
        specials = special_ids(tokenizer)
        facts: dict[str, Any] = {
            "seq_len": run.params.seq_len,
            "vocab_size": padded_vocab_size(tokenizer),
            "tokenizer_sha256": sha256_file(path),
            "pad_id": specials[PAD],
            "bos_id": specials[BOS],
        }
        for name in ("train", "anneal"):
            table = run.read_table(f"data/corpus/mix/{name}.parquet", schemas.MIXED)
            seed = derive(run.seed, name)
            packed, facts[name] = pack_table(table, tokenizer, run.params, seed, name)
            if not len(packed.rows):
                raise InputError(f"data/corpus/mix/{name}.parquet: no text to pack; look at corpus.mix")
            write_rows(run, f"{name}.bin", shuffle_rows(packed.rows, seed))
        table = run.read_table("data/corpus/mix/validation.parquet", schemas.MIXED)
        if not table.num_rows:
            raise InputError("data/corpus/mix/validation.parquet: no documents; raise corpus.mix's validation share")
        rows, facts["validation"] = pack_by_source(table, tokenizer, run.params, run.seed)
        write_rows(run, "validation.bin", rows)
        facts["unique_tokens"] = {
            source: values["unique_tokens"] for source, values in facts["train"]["sources"].items()
        }
        run.write_json("pack.json", facts)


if __name__ == "__main__":
    main()
