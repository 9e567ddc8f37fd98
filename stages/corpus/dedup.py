"""dedup: the same URL, the same text, nearly the same text, and paragraphs that a site repeats."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.params import Section
from stages.base.record import stage
from stages.corpus import minhash, paragraphs
from stages.corpus.components import Components
from stages.corpus.drops import Drop, count_reasons, for_source, merge, split, with_text
from stages.corpus.planted import plants, share
from stages.corpus.url import canonical

Fraction = Annotated[float, Field(ge=0, le=1)]


class ParagraphParams(Section):
    """When a repeated line is a site's furniture."""

    max_documents: Annotated[int, Field(ge=1)]  # a line in more documents of its source is removed
    min_characters: Annotated[int, Field(ge=0)]  # shorter lines are removed at the top and bottom of a text only


class DedupParams(Section):
    """Parameters of corpus.dedup."""

    max_drop: Fraction
    ngram: Annotated[int, Field(ge=1)]  # words a shingle
    bands: Annotated[int, Field(ge=1)]
    rows: Annotated[int, Field(ge=1)]  # hash functions a band
    jaccard: Fraction  # pairs of candidates below it are no duplicates
    min_words: Annotated[int, Field(ge=0)]  # shorter texts are compared exactly only
    paragraphs: dict[str, ParagraphParams]  # source (or `default`) -> rule
    min_characters: Annotated[int, Field(ge=0)]  # what is shorter once its repeated paragraphs are gone is dropped


PARAMS = {"corpus.dedup": DedupParams}


def near_duplicates(texts: list[str], params: DedupParams, *, seed: int = 0) -> np.ndarray:
    """Cluster id of each text, int64: the position of the cluster's first text (see `minhash.cluster`).

    `params` gives ngram, bands, rows and jaccard. Texts of fewer than `params.min_words` words are alone.
    """
    long = [row for row, text in enumerate(texts) if len(text.split()) >= params.min_words]
    labels = np.arange(len(texts), dtype=np.int64)
    inner = minhash.cluster(
        [texts[row] for row in long],
        ngram=params.ngram,
        bands=params.bands,
        rows=params.rows,
        threshold=params.jaccard,
        seed=seed,
    )
    labels[long] = np.array(long, np.int64)[inner] if long else []
    return labels


def inbound_links(documents: pa.Table) -> list[int]:
    """How many other documents link to each document, by canonical URL."""
    urls = list(map(canonical, documents["url"].to_pylist()))
    counts: Counter[str] = Counter()
    for url, links in zip(urls, documents["links"].to_pylist(), strict=True):
        counts.update({canonical(link) for link in links or []} - {url})
    return [counts[url] for url in urls]


def representatives(
    ids: Sequence[str], texts: Sequence[str], inbound: Sequence[int], keys: Iterable[Hashable]
) -> list[int]:
    """For each document the row of the one that stands for its group (documents of equal key).

    The most linked-to, which is the original rather than a mirror; then the longest text, then the smallest id.
    """
    best: dict[Hashable, int] = {}
    keys = list(keys)
    rank = [(-links, -len(text), identifier) for links, text, identifier in zip(inbound, texts, ids, strict=True)]
    for row, key in enumerate(keys):
        other = best.setdefault(key, row)
        if rank[row] < rank[other]:
            best[key] = row
    return [best[key] for key in keys]


def _drop_groups(
    documents: pa.Table, inbound: dict[str, int], keys: Iterable[Hashable], rule: str, reason: str
) -> tuple[pa.Table, pa.Table]:
    ids = documents["id"].to_pylist()
    links = [inbound[identifier] for identifier in ids]
    chosen = representatives(ids, documents["text"].to_pylist(), links, keys)
    return split(documents, [Drop(row, rule, reason, ids[best]) for row, best in enumerate(chosen) if best != row])


def remove_paragraphs(documents: pa.Table, params: DedupParams) -> tuple[pa.Table, pa.Table, int]:
    """(documents without repeated paragraphs, drops of what is left too short, characters removed)."""
    sources, texts = documents["source"].to_pylist(), documents["text"].to_pylist()
    removed = 0
    for source in sorted(set(sources)):
        rule = for_source(params.paragraphs, source, "corpus.dedup.paragraphs")
        mine = [row for row, name in enumerate(sources) if name == source]
        lines = paragraphs.repeated([texts[row] for row in mine], rule.max_documents)
        for row in mine:
            texts[row], characters = paragraphs.without(texts[row], lines, rule.min_characters)
            removed += characters
    short = [
        Drop(row, "paragraph_duplicate", "nothing_left")
        for row, text in enumerate(texts)
        if len(text.strip()) < max(1, params.min_characters)
    ]
    kept, drops = split(with_text(documents, texts), short)
    return kept, drops, removed


def deduplicate(documents: pa.Table, params: DedupParams, *, seed: int) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    """(kept, drops with `duplicate_of`, counts). A twin named in a drop may itself be dropped by a later step."""
    inbound = dict(zip(documents["id"].to_pylist(), inbound_links(documents), strict=True))
    kept, parts = documents, []
    steps: list[tuple[str, str, Callable[[], Iterable[Hashable]]]] = [
        ("url_duplicate", "same_url", lambda: map(canonical, kept["url"].to_pylist())),
        ("exact_duplicate", "same_text", lambda: kept["text_hash"].to_pylist()),
        (
            "near_duplicate",
            "minhash_jaccard",
            lambda: near_duplicates(kept["text"].to_pylist(), params, seed=seed).tolist(),
        ),
    ]
    for rule, reason, keys in steps:
        kept, drops = _drop_groups(kept, inbound, keys(), rule, reason)
        parts.append(drops)
    kept, drops, characters = remove_paragraphs(kept, params)
    parts.append(drops)
    return kept, merge(documents, parts), {"paragraph_characters_removed": characters}


def planted_metrics(planted: pa.Table, documents: pa.Table, kept: pa.Table, drops: pa.Table) -> dict[str, Any]:
    """Precision and recall of duplicate removal, and recall of boilerplate removal, on the atlas's planted cases.

    Recall of a kind: planted copies, both pages of which came in, that were found to be one (one dropped for the other,
    or both for a third, through any chain of drops). Precision: drops of pages of the sources with plants, for a page
    of which they are a planted copy (through any chain of copies).
    """
    copies = plants(planted, "exact_duplicate", "near_duplicate")
    urls = documents["url"].to_pylist()
    number = {url: place for place, url in enumerate(dict.fromkeys(urls))}
    relation = Components(len(number))
    for copy in copies:
        if copy.url in number and copy.of_url in number:
            relation.join(number[copy.url], number[copy.of_url])
    row_of = {identifier: row for row, identifier in enumerate(documents["id"].to_pylist())}
    merged = Components(len(number))
    for url, twin in zip(drops["url"].to_pylist(), drops["duplicate_of"].to_pylist(), strict=True):
        if twin:
            merged.join(number[url], number[urls[row_of[twin]]])
    metrics: dict[str, Any] = {}
    for kind in ("exact_duplicate", "near_duplicate"):
        cases = [copy for copy in copies if copy.kind == kind and copy.url in number and copy.of_url in number]
        found = sum(merged.find(number[copy.url]) == merged.find(number[copy.of_url]) for copy in cases)
        metrics |= {f"{kind}_planted": len(cases), f"{kind}_recall": share(found, len(cases))}
    left = set(kept["url"].to_pylist())
    sources = documents["source"].to_pylist()
    planted_sources = {sources[urls.index(copy.url)] for copy in copies if copy.url in number}
    correct = [
        relation.find(number[url]) == relation.find(number[urls[row_of[twin]]])
        for url, source, twin in zip(
            drops["url"].to_pylist(), drops["source"].to_pylist(), drops["duplicate_of"].to_pylist(), strict=True
        )
        if twin and source in planted_sources
    ]
    metrics["duplicate_precision"] = share(sum(correct), len(correct))
    editions = [plant for plant in plants(planted, "edition") if plant.url in number]
    metrics["edition_planted"] = len(editions)
    metrics["edition_kept"] = share(sum(plant.url in left for plant in editions), len(editions))
    text = dict(zip(kept["url"].to_pylist(), kept["text"].to_pylist(), strict=True))
    old = dict(zip(urls, documents["text"].to_pylist(), strict=True))
    notices = [p for p in plants(planted, "boilerplate") if p.url in text and p.payload in old[p.url]]
    metrics["boilerplate_planted"] = len(notices)
    metrics["boilerplate_recall"] = share(sum(p.payload not in text[p.url] for p in notices), len(notices))
    return metrics


def main() -> None:
    with stage("corpus.dedup", DedupParams, seed="corpus.seed") as run:
        documents = run.read_table("data/corpus/screen/documents.parquet", schemas.DOCUMENT)
        planted = run.read_table("data/corpus/atlas/planted.parquet", schemas.PLANTED)
        kept, drops, counts = deduplicate(documents, run.params, seed=run.seed)
        run.write_table("documents.parquet", kept, schemas.DOCUMENT)
        run.write_table("drops.parquet", drops, schemas.DROP)
        run.write_json("metrics.json", counts | planted_metrics(planted, documents, kept, drops))
        run.rows(documents.num_rows, kept.num_rows, count_reasons(drops), run.params.max_drop)


if __name__ == "__main__":
    main()
