"""Extraction against Trafilatura called directly: `python bench/corpus/extraction.py [--rounds 3]`.

F1, precision and recall of article-extraction-benchmark's metric (4-word shingles, means over pages) on its 109 public
pages, with 95 % intervals from bootstrapped pages; segments that must and must not appear on Trafilatura's own 990
evaluation pages; pages by CPU second, medians of the rounds, contenders alternating, each in a process of its own,
and their ratio. Needs the reference data. `blocks` was fitted on these pages: its F1 on pages that it hasn't seen is
printed by `python bench/corpus/fit_blocks.py`.
"""

import argparse
import gzip
import json
import lzma
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
PEERS = ("trafilatura fast", "trafilatura precision")
OURS = ("fast", "precision", "volume", "blocks")
Page = dict[str, Any]


def reference_folder() -> Path:
    return Path(os.environ.get("TRAINYARD_REFERENCE", ROOT.parent / "shared" / "reference")) / "extraction"


def article_pages(folder: Path) -> list[Page]:
    """Pages with `url`, `html` and the `gold` text."""
    with gzip.open(folder / "aeb_public.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def segment_pages(folder: Path) -> list[Page]:
    """Pages with `url`, `html`, and segments that must (`with`) and must not (`without`) appear."""
    with lzma.open(folder / "trafilatura_eval.jsonl.xz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def shingles(text: str) -> Counter[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[start : start + 4]) for start in range(max(1, len(words) - 3)))


def precision_recall(text: str, gold: str) -> tuple[float, float]:
    found, wanted = shingles(text), shingles(gold)
    common = sum((found & wanted).values())
    return common / sum(found.values()), common / sum(wanted.values())


def f1(pairs: np.ndarray) -> float:
    """Of the mean precision and the mean recall; `pairs` has a row a page."""
    precision, recall = pairs.mean(axis=0)
    return float(2 * precision * recall / (precision + recall))


def interval(pairs: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """The 95 % interval of F1, pages drawn anew."""
    rng = np.random.default_rng(0)
    scores = [f1(pairs[rng.integers(0, len(pairs), len(pairs))]) for _ in range(draws)]
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)


def segment_scores(texts: list[str], pages: list[Page]) -> tuple[float, float, float]:
    """(F1, precision, recall) over the segments of all pages; soft hyphens don't count."""
    shown = [text.replace("\u00ad", "") for text in texts]

    def found(key: str) -> int:
        return sum(
            segment.replace("\u00ad", "") in text
            for text, page in zip(shown, pages, strict=True)
            for segment in page[key]
        )

    right, wrong = found("with"), found("without")
    wanted = sum(len(page["with"]) for page in pages)
    precision, recall = right / max(right + wrong, 1), right / wanted
    return 2 * precision * recall / (precision + recall), precision, recall


def contender(name: str) -> Callable[[str, bytes, str], str]:
    """Text from (HTML decoded, HTML, URL): the peer gets the text, ours decodes the bytes."""
    if name in OURS:
        from stages.corpus.pages.html_text import extract_text

        return lambda page, html, url: extract_text(html, url, name)  # type: ignore[arg-type]
    from trafilatura import extract

    fast = name.endswith("fast")
    return lambda page, html, url: (
        extract(page, url=url, include_comments=False, fast=fast, favor_precision=not fast) or ""
    )


def work(name: str, corpus: str, target: Path) -> None:
    """Extract a corpus in this process; texts to `target`, CPU seconds after a warm-up to standard output."""
    pages = (article_pages if corpus == "articles" else segment_pages)(reference_folder())
    extract = contender(name)
    inputs = [(page["html"], page["html"].encode("utf-8", "replace"), page["url"]) for page in pages]
    for page in inputs[:5]:
        extract(*page)
    start = time.process_time()
    texts = [extract(*page) for page in inputs]
    seconds = time.process_time() - start
    target.write_text(json.dumps(texts))
    print(seconds)


def run(name: str, corpus: str) -> tuple[float, list[str]]:
    """(CPU seconds, texts) of a contender in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "texts.json"
        command = [sys.executable, __file__, "--work", name, corpus, str(target)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, text=True)
        return float(done.stdout.split()[-1]), json.loads(target.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", nargs=3, metavar=("CONTENDER", "CORPUS", "TARGET"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work[0], arguments.work[1], Path(arguments.work[2]))
        return
    if not reference_folder().is_dir():
        sys.exit(f"{reference_folder()} is missing: set TRAINYARD_REFERENCE to the folder of reference data")
    articles, segments = article_pages(reference_folder()), segment_pages(reference_folder())
    seconds: dict[str, list[float]] = {name: [] for name in PEERS + OURS}
    texts: dict[str, list[str]] = {}
    for _ in range(arguments.rounds):
        for name, taken in seconds.items():
            cpu, texts[name] = run(name, "articles")
            taken.append(cpu)
    print(f"{len(articles)} pages with gold text, {len(segments)} with segments\n")
    print("| contender | F1 (95 %) | P | R | segments F1 (P, R) | pages per CPU s | against trafilatura fast |")
    print("|---|---|---|---|---|---|---|")
    peer = statistics.median(seconds[PEERS[0]])
    for name, taken in seconds.items():
        pairs = np.array(
            [precision_recall(text, page["gold"]) for text, page in zip(texts[name], articles, strict=True)]
        )
        low, high = interval(pairs)
        precision, recall = pairs.mean(axis=0)
        among = segment_scores(run(name, "segments")[1], segments)
        median = statistics.median(taken)
        print(
            f"| {name} | {f1(pairs):.3f} ({low:.3f}–{high:.3f}) | {precision:.3f} | {recall:.3f} "
            f"| {among[0]:.3f} ({among[1]:.3f}, {among[2]:.3f}) | {len(articles) / median:,.0f} "
            f"({len(articles) / max(taken):,.0f}–{len(articles) / min(taken):,.0f}) | {peer / median:.1f}x |",
            flush=True,
        )
    ours = statistics.median(seconds["fast"])
    for name in ("volume", "blocks"):
        print(f"\n`{name}` against our `fast`: {ours / statistics.median(seconds[name]):.1f}x")


if __name__ == "__main__":
    main()
