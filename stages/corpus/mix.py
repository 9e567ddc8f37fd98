"""mix: how often each document is read, which ones validate, and the high-quality subset for the anneal.

One pass over the corpus sizes its groups (source × domain) and decides; a second sorts it by id, a part at a time, and
writes. Nothing is held of a document but its quality (4 bytes).
"""

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from stages.base import schemas
from stages.base.errors import DataLossError, ParamError
from stages.base.params import Section
from stages.base.progress import Progress
from stages.base.record import stage
from stages.base.seeds import derive
from stages.corpus.drops import Drop, count_reasons, for_source, split
from stages.corpus.mixing.external_sort import sort_by_id
from stages.corpus.mixing.shares import Group, balance, reached
from stages.corpus.step import read

Fraction = Annotated[float, Field(ge=0, le=1)]
DOCUMENTS = "data/corpus/decontaminate/documents.parquet"
COLUMNS = ["id", "source", "url", "text", "quality", "domain"]
PARTS = ("train", "validation", "anneal")


class SourceMix(Section):
    """How one source enters the mixture."""

    epochs: Annotated[float, Field(ge=0)]
    """Passes over its documents in pretraining; 0 leaves it out."""
    validation: Annotated[float, Field(ge=0, lt=1)]
    """Share held out, by a hash of the id."""
    anneal_quantile: Fraction
    """Documents at or above this quantile of their source's quality join the anneal. Of equal ones, and where a source
    has no quality, as many of them, by a hash of the id."""
    anneal_epochs: Annotated[float, Field(ge=0)]
    """Passes over them there."""


class MixParams(Section):
    """Parameters of corpus.mix."""

    max_drop: Fraction
    sources: dict[str, SourceMix]
    """Source, or `default`."""
    least_validation: Annotated[float, Field(ge=0, lt=1)]
    """Share of every source that is held out where the sources' own shares hold out no document at all."""
    domains: dict[str, Annotated[float, Field(ge=0)]]
    """Domain, or `default` -> factor on the source's epochs."""
    shares: dict[str, Annotated[float, Field(gt=0, le=1)]]
    """Domain -> its share of the bytes read in pretraining."""
    max_epochs: Annotated[float, Field(gt=0)]
    """No document is read more often in pretraining."""

    @field_validator("shares")
    @classmethod
    def _at_most_one(cls, shares: dict[str, float]) -> dict[str, float]:
        if sum(shares.values()) > 1 + 1e-9:
            raise ValueError("the shares come to more than 1")
        return shares


PARAMS = {"corpus.mix": MixParams}


def held_out(identifier: str, fraction: float, seed: int) -> bool:
    """Whether a document validates: a hash of its id, so that no other document's coming or going changes it."""
    return derive(seed, "validation", identifier) / 2**63 < fraction


def _settings(params: MixParams, source: str) -> SourceMix:
    return for_source(params.sources, source, "corpus.mix.sources")


def _groups(documents: pa.Table) -> list[Group]:
    return list(map(Group, documents["source"].to_pylist(), documents["domain"].to_pylist()))


def _validates(documents: pa.Table, params: MixParams, seed: int) -> np.ndarray:
    """bool of each row."""
    pairs = zip(documents["id"].to_pylist(), documents["source"].to_pylist(), strict=True)
    return np.array([held_out(name, _settings(params, source).validation, seed) for name, source in pairs], bool)


def _qualities(documents: pa.Table) -> np.ndarray:
    """float32 of each row; 0 for those of a source without scores."""
    return np.nan_to_num(documents["quality"].to_numpy(), nan=0.0)


class Survey(NamedTuple):
    """The corpus by group. Validation documents count in `text_bytes` and `held_out` only."""

    sizes: dict[Group, int]  # UTF-8 bytes of the training documents
    qualities: dict[Group, np.ndarray]  # float32, of each training document
    text_bytes: int  # of all texts
    held_out: int  # documents that validate


def survey(batches: Iterable[pa.Table], params: MixParams, seed: int) -> Survey:
    """Sizes and qualities of the groups. Batches: id, source, domain, quality, text."""
    sizes: Counter[Group] = Counter()
    qualities: defaultdict[Group, list[np.ndarray]] = defaultdict(list)
    text_bytes = validating = 0
    for batch in batches:
        lengths = pc.binary_length(batch["text"]).to_numpy()
        text_bytes += int(lengths.sum())
        trains, quality = ~_validates(batch, params, seed), _qualities(batch)
        validating += int((~trains).sum())
        rows: defaultdict[Group, list[int]] = defaultdict(list)
        for row, group in enumerate(_groups(batch)):
            rows[group].append(row)
        for group, mine in rows.items():
            chosen = np.array(mine)[trains[mine]]
            sizes[group] += int(lengths[chosen].sum())
            qualities[group].append(quality[chosen])
    return Survey(
        dict(sizes), {group: np.concatenate(parts) for group, parts in qualities.items()}, text_bytes, validating
    )


def holding_out(params: MixParams, found: Survey) -> MixParams:
    """The params, with `least_validation` for each source where the survey found no document that validates."""
    if found.held_out:
        return params
    sources = {
        name: source.model_copy(update={"validation": max(source.validation, params.least_validation)})
        for name, source in params.sources.items()
    }
    return params.model_copy(update={"sources": sources})


class Threshold(NamedTuple):
    """Of a source's quality, for the anneal."""

    least: float
    share_at: float  # of the documents of exactly this quality


class Plan(NamedTuple):
    """What decides about a document, given its group, its quality and its id."""

    epochs: dict[Group, float]
    anneal_bounds: dict[str, Threshold]  # of the sources that the anneal takes from
    params: MixParams
    seed: int
    absent_sources: int  # named in the params, but no document has them
    absent_domains: int


def absent(names: Iterable[str], present: Iterable[str], section: str) -> list[str]:
    """The names in a section, but `default`, that no document has: those of a part that the corpus happens to lack.

    Raises ParamError for one that resembles a present name without settings of its own: it is misspelt.
    """
    names, present = set(names) - {"default"}, set(present)
    for name in sorted(names - present):
        alike = [other for other in sorted(present - names) if abs(len(other) - len(name)) < 3]
        if difflib.get_close_matches(name, alike, n=1, cutoff=0.65):
            raise ParamError(
                f"params.yaml: `{section}.{name}`: no document has this name; there are {', '.join(sorted(present))}; "
                "correct or remove it"
            )
    return sorted(names - present)


def plan(found: Survey, params: MixParams, seed: int) -> Plan:
    """Epochs of each group, and the quality that the anneal asks for of each source's training documents.

    Raises ParamError for settings that name no source or domain of the corpus but resemble one.
    """
    absent_sources = absent(params.sources, {group.source for group in found.sizes}, "corpus.mix.sources")
    absent_domains = absent(params.domains, {group.domain for group in found.sizes}, "corpus.mix.domains")
    asked = {
        group: _settings(params, group.source).epochs * for_source(params.domains, group.domain, "corpus.mix.domains")
        for group in sorted(found.sizes)
    }
    epochs = balance(asked, found.sizes, params.shares, params.max_epochs)
    bounds: dict[str, Threshold] = {}
    for source in sorted({group.source for group in epochs}):
        mine = [found.qualities[group] for group in epochs if group.source == source and epochs[group] > 0]
        qualities = np.concatenate([np.zeros(0, np.float32), *mine]).astype(np.float64)
        if len(qualities) and _settings(params, source).anneal_epochs > 0:
            bounds[source] = threshold(qualities, _settings(params, source).anneal_quantile)
    return Plan(epochs, bounds, params, seed, len(absent_sources), len(absent_domains))


def threshold(qualities: np.ndarray, quantile: float) -> Threshold:
    """What leaves 1 - `quantile` of the documents (float64 [n], n > 0) at or above it, however many are equal."""
    least = float(np.quantile(qualities, quantile))
    above, at = int((qualities > least).sum()), int((qualities == least).sum())
    wanted = (1 - quantile) * len(qualities) - above
    return Threshold(least, min(1.0, wanted / at) if at > 1 else 1.0)


def divide(documents: pa.Table, decided: Plan) -> tuple[dict[str, pa.Table], pa.Table]:
    """({train, validation, anneal}: MIXED tables, drops), each in the order of the documents.

    train and validation are disjoint and, with the drops, all documents; anneal is a part of train. Documents whose
    epochs come to 0 are dropped.
    """
    epochs = np.array([decided.epochs[group] for group in _groups(documents)])
    validates, used = _validates(documents, decided.params, decided.seed), epochs > 0
    sources = documents["source"].to_pylist()
    anneals = used & ~validates & _anneals(documents, decided)
    anneal_epochs = np.array([_settings(decided.params, source).anneal_epochs for source in sources])
    tables = {
        "train": _mixed(documents, used & ~validates, epochs),
        "validation": _mixed(documents, used & validates, np.ones(len(epochs))),
        "anneal": _mixed(documents, anneals, anneal_epochs),
    }
    _, drops = split(documents, [Drop(int(row), "mixture", "zero_epochs") for row in np.flatnonzero(~used)])
    return tables, drops


def _anneals(documents: pa.Table, decided: Plan) -> np.ndarray:
    """bool of each row: whether its quality is that of the anneal."""
    qualities = _qualities(documents).astype(np.float64)
    bounds = [decided.anneal_bounds.get(source, Threshold(np.inf, 0.0)) for source in documents["source"].to_pylist()]
    least = np.array([bound.least for bound in bounds])
    joins = qualities > least
    ids = documents["id"].to_pylist()
    for row in np.flatnonzero(qualities == least).tolist():
        joins[row] = derive(decided.seed, "anneal", ids[row]) / 2**63 < bounds[row].share_at
    return joins


def _mixed(documents: pa.Table, rows: np.ndarray, epochs: np.ndarray) -> pa.Table:
    part = documents.filter(pa.array(rows))
    columns = [part[name] for name in ("id", "source", "domain", "text")]
    return pa.Table.from_arrays([*columns, pa.array(epochs[rows], pa.float32())], schema=schemas.MIXED)


def measure(table: pa.Table) -> Counter[tuple[Group, float, str]]:
    """Documents, characters and bytes by group and epochs: whole numbers, which add up alike in any portions."""
    sizes: Counter[tuple[Group, float, str]] = Counter()
    characters, lengths = pc.utf8_length(table["text"]).to_pylist(), pc.binary_length(table["text"]).to_pylist()
    for row, (group, epochs) in enumerate(zip(_groups(table), table["epochs"].to_pylist(), strict=True)):
        sizes[group, epochs, "documents"] += 1
        sizes[group, epochs, "characters"] += characters[row]
        sizes[group, epochs, "bytes"] += lengths[row]
    return sizes


def _by(sizes: Mapping[tuple[Group, float, str], int], column: str, unit: str, repeated: bool) -> dict[str, Any]:
    """Total of a unit by source or domain; with `repeated`, each as often as it is read."""
    totals: dict[str, Any] = {}
    for (group, epochs, name), size in sorted(sizes.items()):
        if name == unit:
            key = getattr(group, column)
            totals[key] = totals.get(key, 0) + (size * epochs if repeated else size)
    return totals


def summarise(
    sizes: Mapping[str, Mapping[tuple[Group, float, str], int]], decided: Plan, found: Survey
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(metrics, domains after the mix): sizes of each table by source and of train by domain, as they are and as often
    as they are read; the shares asked for beside those reached.
    """
    metrics: dict[str, Any] = {"absent_sources": decided.absent_sources, "absent_domains": decided.absent_domains}
    for name, table in sizes.items():
        for column in ("source", "domain") if name == "train" else ("source",):
            for label, unit, repeated in [
                ("documents", "documents", False),
                ("characters", "characters", False),
                ("characters_read", "characters", True),
            ]:
                totals = _by(table, column, unit, repeated)
                metrics |= {f"{name}_{column}_{key}_{label}": value for key, value in totals.items()}
    shares = reached(decided.epochs, found.sizes)
    for domain, target in decided.params.shares.items():
        metrics[f"share_{domain}_target"], metrics[f"share_{domain}_reached"] = target, shares[domain]
        metrics[f"share_{domain}_residual"] = target - shares[domain]
    train = sizes["train"]
    counts, lengths = _by(train, "domain", "documents", False), _by(train, "domain", "bytes", False)
    readings = _by(train, "domain", "bytes", True)
    domains = {
        key: {"documents": counts[key], "bytes": lengths[key], "bytes_read": readings[key]} for key in sorted(counts)
    }
    return metrics, domains


def check(rows: Mapping[str, int], decided: Plan) -> None:
    """Raises DataLossError if train, or an anneal that was asked for, is empty."""
    sources = {group.source for group in decided.epochs}
    if not rows["train"]:
        raise DataLossError("corpus.mix: no document is left to train on; raise `corpus.mix.sources.*.epochs`")
    if not rows["anneal"] and any(_settings(decided.params, source).anneal_epochs > 0 for source in sources):
        raise DataLossError("corpus.mix: the anneal is empty; lower `corpus.mix.sources.*.anneal_quantile`")


def main() -> None:
    with stage("corpus.mix", MixParams, seed="corpus.seed") as run:
        found = survey(read(run, DOCUMENTS, "sizing", COLUMNS), run.params, run.seed)
        params = holding_out(run.params, found)
        if params is not run.params:
            found = survey(read(run, DOCUMENTS, "sizing", COLUMNS), params, run.seed)
            run.note("least_validation", "held out: no source's own share holds out a document")
        decided = plan(found, params, run.seed)
        total = run.count_rows(DOCUMENTS, schemas.DOCUMENT)
        sizes: dict[str, Counter[tuple[Group, float, str]]] = {name: Counter() for name in PARTS}
        reasons: Counter[str] = Counter()
        with (
            run.table("train.parquet", schemas.MIXED) as train,
            run.table("validation.parquet", schemas.MIXED) as validation,
            run.table("anneal.parquet", schemas.MIXED) as anneal,
            run.table("drops.parquet", schemas.DROP) as dropped,
            Progress(total, "mix", unit="documents") as bar,
        ):
            writers = dict(zip(PARTS, (train, validation, anneal), strict=True))
            for part in sort_by_id(read(run, DOCUMENTS, "sorting", COLUMNS), found.text_bytes, run.output("sorting")):
                tables, drops = divide(part, decided)
                for name, table in tables.items():
                    writers[name].write(table)
                    sizes[name].update(measure(table))
                dropped.write(drops)
                reasons.update(count_reasons(drops))
                bar.advance(part.num_rows)
        check({name: writer.rows for name, writer in writers.items()}, decided)
        metrics, domains = summarise(sizes, decided, found)
        read_once = sizes["train"] + sizes["validation"]
        metrics |= {
            "documents_out": train.rows + validation.rows,
            "bytes_out": sum(size for (_, _, unit), size in read_once.items() if unit == "bytes"),
        }
        run.write_json("metrics.json", metrics)
        run.write_json("histograms.json", {"domains": domains})
        run.rows(total, train.rows + validation.rows, reasons, run.params.max_drop)


if __name__ == "__main__":
    main()
