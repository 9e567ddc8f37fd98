"""`items.parquet` of every model: the value of the main metric on each item, for comparisons."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.publishing.evaluation.comparisons import Answers, Asked


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
