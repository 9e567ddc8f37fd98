"""The judge's client against a loopback server that fails as servers do (`tests/annotators/flaky_server.py`).

    python bench/judging/client.py [--calls 2000] [--concurrency 32] [--latency 0.25] [--runs 3]

What the server allows: it works on `concurrency` requests at a time, so that its busy seconds (failed tries included,
by its own ledger) over the concurrency is the least time in which anyone could have got these replies. Beside ours, in
the same run: a thread pool over the same `openai` client with the client's own retries.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import openai  # noqa: E402

from stages.annotators.client import AnnotatorSettings, Pair, compare, load_template  # noqa: E402
from tests.annotators.judges import settings  # noqa: E402


@contextlib.contextmanager
def flaky_server(latency: float) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder, "port")
        command = [sys.executable, "-m", "tests.annotators.flaky_server", str(port_file), str(latency)]
        server = subprocess.Popen(command, cwd=ROOT)
        try:
            while not (port_file.exists() and port_file.read_text()):
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port_file.read_text()}/v1"
        finally:
            server.terminate()
            server.wait()


def ours(pairs: list[Pair], judge: AnnotatorSettings) -> int:
    return sum(not preference.error for preference in compare(pairs, judge, seed=1))


def threads(pairs: list[Pair], judge: AnnotatorSettings) -> int:
    """What one writes first: a pool of threads, the client's `max_retries`."""
    template = load_template(judge.prompt)
    client = openai.OpenAI(
        api_key="none", base_url=judge.base_url, max_retries=judge.max_retries, timeout=judge.timeout_s
    )

    def call(pair: Pair) -> bool:
        values = {"instruction": pair.prompt, "output_1": pair.output_a, "output_2": pair.output_b}
        content = template % {name: json.dumps(value) for name, value in values.items()}
        try:
            client.chat.completions.create(model=judge.model, messages=[{"role": "user", "content": content}])
        except openai.OpenAIError:
            return False
        return True

    with ThreadPoolExecutor(judge.concurrency) as executor:
        return sum(executor.map(call, pairs))


def measure(contestant: Any, arguments: argparse.Namespace) -> dict[str, float]:
    pairs = [Pair(f"q{i}", f"Question {i}?", "short", "a longer answer") for i in range(arguments.calls)]
    with flaky_server(arguments.latency) as url, tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["GIT_CEILING_DIRECTORIES"] = str(Path(folder).parent)  # a cache of its own
        judge = settings(
            provider="openai",
            base_url=url,
            concurrency=arguments.concurrency,
            max_retries=6,
            timeout_s=12 * arguments.latency,
        )
        start = time.monotonic()
        answered = contestant(pairs, judge)
        wall = time.monotonic() - start
        ledger = json.load(urllib.request.urlopen(f"{url}/ledger"))
        row = {
            "answered": answered,
            "tries": sum(ledger["fates"].values()),
            "replies": ledger["whole_replies"],
            "rate": answered / wall,
            "share": ledger["busy_seconds"] / judge.concurrency / wall,
        }
        if contestant is ours:
            assert contestant(pairs, judge) == answered
            again = json.load(urllib.request.urlopen(f"{url}/ledger"))
            row["rerun"] = sum(again["fates"].values()) - sum(ledger["fates"].values())
        return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.25, help="seconds of a whole reply")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {"ours": [], "threads": []}
    for _ in range(arguments.runs):
        for name, contestant in (("ours", ours), ("threads", threads)):
            rows[name].append(measure(contestant, arguments))
    for name, runs in rows.items():
        middle = {key: statistics.median(row[key] for row in runs) for key in ("share", "rate", "answered", "tries")}
        print(
            f"{name}: {middle['answered']:.0f} of {arguments.calls} answered in {middle['tries']:.0f} tries, "
            f"{middle['rate']:.1f} a second, {middle['share']:.1%} of what the server allows (bar 80 %); "
            f"runs: {', '.join(format(row['share'], '.3f') for row in runs)}"
        )
    print(f"a rerun: {rows['ours'][0]['rerun']:.0f} calls (bar 0)")


if __name__ == "__main__":
    main()
