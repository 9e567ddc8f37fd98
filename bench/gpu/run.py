"""The language model on one GPU, checked and timed beside nanoGPT: `python bench/gpu/run.py --nanogpt DIR`.

Needs torch 2.11 or newer, numpy, tokenizers, safetensors and pyarrow; no environment of the project. It runs piece by
piece: `checks` (`bench/gpu/checks.py`), then every shape compiled, then eagerly: ours and nanoGPT (`contenders.py`)
in processes of their own that share the memory and take turns, the machine's matrix product in turn with them; medians
of `--rounds`. A finished piece is kept in `.trainyard/bench/gpu/`, and when the next one may not end within
`--seconds` the command ends: run it again, and it goes on. The report grows in `--out`, as JSON and as Markdown, named
by the date of its first piece and by the machine. `--device cpu --tiny` runs the whole command in seconds, for tests.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.gpu.contenders import SHAPES  # noqa: E402  (the path is the project's root)
from bench.gpu.report import markdown  # noqa: E402
from stages.lm import accelerators  # noqa: E402
from stages.lm.speed import gemm_peak  # noqa: E402

STATE = ROOT / ".trainyard" / "bench" / "gpu"
NANOGPT = "7c01703240dbec5d554527dc666e35b3df8391d0b117fddc07afcf325a21d11c"  # model.py at its commit 3adf61e
LONGEST = 240.0  # seconds: a piece that may take longer than what is left of --seconds isn't begun
TURN = 8.0  # seconds of training between two changes


class OutOfTime(Exception):
    pass


class Contender:
    """A process that stands still until it is told how many steps to take."""

    def __init__(self, command: list[str], log: Path, deadline: float, environment: dict[str, str]) -> None:
        self.log, self.deadline = log, deadline
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            )
        self.watchdog = threading.Timer(max(0.0, deadline - time.monotonic()), self.process.kill)
        self.watchdog.start()

    def answer(self) -> Any:
        """Its next line of JSON; None if it has ended. Raises OutOfTime if the deadline ended it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(("{", "[")):
                return json.loads(line)
        if time.monotonic() >= self.deadline:
            raise OutOfTime
        return None

    def take(self, steps: int) -> Any:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{steps}\n")
            self.process.stdin.flush()
        return self.answer()

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "ended without a word")

    def end(self) -> None:
        self.watchdog.cancel()
        self.process.kill()
        self.process.wait()


class Bench:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.began = arguments, time.monotonic()
        self.shapes = ["tiny"] if arguments.tiny else arguments.shapes
        self.turn = 0.01 if arguments.tiny else TURN
        self.environment = os.environ | {"TRAINYARD_DEVICE": arguments.device, "TRAINYARD_TRACK": "off"}
        if arguments.tiny:
            self.environment["TORCHDYNAMO_DISABLE"] = "1"  # compiling takes longer than all the rest
        self.folder = STATE / self._identity()
        self.folder.mkdir(parents=True, exist_ok=True)

    def _identity(self) -> str:
        """Of what a finished piece was measured with: code, torch, device, contenders."""
        code = sorted([*ROOT.glob("bench/gpu/*.py"), *ROOT.glob("stages/lm/*.py"), *ROOT.glob("stages/base/*.py")])
        facts = [hashlib.sha256(path.read_bytes()).hexdigest() for path in code]
        facts += [torch.__version__, self.device_name(), str(self.arguments.nanogpt is not None)]
        facts += [*self.shapes, str(self.arguments.rounds)]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]

    def device_name(self) -> str:
        return torch.cuda.get_device_name() if self.arguments.device == "cuda" else f"CPU ({platform.machine()})"

    def machine(self) -> dict[str, Any]:
        cuda = self.arguments.device == "cuda"
        board = accelerators.driven(self.device_name())
        return {
            "device": self.device_name(),
            "memory_gib": torch.cuda.get_device_properties(0).total_memory / 2**30 if cuda else None,
            "peak_tflops": board.peak_tflops if board else None,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
        }

    def pieces(self) -> list[str]:
        """What a sitting that ends early must have comes first: the checks, then every shape compiled."""
        return ["checks"] + [f"{shape} {mode}" for mode in ("compiled", "eager") for shape in self.shapes]

    def path(self, piece: str) -> Path:
        return self.folder / f"{piece.replace(' ', '-')}.json"

    def kept(self, piece: str) -> Any:
        return json.loads(self.path(piece).read_text()) if self.path(piece).exists() else None

    def keep(self, piece: str, found: Any) -> None:
        partial = self.path(piece).with_suffix(".partial")
        partial.write_text(json.dumps({"date": date.today().isoformat(), "found": found}))
        partial.replace(self.path(piece))

    @property
    def deadline(self) -> float:
        return self.began + self.arguments.seconds

    def start(self, script: str, *words: str) -> Contender:
        command = [sys.executable, str(ROOT / "bench" / "gpu" / script), *words, "--device", self.arguments.device]
        log = self.folder / f"{script.removesuffix('.py')}-{'-'.join(words[:3])}.log"
        return Contender(command, log, self.deadline, self.environment)

    def checks(self) -> Any:
        process = self.start("checks.py", "tiny" if self.arguments.tiny else "full")
        try:
            found = process.answer()
            return {"error": process.last_words()} if found is None else found
        finally:
            process.end()

    def speeds(self, shape: str, mode: str) -> dict[str, Any]:
        """Of each contender: rows at once, tokens a second by turn, peak memory; or the error that ended it."""
        names = ["ours"] + (["nanogpt"] if self.arguments.nanogpt else [])
        other = self.kept(f"{shape} {'eager' if mode == 'compiled' else 'compiled'}")
        found: dict[str, dict[str, Any]] = {}
        running: dict[str, Contender] = {}
        products: list[float] = []
        try:
            for name in names:
                words = ["--share", f"{0.9 / len(names):.2f}"]
                words += ["--folder", str(self.arguments.nanogpt)] if name == "nanogpt" else []
                rows = None if other is None else other["found"]["contenders"][name].get("rows")
                words += [] if rows is None else ["--rows", str(rows)]
                running[name] = self.start("contenders.py", name, shape, mode, *words)
            # They load and compile side by side, which takes longer than all that is timed.
            for name in names:
                ready = running[name].answer()
                trial = None if ready is None else running[name].take(1)
                if trial is None:
                    found[name] = {"error": running[name].last_words()}
                    running.pop(name).end()
                    continue
                steps = max(1, math.ceil(self.turn / trial["seconds"]))
                found[name] = {"rows": trial["rows"], "ready_seconds": ready["seconds"], "steps": steps, "turns": []}
            for _ in range(self.arguments.rounds):
                for name, contender in list(running.items()):
                    turn = contender.take(found[name]["steps"])
                    if turn is None:
                        found[name] = {"error": contender.last_words()}
                        running.pop(name).end()
                        continue
                    tokens = SHAPES[shape].batch_rows * SHAPES[shape].context * found[name]["steps"]
                    found[name]["turns"].append(tokens / turn["seconds"])
                    found[name]["peak_mib"] = turn["peak_mib"]
                products.append(self.product())
        finally:
            for contender in running.values():
                contender.end()
        return {
            "shape": shape, "mode": mode, "flops_per_token": SHAPES[shape].flops_per_token,
            "gemm_flops_per_second": statistics.median(products), "contenders": found,
        }  # fmt: skip

    def product(self) -> float:
        """Median rate of this machine's matrix products, FLOP/s; leaves no memory taken."""
        rate = gemm_peak(seconds=min(1.0, self.turn))[0]
        if self.arguments.device == "cuda":
            torch.cuda.empty_cache()
        return rate

    def run(self, piece: str) -> Any:
        return self.checks() if piece == "checks" else self.speeds(*piece.split())

    def write_report(self) -> Path:
        """The report of what is finished; where its Markdown is."""
        done = {piece: kept for piece in self.pieces() if (kept := self.kept(piece)) is not None}
        report = {
            "date": min(kept["date"] for kept in done.values()),
            "machine": self.machine(),
            "pieces": {piece: kept["found"] for piece, kept in done.items()},
            "missing": [piece for piece in self.pieces() if piece not in done],
        }
        name = f"{report['date']}-{re.sub('[^a-z0-9]+', '-', self.device_name().lower()).strip('-')}"
        self.arguments.out.mkdir(parents=True, exist_ok=True)
        target = self.arguments.out / f"{name}.md"
        target.write_text(markdown(report))
        (self.arguments.out / f"{name}.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
        return target


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT at 3adf61e")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--shapes", nargs="+", choices=[name for name in SHAPES if name != "tiny"], default=["350M", "124M", "1.3B"]
    )
    parser.add_argument("--tiny", action="store_true", help="one shape of no interest, in seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=570.0, help="of one call")
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "h200")
    arguments = parser.parse_args(words)
    if arguments.nanogpt is not None:
        source = arguments.nanogpt / "model.py"
        if not source.is_file() or hashlib.sha256(source.read_bytes()).hexdigest() != NANOGPT:
            sys.exit(f"{arguments.nanogpt}: no nanoGPT at its commit 3adf61e; check that out there")
        arguments.nanogpt = arguments.nanogpt.resolve()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device here; `--device cpu --tiny` tries the command without one")
    os.environ["TRAINYARD_DEVICE"] = arguments.device
    bench = Bench(arguments)
    for piece in bench.pieces():
        if bench.kept(piece) is not None:
            continue
        left = bench.deadline - time.monotonic()
        try:
            if left < (0 if arguments.tiny else min(LONGEST, arguments.seconds / 2)):
                raise OutOfTime
            found = bench.run(piece)
        except OutOfTime:
            print(f"{piece} is left; run the same command again, and it goes on", file=sys.stderr)
            return 3
        bench.keep(piece, found)
        print(f"{piece}: done after {time.monotonic() - bench.began:.0f} s", file=sys.stderr)
        bench.write_report()
    print(bench.write_report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
