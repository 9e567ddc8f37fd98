"""domains: which field a document is about.

Labels come from where a page was found (rules over source and URL); a classifier over the words learns them and names
the rest. Its held-out accuracy on labelled documents says how far to trust the names it gives.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from stages.base import schemas
from stages.base.errors import ParamError
from stages.base.params import Section
from stages.base.record import stage
from stages.corpus.drops import count_reasons, split, with_column
from stages.corpus.folds import cross_fit, features, fold_of

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
OTHER = "other"


class DomainsParams(Section):
    """Parameters of corpus.domains."""

    seeds: dict[
        Name, list[str]
    ]  # domain -> regular expressions over "source url"; the first domain that matches counts
    min_probability: Fraction  # unlabelled documents below it are "other"
    folds: Annotated[int, Field(ge=2)]
    feature_bits: Annotated[int, Field(ge=8, le=24)]
    characters: Annotated[int, Field(ge=100)]
    inverse_penalty: Annotated[float, Field(gt=0)]


PARAMS = {"corpus.domains": DomainsParams}


def seed_labels(sources: Sequence[str], urls: Sequence[str], seeds: Mapping[str, Sequence[str]]) -> list[str]:
    """The domain that a page's address gives it, "" where no rule matches. Raises ParamError for a bad pattern."""
    try:
        rules = [(domain, re.compile("|".join(f"(?:{p})" for p in patterns))) for domain, patterns in seeds.items()]
    except re.error as error:
        raise ParamError(f"params.yaml: `corpus.domains.seeds`: not a regular expression: {error}") from None
    return [
        next((domain for domain, rule in rules if rule.search(f"{source} {url}")), "")
        for source, url in zip(sources, urls, strict=True)
    ]


def classify(
    ids: Sequence[str], texts: Sequence[str], seeded: Sequence[str], params: DomainsParams, seed: int
) -> tuple[list[str], dict[str, Any]]:
    """(domain of each document, metrics). A seeded document keeps its label; the others get the classifier's, or
    "other".
    """
    names = sorted({name for name in seeded if name})
    counts = Counter(seeded)
    metrics: dict[str, Any] = {"labelled": len(seeded) - counts[""], "classified": counts[""]}
    metrics |= dict.fromkeys(("accuracy", "majority_accuracy"))
    if len(names) < 2:  # nothing to tell apart
        return [name or OTHER for name in seeded], metrics
    labels = np.array([names.index(name) if name else -1 for name in seeded], np.int64)
    folds = np.array([fold_of(identifier, params.folds, seed) for identifier in ids])
    matrix = features(texts, params.characters, params.feature_bits)
    probabilities = cross_fit(matrix, labels, folds, inverse_penalty=params.inverse_penalty, classes=len(names))
    best = probabilities.argmax(axis=1)
    known = labels >= 0
    metrics["accuracy"] = float((best[known] == labels[known]).mean())
    metrics["majority_accuracy"] = max(counts[name] for name in names) / int(known.sum())
    for place, name in enumerate(names):
        mine = labels == place
        metrics[f"recall_{name}"] = float((best[mine] == place).mean())
    sure = probabilities.max(axis=1) >= params.min_probability
    domains = [name or (names[best[row]] if sure[row] else OTHER) for row, name in enumerate(seeded)]
    return domains, metrics


def main() -> None:
    with stage("corpus.domains", DomainsParams, seed="corpus.seed") as run:
        documents = run.read_table("data/corpus/quality/documents.parquet", schemas.DOCUMENT)
        ids, sources, urls, texts = (documents[name].to_pylist() for name in ("id", "source", "url", "text"))
        seeded = seed_labels(sources, urls, run.params.seeds)
        domains, metrics = classify(ids, texts, seeded, run.params, run.seed)
        metrics |= {f"documents_{name}": count for name, count in Counter(domains).items()}
        kept, drops = split(with_column(documents, "domain", domains), [])
        run.write_table("documents.parquet", kept, schemas.DOCUMENT)
        run.write_table("drops.parquet", drops, schemas.DROP)
        run.write_json("metrics.json", metrics)
        run.rows(documents.num_rows, kept.num_rows, count_reasons(drops), max_drop=0.0)


if __name__ == "__main__":
    main()
