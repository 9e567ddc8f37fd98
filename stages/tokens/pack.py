"""Encode the mixture and pack it into rows that training maps into memory."""

from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from stages.base import schemas
from stages.base.artifacts import TOKENIZER, VALIDATION
from stages.base.contracts.pack import Domain, Pack, TrainShard, TrainSource, ValidationShard, ValidationSource
from stages.base.errors import InputError
from stages.base.files import atomic_path, sha256_file
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.base.seeds import derive
from stages.lm.chat import ChatTokenizer, load_tokenizer, padded_vocab_size, token_dtype
from stages.tokens import packing
from stages.tokens.packing import Packed, schedule_copies, shuffle_rows
from stages.tokens.vocabulary import encode_documents


class PackParams(Section):
    seq_len: Annotated[int, Field(ge=16, le=65536)]
    """Tokens a row predicts."""
    max_gap: Annotated[int, Field(ge=0)]
    """A row's rest of up to this many tokens is padded, not filled with a cut."""
    lookahead: Annotated[int, Field(ge=1)]
    """Documents among which the best fit is looked for."""


PARAMS: dict[str, type[Section]] = {"tokens.pack": PackParams}


def pack_table(
    table: pa.Table, tokenizer: ChatTokenizer, params: PackParams, seed: int, label: str
) -> tuple[Packed, TrainShard]:
    """Rows of a MIXED table, and what they hold."""
    documents = encode_documents(tokenizer.tokenizer, table["text"].to_pylist(), f"encoding {label}")
    order = schedule_copies(table["id"].to_pylist(), table["epochs"].to_numpy().astype(np.float64), seed)
    packed = packing.pack(
        documents,
        order.tolist(),
        params.seq_len,
        tokenizer.prefix_id,
        tokenizer.pad_id,
        params.max_gap,
        params.lookahead,
    )
    lengths = np.array([len(document) for document in documents], dtype=np.int64)
    sizes = np.array([len(text.encode("utf-8")) for text in table["text"].to_pylist()], dtype=np.int64)
    sources = np.array(table["source"].to_pylist(), dtype=object)
    if packed.tokens != int(lengths[order].sum()):
        raise InputError(f"tokens.pack lost text: {packed.tokens} tokens packed of {int(lengths[order].sum())}")
    return packed, TrainShard(
        rows=len(packed.rows),
        tokens=packed.tokens,
        padding=packed.padding,
        utilisation=packed.utilisation,
        splits=packed.splits,
        documents=len(order),
        bytes=int(sizes[order].sum()),
        sources={
            source: TrainSource(
                unique_tokens=int(lengths[sources == source].sum()),
                unique_bytes=int(sizes[sources == source].sum()),
                tokens=int(lengths[order][sources[order] == source].sum()),
            )
            for source in sorted(set(sources.tolist()))
        },
    )


def pack_by_source(
    table: pa.Table, tokenizer: ChatTokenizer, params: PackParams, seed: int
) -> tuple[Packed, ValidationShard]:
    """Validation rows, one source after another, so that each can be measured by itself: its first row and row count
    are in `sources`. By domain they are told apart by their placements.
    """
    parts, places, sources, domains = [], [], {}, {}
    sizes = pc.binary_length(pc.cast(table["text"], pa.binary())).to_numpy()
    names = np.array(table["source"].to_pylist(), dtype=object)
    first = total = size = padding = splits = 0
    for source in sorted(set(names.tolist())):
        chosen = np.flatnonzero(names == source)
        packed, held = pack_table(table.take(chosen), tokenizer, params, derive(seed, source), f"validation ({source})")
        sources[source] = ValidationSource(first_row=first, rows=held.rows, tokens=held.tokens, bytes=held.bytes)
        found = packed.placements.copy()
        found["row"] += first
        found["document"] = chosen[found["document"]]
        parts.append(packed.rows)
        places.append(found)
        first, total, size = first + held.rows, total + held.tokens, size + held.bytes
        padding, splits = padding + packed.padding, splits + packed.splits
    together = Packed(np.concatenate(parts), total, padding, splits, np.concatenate(places))
    tokens = np.bincount(
        together.placements["document"], together.placements["length"], minlength=table.num_rows
    ).astype(np.int64)
    labels = np.array([domain or "none" for domain in table["domain"].to_pylist()], dtype=object)
    for domain in sorted(set(labels.tolist())):
        chosen = labels == domain
        domains[domain] = Domain(tokens=int(tokens[chosen].sum()), bytes=int(sizes[chosen].sum()))
    return together, ValidationShard(
        rows=first,
        tokens=total,
        bytes=size,
        utilisation=together.utilisation,
        sources=sources,
        domains=domains,
    )


def placement_table(placements: np.ndarray, table: pa.Table) -> pa.Table:
    """The document index of a shard (schema PLACEMENT): where the documents of a MIXED table stand in its rows."""
    columns = {name: placements[name] for name in packing.PLACEMENT.names or ()}
    columns |= {name: table[name].take(placements["document"]) for name in ("id", "source", "domain")}
    return pa.table(columns, schema=schemas.PLACEMENT)


def write_shard(run: StageRun, name: str, packed: Packed, table: pa.Table, dtype: str) -> None:
    """`<name>.bin`: the rows, little-endian; `<name>.documents.parquet`: where each document stands in them."""
    with atomic_path(run.output(f"{name}.bin")) as temporary:
        packed.rows.astype(np.dtype(dtype).newbyteorder("<")).tofile(temporary)
    run.write_table(f"{name}.documents.parquet", placement_table(packed.placements, table), schemas.PLACEMENT)


def main() -> None:
    with stage("tokens.pack", PackParams, seed="corpus.seed") as run:
        path = run.input(TOKENIZER)
        tokenizer = load_tokenizer(path)
        vocab_size = padded_vocab_size(tokenizer.tokenizer)
        dtype, shards = token_dtype(vocab_size), {}
        for name in ("train", "anneal"):
            table = run.read_table(f"data/corpus/mix/{name}.parquet", schemas.MIXED)
            seed = derive(run.seed, name)
            packed, shards[name] = pack_table(table, tokenizer, run.params, seed, name)
            if not len(packed.rows):
                raise InputError(f"data/corpus/mix/{name}.parquet: no text to pack; look at corpus.mix")
            write_shard(run, name, shuffle_rows(packed, seed), table, dtype)
        table = run.read_table(VALIDATION, schemas.MIXED)
        if not table.num_rows:
            raise InputError(f"{VALIDATION}: no documents; raise `corpus.mix.sources.*.validation`")
        packed, validation = pack_by_source(table, tokenizer, run.params, run.seed)
        write_shard(run, "validation", packed, table, dtype)
        held = Pack(
            seq_len=run.params.seq_len,
            vocab_size=vocab_size,
            dtype=dtype,
            tokenizer_sha256=sha256_file(path / "tokenizer.json"),
            pad_id=tokenizer.pad_id,
            bos_id=tokenizer.prefix_id,
            train=shards["train"],
            anneal=shards["anneal"],
            validation=validation,
            unique_tokens={source: there.unique_tokens for source, there in shards["train"].sources.items()},
        )
        run.write_contract("pack.json", held)


if __name__ == "__main__":
    main()
