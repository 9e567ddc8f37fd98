"""mix: how often each document is read, which ones validate, and the high-quality subset for the anneal."""

from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.errors import DataLossError
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive
from stages.corpus.drops import Drop, count_reasons, for_source, split

Fraction = Annotated[float, Field(ge=0, le=1)]


class SourceMix(Section):
    """How one source enters the mixture."""

    epochs: Annotated[float, Field(ge=0)]  # passes over its documents in pretraining; 0 leaves it out
    validation: Annotated[float, Field(ge=0, lt=1)]  # share held out, by a hash of the id
    anneal_quantile: Fraction  # documents at or above this quantile of their source's quality join the anneal
    anneal_epochs: Annotated[float, Field(ge=0)]


class MixParams(Section):
    """Parameters of corpus.mix."""

    max_drop: Fraction
    sources: dict[str, SourceMix]  # source, or `default`
    domains: dict[str, Annotated[float, Field(ge=0)]]  # domain, or `default` -> factor on the source's epochs


PARAMS = {"corpus.mix": MixParams}


def held_out(identifier: str, fraction: float, seed: int) -> bool:
    """Whether a document validates: a hash of its id, so that no other document's coming or going changes it."""
    return derive(seed, "validation", identifier) / 2**63 < fraction


def mix(documents: pa.Table, params: MixParams, seed: int) -> tuple[dict[str, pa.Table], pa.Table, dict[str, Any]]:
    """({train, validation, anneal}: MIXED tables in the order of the ids, drops, metrics).

    train and validation are disjoint and, with the drops, all documents; anneal is a part of train. Documents whose
    epochs come to 0 are dropped. Raises DataLossError if train, or an anneal that was asked for, is empty.
    """
    order = np.argsort(documents["id"].to_pylist(), kind="stable")
    documents = documents.take(pa.array(order, pa.int64()))
    ids, sources, domains = (documents[name].to_pylist() for name in ("id", "source", "domain"))
    settings = {name: for_source(params.sources, name, "corpus.mix.sources") for name in sorted(set(sources))}
    epochs = np.array(
        [
            settings[source].epochs * for_source(params.domains, domain, "corpus.mix.domains")
            for source, domain in zip(sources, domains, strict=True)
        ]
    )
    validates = np.array([held_out(i, settings[s].validation, seed) for i, s in zip(ids, sources, strict=True)], bool)
    used = epochs > 0
    quality = np.nan_to_num(documents["quality"].to_numpy().astype(np.float64), nan=0.0)
    anneal_epochs = np.zeros(len(ids))
    for source, setting in settings.items():
        mine = np.array([name == source for name in sources]) & used & ~validates
        if mine.any() and setting.anneal_epochs > 0:
            bound = np.quantile(quality[mine], setting.anneal_quantile)
            anneal_epochs[mine & (quality >= bound)] = setting.anneal_epochs
    tables = {
        "train": _mixed(documents, used & ~validates, epochs),
        "validation": _mixed(documents, used & validates, np.ones(len(ids))),
        "anneal": _mixed(documents, anneal_epochs > 0, anneal_epochs),
    }
    if not tables["train"].num_rows:
        raise DataLossError("corpus.mix: no document is left to train on; raise `corpus.mix.sources.*.epochs`")
    if any(setting.anneal_epochs > 0 for setting in settings.values()) and not tables["anneal"].num_rows:
        raise DataLossError("corpus.mix: the anneal is empty; lower `corpus.mix.sources.*.anneal_quantile`")
    _, drops = split(documents, [Drop(int(row), "mixture", "zero_epochs") for row in np.flatnonzero(~used)])
    return tables, drops, _metrics(tables)


def _mixed(documents: pa.Table, rows: np.ndarray, epochs: np.ndarray) -> pa.Table:
    part = documents.filter(pa.array(rows))
    columns = [part[name] for name in ("id", "source", "domain", "text")]
    return pa.Table.from_arrays([*columns, pa.array(epochs[rows], pa.float32())], schema=schemas.MIXED)


def _metrics(tables: dict[str, pa.Table]) -> dict[str, Any]:
    """Documents and characters (unique, and read with epochs) of each table by source, and of train by domain."""
    metrics: dict[str, Any] = {}
    for name, table in tables.items():
        characters = np.array([len(text) for text in table["text"].to_pylist()], np.float64)
        epochs = table["epochs"].to_numpy().astype(np.float64)
        for column in ("source", "domain") if name == "train" else ("source",):
            keys = np.array(table[column].to_pylist(), dtype=object)
            for key in sorted(set(keys)):
                mine = keys == key
                prefix = f"{name}_{column}_{key}"
                metrics[f"{prefix}_documents"] = int(mine.sum())
                metrics[f"{prefix}_characters"] = int(characters[mine].sum())
                metrics[f"{prefix}_characters_read"] = float((characters * epochs)[mine].sum())
    return metrics


def main() -> None:
    with stage("corpus.mix", MixParams, seed="corpus.seed") as run:
        documents = run.read_table("data/corpus/decontaminate/documents.parquet", schemas.DOCUMENT)
        tables, drops, metrics = mix(documents, run.params, run.seed)
        for name, table in tables.items():
            run.write_table(f"{name}.parquet", table, schemas.MIXED)
        run.write_table("drops.parquet", drops, schemas.DROP)
        run.write_json("metrics.json", metrics)
        kept = tables["train"].num_rows + tables["validation"].num_rows
        run.rows(documents.num_rows, kept, count_reasons(drops), run.params.max_drop)


if __name__ == "__main__":
    main()
