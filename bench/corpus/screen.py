"""The screen's parts, each beside what it replaces: `python bench/corpus/screen.py [--documents N]`.

Documents by CPU second on one core, on texts cut to 3,000 characters; imports, models and compilers warmed up before;
medians of 3, the two alternating, each in a process of its own.

- language: ours against py3langid itself, of whose model ours is the compiled form; verdicts that differ are counted.
- personal data: e-mail and IP addresses against datatrove's PIIFormatter, then all our kinds.
- undesirable: the keyword rule. whole: everything that screens a document, the classifier left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
PEER = Path(os.environ.get("TRAINYARD_PEERS_PYTHON") or ROOT / ".venv-peers" / "bin" / "python")
CHARACTERS, WARM = 3000, 20
SAMPLE = 2000  # characters that language identification looks at, as params.yaml has it


def our_language() -> Callable[[str], Any]:
    from stages.corpus.screening.language import identify

    return lambda text: identify(text, SAMPLE)[0]


def peer_language() -> Callable[[str], Any]:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def identify(text: str) -> Any:
        start = max(0, (len(text) - SAMPLE) // 2)
        return model.classify(text[start : start + SAMPLE])[0]

    return identify


def our_addresses() -> Callable[[str], Any]:
    from stages.corpus.screening.pii import redact

    return lambda text: len(redact(text, ("email", "ip"))[1])


def peer_addresses() -> Callable[[str], Any]:
    from datatrove.pipeline.formatters.pii import PIIFormatter

    mark = "\ue000"  # stands in no text
    formatter = PIIFormatter(email_replacement=mark, ip_replacement=mark)
    return lambda text: formatter.format(text).count(mark)


def our_personal() -> Callable[[str], Any]:
    from stages.corpus.screening.pii import redact

    return lambda text: len(redact(text)[1])


def our_undesirable() -> Callable[[str], Any]:
    from stages.corpus.screening.undesirable import judge

    return lambda text: judge(text).terms


JOBS = {job.__name__: job for job in (our_language, our_addresses, our_personal, our_undesirable)}
PEERS = {job.__name__: job for job in (peer_language, peer_addresses)}


def work(job: str, path: Path) -> dict[str, Any]:
    """CPU seconds of a job over the texts, and what it said of each."""
    texts = [text[:CHARACTERS] for text in pq.read_table(path)["text"].to_pylist()]
    if job == "our_whole":
        return whole(path, texts)
    function = (JOBS | PEERS)[job]()
    for text in texts[:WARM]:
        function(text)
    start = time.process_time()
    said = [function(text) for text in texts]
    return {"cpu": time.process_time() - start, "said": said}


def whole(path: Path, texts: list[str]) -> dict[str, Any]:
    import yaml

    from stages.base.params import parse
    from stages.corpus.classifiers.rater import Rater
    from stages.corpus.screen import Context, ScreenParams, screen
    from stages.corpus.screening.address_lists import Addresses, read_lists
    from stages.corpus.screening.content_model import ContentModel
    from stages.corpus.screening.legality import Legality
    from stages.corpus.screening.plants import Plants
    from stages.corpus.screening.robots_table import RobotsTable
    from tests.corpus.documents import planted, table

    values = yaml.safe_load((ROOT / "params.yaml").read_text())["corpus"]["screen"]
    params = parse("corpus.screen", values, ScreenParams)
    context = Context(
        params,
        read_lists(ROOT / params.lists)[0],
        Legality(params.legality, (), Addresses([], []), RobotsTable([], params.legality.robots_agents)),
        ContentModel(Rater(0.0, [], []), params.undesirable, 1),
        Plants.of(planted([])),
    )
    urls = pq.read_table(path)["url"].to_pylist()
    documents = table([{"text": text, "url": url} for text, url in zip(texts, urls, strict=True)])
    screen(documents.slice(0, WARM), context)
    start = time.process_time()
    kept = sum(screen(documents.slice(at, 256), context).kept.num_rows for at in range(0, len(texts), 256))
    return {"cpu": time.process_time() - start, "said": kept}


def measured(job: str, path: Path) -> dict[str, Any]:
    python = str(PEER) if job == "peer_addresses" else sys.executable
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [python, __file__, "--job", job, "--path", str(path)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{job} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=5000)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(work(options.job, options.path)))
        return
    from bench.corpus.documents import documents

    path, size = documents(options.documents), options.documents
    print(f"{size:,} documents of at most {CHARACTERS:,} characters")
    for name, peer in (("language", "py3langid"), ("addresses", "datatrove")):
        rounds = [(measured(f"our_{name}", path), measured(f"peer_{name}", path)) for _ in range(3)]
        ratios = [theirs["cpu"] / ours["cpu"] for ours, theirs in rounds]
        speeds = [statistics.median(size / found[side]["cpu"] for found in rounds) for side in (0, 1)]
        differ = sum(one != other for one, other in zip(rounds[0][0]["said"], rounds[0][1]["said"], strict=True))
        print(
            f"{name:<12} ours {speeds[0]:>8,.0f}/s   {peer} {speeds[1]:>7,.0f}/s   "
            f"ratio {statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f})   differing {differ}",
            flush=True,
        )
    for name in ("personal", "undesirable", "whole"):
        speed = statistics.median(size / measured(f"our_{name}", path)["cpu"] for _ in range(3))
        print(f"{name:<12} ours {speed:>8,.0f}/s", flush=True)


if __name__ == "__main__":
    main()
