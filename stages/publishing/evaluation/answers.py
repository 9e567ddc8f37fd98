"""`items.parquet` of every model: the value of the main metric on each item or document, for comparisons."""

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.base.stats import ratio_contributions
from stages.publishing.evaluation.comparisons import Answers, Asked

BITS = "bits_per_byte"  # in place of a protocol: how a text is asked


def read_answers(paths: Mapping[str, Path]) -> dict[Asked, dict[str, Answers]]:
    """paths: model → its file. Rows of questions under the plain prompt; texts that are scored as a whole have none."""
    found: dict[Asked, dict[str, Answers]] = defaultdict(dict)
    for model, path in paths.items():
        table = pq.read_table(path, columns=["set", "protocol", "id", "variant", "cluster", "correct"])
        table = table.filter(pc.and_(pc.is_valid(table["correct"]), pc.equal(table["variant"], "")))
        values: dict[Asked, dict[str, float]] = defaultdict(dict)
        clusters: dict[Asked, dict[str, str]] = defaultdict(dict)
        for row in table.to_pylist():
            asked = Asked(row["set"], row["protocol"])
            values[asked][row["id"]] = row["correct"]
            if row["cluster"]:
                clusters[asked][row["id"]] = row["cluster"]
        for asked, by_item in values.items():
            found[asked][model] = Answers(by_item, clusters[asked])
    return found


def read_bits(paths: Mapping[str, Path]) -> dict[Asked, dict[str, Answers]]:
    """What each document adds to a text's bits per byte, of every model: their mean is the text's."""
    found: dict[Asked, dict[str, Answers]] = defaultdict(dict)
    for model, path in paths.items():
        table = pq.read_table(path, columns=["set", "protocol", "id", "nats", "bytes"])
        table = table.filter(pc.and_(pc.is_valid(table["nats"]), pc.equal(table["protocol"], "")))
        for text in pc.unique(table["set"]).to_pylist():
            own = table.filter(pc.equal(table["set"], text))
            bits = own["nats"].to_numpy() / math.log(2)
            values = ratio_contributions(bits, own["bytes"].to_numpy()).tolist()
            asked = Asked(text, BITS)
            found[asked][model] = Answers(dict(zip(own["id"].to_pylist(), values, strict=True)), {})
    return found
