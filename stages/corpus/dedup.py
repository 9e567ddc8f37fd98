"""dedup: the same URL, the same text, nearly the same text, and paragraphs that a site repeats.

Three passes over the batches: sketches of all documents; the shingles of those that share a bucket, to compare them
exactly; what stays, without its repeated paragraphs. Between the passes stand arrays of some hundred bytes a document.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import schemas, tables
from stages.base.artifacts import PLANTED
from stages.base.engine import map_batches
from stages.base.params import Section
from stages.base.record import stage
from stages.corpus.drops import Drop, for_source, split, with_text
from stages.corpus.duplicates import lsh, minhash, paragraphs, sketch
from stages.corpus.duplicates.groups import RULES, Index, Verdicts
from stages.corpus.duplicates.ngrams import code_points, shingles, words
from stages.corpus.duplicates.plants import planted_metrics
from stages.corpus.duplicates.spill import Spill, spill_folder
from stages.corpus.planted import plants, share
from stages.corpus.step import Outcome, write_outcomes

Fraction = Annotated[float, Field(ge=0, le=1)]
Read = Callable[[list[str] | None], Iterator[pa.Table]]  # the documents from the first, batch by batch; some columns


class ParagraphParams(Section):
    """When a repeated line is a site's furniture."""

    max_documents: Annotated[int, Field(ge=1)]
    """A line in more documents of its source is removed."""
    min_characters: Annotated[int, Field(ge=0)]
    """Shorter lines are removed at the top and bottom of a text only."""


class DedupParams(Section):
    """Parameters of corpus.dedup."""

    max_drop: Fraction
    ngram: Annotated[int, Field(ge=1)]
    """Words a shingle."""
    bands: Annotated[int, Field(ge=1)]
    """Bands of the hash table: texts that agree in all rows of one are candidates."""
    rows: Annotated[int, Field(ge=1)]
    """Hash functions a band."""
    jaccard: Fraction
    """Pairs of candidates below it are no duplicates."""
    min_words: Annotated[int, Field(ge=0)]
    """Shorter texts are compared exactly only."""
    paragraphs: dict[str, ParagraphParams]
    """Source (or `default`) -> rule."""
    min_characters: Annotated[int, Field(ge=0)]
    """What is shorter once its repeated paragraphs are gone is dropped."""


PARAMS = {"corpus.dedup": DedupParams}


class Removal(NamedTuple):
    """What the last pass takes out of the documents that stay."""

    lines: np.ndarray  # uint64 hashes of repeated lines, salted by source, ascending
    furniture: Mapping[str, int]  # source -> ParagraphParams.min_characters
    min_characters: int
    notices: Mapping[str, Sequence[str]]  # URL -> boilerplate planted there, to count how much of it goes


class Decided(NamedTuple):
    """A batch of documents and what becomes of each."""

    documents: pa.Table
    rules: np.ndarray  # int8, place in RULES, -1 for what stays
    twins: Sequence[str | None]  # ids


def _settings(params: DedupParams, seed: int) -> sketch.Settings:
    return sketch.Settings(params.ngram, params.bands, params.rows, params.min_words, seed)


def near_duplicates(texts: Sequence[str], params: DedupParams, *, seed: int = 0) -> np.ndarray:
    """Cluster id of each text, int64: the position of the cluster's first text.

    `params` gives ngram, bands, rows and jaccard. Texts of fewer than `params.min_words` words are alone. The corpus in
    memory: `deduplicate` makes the same clusters batch by batch.
    """
    settings, family = _settings(params, seed), minhash.family(params.bands * params.rows, seed)
    keys, long = np.empty((len(texts), params.bands), np.uint64), np.zeros(len(texts), bool)
    for row, text in enumerate(texts):
        keys[row], long[row] = sketch.banded(code_points(text), settings, family)
    rows = lsh.candidates(list(keys.T), np.flatnonzero(long))
    labels = np.arange(len(texts))
    sets = lsh.pack([shingle_set(texts[row], params.ngram) for row in rows])
    labels[rows] = rows[lsh.components(keys[rows], sets, params.jaccard)]
    return labels


def shingle_set(text: str, ngram: int) -> np.ndarray:
    """uint64: the distinct shingles of a text, ascending."""
    return lsh.distinct(shingles(words(code_points(text)).hashes, ngram))


def shingle_sets(batch: pa.Table, ngram: int) -> list[np.ndarray]:
    """The shingle set of each document of a batch."""
    return [shingle_set(text, ngram) for text in batch["text"].to_pylist()]


def _chosen(batches: Iterator[pa.Table], rows: np.ndarray) -> Iterator[pa.Table]:
    """The given rows (ascending) of a table that comes in batches."""
    start = 0
    for batch in batches:
        low, high = np.searchsorted(rows, (start, start + batch.num_rows))
        if low < high:
            yield batch.take(pa.array(rows[low:high] - start))
        start += batch.num_rows


def _near_labels(read: Read, index: Index, rows: np.ndarray, params: DedupParams, folder: Path) -> np.ndarray:
    """int64: for each of `rows` the first document of its near-duplicate cluster."""
    bands = index.bands()
    candidates = lsh.candidates(bands, rows)
    spill, lengths = Spill(folder / "shingles", np.uint64), []
    for sets in map_batches(shingle_sets, _chosen(read(["text"]), candidates), params.ngram):
        for one in sets:
            spill.append(one)
            lengths.append(len(one))
    keys = np.stack([keys[candidates] for keys in bands], axis=1)
    spilled = lsh.Sets(spill.read(), lsh.offsets(np.array(lengths, np.int64)))
    labels = rows.copy()
    labels[np.searchsorted(rows, candidates)] = candidates[lsh.components(keys, spilled, params.jaccard)]
    return labels


def deduplicate(
    read: Read, params: DedupParams, *, seed: int, folder: Path, notices: Mapping[str, Sequence[str]]
) -> Iterator[Outcome]:
    """What becomes of each batch of documents, in order: kept, drops with `duplicate_of`, and figures that add up.

    `folder` takes what memory can't hold. Facts: `paragraph_characters_removed`; `boilerplate_planted` and
    `boilerplate_removed`, the notices that stood in documents that stay and those that are gone. Raises ParamError for
    a source without a rule for its paragraphs.
    """
    index = Index(folder, params.bands)
    for sketches in map_batches(sketch.sketch, read(sketch.COLUMNS), _settings(params, seed)):
        index.add(sketches)
    index.finish()
    verdicts = Verdicts(index.rank())
    addressed = np.flatnonzero(index.urls)
    verdicts.drop("url_duplicate", addressed, index.urls[addressed])
    rows = np.flatnonzero(verdicts.staying())
    verdicts.drop("exact_duplicate", rows, index.texts[rows])
    rows = np.flatnonzero(verdicts.staying() & index.long)
    verdicts.drop("near_duplicate", rows, _near_labels(read, index, rows, params, folder))

    rules = {name: for_source(params.paragraphs, name, "corpus.dedup.paragraphs") for name in index.source_names}
    limits = np.array([rules[name].max_documents for name in index.source_names], np.int64)
    lines = paragraphs.repeated(index.lines, verdicts.staying(), limits[index.sources])
    furniture = {name: rule.min_characters for name, rule in rules.items()}
    removal = Removal(lines, furniture, params.min_characters, notices)
    yield from map_batches(decide, _decided(read(None), verdicts, index.ids), removal)


def _decided(batches: Iterator[pa.Table], verdicts: Verdicts, ids: pa.Array) -> Iterator[Decided]:
    start = 0
    for batch in batches:
        part = slice(start, start + batch.num_rows)
        twins = pa.array(verdicts.twin[part], mask=verdicts.twin[part] < 0)
        yield Decided(batch, verdicts.rule[part], ids.take(twins).to_pylist())
        start += batch.num_rows


def decide(batch: Decided, removal: Removal) -> Outcome:
    """Drop the duplicates of a batch, take repeated paragraphs out of the rest, drop what is then too short."""
    documents = batch.documents
    texts, urls = documents["text"].to_pylist(), documents["url"].to_pylist()
    facts = Counter({"paragraph_characters_removed": 0, "boilerplate_planted": 0, "boilerplate_removed": 0})
    drops = []
    for row, (source, rule) in enumerate(zip(documents["source"].to_pylist(), batch.rules, strict=True)):
        if rule >= 0:
            drops.append(Drop(row, *RULES[rule], batch.twins[row] or ""))
            continue
        salt = np.uint64(sketch.string_hash(source))
        old = texts[row]
        texts[row], removed = paragraphs.without(old, removal.lines, salt, removal.furniture[source])
        facts["paragraph_characters_removed"] += removed
        if removed and len(texts[row].strip()) < max(1, removal.min_characters):
            drops.append(Drop(row, "paragraph_duplicate", "nothing_left"))
            continue
        planted = [notice for notice in removal.notices.get(urls[row], ()) if notice in old]
        facts["boilerplate_planted"] += len(planted)
        facts["boilerplate_removed"] += sum(notice not in texts[row] for notice in planted)
    if facts["paragraph_characters_removed"]:
        documents = with_text(documents, texts)
    kept, dropped = split(documents, drops)
    return Outcome(kept, dropped, facts)


def main() -> None:
    with stage("corpus.dedup", DedupParams, seed="corpus.seed") as run:
        path, schema = "data/corpus/screen/documents.parquet", schemas.DOCUMENT
        planted = run.read_table(PLANTED, schemas.PLANTED)
        notices: dict[str, list[str]] = {}
        for plant in plants(planted, "boilerplate"):
            notices.setdefault(plant.url, []).append(plant.payload)
        read, total = partial(run.batches, path, schema), run.count_rows(path, schema)
        with spill_folder(run.output("spill")) as folder:
            outcomes = deduplicate(read, run.params, seed=run.seed, folder=folder, notices=notices)
            facts = write_outcomes(run, outcomes, total, max_drop=run.params.max_drop)
        notices_planted, notices_removed = facts.pop("boilerplate_planted", 0), facts.pop("boilerplate_removed", 0)
        metrics = facts | {
            "boilerplate_planted": notices_planted,
            "boilerplate_recall": share(int(notices_removed), int(notices_planted)),
        }
        kept = partial(tables.read_batches, run.output("documents.parquet"), schema)
        drops = partial(tables.read_batches, run.output("drops.parquet"), schemas.DROP)
        run.write_json("metrics.json", metrics | planted_metrics(planted, read, kept, drops))


if __name__ == "__main__":
    main()
