"""Filters and dedup against datatrove's blocks, extraction left out: `python bench/corpus/chain.py [--documents N]`.

Both read documents from parquet, drop near-duplicates (datatrove's four MinHash blocks; ours with its URL, exact and
paragraph steps too), apply Gopher's, C4's and FineWeb's rules in turn, replace e-mail and IP addresses, and write
parquet. One process each, documents by CPU second after a warm-up of what is loaded lazily; medians of 3, alternating.
The last line is ours on `--stream` documents, beside datatrove's rate on the few: it would take minutes for each
round, and its rate a document doesn't depend on their number.
"""

import argparse
import json
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.corpus import dedup, filters  # noqa: E402  (the path is the project's root)


def ours(path: Path, work: Path) -> dict[str, Any]:
    from stages.base import schemas
    from stages.base.tables import read_batches, table_writer
    from stages.corpus.dedup import deduplicate
    from stages.corpus.drops import with_text
    from stages.corpus.duplicates.spill import spill_folder
    from stages.corpus.rules.families import apply_rules
    from stages.corpus.screening.pii import redact

    rules = filters.rules()

    def once(source: Path) -> int:
        read = partial(read_batches, source, schemas.DOCUMENT)
        with (
            spill_folder(work / "spill") as folder,
            table_writer(work / "kept.parquet", schemas.DOCUMENT) as kept,
        ):
            for outcome in deduplicate(read, dedup.our_params(), seed=0, folder=folder, notices={}):
                batch = outcome.kept
                made = apply_rules(batch["text"].to_pylist(), rules)
                texts = [redact(decision.text, ("email", "ip"))[0] for decision in made]
                kept.write(with_text(batch, texts).filter([decision.kept for decision in made]))
            return kept.rows

    few = work / "few.parquet"
    pq.write_table(pq.read_table(path).slice(0, dedup.WARM), few)
    once(few)
    wall, cpu = dedup.clock()
    kept = once(path)
    return {"wall": dedup.clock()[0] - wall, "cpu": dedup.clock()[1] - cpu, "kept": kept}


def peer(path: Path, work: Path) -> dict[str, Any]:
    from datatrove.pipeline.dedup.minhash import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.formatters import PIIFormatter
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    config = dedup.peer_config()
    folders = {name: str(work / name) for name in ("signatures", "pairs", "clusters", "kept")}
    source = work / "source"
    source.mkdir()
    (source / "pages.parquet").symlink_to(path)
    texts = pq.read_table(path)["text"].to_pylist()[: dedup.WARM]
    step = MinhashDedupSignature(folders["signatures"], config=config)
    for text in texts:
        step.get_signature(step.get_shingles(text))
    filters.peer_each(texts)
    reader = ParquetReader(str(source))
    wall, cpu = dedup.clock()
    step.run(reader.run(rank=0, world_size=1), 0, 1)
    for bucket in range(dedup.BANDS):
        MinhashDedupBuckets(folders["signatures"], folders["pairs"], config=config).run(None, bucket, dedup.BANDS)
    MinhashDedupCluster(folders["pairs"], folders["clusters"], config=config).run(None, 0, 1)
    left = MinhashDedupFilter(folders["clusters"]).run(reader.run(rank=0, world_size=1), 0, 1)
    for block in [*filters.peer_filters(), PIIFormatter()]:
        left = block.run(left, 0, 1)
    kept = sum(1 for _ in ParquetWriter(folders["kept"]).run(left, 0, 1))
    return {"wall": dedup.clock()[0] - wall, "cpu": dedup.clock()[1] - cpu, "kept": kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--stream", type=int, default=20_000)
    parser.add_argument("--job", choices=("ours", "peer"), help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.job:
            print(json.dumps((ours if arguments.job == "ours" else peer)(arguments.path, Path(folder))))
            return
        pages = dedup.crawl(arguments.documents, Path(folder) / "pages.parquet")
        measured = partial(dedup.measured, script=__file__)
        rounds = [(measured("ours", pages), measured("peer", pages)) for _ in range(3)]
        size = arguments.documents
        rates = [statistics.median(size / found[side]["cpu"] for found in rounds) for side in (0, 1)]
        ratios = [theirs["cpu"] / mine["cpu"] for mine, theirs in rounds]
        print("| | documents/CPU s | datatrove | ratio (range) | kept |\n|---|---|---|---|---|")
        print(
            f"| {size:,} documents | {rates[0]:,.0f} | {rates[1]:,.1f} "
            f"| {statistics.median(ratios):.1f}x ({min(ratios):.1f}–{max(ratios):.1f}) "
            f"| {rounds[0][0]['kept']:,} and {rounds[0][1]['kept']:,} |"
        )
        found = measured("ours", dedup.crawl(arguments.stream, Path(folder) / "stream.parquet"))
        rate = arguments.stream / found["cpu"]
        print(
            f"| {arguments.stream:,} documents (datatrove: {size:,} of them) | {rate:,.0f} | {rates[1]:,.1f} "
            f"| {rate / rates[1]:.1f}x | {found['kept']:,} |"
        )


if __name__ == "__main__":
    main()
