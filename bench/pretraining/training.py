"""A training step on one CPU core beside its peers.

`python bench/pretraining/training.py --nanogpt DIR --nanochat DIR`

Contenders: nanoGPT (eager and compiled), nanochat (compiled; eager where its compiler fails, which is then said),
litgpt's LLaMA, transformers' Llama and GPT-2; ours with Muon, with AdamW, compiled, and our LSTM. One thread, 4,096
random tokens a step in rows of 256, 8,192 tokens of vocabulary, four heads. Precision: fp32 for all; on a CPU that
multiplies bf16, ours as `precision: auto` has it there, too, and nanoGPT and nanochat in bf16, which their training
scripts leave out on a CPU. Bars are for what the scripts do; the ratios to the others are printed beside.

Matched by the weights that take part in matrix products: 12·L·C² in the blocks and V·C in the head. Each is a process
of its own that stands still while another one is measured; they take turns, and the median of `--rounds` turns of
`--steps` steps counts. Peers take the whole batch at once or four rows at a time, whichever was faster in a trial. The
machine's rate is the median of fp32 products of 1,024³, measured in turn with the rest. Memory is the peak of processes
that do nothing else.

A checkout must be at the pinned commit. Peers run under `.venv-peers` (TRAINYARD_PEERS_PYTHON overrides it).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PEER = os.environ.get("TRAINYARD_PEERS_PYTHON", str(ROOT / ".venv-peers" / "bin" / "python"))
COMMITS = {
    "nanogpt": "3adf61e154c3fe3fca428ad6bc3818b27a3b8291",
    "nanochat": "92d63d4e8bb4df75c3b71618f31ddde2378b2bcd",
}
OURS = ["ours muon", "ours adamw", "ours adamw compiled", "ours lstm"]
PEERS = ["nanogpt eager", "nanogpt compiled", "nanochat compiled", "litgpt", "hf llama", "hf gpt2"]
OURS_BF16 = ["ours muon bf16", "ours adamw bf16"]
PEERS_BF16 = ["nanogpt eager bf16", "nanogpt compiled bf16", "nanochat compiled bf16"]
TOKENS, CONTEXT, VOCABULARY = 4096, 256, 8192
BARS = {"nanogpt": 1.25, "nanochat": 1.0, "litgpt": 1.3, "hf": 1.3}


class Contender:
    def __init__(self, name: str, layers: int, width: int, folder: Path | None, micro: int | None = None) -> None:
        self.name, self.note = name, ""
        python = sys.executable if name.startswith(("ours", "gemm")) else PEER
        command = [python, str(Path(__file__).with_name("training_contenders.py")), name, str(layers), str(width)]
        command += [] if folder is None else ["--folder", str(folder)]
        command += [] if micro is None else ["--micro", str(micro)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TRAINYARD_TRACK": "off"}
        if name.startswith("nanochat eager"):
            environment["TORCHDYNAMO_DISABLE"] = "1"  # its optimizer is compiled, too
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        began = time.monotonic()
        self.ready = self._answer()
        if self.ready is not None:
            self.note = f"{self.ready['micro']} rows at once, ready in {time.monotonic() - began:.0f} s"

    def _answer(self) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        return None

    def take(self, steps: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        answer = self._answer()
        assert answer is not None, f"{self.name} ended"
        return answer

    def end(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.kill()
        self.process.wait()


def multiplies_bf16() -> bool:
    sys.path.insert(0, str(ROOT))
    os.environ["TRAINYARD_DEVICE"] = "cpu"
    from stages.lm import device

    return device.multiplies_bf16()


def check_commit(name: str, folder: Path) -> None:
    found = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True)
    if found.stdout.strip() != COMMITS[name]:
        sys.exit(f"{folder}: commit {found.stdout.strip() or 'unknown'}; check out {COMMITS[name]}")
    print(f"{name} {COMMITS[name][:7]}", end=", ")


def start(name: str, layers: int, width: int, folders: dict[str, Path]) -> Contender | None:
    """None where it doesn't run at all; a peer that doesn't compile runs eagerly."""
    contender = Contender(name, layers, width, folders.get(name.split()[0]))
    if contender.ready is not None:
        return contender
    contender.end()
    if name.startswith("nanochat compiled"):
        return start(name.replace("compiled", "eager"), layers, width, folders)
    print(f"{name} at width {width}: does not run", file=sys.stderr)
    return None


def flops_per_token(layers: int, width: int) -> float:
    """6·N + 12·L·C·T of the matched shape (PaLM, appendix B)."""
    return 6 * (12 * layers * width**2 + VOCABULARY * width) + 12 * layers * width * CONTEXT


def speeds(layers: int, width: int, folders: dict[str, Path], steps: int, rounds: int) -> None:
    bf16 = multiplies_bf16()
    names = [*OURS, *OURS_BF16, *PEERS, *PEERS_BF16] if bf16 else [*OURS, *PEERS]
    own = ["ours muon bf16", "ours adamw bf16"] if bf16 else ["ours muon", "ours adamw"]
    running = [c for name in names if (c := start(name, layers, width, folders)) is not None]
    gemm = Contender("gemm", layers, width, None)
    taken: dict[str, list[float]] = {contender.name: [] for contender in running}
    products: list[float] = []
    for _ in range(rounds):
        for contender in running:
            taken[contender.name].append(TOKENS * steps / contender.take(steps)["cpu"])
            products.append(2 * 1024**3 * 10 / gemm.take(10)["cpu"])
    rate = statistics.median(products)
    print(f"\nL{layers} C{width}: median matrix product {rate / 1e9:.1f} GFLOP/s\n")
    print(f"| | tok/s (range) | % of the fp32 product | {own[0]} | {own[1]} | |\n|---|---|---|---|---|---|")
    median = {name: statistics.median(values) for name, values in taken.items()}
    for contender in running:
        values, speed = taken[contender.name], median[contender.name]
        ratios = [median[name] / speed for name in own]
        share = "" if contender.name == "ours lstm" else f"{speed * flops_per_token(layers, width) / rate:.0%}"
        print(
            f"| {contender.name} | {speed:,.0f} ({min(values):,.0f}–{max(values):,.0f}) | {share} "
            f"| {ratios[0]:.2f}x | {ratios[1]:.2f}x | {contender.note} |"
        )
        contender.end()
    gemm.end()
    for peer, bar in BARS.items():
        scripts = [speed for name, speed in median.items() if name.startswith(peer) and not name.endswith("bf16")]
        if scripts:
            ratio = median[own[0]] / max(scripts)
            said = f"{ratio:.2f}x of its script's better mode (bar {bar:.2f}x): {'met' if ratio >= bar else 'MISSED'}"
            others = [speed for name, speed in median.items() if name.startswith(peer) and name.endswith("bf16")]
            beside = f"; fp32 both {median['ours muon'] / max(scripts):.2f}x" if bf16 else ""
            beside += f"; bf16 both {median[own[0]] / max(others):.2f}x" if others else ""
            print(f"- {peer}: {said}{beside}")


def memory(layers: int, width: int, folders: dict[str, Path]) -> None:
    peaks = {}
    for name, micro in (("ours muon", None), ("nanogpt eager", 16), ("nanogpt eager", 4)):
        contender = Contender(name, layers, width, folders.get(name.split()[0]), micro)
        peaks[name, micro] = contender.take(2)["peak"]
        contender.end()
    ours, whole, parts = peaks.values()
    print(f"\nPeak memory, MiB: ours {ours:.0f}; nanoGPT {whole:.0f}, with micro-batches as small as ours {parts:.0f}")
    print(f"- {ours / whole:.2f}x nanoGPT's (bar .80x), {ours / parts:.2f}x with its micro-batches made small")


def cross_entropy(width: int, rounds: int) -> None:
    """Loss and both gradients of 4,096 rows, against logits, F.cross_entropy and backward()."""
    sys.path.insert(0, str(ROOT))
    import torch

    from stages.lm.loss import linear_cross_entropy

    torch.set_num_threads(1)
    torch.manual_seed(0)
    hidden = torch.randn(TOKENS, width, requires_grad=True)
    weight = (torch.randn(VOCABULARY, width) * 0.05).requires_grad_()
    targets = torch.randint(0, VOCABULARY, (TOKENS,))

    def seconds(fused: bool) -> float:
        hidden.grad = weight.grad = None
        began = time.process_time()
        if fused:
            linear_cross_entropy(hidden, weight, targets).backward()
        else:
            torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="sum").backward()
        return time.process_time() - began

    seconds(True), seconds(False)
    pairs = [(seconds(True), seconds(False)) for _ in range(2 * rounds + 1)]
    fused, naive = (statistics.median(values) for values in zip(*pairs, strict=True))
    print(
        f"- cross-entropy, C{width}: {fused * 1e3:.0f} ms, naive {naive * 1e3:.0f} ms: {naive / fused:.2f}x (bar 1.40x)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nanogpt", type=Path, required=True)
    parser.add_argument("--nanochat", type=Path, required=True)
    parser.add_argument("--shapes", nargs="+", default=["4x128", "4x256"], help="layers x width")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    folders = {"nanogpt": arguments.nanogpt, "nanochat": arguments.nanochat}
    for name, folder in folders.items():
        check_commit(name, folder)
    print("one thread")
    for shape in arguments.shapes:
        layers, width = (int(part) for part in shape.split("x"))
        speeds(layers, width, folders, arguments.steps, arguments.rounds)
        memory(layers, width, folders)
        cross_entropy(width, arguments.rounds)


if __name__ == "__main__":
    main()
