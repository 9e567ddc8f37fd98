"""The web rules against datatrove's four filters: `python bench/corpus/filters.py [--documents N] [--sample M]`.

Conformance: every filter on every raw text of `--conformance` documents, and the chain of all four; counts decisions,
reasons and rewritten texts that differ. Speed, documents by CPU second, datatrove's word cache on as it always is:
cold (the first 400 documents, from an empty memory, kernels compiled before) and steady (the whole stream, from an
empty memory; datatrove on a sample of M documents spread evenly over it). `each` runs all four filters on every raw
text; `chain` stops at the first filter that drops a text and hands C4's text on. Medians of 3, the two alternating.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
PEER = ROOT / ".venv-peers" / "bin" / "python"
NAMES = ("gopher_repetition", "gopher_quality", "c4_quality", "fineweb_quality")
COLD = 400
Row = list[Any]  # [kept, reason, text if rewritten else ""]


def rules() -> dict[str, Any]:
    """datatrove's defaults, C4's terminal punctuation included."""
    import yaml

    found = yaml.safe_load((ROOT / "params.yaml").read_text())["corpus"]["heuristics"]["rules"]["default"]
    return found | {"c4_quality": found["c4_quality"] | {"filter_no_terminal_punct": True}}


def our_each(texts: list[str]) -> list[list[Row]]:
    """Of each text, the row of each filter alone."""
    from stages.corpus.rules.families import apply_each

    return [
        [[made.kept, made.reason, made.text if made.text != text else ""] for made in decisions]
        for text, decisions in zip(texts, apply_each(texts, rules()), strict=True)
    ]


def our_chain(texts: list[str]) -> list[list[Row]]:
    from stages.corpus.rules.families import apply_rules

    pairs = zip(texts, apply_rules(texts, rules()), strict=True)
    return [[[made.kept, made.reason, made.text if made.text != text else ""]] for text, made in pairs]


def peer_filters() -> list[Any]:
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    return [GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(), FineWebQualityFilter()]


def peer_each(texts: list[str]) -> list[list[Row]]:
    from datatrove.data import Document

    filters, rows = peer_filters(), []
    for text in texts:
        row: list[Row] = []
        for block in filters:
            document = Document(text=text, id="")
            row.append(_peer_row(block.filter(document), document, text))
        rows.append(row)
    return rows


def peer_chain(texts: list[str]) -> list[list[Row]]:
    from datatrove.data import Document

    filters, rows = peer_filters(), []
    for text in texts:
        document = Document(text=text, id="")
        for block in filters:
            row = _peer_row(block.filter(document), document, text)
            if not row[0]:
                break
        rows.append([row])
    return rows


def _peer_row(result: Any, document: Any, text: str) -> Row:
    kept, reason = result if isinstance(result, tuple) else (result, "")
    return [kept, reason, document.text if document.text != text else ""]


WORK: dict[str, Callable[[list[str]], list[list[Row]]]] = {
    "ours each": our_each,
    "ours chain": our_chain,
    "peer each": peer_each,
    "peer chain": peer_chain,
}


def work(name: str, source: Path, target: Path) -> None:
    """In a process of its own: warm up, forget, time, write the rows."""
    texts = json.loads(source.read_text())
    WORK[name](["Words to load what is loaded lazily, and to compile. " * 40])
    if name.startswith("ours"):
        from stages.corpus.rules.lexicon import lexicon

        lexicon().clear()
    start = time.process_time()
    rows = WORK[name](texts)
    target.write_text(json.dumps({"seconds": time.process_time() - start, "rows": rows}))


def run(name: str, texts: list[str], folder: Path) -> tuple[float, list[list[Row]]]:
    """(CPU seconds, rows) of a piece of work in its own environment."""
    source, target = folder / "texts.json", folder / "rows.json"
    source.write_text(json.dumps(texts))
    python = str(PEER) if name.startswith("peer") else sys.executable
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    subprocess.run([python, __file__, "--work", name, str(source), str(target)], check=True, env=environment)
    made = json.loads(target.read_text())
    return made["seconds"], made["rows"]


def spread(texts: list[str], count: int) -> list[str]:
    return [texts[i * len(texts) // count] for i in range(min(count, len(texts)))]


def conformance(texts: list[str], folder: Path) -> None:
    for mode in ("each", "chain"):
        _, ours = run(f"ours {mode}", texts, folder)
        _, theirs = run(f"peer {mode}", texts, folder)
        names = NAMES if mode == "each" else ("chain",)
        print(f"\n{mode}: {len(texts):,} documents\n")
        print("| filter | kept by both | decisions differ | reasons differ | texts differ |\n|---|---|---|---|---|")
        for place, name in enumerate(names):
            pairs = [(mine[place], other[place]) for mine, other in zip(ours, theirs, strict=True)]
            differing = [sum(a[i] != b[i] for a, b in pairs) for i in range(3)]
            both = sum(a[0] and b[0] for a, b in pairs)
            print(f"| {name} | {both:,} | {differing[0]} | {differing[1]} | {differing[2]} |")


def speed(texts: list[str], sample: int, folder: Path) -> None:
    print("\n| | ours, documents/CPU s | datatrove | ratio |\n|---|---|---|---|")
    for mode in ("each", "chain"):
        for label, mine, theirs in (
            (f"cold, first {COLD}", texts[:COLD], texts[:COLD]),
            (f"steady, {len(texts):,} (datatrove: {sample} of them)", texts, spread(texts, sample)),
        ):
            rates: dict[str, list[float]] = {"ours": [], "peer": []}
            for _ in range(3):
                for name, part in (("ours", mine), ("peer", theirs)):
                    rates[name].append(len(part) / run(f"{name} {mode}", part, folder)[0])
            ours, peer = statistics.median(rates["ours"]), statistics.median(rates["peer"])
            ranges = {name: f"{min(found):,.0f}–{max(found):,.0f}" for name, found in rates.items()}
            print(
                f"| {mode}, {label} | {ours:,.0f} ({ranges['ours']}) | {peer:,.1f} ({ranges['peer']}) "
                f"| {ours / peer:.1f}x |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--conformance", type=int, default=5_000, help="documents to compare decisions on; 0: none")
    parser.add_argument("--sample", type=int, default=600, help="documents that datatrove is timed on; 0: no timing")
    parser.add_argument("--work", nargs=3, metavar=("NAME", "SOURCE", "TARGET"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        name, source, target = arguments.work
        work(name, Path(source), Path(target))
        return
    from bench.corpus.documents import documents

    texts = pq.read_table(documents(arguments.documents))["text"].to_pylist()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.conformance:
            conformance(spread(texts, arguments.conformance), Path(folder))
        if arguments.sample:
            speed(texts, arguments.sample, Path(folder))


if __name__ == "__main__":
    main()
