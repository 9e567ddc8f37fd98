"""quality: pages that a trusted page links to look like this; how much does each document look like them?

The lecture's trick, and GPT-3's classifier (Brown et al. 2020, appendix A) with links in place of Reddit karma: linked
pages are the positives, random others the negatives, and the score is the calibrated probability of being linked, given
the words. A source of which no linked page is known has no score: nan.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.corpus.classifiers.examples import Found, Smallest, Wanted, gather, row_keys
from stages.corpus.classifiers.folds import folds_of
from stages.corpus.classifiers.rater import TEXT_KEY, Learned, Rater, RaterParams, fit
from stages.corpus.drops import Drop, for_source, split, with_column
from stages.corpus.links.graph import (
    KeySet,
    Match,
    RegularExpression,
    hub_pattern,
    linked_keys,
    member,
    reference_keys,
    url_keys,
)
from stages.corpus.step import Outcome, read, run_step

Fraction = Annotated[float, Field(ge=0, le=1)]
CRAWL, DOCUMENTS = "data/corpus/extract/documents.parquet", "data/corpus/heuristics/documents.parquet"
EDGES = [round(edge / 20, 2) for edge in range(21)]  # of the histogram of scores


class SourceQuality(Section):
    """Who is trusted in a source and what is kept of it."""

    trusted: list[RegularExpression]
    """Regular expressions; a page whose URL matches one is a hub."""
    references: list[str]
    """Files, in the folder `references`, of addresses that a trusted source outside the crawl links to."""
    match: Match
    """A page counts as linked where its address is, or where any address of its host is."""
    min_score: Fraction
    """Documents below it are dropped."""


class QualityParams(RaterParams):
    """Parameters of corpus.quality."""

    max_drop: Fraction
    references: Annotated[str, Field(min_length=1)]
    """Folder of files of addresses (lists/README.md); DVC watches it."""
    sources: dict[str, SourceQuality]
    """Source, or `default`."""
    negatives_per_positive: Annotated[float, Field(gt=0)]
    """At most."""
    max_examples: Annotated[int, Field(ge=10)]
    """Texts of a source that are learned from, of both classes together."""


PARAMS = {"corpus.quality": QualityParams}


def settings_of(params: QualityParams, source: str) -> SourceQuality:
    return for_source(params.sources, source, "corpus.quality.sources")


def by_source(batches: Iterable[pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    """(source, its rows of the batch), in order."""
    for batch in batches:
        sources = np.array(batch["source"].to_pylist(), dtype=object)
        for source in sorted(set(sources)):
            yield source, batch.filter(pa.array(sources == source))


def linked_targets(
    batches: Iterable[pa.Table], references: Mapping[str, np.ndarray], params: QualityParams
) -> dict[str, np.ndarray]:
    """Of each source in the crawl, ascending keys of the addresses that its trusted pages or references link to.

    Batches: source, url, links. `references`: keys by source (or `default`), as the params have them.
    """
    found: dict[str, KeySet] = {}
    for source, part in by_source(batches):
        settings = settings_of(params, source)
        if source not in found:
            found[source] = KeySet()
            found[source].add(for_source(references, source, "corpus.quality.sources"))
        hub = hub_pattern(settings.trusted, "corpus.quality.sources")
        found[source].add(linked_keys(part["url"].to_pylist(), part["links"].to_pylist(), hub, settings.match))
    return {source: targets.keys() for source, targets in found.items()}


def linked_texts(
    batches: Iterable[pa.Table], targets: Mapping[str, np.ndarray], params: QualityParams
) -> dict[str, np.ndarray]:
    """Of each source, ascending keys of the texts that stand at a linked address. Batches: source, url, text_hash."""
    found: defaultdict[str, KeySet] = defaultdict(KeySet)
    for source, part in by_source(batches):
        linked = member(url_keys(part["url"].to_pylist(), settings_of(params, source).match), targets[source])
        found[source].add(row_keys(part, TEXT_KEY)[linked])
    return {source: texts.keys() for source, texts in found.items()}


class Examples(NamedTuple):
    """Keys of the texts that are learned from, ascending."""

    positives: np.ndarray
    negatives: np.ndarray


def draw(
    batches: Iterable[pa.Table], linked: Mapping[str, np.ndarray], params: QualityParams, seed: int
) -> dict[str, Examples]:
    """Of each source, random linked texts and random others, each text once however many pages have it.

    At most `negatives_per_positive` times as many others, and `max_examples` together. Batches: source, text_hash.
    """
    ratio = params.negatives_per_positive
    limit = max(1, int(params.max_examples / (1 + ratio)))
    found: dict[str, tuple[Smallest, Smallest]] = {}
    for source, part in by_source(batches):
        positives, negatives = found.setdefault(source, (Smallest(limit, seed), Smallest(int(limit * ratio), seed)))
        keys = row_keys(part, TEXT_KEY)
        known = member(keys, linked[source])
        positives.add(keys[known])
        negatives.add(keys[~known])
    drawn = {}
    for source, (positives, negatives) in found.items():
        chosen = positives.first(limit)
        drawn[source] = Examples(np.sort(chosen), np.sort(negatives.first(int(ratio * len(chosen)))))
    return drawn


class Raters(NamedTuple):
    """What scores the corpus, batch by batch."""

    raters: dict[str, Rater]
    learned: Learned
    params: QualityParams
    seed: int


def learn(
    found: Found, drawn: Mapping[str, Examples], params: QualityParams, seed: int
) -> tuple[Raters, dict[str, Any], dict[str, Any]]:
    """(raters, metrics, reliability diagrams by source) of the examples that `gather` found."""
    raters: dict[str, Rater] = {}
    metrics: dict[str, Any] = {}
    calibration: dict[str, Any] = {}
    folds = folds_of(found.keys, params.folds, seed)
    for source, examples in sorted(drawn.items()):
        rows = np.flatnonzero(member(found.keys, np.sort(np.concatenate(examples))))
        labels = member(found.keys[rows], examples.positives).astype(np.int64)
        fitted = fit(found.matrix[rows], labels, folds[rows], params)
        raters[source] = fitted.rater
        metrics |= {f"{source}_{name}": value for name, value in fitted.metrics.items()}
        calibration[source] = fitted.calibration
    order = np.argsort(found.row_ids, kind="stable")
    learned = Learned(found.row_ids[order], folds[np.searchsorted(found.keys, found.row_keys[order])])
    return Raters(raters, learned, params, seed), metrics, calibration


def rate(documents: pa.Table, raters: Raters) -> Outcome:
    """Scores of a batch; what is below its source's bound is dropped. Facts: histograms and sums by source."""
    scores = np.zeros(documents.num_rows, np.float32)
    bounds = np.zeros(documents.num_rows, np.float32)
    facts: dict[str, float] = {}
    sources = np.array(documents["source"].to_pylist(), dtype=object)
    for source in sorted(set(sources)):
        rows = np.flatnonzero(sources == source)
        part = documents.take(pa.array(rows, pa.int64()))
        scores[rows] = raters.raters[source].scores(part, raters.learned, raters.params, raters.seed)
        bounds[rows] = settings_of(raters.params, source).min_score
        for name, chosen in ("rated", rows), ("dropped", rows[scores[rows] < bounds[rows]]):
            counts, _ = np.histogram(scores[chosen], bins=EDGES)
            facts |= {f"{source}/{name}/{place}": int(count) for place, count in enumerate(counts)}
        facts[f"{source}/score"] = float(np.nansum(scores[rows], dtype=np.float64))
    drops = [Drop(int(row), "quality", "below_min_score") for row in np.flatnonzero(scores < bounds)]
    return Outcome(*split(with_column(documents, "quality", scores), drops), facts)


def summarise(facts: Mapping[str, float], params: QualityParams) -> tuple[dict[str, Any], dict[str, Any]]:
    """(mean score by source, histogram) from the facts of all batches. Sources without scores have no histogram."""
    metrics: dict[str, Any] = {}
    counts: dict[str, list[int]] = {}
    dropped: dict[str, list[int]] = {}
    thresholds: dict[str, float] = {}
    for source in sorted(name.partition("/")[0] for name in facts if name.endswith("/score")):
        found = [int(facts[f"{source}/rated/{place}"]) for place in range(len(EDGES) - 1)]
        metrics[f"{source}_mean_score"] = facts[f"{source}/score"] / sum(found) if any(found) else None
        if any(found):
            counts[source] = found
            dropped[source] = [int(facts[f"{source}/dropped/{place}"]) for place in range(len(EDGES) - 1)]
            thresholds[source] = settings_of(params, source).min_score
    return metrics, {"edges": EDGES, "threshold": thresholds, "counts": counts, "dropped": dropped}


def read_references(run: StageRun[QualityParams]) -> dict[str, np.ndarray]:
    """Keys of the addresses in each source's references; files that several sources name are read once.

    Raises InputError for a file that isn't in the folder.
    """
    folder = run.input(run.params.references)
    known: dict[tuple[tuple[str, ...], Match], np.ndarray] = {}
    found = {}
    for source, settings in run.params.sources.items():
        files = (tuple(settings.references), settings.match)
        for missing in (name for name in files[0] if not (folder / name).is_file()):
            raise InputError(
                f"{folder / missing}: not found; put it there, or correct `corpus.quality.sources.{source}`"
            )
        if files not in known:
            known[files] = reference_keys([folder / name for name in files[0]], settings.match)
        found[source] = known[files]
    return found


def main() -> None:
    with stage("corpus.quality", QualityParams, seed="corpus.seed") as run:
        params, seed = run.params, run.seed
        links = read(run, CRAWL, "reading links", ["source", "url", "links"])
        targets = linked_targets(links, read_references(run), params)
        pages = read(run, CRAWL, "finding linked pages", ["source", "url", "text_hash"])
        linked = linked_texts(pages, targets, params)
        drawn = draw(read(run, CRAWL, "drawing examples", ["source", "text_hash"]), linked, params, seed)
        keys = np.unique(np.concatenate([part for examples in drawn.values() for part in examples]))
        wanted = Wanted(keys, TEXT_KEY, params.characters, params.feature_bits)
        texts = read(run, CRAWL, "reading examples", ["id", "source", "text_hash", "text"])
        found = gather(texts, wanted)
        raters, metrics, calibration = learn(found, drawn, params, seed)
        facts = run_step(run, DOCUMENTS, rate, raters, max_drop=params.max_drop)
        means, histogram = summarise(facts, params)
        metrics |= means | {f"{source}_linked_texts": len(texts) for source, texts in linked.items()}
        metrics |= {f"{source}_linked_addresses": len(addresses) for source, addresses in targets.items()}
        metrics |= {name: facts[name] for name in ("documents_out", "bytes_out")}
        run.write_json("metrics.json", metrics)
        scored = {"quality": histogram} if histogram["counts"] else {}
        run.write_json("histograms.json", scored | {"quality_calibration": calibration})


if __name__ == "__main__":
    main()
