"""quality: pages that a trusted page links to look like this; how much does each document look like them?

The lecture's trick, and GPT-3's classifier (Brown et al. 2020, appendix A) with links in place of Reddit karma: linked
pages are the positives, random others the negatives, and the score is the calibrated probability of being linked, given
the words.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field
from sklearn.metrics import roc_auc_score

from stages.base import schemas
from stages.base.errors import ParamError
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive
from stages.corpus.drops import Drop, count_reasons, for_source, split, with_column
from stages.corpus.folds import calibration_error, cross_fit, features, fold_of, platt
from stages.corpus.url import canonical

Fraction = Annotated[float, Field(ge=0, le=1)]


class SourceQuality(Section):
    """Who is trusted in a source and what is kept of it."""

    trusted: list[str]  # regular expressions; a page whose URL matches one is a hub
    min_score: Fraction  # documents below it are dropped


class QualityParams(Section):
    """Parameters of corpus.quality."""

    max_drop: Fraction
    sources: dict[str, SourceQuality]  # source, or `default`
    negatives_per_positive: Annotated[float, Field(gt=0)]  # at most; drawn by a hash of the id
    min_examples: Annotated[int, Field(ge=2)]  # fewer positives or negatives: no classifier, the score is their share
    folds: Annotated[int, Field(ge=2)]
    feature_bits: Annotated[int, Field(ge=8, le=24)]
    characters: Annotated[int, Field(ge=100)]  # of each text that are looked at
    inverse_penalty: Annotated[float, Field(gt=0)]


PARAMS = {"corpus.quality": QualityParams}


class Pages(NamedTuple):
    """Columns of the crawl."""

    ids: list[str]
    urls: list[str]
    texts: list[str]
    hashes: list[str]  # of the texts


def trusted_targets(urls: Sequence[str], links: Sequence[Sequence[str]], patterns: Sequence[str]) -> set[str]:
    """Canonical URLs that pages with a trusted URL link to. Raises ParamError for a bad pattern."""
    try:
        hub = re.compile("|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)")
    except re.error as error:
        raise ParamError(f"params.yaml: `corpus.quality.sources`: not a regular expression: {error}") from None
    return {
        canonical(target)
        for url, targets in zip(urls, links, strict=True)
        if hub.search(url)
        for target in targets or []
        if canonical(target) != canonical(url)
    }


def label(pages: Pages, targets: set[str], ratio: float, seed: int) -> np.ndarray:
    """int64: 1 linked by a hub, 0 a random other, -1 neither.

    A copy of a linked page's text counts as linked. Of the others at most `ratio` times the positives, by a hash of the
    id.
    """
    linked = {text for url, text in zip(pages.urls, pages.hashes, strict=True) if canonical(url) in targets}
    labels = np.array([1 if text in linked else -1 for text in pages.hashes], np.int64)
    others = np.flatnonzero(labels < 0)
    order = sorted(others, key=lambda row: derive(seed, "negative", pages.ids[row]))
    labels[order[: int(ratio * (labels == 1).sum())]] = 0
    return labels


def score(pages: Pages, labels: np.ndarray, params: QualityParams, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """(float64 score in 0..1 of each page, metrics): every score is from a model that saw no page with this text."""
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    metrics: dict[str, Any] = {"positives": positives, "negatives": negatives, "auc": None, "calibration_error": None}
    if min(positives, negatives) < params.min_examples:
        prior = positives / (positives + negatives) if positives + negatives else 0.5
        return np.full(len(labels), prior), metrics
    folds = np.array([fold_of(text, params.folds, seed) for text in pages.hashes])
    matrix = features(pages.texts, params.characters, params.feature_bits)
    raw = cross_fit(matrix, labels, folds, inverse_penalty=params.inverse_penalty, classes=2)[:, 1]
    scores = platt(raw, labels, folds)
    known = labels >= 0
    metrics["auc"] = float(roc_auc_score(labels[known], scores[known]))
    metrics["calibration_error"] = calibration_error(scores[known], labels[known], bins=10)
    return scores, metrics


def rate(documents: pa.Table, crawl: pa.Table, params: QualityParams, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """(float32 score of each document, metrics by source).

    `crawl`: the extracted pages, before any was dropped. Hubs are lists of links, which the rules for prose drop, and
    the negatives are to be random pages, not the survivors of the filters; so links, labels and words are read there.
    """
    ids, sources = documents["id"].to_pylist(), np.array(documents["source"].to_pylist(), dtype=object)
    crawl_sources = np.array(crawl["source"].to_pylist(), dtype=object)
    scores = np.zeros(len(ids), np.float32)
    metrics: dict[str, Any] = {}
    for source in sorted(set(sources)):
        settings = for_source(params.sources, source, "corpus.quality.sources")
        pages = crawl.filter(pa.array(crawl_sources == source))
        read = Pages(*(pages[name].to_pylist() for name in ("id", "url", "text", "text_hash")))
        targets = trusted_targets(read.urls, pages["links"].to_pylist(), settings.trusted)
        labels = label(read, targets, params.negatives_per_positive, seed)
        found, numbers = score(read, labels, params, seed)
        by_id = dict(zip(read.ids, found, strict=True))
        mine = np.flatnonzero(sources == source)
        scores[mine] = [by_id[ids[row]] for row in mine]
        metrics |= {f"{source}_{key}": value for key, value in numbers.items()}
        metrics[f"{source}_mean_score"] = float(scores[mine].mean(dtype=np.float64))
    return scores, metrics


def main() -> None:
    with stage("corpus.quality", QualityParams, seed="corpus.seed") as run:
        documents = run.read_table("data/corpus/heuristics/documents.parquet", schemas.DOCUMENT)
        crawl = run.read_table("data/corpus/extract/documents.parquet", schemas.DOCUMENT)
        scores, metrics = rate(documents, crawl, run.params, run.seed)
        bounds = {
            source: np.float32(for_source(run.params.sources, source, "corpus.quality.sources").min_score)
            for source in set(documents["source"].to_pylist())
        }
        drops = [
            Drop(row, "quality", "below_min_score")
            for row, source in enumerate(documents["source"].to_pylist())
            if scores[row] < bounds[source]
        ]
        kept, dropped = split(with_column(documents, "quality", scores), drops)
        run.write_table("documents.parquet", kept, schemas.DOCUMENT)
        run.write_table("drops.parquet", dropped, schemas.DROP)
        run.write_json("metrics.json", metrics)
        run.rows(documents.num_rows, kept.num_rows, count_reasons(dropped), run.params.max_drop)


if __name__ == "__main__":
    main()
