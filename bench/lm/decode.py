"""Decoding beside transformers' `generate` and nanochat's engine: `python bench/lm/decode.py [--nanochat DIR]`.

One shape (4 layers of width 256, a vocabulary of 8,192), one thread, greedy, a batch of 32, 64 new tokens after prompts
of 64 tokens, of 16 to 64, and after one prompt for all 32, which is the only batch that nanochat's engine decodes.
transformers gets our weights through our export, uncompiled, and each of its caches. nanochat's own architecture has
the same width, depth and count of matrix weights, and weights of its own. Every run is a process of its own; new tokens
by CPU second of the whole call, prompts included, after a warm-up; medians of 3, the libraries taking turns. The last
columns compare tokens: of two rows with decoding by the whole model at each token, and of all rows with ours.
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

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
PEER = os.environ.get("TRAINYARD_PEERS_PYTHON", str(ROOT / ".venv-peers" / "bin" / "python"))
NANOCHAT = "92d63d4"
SHAPE = {
    "arch": "transformer", "vocab_size": 8192, "n_layer": 4, "d_model": 256, "n_head": 4, "n_kv_head": 4, "d_ff": 688,
    "max_seq_len": 256, "rope_theta": 10000.0, "tie_embeddings": False, "qk_norm": True, "norm_eps": 1e-6,
}  # fmt: skip
BATCH, PROMPT, NEW = 32, 64, 64
CASES = ("equal", "ragged", "one")
RUNNERS = ("ours", "transformers dynamic", "transformers static", "nanochat")
Prompts = list[list[int]]
Generate = Callable[[Prompts, int], Prompts]  # prompts and a number of new tokens → new tokens


def prompts_of(case: str) -> Prompts:
    generator = torch.Generator().manual_seed(1)
    draw = torch.randint(0, SHAPE["vocab_size"], (BATCH, PROMPT), generator=generator).tolist()
    if case == "one":
        return [draw[0]] * BATCH
    shortest = PROMPT // 4
    lengths = [shortest + (PROMPT - shortest) * i // (BATCH - 1) if case == "ragged" else PROMPT for i in range(BATCH)]
    return [row[:length] for row, length in zip(draw, lengths, strict=True)]


def our_model() -> Any:
    """Weights as large as a trained model's: fresh ones end in zeros, and all logits would tie."""
    from stages.lm.build import build_model
    from stages.lm.config import ModelConfig

    model, generator = build_model(ModelConfig.from_dict(SHAPE), 0).eval(), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def without_cache(logits: Callable[[torch.Tensor], torch.Tensor], prompts: Prompts, new: int) -> Prompts:
    """Greedy tokens from the whole sequence's logits [1, T, V] at each token, prompt by prompt."""
    answers = []
    with torch.inference_mode():
        for prompt in prompts:
            ids = list(prompt)
            for _ in range(new):
                ids.append(int(logits(torch.tensor([ids]))[0, -1].argmax()))
            answers.append(ids[len(prompt) :])
    return answers


def ours(folder: Path) -> tuple[Generate, Callable[[torch.Tensor], torch.Tensor]]:
    from stages.lm.generate import generate

    model = our_model()

    def run(prompts: Prompts, new: int) -> Prompts:
        return generate(
            model, prompts, max_new_tokens=new, temperature=0, top_p=1, seed=0, stop_ids=[], batch_size=BATCH
        )

    return run, model


def transformers(folder: Path, cache: str) -> tuple[Generate, Callable[[torch.Tensor], torch.Tensor]]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def run(prompts: Prompts, new: int) -> Prompts:
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        made = model.generate(
            ids, attention_mask=mask, max_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=0,
            cache_implementation=cache, disable_compile=True,
        )  # fmt: skip
        return made[:, width:].tolist()

    return run, lambda ids: model(ids).logits


def nanochat(folder: Path) -> tuple[Generate, Callable[[torch.Tensor], torch.Tensor]]:
    sys.path.insert(0, str(folder))
    from nanochat.engine import Engine
    from nanochat.gpt import GPT, GPTConfig

    class NoSpecials:
        """The engine asks for its special tokens; none of them is ever drawn."""

        def encode_special(self, text: str) -> int:
            return -1

        def get_bos_token_id(self) -> int:
            return -1

    config = GPTConfig(
        sequence_len=SHAPE["max_seq_len"], vocab_size=SHAPE["vocab_size"], n_layer=SHAPE["n_layer"],
        n_head=SHAPE["n_head"], n_kv_head=SHAPE["n_kv_head"], n_embd=SHAPE["d_model"], window_pattern="L",
    )  # fmt: skip
    model = GPT(config)
    model.init_weights()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    engine = Engine(model.eval(), NoSpecials())

    def run(prompts: Prompts, new: int) -> Prompts:
        made, _ = engine.generate_batch(prompts[0], num_samples=len(prompts), max_tokens=new, temperature=0.0)
        return [row[len(prompts[0]) :] for row in made]

    return run, model


def work(name: str, case: str, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    library, *cache = name.split()
    run, logits = {"ours": ours, "transformers": transformers, "nanochat": nanochat}[library](folder, *cache)
    prompts = prompts_of(case)
    run(prompts, 4)
    start = time.process_time()
    answers = run(prompts, NEW)
    seconds = time.process_time() - start
    few = [0, 31] if case != "one" else [0]
    whole = without_cache(logits, [prompts[i] for i in few], NEW)
    same = [answers[i] for i in few] == whole and (case != "one" or answers == [answers[0]] * BATCH)
    return {"seconds": seconds, "answers": answers, "as_without_cache": same}


def run_apart(name: str, case: str, folder: Path) -> dict[str, Any]:
    python = sys.executable if name == "ours" else PEER
    command = [python, __file__, "--work", name, case, str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TRAINYARD_DEVICE": "cpu", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def export(folder: Path) -> None:
    from stages.lm.checkpoint import save_model

    save_model(folder, our_model())


def compare(case: str, folder: Path, nanochat: Path | None) -> None:
    names = [name for name in RUNNERS if name != "nanochat" or (nanochat and case == "one")]
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(3):
        for name in names:
            place = nanochat if name == "nanochat" and nanochat else folder
            rows[name].append(run_apart(name, case, place))
            print(f"{case} {name}: {rows[name][-1]['seconds']:.2f} s", file=sys.stderr)
    ours = statistics.median(row["seconds"] for row in rows["ours"])
    print(f"\n{case}\n\n| library | tokens/s (range) | ours is | as without a cache | as ours |\n|---|---|---|---|---|")
    for name, runs in rows.items():
        seconds = [run["seconds"] for run in runs]
        speed = [BATCH * NEW / second for second in seconds]
        same = {json.dumps(run["answers"]) for run in runs} == {json.dumps(run["answers"]) for run in rows["ours"]}
        whole = "yes" if all(run["as_without_cache"] for run in runs) else "NO"
        as_ours = "another model" if name == "nanochat" else "yes" if same else "NO"
        print(
            f"| {name} | {statistics.median(speed):,.0f} ({min(speed):,.0f}–{max(speed):,.0f}) "
            f"| {statistics.median(seconds) / ours:.2f}x | {whole} | {as_ours} |"
        )


def checked(nanochat: Path) -> Path:
    commit = subprocess.run(["git", "-C", nanochat, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    if not commit.startswith(NANOCHAT):
        sys.exit(f"{nanochat} is at {commit[:7] or 'no commit'}; check out nanochat's {NANOCHAT} there")
    return nanochat


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nanochat", type=Path, help="a checkout of nanochat")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--work", nargs=3, metavar=("NAME", "CASE", "FOLDER"))
    arguments = parser.parse_args()
    if arguments.work:
        name, case, folder = arguments.work
        print(json.dumps(work(name, case, Path(folder))))
        return
    nanochat = checked(arguments.nanochat) if arguments.nanochat else None
    with tempfile.TemporaryDirectory() as name:
        export(Path(name))
        for case in arguments.cases:
            compare(case, Path(name), nanochat)


if __name__ == "__main__":
    main()
