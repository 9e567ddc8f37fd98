import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base import schemas
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.tokens.pack import PackParams, pack_by_source, pack_table, placement_table
from stages.tokens.packing import Packed, pack, schedule_copies, shuffle_rows
from stages.tokens.vocabulary import save_tokenizer, train_bpe

BOS_ID, PAD_ID = 60000, 60001


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 70), min_size=1, max_size=30),
    seq_len=st.integers(8, 32),
    max_gap=st.integers(0, 12),
    lookahead=st.integers(1, 9),
)
def test_every_token_is_packed_once_in_documents_pieces(
    lengths: list[int], seq_len: int, max_gap: int, lookahead: int
) -> None:
    starts = np.cumsum([0, *lengths])
    documents = [np.arange(a, b, dtype=np.uint16) for a, b in itertools.pairwise(starts)]
    packed = pack(documents, range(len(documents)), seq_len, BOS_ID, PAD_ID, max_gap, lookahead)
    if not sum(lengths):
        assert len(packed.rows) == 0
        return
    assert packed.rows.shape[1] == seq_len + 1
    assert (packed.rows[:, 0] == BOS_ID).all()
    text = packed.rows[packed.rows < BOS_ID]
    assert sorted(text.tolist()) == list(range(sum(lengths)))
    assert packed.tokens == len(text) and packed.padding == (packed.rows == PAD_ID).sum()
    heads = set(starts[:-1].tolist())
    pieces = 0
    for row in packed.rows.tolist():
        body = row[: row.index(PAD_ID)] if PAD_ID in row else row
        assert PAD_ID not in body and all(token == PAD_ID for token in row[len(body) :])
        for here, following in itertools.pairwise(body):
            if here != BOS_ID and following != BOS_ID:
                assert following == here + 1 and following not in heads  # a piece is a run of one document
        pieces += body.count(BOS_ID)
    assert packed.splits == pieces - sum(length > 0 for length in lengths)
    for row in packed.rows[:-1]:
        assert (row == PAD_ID).sum() <= max(max_gap, 1)


def test_packing_is_tight_on_short_documents() -> None:
    rng = np.random.default_rng(0)
    documents = [np.zeros(n, dtype=np.uint16) for n in rng.integers(80, 150, 3000)]
    packed = pack(documents, range(3000), 256, BOS_ID, PAD_ID, 48, 256)
    assert packed.padding / packed.rows.size < 0.06
    assert packed.splits / 3000 < 0.05


def pieces_of(packed: Packed) -> dict[tuple[int, int], dict[int, np.ndarray]]:
    """The pieces of every copy by their start, cut out of the rows where the placements say."""
    found: dict[tuple[int, int], dict[int, np.ndarray]] = {}
    for place in packed.placements:
        row = packed.rows[place["row"]]
        assert row[place["offset"] - 1] == BOS_ID
        piece = row[place["offset"] : place["offset"] + place["length"]]
        found.setdefault((int(place["document"]), int(place["copy"])), {})[int(place["start"])] = piece
    return found


@settings(max_examples=100, deadline=None)
@given(
    order=st.lists(st.integers(0, 11), min_size=1, max_size=40),
    lengths=st.lists(st.integers(0, 90), min_size=12, max_size=12),
    seq_len=st.integers(8, 32),
    max_gap=st.integers(0, 12),
    lookahead=st.integers(1, 9),
    wide=st.booleans(),
)
def test_placements_give_every_copy_back(
    order: list[int], lengths: list[int], seq_len: int, max_gap: int, lookahead: int, wide: bool
) -> None:
    dtype = np.uint32 if wide else np.uint16
    documents = [np.random.default_rng(i).integers(0, 60000, n).astype(dtype) for i, n in enumerate(lengths)]
    packed = shuffle_rows(pack(documents, order, seq_len, BOS_ID, PAD_ID, max_gap, lookahead), 5)
    assert packed.rows.dtype == dtype
    found = pieces_of(packed)
    expected = Counter(document for document in order if lengths[document])
    assert set(found) == {(document, copy) for document, count in expected.items() for copy in range(count)}
    for (document, _), pieces in found.items():
        starts = sorted(pieces)
        assert starts == [sum(len(pieces[before]) for before in starts[:i]) for i in range(len(starts))]
        assert np.array_equal(np.concatenate([pieces[start] for start in starts]), documents[document])
    # The pieces with their BOS and the padding are all there is.
    covered = int((packed.placements["length"] + 1).sum())
    assert covered + packed.padding == packed.rows.size
    assert packed.utilisation == 1 - packed.padding / packed.rows.size if packed.rows.size else 1.0
    keys = [(place["row"], place["offset"]) for place in packed.placements]
    assert keys == sorted(keys)


def cropped(lengths: list[int], width: int, buffer: int) -> tuple[int, int]:
    """nanochat's way to fill rows (BOS-aligned best fit, a document cropped where none fits and its rest thrown away):
    (tokens thrown away, rows).
    """
    waiting: list[int] = []
    upcoming = [length + 1 for length in lengths]  # each with its BOS
    lost = rows = 0
    while upcoming or waiting:
        used = 0
        while used < width:
            while upcoming and len(waiting) < buffer:
                waiting.append(upcoming.pop(0))
            if not waiting:
                return lost, rows
            fitting = [length for length in waiting if length <= width - used]
            taken = max(fitting) if fitting else min(waiting)
            waiting.remove(taken)
            lost += max(0, taken - (width - used))
            used += min(taken, width - used)
        rows += 1
    return lost, rows


def test_no_text_is_lost_where_cropping_loses_a_third() -> None:
    rng = np.random.default_rng(2)
    lengths = np.maximum(1, rng.lognormal(5.5, 1.2, 3000)).astype(int).tolist()
    documents = [np.zeros(length, dtype=np.uint16) for length in lengths]
    packed = pack(documents, range(len(documents)), 256, BOS_ID, PAD_ID, 8, 256)
    lost, rows = cropped(lengths, 257, 256)
    assert packed.tokens == sum(lengths) and packed.utilisation > 0.99
    assert lost > 0.3 * sum(lengths) and rows < len(packed.rows)


def test_copies_follow_the_epochs_and_are_spread_evenly() -> None:
    ids = [f"d{i}" for i in range(2000)]
    epochs = np.where(np.arange(2000) < 1000, 0.25, 4.0)
    order = schedule_copies(ids, epochs, 3)
    counts = Counter(order.tolist())
    assert {counts[i] for i in range(1000, 2000)} == {4}
    rare = [counts[i] for i in range(1000)]
    assert set(rare) == {0, 1} and 200 < sum(rare) < 300
    assert np.array_equal(order, schedule_copies(ids, epochs, 3))
    assert not np.array_equal(order, schedule_copies(ids, epochs, 4))
    quarters = np.array_split(order, 4)
    for quarter in quarters:  # every stretch holds both groups in proportion, and each repeated document once
        assert abs((quarter < 1000).sum() - sum(rare) / 4) < 40
        repeated = Counter(quarter[quarter >= 1000].tolist())
        assert max(repeated.values()) <= 2 and len(repeated) > 900


def table(texts: list[str], sources: list[str], epochs: list[float]) -> pa.Table:
    columns = {
        "id": [f"{i:016x}" for i in range(len(texts))], "source": sources, "domain": sources, "text": texts,
        "epochs": epochs,
    }  # fmt: skip
    return pa.table(columns, schema=schemas.MIXED)


def trained(texts: list[str], folder: Path) -> ChatTokenizer:
    save_tokenizer(folder, train_bpe(texts, 320, "gpt2"))
    return load_tokenizer(folder)


def test_a_table_is_packed_with_counts_by_source(tmp_path: Path) -> None:
    texts = [f"The heron of village {i} sings, and the miller of village {i} listens." for i in range(60)]
    tokenizer = trained(texts, tmp_path)
    params = PackParams(seq_len=64, max_gap=8, lookahead=16)
    mixed = table(texts, ["a", "b"] * 30, [2.0, 1.0] * 30)
    packed, facts = pack_table(mixed, tokenizer, params, 1, "test")
    assert facts.sources["a"].tokens == 2 * facts.sources["a"].unique_tokens
    assert facts.bytes == sum(len(text.encode()) * (2 - i % 2) for i, text in enumerate(texts))
    assert packed.rows.max() < 320
    once = mixed.set_column(4, "epochs", pa.array([1.0] * 60, pa.float32()))
    validation_rows, validation = pack_by_source(once, tokenizer, params, 1)
    rows = validation_rows.rows
    assert validation.sources["b"].first_row == validation.sources["a"].rows
    assert validation.rows == len(rows)
    second = rows[validation.sources["b"].first_row :]
    specials = (tokenizer.bos_id, tokenizer.pad_id)
    assert int((~np.isin(second, specials)).sum()) == validation.sources["b"].tokens


def test_the_document_index_names_documents_and_adds_up_by_domain(tmp_path: Path) -> None:
    texts = [
        f"The heron of village {i} sings, and the miller of village {i} listens. " * (1 + i % 5) for i in range(60)
    ]
    tokenizer = trained(texts, tmp_path)
    mixed = table(texts, ["a", "b", "a"] * 20, [1.0] * 60)
    mixed = mixed.set_column(2, "domain", pa.array(["x", "y", "", "x"] * 15))
    packed, facts = pack_by_source(mixed, tokenizer, PackParams(seq_len=64, max_gap=8, lookahead=16), 1)
    index = placement_table(packed.placements, mixed).to_pylist()
    whole: dict[int, str] = {}
    for place in sorted(index, key=lambda place: (place["document"], place["start"])):
        ids = packed.rows[place["row"], place["offset"] : place["offset"] + place["length"]]
        whole[place["document"]] = whole.get(place["document"], "") + tokenizer.decode(ids.tolist())
        row = mixed.slice(place["document"], 1).to_pylist()[0]
        assert (place["id"], place["source"], place["domain"]) == (row["id"], row["source"], row["domain"])
        span = facts.sources[row["source"]]
        assert span.first_row <= place["row"] < span.first_row + span.rows
    assert whole == dict(enumerate(texts))
    for domain, found in facts.domains.items():
        chosen = [place for place in index if (place["domain"] or "none") == domain]
        assert found.tokens == sum(place["length"] for place in chosen)
        assert found.bytes == sum(
            len(text.encode()) for text, name in zip(texts, mixed["domain"].to_pylist(), strict=True)
            if (name or "none") == domain
        )  # fmt: skip
    assert set(facts.domains) == {"x", "y", "none"}
