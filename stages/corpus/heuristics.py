"""heuristics: the web rules that Gopher, C4 and FineWeb drop pages by, and texts with an odd distribution of words.

Three passes over the batches: the rules, and the words of what they keep; the cross-entropy of each text kept, for the
median of its source; and the decisions. Between them stand a fixed number of counts and a few bytes a document.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.engine import map_batches
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.corpus.drops import Drop, for_source, split, with_text
from stages.corpus.rules import outliers
from stages.corpus.rules.families import Decision, Rules, apply_rules, decide, described
from stages.corpus.rules.lexicon import Text
from stages.corpus.rules.outliers import Distribution, Scale
from stages.corpus.step import Outcome, run_step

__all__ = ["Decision", "Rules", "apply_rules"]
DOCUMENTS = "data/corpus/dedup/documents.parquet"
EDGES = [float(edge) for edge in range(21)]  # of the histogram of |z|; what lies beyond counts in the last bin


class HeuristicsParams(Section):
    """Parameters of corpus.heuristics."""

    max_drop: Annotated[float, Field(ge=0, le=1)]
    rules: dict[str, Rules]
    """Source (or `default`) -> its rules."""
    max_outlier_score: dict[str, Annotated[float, Field(gt=0)] | None]
    """Source (or `default`) -> bound; null: off."""


PARAMS = {"corpus.heuristics": HeuristicsParams}


class Survey(NamedTuple):
    """What a batch adds to the distributions of its sources."""

    judged: list[bool]  # of each document: the rules keep it, and its source has a bound
    words: dict[str, tuple[np.ndarray, np.ndarray]]  # source -> bins, counts


class Context(NamedTuple):
    """What the decisions about a batch need."""

    params: HeuristicsParams
    distributions: Mapping[str, Distribution]  # of the sources with a bound
    scales: Mapping[str, Scale]


def bound_of(params: HeuristicsParams, source: str) -> float | None:
    return for_source(params.max_outlier_score, source, "corpus.heuristics.max_outlier_score")


def _decisions(
    sources: Sequence[str], texts: Sequence[str], params: HeuristicsParams
) -> Iterator[tuple[Text, Decision]]:
    for source, text in zip(sources, described(texts), strict=True):
        yield text, decide(text, for_source(params.rules, source, "corpus.heuristics.rules"))


def word_bins(text: Text) -> np.ndarray:
    return outliers.bins(text.lexicon.folded[text.words])


def survey(documents: pa.Table, params: HeuristicsParams) -> Survey:
    """First pass: the words of the documents that the rules keep, where their source has a bound."""
    sources = documents["source"].to_pylist()
    bounded = [bound_of(params, source) is not None for source in sources]
    rows = np.flatnonzero(bounded)
    texts = [documents["text"][int(row)].as_py() for row in rows]
    judged = [False] * len(sources)
    words: defaultdict[str, list[np.ndarray]] = defaultdict(list)
    for row, (text, decision) in zip(rows, _decisions([sources[row] for row in rows], texts, params), strict=True):
        if decision.kept:
            judged[row] = True
            words[sources[row]].append(word_bins(text))
    return Survey(judged, {source: outliers.count(found) for source, found in words.items()})


def measure(batch: tuple[pa.Table, list[bool]], distributions: Mapping[str, Distribution]) -> dict[str, np.ndarray]:
    """Second pass: the cross-entropies of the judged documents, by source."""
    documents, judged = batch
    chosen = documents.select(["source", "text"]).filter(pa.array(judged, pa.bool_()))
    values: defaultdict[str, list[float]] = defaultdict(list)
    for source, text in zip(chosen["source"].to_pylist(), described(chosen["text"].to_pylist()), strict=True):
        values[source].append(outliers.cross_entropy(word_bins(text), distributions[source]))
    return {source: np.array(found) for source, found in values.items()}


def filter_batch(documents: pa.Table, context: Context) -> Outcome:
    """Third pass: each source by its own rules, outliers judged among what they keep."""
    sources, texts = documents["source"].to_pylist(), documents["text"].to_pylist()
    drops: list[Drop] = []
    rewritten: list[str] = []
    facts: defaultdict[str, float] = defaultdict(int)
    for row, (text, decision) in enumerate(_decisions(sources, texts, context.params)):
        source = sources[row]
        bound = bound_of(context.params, source)
        rewritten.append(decision.text)
        facts[f"{source}/documents"] += 1
        facts[f"{source}/kept_by_rules"] += decision.kept
        if not decision.kept:
            drops.append(Drop(row, decision.rule, decision.reason))
        elif bound is not None:
            entropy = outliers.cross_entropy(word_bins(text), context.distributions[source])
            score = context.scales[source].score(entropy)
            place = min(int(abs(score)), len(EDGES) - 2)
            facts[f"{source}/judged/{place}"] += 1
            if abs(score) > bound:
                facts[f"{source}/dropped/{place}"] += 1
                reason = "cross_entropy_high" if score > 0 else "cross_entropy_low"
                drops.append(Drop(row, "token_distribution", reason))
    return Outcome(*split(with_text(documents, rewritten), drops), facts)


def learn(run: StageRun[HeuristicsParams]) -> Context:
    """The first two passes."""
    columns = ["source", "text"]
    judged: list[list[bool]] = []
    counts: dict[str, np.ndarray] = {}
    for found in map_batches(survey, run.batches(DOCUMENTS, schemas.DOCUMENT, columns), run.params):
        judged.append(found.judged)
        for source, (met, number) in found.words.items():
            counts.setdefault(source, np.zeros(1 << outliers.BITS, np.int64))[met] += number
    distributions = {source: outliers.summed(counts[source]) for source in sorted(counts)}
    values: defaultdict[str, list[np.ndarray]] = defaultdict(list)
    batches = zip(run.batches(DOCUMENTS, schemas.DOCUMENT, columns), judged, strict=True)
    for measured in map_batches(measure, batches, distributions):
        for source, entropies in measured.items():
            values[source].append(entropies)
    scales = {source: outliers.scale(np.concatenate(values[source])) for source in sorted(values)}
    return Context(run.params, distributions, scales)


def summarise(facts: Mapping[str, float], context: Context) -> tuple[dict[str, Any], dict[str, Any]]:
    """(metrics, histograms) from the facts of all batches."""
    metrics: dict[str, Any] = {name: value for name, value in facts.items() if "/" not in name}
    for source in sorted(name.partition("/")[0] for name in facts if name.endswith("/documents")):
        metrics[f"{source}_kept_by_rules"] = facts[f"{source}/kept_by_rules"] / facts[f"{source}/documents"]
    counts: dict[str, list[int]] = {}
    dropped: dict[str, list[int]] = {}
    thresholds: dict[str, float | None] = {}
    for source, scale in context.scales.items():
        metrics[f"{source}_cross_entropy_median"] = scale.centre
        thresholds[source] = bound_of(context.params, source)
        for name, rows in ("judged", counts), ("dropped", dropped):
            rows[source] = [int(facts.get(f"{source}/{name}/{place}", 0)) for place in range(len(EDGES) - 1)]
    histogram = {"edges": EDGES, "threshold": thresholds, "counts": counts, "dropped": dropped}
    return metrics, {"outlier_score": histogram}


def main() -> None:
    with stage("corpus.heuristics", HeuristicsParams) as run:
        context = learn(run)
        facts = run_step(run, DOCUMENTS, filter_batch, context, max_drop=run.params.max_drop)
        metrics, histograms = summarise(facts, context)
        run.write_json("metrics.json", metrics)
        run.write_json("histograms.json", histograms)


if __name__ == "__main__":
    main()
