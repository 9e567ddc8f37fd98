"""Near-duplicate search against datatrove's: `python bench/corpus/dedup.py [--documents N] [--pages M]`.

Signature: shingles and 112 hashes of each text (14 bands of 8, word 5-grams), datatrove's step writing them to disk as
it does. Whole: datatrove's four blocks, ours with its exact, URL and paragraph steps, from parquet to parquet.
Documents by CPU second on one core, imports, models and compilers warmed up before; medians of 3, the two alternating.
Then how well candidates follow the S-curve, recall and precision against all pairs compared exactly, and time and peak
memory of ours at M pages and at twice as many. Every tenth page is an edited copy of another, every twentieth a copy.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
PEER = Path(os.environ.get("TRAINYARD_PEERS_PYTHON") or ROOT / ".venv-peers" / "bin" / "python")
NGRAM, BANDS, ROWS, JACCARD = 5, 14, 8, 0.7
WARM = 20  # documents


def clock() -> tuple[float, float]:
    """(wall, CPU) seconds; CPU of this process, its children left out: nothing here starts any."""
    return time.monotonic(), time.process_time()


def peak_memory() -> float:
    """MiB resident at the peak. Not `ru_maxrss`, which a new process begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def crawl(n: int, path: Path) -> Path:
    """`n` pages as a document table at `path`: real texts, some replaced by copies of others."""
    from bench.corpus.documents import documents
    from stages.base import schemas
    from stages.base.tables import write_table
    from stages.corpus.drops import with_text

    table = pq.read_table(documents(n))
    texts, generator = table["text"].to_pylist(), random.Random(0)
    for row in range(10, n, 10):
        words = texts[generator.randrange(row)].split(" ")
        for _ in range(0 if row % 20 == 0 else max(1, len(words) // 100)):
            words[generator.randrange(len(words))] = f"edited{generator.randrange(1000)}"
        texts[row] = " ".join(words)
    empty = {"source": "bench", "licence": "", "opt_out": "", "language": "", "text_hash": "", "domain": ""}
    columns = {name: pa.array([value] * n) for name, value in empty.items()} | {
        "id": table["id"],
        "url": table["url"],
        "text": pa.array(texts),
        "links": pa.array([[]] * n, pa.list_(pa.string())),
        "quality": pa.array([float("nan")] * n, pa.float32()),
    }
    pages = pa.table({name: columns[name] for name in schemas.DOCUMENT.names}, schema=schemas.DOCUMENT)
    write_table(path, with_text(pages, texts), schemas.DOCUMENT)
    return path


def our_params() -> Any:
    from stages.corpus.dedup import DedupParams, ParagraphParams

    return DedupParams(
        max_drop=1.0, ngram=NGRAM, bands=BANDS, rows=ROWS, jaccard=JACCARD, min_words=1, min_characters=1,
        paragraphs={"default": ParagraphParams(max_documents=20, min_characters=40)},
    )  # fmt: skip


def our_signature(path: Path, work: Path) -> dict[str, Any]:
    from stages.corpus.duplicates import minhash, sketch
    from stages.corpus.duplicates.ngrams import code_points

    texts = pq.read_table(path)["text"].to_pylist()
    settings, family = sketch.Settings(NGRAM, BANDS, ROWS, 1, 0), minhash.family(BANDS * ROWS, 0)
    for text in ["a b c d e f", "é b c d e f", *texts[:WARM]]:
        sketch.banded(code_points(text), settings, family)
    wall, cpu = clock()
    for text in texts:
        sketch.banded(code_points(text), settings, family)
    return {"wall": clock()[0] - wall, "cpu": clock()[1] - cpu}


def our_whole(path: Path, work: Path) -> dict[str, Any]:
    from functools import partial

    from stages.base import schemas
    from stages.base.tables import read_batches, table_writer
    from stages.corpus.dedup import deduplicate
    from stages.corpus.duplicates.spill import spill_folder

    def once(source: Path) -> int:
        with (
            spill_folder(work / "spill") as folder,
            table_writer(work / "kept.parquet", schemas.DOCUMENT) as kept,
            table_writer(work / "drops.parquet", schemas.DROP) as drops,
        ):
            read = partial(read_batches, source, schemas.DOCUMENT)
            for outcome in deduplicate(read, our_params(), seed=0, folder=folder, notices={}):
                kept.write(outcome.kept)
                drops.write(outcome.drops)
            return kept.rows

    few = work / "few.parquet"
    pq.write_table(next(read_batches(path, schemas.DOCUMENT)).slice(0, WARM), few)
    once(few)
    wall, cpu = clock()
    kept = once(path)
    return {"wall": clock()[0] - wall, "cpu": clock()[1] - cpu, "kept": kept}


def peer_config() -> Any:
    from datatrove.pipeline.dedup.minhash import MinhashConfig

    return MinhashConfig(n_grams=NGRAM, num_buckets=BANDS, hashes_per_bucket=ROWS)


def peer_signature(path: Path, work: Path) -> dict[str, Any]:
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashDedupSignature

    texts = pq.read_table(path)["text"].to_pylist()
    pages = [Document(text=text, id=str(row)) for row, text in enumerate(texts)]
    step = MinhashDedupSignature(str(work / "signatures"), config=peer_config())
    for text in texts[:WARM]:
        step.get_signature(step.get_shingles(text))
    wall, cpu = clock()
    step.run(iter(pages), 0, 1)
    return {"wall": clock()[0] - wall, "cpu": clock()[1] - cpu}


def peer_whole(path: Path, work: Path) -> dict[str, Any]:
    from datatrove.pipeline.dedup.minhash import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    config = peer_config()
    folders = {name: str(work / name) for name in ("signatures", "pairs", "clusters", "kept")}
    source = work / "source"
    source.mkdir()
    (source / "pages.parquet").symlink_to(path)
    step = MinhashDedupSignature(folders["signatures"], config=config)
    for text in pq.read_table(path)["text"].to_pylist()[:WARM]:
        step.get_signature(step.get_shingles(text))
    reader = ParquetReader(str(source))
    wall, cpu = clock()
    step.run(reader.run(rank=0, world_size=1), 0, 1)
    for bucket in range(BANDS):
        MinhashDedupBuckets(folders["signatures"], folders["pairs"], config=config).run(None, bucket, BANDS)
    MinhashDedupCluster(folders["pairs"], folders["clusters"], config=config).run(None, 0, 1)
    left = MinhashDedupFilter(folders["clusters"]).run(reader.run(rank=0, world_size=1), 0, 1)
    kept = sum(1 for _ in ParquetWriter(folders["kept"]).run(left, 0, 1))
    return {"wall": clock()[0] - wall, "cpu": clock()[1] - cpu, "kept": kept}


JOBS = {job.__name__: job for job in (our_signature, our_whole, peer_signature, peer_whole)}


def measured(job: str, path: Path, script: str = __file__) -> dict[str, Any]:
    """A job in a process of its own: its seconds, its peak memory in MiB, the documents it kept."""
    python = str(PEER) if job.startswith("peer") else sys.executable
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "TRAINYARD_WORKERS": "1", "PYTHONHASHSEED": "0",
    }  # fmt: skip
    command = [python, script, "--job", job, "--path", str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{job} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(name: str, path: Path) -> None:
    size = pq.read_metadata(path).num_rows
    rounds = [(measured(f"our_{name}", path), measured(f"peer_{name}", path)) for _ in range(3)]
    ours, peers = (statistics.median(size / found[side]["cpu"] for found in rounds) for side in (0, 1))
    ratios = [peer["cpu"] / our["cpu"] for our, peer in rounds]
    kept = f"   kept {rounds[0][0]['kept']:,} and {rounds[0][1]['kept']:,}" if "kept" in rounds[0][0] else ""
    print(
        f"{name:<10} {size:>7,} documents   ours {ours:>8,.0f}/s   datatrove {peers:>6,.0f}/s   "
        f"ratio {statistics.median(ratios):>6.1f} ({min(ratios):.1f}-{max(ratios):.1f}){kept}",
        flush=True,
    )


def s_curve(pairs: int = 300, size: int = 400) -> None:
    import numpy as np

    from stages.corpus.duplicates.minhash import band_keys, family, meeting_probability, signature

    generator, drawn = np.random.default_rng(0), family(BANDS * ROWS, 0)
    print(f"\nS-curve, {pairs} planted pairs of sets each\nJ      found  theory")
    for jaccard in (0.95, 0.90, 0.83, 0.75, 0.63, 0.49):
        common, met = round(2 * size * jaccard / (1 + jaccard)), 0
        for _ in range(pairs):
            pool = generator.integers(0, 1 << 64, 2 * size - common, np.uint64)
            one, other = (band_keys(signature(part, *drawn), BANDS) for part in (pool[:size], pool[size - common :]))
            met += bool((one == other).any())
        print(f"{jaccard:.2f}   {met / pairs:.3f}  {meeting_probability(jaccard, BANDS, ROWS):.3f}")


def accuracy(path: Path) -> None:
    """Every pair of texts with a common shingle, compared exactly by Python's sets, against the clusters found."""
    import re

    from stages.corpus.dedup import near_duplicates

    texts = pq.read_table(path)["text"].to_pylist()
    words = [re.findall(r"\w+", text.lower()) for text in texts]
    grams = [{tuple(one[at : at + NGRAM]) for at in range(max(1, len(one) - NGRAM + 1))} for one in words]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, one in enumerate(grams):
        for gram in one:
            holders[gram].append(row)
    common: dict[tuple[int, int], int] = defaultdict(int)
    for rows in holders.values():
        for place, one in enumerate(rows):
            for other in rows[place + 1 :]:
                common[one, other] += 1
    exact = {(a, b): both / (len(grams[a]) + len(grams[b]) - both) for (a, b), both in common.items()}
    labels = near_duplicates(texts, our_params()).tolist()
    near = [pair for pair, value in exact.items() if value >= 0.9]
    found = sum(labels[one] == labels[other] for one, other in near)
    # A cluster is right if it is connected by pairs above the threshold: count the members such a pair ties in.
    tied = {row for (one, other), value in exact.items() if value >= JACCARD and labels[one] == labels[other]
            for row in (one, other)}  # fmt: skip
    sizes = Counter(labels)
    members = [row for row, label in enumerate(labels) if sizes[label] > 1]
    print(
        f"\n{len(texts):,} documents, {len(exact):,} pairs with a common shingle compared exactly\n"
        f"recall of pairs at J >= 0.9: {found}/{len(near)} = {found / len(near):.4f}\n"
        f"members of clusters with a twin at J >= {JACCARD}: {sum(row in tied for row in members)}/{len(members)}"
    )


def growth(pages: int, folder: Path) -> None:
    print(f"\nours, whole\n{'pages':>8} {'wall s':>8} {'CPU s':>8} {'peak MiB':>9}")
    spent = []
    for size in (pages, 2 * pages):
        found = measured("our_whole", crawl(size, folder / f"pages_{size}.parquet"))
        spent.append(found)
        print(f"{size:>8,} {found['wall']:>8.1f} {found['cpu']:>8.1f} {found['peak']:>9.0f}", flush=True)
    wall, cpu = (spent[1][key] / spent[0][key] for key in ("wall", "cpu"))
    print(f"twice the pages: {wall:.2f} times the wall time, {cpu:.2f} times the CPU time")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=2000, help="compared with datatrove, and all pairs")
    parser.add_argument("--pages", type=int, default=10_000, help="of the smaller run of time and memory")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.job:
            found = JOBS[arguments.job](arguments.path, Path(folder))
            found["peak"] = peak_memory()
            print(json.dumps(found))
            return
        pages = crawl(arguments.documents, Path(folder) / "pages.parquet")
        if PEER.exists():
            compare("signature", pages)
            compare("whole", pages)
        else:
            print("no peers' environment: set TRAINYARD_PEERS_PYTHON, or make .venv-peers from bench/requirements.lock")
        s_curve()
        accuracy(pages)
        growth(arguments.pages, Path(folder))


if __name__ == "__main__":
    main()
