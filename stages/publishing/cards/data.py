"""The data card of the corpus: what it is, its legal record, and how to load it."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from stages.publishing.cards.card import Card, Part, Table, known, listed, table_place
from stages.publishing.cards.legal import KINDS, NOT_STATED, Legal, Terms, licence_basis, sources
from stages.publishing.lineage.project import Project
from stages.publishing.lineage.records import Graph

KEY = "corpus"
MIX = "data/corpus/mix"
SPLITS = ("train", "anneal", "validation")
HUB_LICENCES = {  # SPDX, or what metadata says → the Hub's identifiers
    "CC0-1.0": "cc0-1.0",
    "BSD-3-Clause": "bsd-3-clause",
    "BSD-2-Clause": "bsd-2-clause",
    "BSD": "bsd",
    "BSD License": "bsd",
    "MIT": "mit",
    "Apache-2.0": "apache-2.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC-BY-SA-3.0": "cc-by-sa-3.0",
    "ODC-By-1.0": "odc-by",
}
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
LOAD = """\
from datasets import load_dataset

folder = "data/corpus/mix"
files = {{split: f"{{folder}}/{{split}}.parquet" for split in {splits}}}
corpus = load_dataset("parquet", data_files=files)
print(corpus["train"][0]["text"])
"""


def data_card(project: Project, graph: Graph, legal: Legal, title: str, revision: str = "") -> Card | None:
    """None where the mixture isn't here."""
    shapes = {split: _shape(project, f"{MIX}/{split}.parquet") for split in SPLITS}
    found = {split: shape for split, shape in shapes.items() if shape is not None}
    if not found:
        return None
    rows = sum(shape["rows"] for shape in found.values())
    metadata: dict[str, Any] = {
        "pretty_name": f"{title}: training text",
        "license": _licences(legal.terms),
        "language": legal.languages,
        "task_categories": ["text-generation"],
        "size_categories": [next((word for most, word in SIZES if rows < most), "n>10M")],
        "tags": ["trainyard"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}.parquet"} for split in found],
            }
        ],
        "dataset_info": {
            "features": next(iter(found.values()))["features"],
            "splits": [
                {"name": split, "num_bytes": shape["bytes"], "num_examples": shape["rows"]}
                for split, shape in found.items()
            ],
            "download_size": sum(shape["size"] for shape in found.values()),
            "dataset_size": sum(shape["bytes"] for shape in found.values()),
        },
    }
    lead = "Cleaned text that the models of this site were pretrained on, and what was held out to measure them."
    parts = [
        Part("What it is", facts=_facts(found, project)),
        Part(
            "How to load it",
            ["With datasets, of the folder where the files lie."],
            code=LOAD.format(splits=json.dumps(list(found))),
        ),
        *_legal_parts(legal, project),
        Part("How it was cleaned", table=_steps(graph)),
        Part(
            "Limits",
            [
                "A licence is what a page, a table, a package's metadata or params.yaml says; no author was asked.",
                "Personal data are found by patterns: what has another form is still there. Counts are of strings that "
                "were replaced by placeholders.",
                "Facts of a generated source are invented. A model trained on them knows an invented world.",
            ],
        ),
        _digests(graph, found, revision),
    ]
    return Card(
        KEY, "data", f"{title}: training text", lead, {name: one for name, one in metadata.items() if one}, parts
    )


def _shape(project: Project, path: str) -> dict[str, Any] | None:
    """Rows, bytes and features of a parquet file, from its footer; None where it isn't here."""
    import pyarrow.parquet as pq

    place = table_place(project, path)
    if place is None:
        return None
    footer = pq.ParquetFile(place)
    groups = [footer.metadata.row_group(i) for i in range(footer.metadata.num_row_groups)]
    return {
        "rows": footer.metadata.num_rows,
        "bytes": sum(group.total_byte_size for group in groups),
        "size": place.stat().st_size,
        "features": [{"name": one.name, "dtype": _dtype(str(one.type))} for one in footer.schema_arrow],
    }


def _dtype(arrow: str) -> str:
    """The name that datasets has for an Arrow type."""
    return {"double": "float64", "float": "float32"}.get(arrow, arrow)


def _licences(terms: list[Terms]) -> list[str]:
    """Of what is left, as the Hub names them; `other` for what it has no name for, `unknown` for what isn't stated."""
    kept = {one.licence for one in terms if one.documents}
    names = {"unknown" if one in (NOT_STATED, "unknown") else HUB_LICENCES.get(one, "other") for one in kept}
    return sorted(names) or ["unknown"]


def _facts(found: Mapping[str, Mapping[str, Any]], project: Project) -> list[tuple[str, str]]:
    facts = [(f"Documents, {split}", f"{shape['rows']:,}") for split, shape in found.items()]
    pack = known(project, "data/tokens/pack/pack.json") or {}
    for split in found:
        if isinstance(tokens := pack.get(split, {}).get("tokens"), int):
            facts.append((f"Tokens as packed, {split}", f"{tokens:,}"))
    facts.append(
        ("Date of collection", "not recorded: no clock is in a result; a distribution has its version instead")
    )
    return facts


def _legal_parts(legal: Legal, project: Project) -> list[Part]:
    if not legal.terms:
        return []
    known_sources = sources(project)
    rows = []
    for key in dict.fromkeys(one.source for one in legal.terms):
        source, own = known_sources.get(key, {}), [one for one in legal.terms if one.source == key]
        opted_out = sum(legal.opted_out.get(key, Counter()).values())
        rows.append(
            [
                key,
                KINDS.get(str(source.get("kind")), "of a kind that params.yaml doesn't say"),
                licence_basis(source),
                f"{sum(one.pages for one in own):,}",
                f"{opted_out:,}",
                f"{legal.licence_dropped[key]:,}",
                f"{sum(one.documents for one in own):,}",
                f"{sum(one.bytes for one in own):,}",
            ]
        )
    head = ["Source", "What it is", "Licence known from", "Pages", "Opted out, dropped", "Licence denied, dropped"]
    parts = [
        Part(
            "Legal record: sources",
            ["What each source is, on whose word its licences are known, and what was dropped for law's sake alone."],
            table=Table([*head, "Documents kept", "Bytes kept"], rows, list(range(3, 8))),
        ),
        Part("Legal record: licences", table=licence_table(legal)),
    ]
    signals = [
        [source, signal, f"{count:,}"] for source, found in legal.opted_out.items() for signal, count in found.items()
    ]
    if signals:
        told = ["Pages whose owner reserved them against training, by the first signal that was found."]
        table = Table(["Source", "Signal honoured", "Documents dropped"], signals, [2])
        parts.append(Part("Legal record: opt-outs", told, table=table))
    if legal.personal:
        facts = [(kind, f"{count:,} replaced") for kind, count in legal.personal.items()]
        parts.append(Part("Legal record: personal data", ["Over all sources together."], facts=facts))
    return parts


def licence_table(legal: Legal) -> Table:
    """A row a source, distribution and licence."""
    rows = [
        [one.source, one.distribution, one.licence, f"{one.pages:,}", f"{one.documents:,}", f"{one.bytes:,}"]
        for one in legal.terms
    ]
    return Table(["Source", "Distribution", "Licence", "Pages", "Documents kept", "Bytes kept"], rows, [3, 4, 5])


def _steps(graph: Graph) -> Table:
    """What each step of the corpus took away, from the records."""
    order = ("extract", "screen", "dedup", "heuristics", "quality", "domains", "decontaminate", "mix")
    by_stage = {record.stage: record for record in graph.records}
    rows = []
    for step in order:
        record = by_stage.get(f"corpus.{step}")
        if record is not None and record.rows:
            reasons = [f"{name} {number:,}" for name, number in record.rows["dropped"].items() if number]
            rows.append([step, f"{record.rows['in']:,}", f"{record.rows['out']:,}", listed(reasons) or "none"])
    return Table(["Step", "Documents in", "Documents out", "Dropped for"], rows, [1, 2])


def _digests(graph: Graph, found: Mapping[str, Any], revision: str) -> Part:
    facts = [("git revision", revision or "unknown")]
    for split in found:
        path = f"{MIX}/{split}.parquet"
        facts.append((path, next((one.outputs[path] for one in graph.records if path in one.outputs), "of no record")))
    for record in graph.records:
        if record.stage == "corpus.source":
            facts.append((f"run of {record.label}", record.fingerprint))
    return Part("Digests", ["sha256, as the records have them."], facts)
