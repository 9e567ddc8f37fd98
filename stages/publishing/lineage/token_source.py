"""`trainyard trace train:ROW:COLUMN`: the document that a packed token comes from."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.base import schemas
from stages.base.artifacts import PACK, PACKED, TOKENIZER
from stages.base.contracts.pack import Pack
from stages.base.errors import InputError
from stages.base.files import read_json
from stages.base.tables import read_table
from stages.lm.chat import load_tokenizer

DOCUMENTS = "data/corpus/decontaminate/documents.parquet"
PLACE = re.compile(r"(train|anneal|validation):(\d+):(\d+)")


@dataclass(frozen=True)
class TokenSource:
    """A token of a shard; `document` is None for padding and the BOS before a document."""

    shard: str
    row: int
    column: int
    token: int
    text: str
    document: dict[str, Any] | None  # id, source, domain, copy; place: which of the document's tokens; url


def find_token(place: str) -> TokenSource:
    """Raises InputError for a place outside the shard."""
    from stages.lm.data import PackedRows  # torch: not for those who trace a row of the leaderboard

    found = PLACE.fullmatch(place)
    assert found is not None, "the caller matched PLACE"
    shard, row, column = found[1], int(found[2]), int(found[3])
    rows = PackedRows.of(f"{PACKED}/{shard}.bin", Pack.model_validate(read_json(PACK)))
    if row >= len(rows) or column > rows.seq_len:
        raise InputError(
            f"{PACKED}/{shard}.bin: has rows 0 to {len(rows) - 1} and columns 0 to {rows.seq_len}, not {row}:{column}"
        )
    token = int(rows.rows[row, column])
    index = read_table(f"{PACKED}/{shard}.documents.parquet", schemas.PLACEMENT)
    pieces = index.filter(pc.equal(index["row"], row)).to_pylist()
    piece = next((piece for piece in pieces if 0 <= column - piece["offset"] < piece["length"]), None)
    document = None
    if piece is not None:
        document = {name: piece[name] for name in ("id", "source", "domain", "copy")}
        document |= {"place": piece["start"] + column - piece["offset"], "url": url_of(piece["id"])}
    text = load_tokenizer(TOKENIZER).tokenizer.decode([token], skip_special_tokens=False)
    return TokenSource(shard, row, column, token, text, document)


def url_of(document: str) -> str | None:
    """The address of a document of the corpus, None where its table is gone."""
    if not Path(DOCUMENTS).is_file():
        return None
    found = pq.read_table(DOCUMENTS, columns=["id", "url"], filters=[("id", "=", document)])
    return found["url"][0].as_py() if found.num_rows else None


def render(source: TokenSource) -> str:
    lines = [f"{source.shard}.bin, row {source.row}, column {source.column}: token {source.token} {source.text!r}"]
    if source.document is None:
        return f"{lines[0]}, of no document (padding, or the mark before one)"
    facts = source.document
    lines.append(f"token {facts['place']} of document {facts['id']}, copy {facts['copy']}")
    lines.append(f"source {facts['source']}, domain {facts['domain'] or 'none'}, {facts['url'] or 'no address known'}")
    return "\n".join(lines)
