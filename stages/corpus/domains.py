"""domains: which field a document is about.

Labels come from where a page was found (rules over source and URL); a classifier over the words learns them and names
those of the rest that are like the labelled ones. Its held-out accuracy on labelled documents says how far to trust the
names it gives.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from stages.base.errors import ParamError
from stages.base.params import Section
from stages.base.record import stage
from stages.corpus.classifiers import likeness
from stages.corpus.classifiers.examples import Found, Smallest, Wanted, gather, row_keys
from stages.corpus.classifiers.folds import Classifier, features, folds_of, judge, train_folds
from stages.corpus.drops import split, with_column
from stages.corpus.links.graph import RegularExpression
from stages.corpus.step import Outcome, read, run_step

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
OTHER = "other"
DOCUMENTS = "data/corpus/quality/documents.parquet"


class DomainsParams(Section):
    """Parameters of corpus.domains."""

    seeds: dict[Name, list[RegularExpression]]
    """Domain to regular expressions over "source url"; the first domain that matches counts."""
    min_probability: Fraction
    """Unlabelled documents below it are "other", and so are those unlike any domain's labelled ones."""
    max_examples: Annotated[int, Field(ge=2)]
    """Of each domain's labelled documents that are learned from."""
    folds: Annotated[int, Field(ge=2)]
    """Parts of the examples; each is scored by a classifier that learned from the others."""
    feature_bits: Annotated[int, Field(ge=8, le=24)]
    """Words are hashed into two to this power features."""
    characters: Annotated[int, Field(ge=100)]
    """Of each text that are looked at."""
    inverse_penalty: Annotated[float, Field(gt=0)]
    """C of the logistic regression: the larger, the closer it follows the examples."""

    @field_validator("seeds")
    @classmethod
    def _no_total(cls, seeds: dict[str, list[str]]) -> dict[str, list[str]]:
        if "out" in seeds:
            raise ValueError("a domain can't be named `out`: `documents_out` is the total of all; choose another name")
        return seeds


PARAMS = {"corpus.domains": DomainsParams}


def seed_labels(sources: Sequence[str], urls: Sequence[str], seeds: Mapping[str, Sequence[str]]) -> list[str]:
    """The domain that a page's address gives it, "" where no rule matches. Raises ParamError for a bad pattern."""
    try:
        rules = [
            (domain, re.compile("|".join(f"(?:{p})" for p in patterns) or r"(?!)"))
            for domain, patterns in seeds.items()
        ]
    except re.error as error:
        raise ParamError(f"params.yaml: `corpus.domains.seeds`: not a regular expression: {error}") from None
    return [
        next((domain for domain, rule in rules if rule.search(f"{source} {url}")), "")
        for source, url in zip(sources, urls, strict=True)
    ]


def labels_of(documents: pa.Table, params: DomainsParams) -> np.ndarray:
    """str: the domain of each row by its address, "" where no rule matches."""
    return np.array(seed_labels(documents["source"].to_pylist(), documents["url"].to_pylist(), params.seeds), object)


def draw(batches: Iterable[pa.Table], params: DomainsParams, seed: int) -> dict[str, np.ndarray]:
    """Of each domain that occurs, keys of labelled documents to learn from, ascending. Batches: id, source, url."""
    found: dict[str, Smallest] = {}
    for batch in batches:
        labels, keys = labels_of(batch, params), row_keys(batch, ["id"])
        for name in sorted({*labels} - {""}):
            found.setdefault(name, Smallest(params.max_examples, seed)).add(keys[labels == name])
    return {name: np.sort(keys.first(params.max_examples)) for name, keys in sorted(found.items())}


class Namer(NamedTuple):
    """What names the corpus, batch by batch."""

    names: list[str]  # of the domains that are learned
    models: list[Classifier]  # of each fold; none where there are no two domains to tell apart
    likeness: likeness.Likeness | None
    params: DomainsParams
    seed: int


def learn(found: Found, drawn: Mapping[str, np.ndarray], params: DomainsParams, seed: int) -> Namer:
    """Fit the examples that `gather` found: a model a fold. Domains of a few documents can't be learned."""
    names = [name for name in sorted(drawn) if len(drawn[name]) >= likeness.LEAST]
    if len(names) < 2:
        return Namer(names, [], None, params, seed)
    labels = np.full(len(found.keys), -1, np.int64)
    for place, name in enumerate(names):
        labels[np.searchsorted(found.keys, drawn[name])] = place
    folds = folds_of(found.keys, params.folds, seed)
    models = train_folds(
        found.matrix, labels, folds, params.folds, inverse_penalty=params.inverse_penalty, classes=len(names)
    )
    like = likeness.fit(found.matrix, labels, folds, params.folds, len(names))
    return Namer(names, models, like, params, seed)


def name_documents(documents: pa.Table, namer: Namer) -> Outcome:
    """A batch with its domains. A labelled document keeps its label; the others get the classifier's, or "other".

    Facts: documents and bytes of each domain; labelled documents of each, and those that the classifier names alike.
    """
    params = namer.params
    seeded = labels_of(documents, params)
    domains = np.where(seeded == "", OTHER, seeded)
    guessed = np.full(len(seeded), "", object)
    if namer.models and namer.likeness:
        folds = folds_of(row_keys(documents, ["id"]), params.folds, namer.seed)
        matrix = features(documents["text"].to_pylist(), params.characters, params.feature_bits)
        probabilities = judge(namer.models, matrix, folds).astype(np.float32)
        best = probabilities.argmax(axis=1)
        guessed = np.array(namer.names, object)[best]
        sure = probabilities.max(axis=1) >= np.float32(params.min_probability)
        sure &= namer.likeness.accepts(matrix, folds)[np.arange(len(best)), best]
        domains = np.where((seeded == "") & sure, guessed, domains)
    lengths = pc.binary_length(documents["text"]).to_numpy()
    facts: Counter[str] = Counter()
    for row, domain in enumerate(domains):
        facts[f"documents/{domain}"] += 1
        facts[f"bytes/{domain}"] += int(lengths[row])
        if seeded[row]:
            facts[f"labelled/{domain}"] += 1
            facts[f"alike/{domain}"] += int(guessed[row] == domain)
    return Outcome(*split(with_column(documents, "domain", domains), []), facts)


def summarise(facts: Mapping[str, float], names: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """(metrics, documents and bytes by domain) from the facts of all batches."""
    sizes = {
        name.partition("/")[2]: {"documents": count, "bytes": facts[name.replace("documents/", "bytes/")]}
        for name, count in sorted(facts.items())
        if name.startswith("documents/")
    }
    labelled = {name: facts[f"labelled/{name}"] for name in names}
    alike = {name: facts[f"alike/{name}"] for name in names}
    learned, total = sum(labelled.values()), sum(n for name, n in facts.items() if name.startswith("labelled/"))
    metrics: dict[str, Any] = {f"{unit}_{name}": size[unit] for name, size in sizes.items() for unit in size}
    metrics |= {name: value for name, value in facts.items() if "/" not in name}
    metrics |= {"labelled": total, "classified": facts["documents_out"] - total}
    metrics |= dict.fromkeys(("accuracy", "majority_accuracy"))
    if len(names) > 1:
        metrics["accuracy"] = sum(alike.values()) / learned
        metrics["majority_accuracy"] = max(labelled.values()) / learned
        metrics |= {f"recall_{name}": alike[name] / labelled[name] for name in names}
    return metrics, sizes


def main() -> None:
    with stage("corpus.domains", DomainsParams, seed="corpus.seed") as run:
        params, seed = run.params, run.seed
        drawn = draw(read(run, DOCUMENTS, "reading labels", ["id", "source", "url"]), params, seed)
        keys = np.unique(np.concatenate([np.zeros(0, np.uint64), *drawn.values()]))
        wanted = Wanted(keys, ("id",), params.characters, params.feature_bits)
        found = gather(read(run, DOCUMENTS, "reading examples", ["id", "text"]), wanted)
        namer = learn(found, drawn, params, seed)
        facts = run_step(run, DOCUMENTS, name_documents, namer, max_drop=0.0)
        metrics, sizes = summarise(facts, namer.names)
        run.write_json("metrics.json", metrics)
        run.write_json("histograms.json", {"domains": sizes})


if __name__ == "__main__":
    main()
