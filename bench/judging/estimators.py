"""The statistics of judging against published figures and peers, each bar printed beside what was measured.

`python bench/judging/estimators.py [--official PYTHON] [--checkout FOLDER] [--svg FILE]`; needs
TRAINYARD_REFERENCE, and the peers' Python for evalica. PYTHON is one with alpaca_eval 0.6.6 (it isn't among the locked
peers); FOLDER a checkout of tatsu-lab/alpaca_eval (@cd543a1), for more models than the reference has. Under 2 minutes.
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the peers are run

from bench.judging import arena, length, tables  # noqa: E402  (the path is the project's root)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--official", metavar="PYTHON", help="a Python that has alpaca_eval 0.6.6")
    parser.add_argument("--checkout", type=Path, metavar="FOLDER", help="of tatsu-lab/alpaca_eval")
    parser.add_argument("--svg", type=Path, help="where to draw rates by Arena rating and judges by price")
    arguments = parser.parse_args()
    reference = Path(os.environ.get("TRAINYARD_REFERENCE") or ROOT.parent / "shared" / "reference")
    public = length.load(reference, arguments.checkout)
    length.accuracy(public)
    length.standard_errors(public)
    length.speed(public, arguments.official)
    arena.report(reference)
    tables.everything(public, reference, arguments.checkout, arguments.svg)


if __name__ == "__main__":
    main()
