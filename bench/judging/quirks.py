"""A judge with every quirk of the public reports mixed in (`tests/annotators/quirky_server.py`), over the loopback.

    python bench/judging/quirks.py [--calls 2000]

Bars: every pair has the right verdict or a NaN row with its reason; the bill is the server's own count to the cent; a
rerun asks only for what has no usable reply.
"""

import argparse
import asyncio
import contextlib
import math
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from stages.annotators.client import Pair, compare  # noqa: E402
from tests.annotators.flaky_server import serving  # noqa: E402
from tests.annotators.judges import settings  # noqa: E402
from tests.annotators.quirky_server import USD_PER_MILLION, QuirkyJudge  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    calls = parser.parse_args().calls
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    judge = QuirkyJudge(calls)
    pairs = [Pair(f"q{i}", f"Question {i}?", "short", "a longer answer") for i in range(calls)]
    price_in, price_out = USD_PER_MILLION
    asked = settings(
        provider="openai", base_url=serving(loop, judge), concurrency=16, max_cost_usd=1000.0,
        usd_per_million_input=price_in, usd_per_million_output=price_out,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["GIT_CEILING_DIRECTORIES"] = str(Path(folder).parent)  # a cache of its own
        start = time.monotonic()
        got = compare(pairs, asked, seed=1)
        wall = time.monotonic() - start
        wrong = [
            judge.fate[number]
            for number, preference in enumerate(got)
            if not (
                judge.expected(number) in preference.error and math.isnan(preference.preference)
                if judge.expected(number)
                else preference.preference > 1.95
            )
        ]
        without = sum(bool(judge.expected(number)) for number in range(calls))
        usd, billed, tries = sum(preference.usd for preference in got), judge.usd, len(judge.asked)
        compare(pairs, asked, seed=1)
    print(
        f"{calls} calls in {wall:.1f} s, {calls - without} with a verdict, {without} with a reason; wrong: {len(wrong)}"
    )
    print(f"billed ${usd:.6f}, by the server's count ${billed:.6f}; asked {tries} times")
    print(f"a rerun asks {len(judge.asked) - tries} of the {without} without a usable reply")
    if wrong:
        print("wrong:", sorted(set(wrong)))


if __name__ == "__main__":
    main()
