"""A step of SFT, DPO and the reward model beside TRL's: CPU seconds on one thread, taking turns, medians of `--rounds`.

`python bench/alignment/training.py [--model FOLDER] [--methods sft,dpo,reward] [--steps 16] [--rounds 3]`

Batches of 4, rows of at most 512 tokens, AdamW, fp32, no gradient checkpoints, on real exchanges: pairs of
`posttraining/hh` of TRAINYARD_REFERENCE (Bai et al. 2022) whose sides fit, and for SFT their chosen answers. DPO has
its reference log-probabilities computed before the first step on both sides. Seconds of a step are all of an epoch's
over its steps; start is up to the first step, with imports, tokenisation and reference log-probabilities. Without
`--model` it is a decoder of 6 layers of 256 with 8,192 tokens, its tokenizer trained on the same exchanges.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PEER = os.environ.get("TRAINYARD_PEERS_PYTHON", str(ROOT / ".venv-peers" / "bin" / "python"))
REFERENCE = Path(os.environ.get("TRAINYARD_REFERENCE", ROOT.parent / "shared" / "reference"))
BARS = {"sft": 2.0, "dpo": 3.5, "reward": 2.5}
LONGEST = 1500  # characters of both sides of a pair: within 512 tokens for either model


def pairs() -> list[dict[str, str]]:
    """Single-turn pairs: prompt, chosen, rejected."""
    found = []
    for file in sorted((REFERENCE / "posttraining" / "hh").glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                head, _, chosen = row["chosen"].rpartition("\n\nAssistant:")
                other, _, rejected = row["rejected"].rpartition("\n\nAssistant:")
                if head == other and max(len(row["chosen"]), len(row["rejected"])) <= LONGEST and chosen != rejected:
                    found.append({"prompt": head.strip(), "chosen": chosen.strip(), "rejected": rejected.strip()})
    return [row for row in found if all(row.values())]


def small_model(folder: Path, rows: list[dict[str, str]]) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from stages.lm.build import build_model
    from stages.lm.chat import SPECIALS, TEMPLATE, load_tokenizer, write_tokenizer
    from stages.lm.checkpoint import save_model
    from stages.lm.config import ModelConfig

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8192, special_tokens=list(SPECIALS), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator((text for row in rows for text in row.values()), trainer)
    names = dict(zip(("pad_token", "bos_token", "", "", "eos_token"), SPECIALS, strict=True))
    names.pop("")
    write_tokenizer(folder, tokenizer, TEMPLATE, names, 512)
    config = ModelConfig(
        arch="transformer", vocab_size=8192, n_layer=6, d_model=256, n_head=4, n_kv_head=4, d_ff=768,
        max_seq_len=512, rope_theta=10000.0, tie_embeddings=True, qk_norm=True, norm_eps=1e-6,
    )  # fmt: skip
    save_model(folder, build_model(config, seed=0), load_tokenizer(folder))


def conversations(method: str, found: list[dict[str, str]]) -> list[dict[str, Any]]:
    """What TRL reads: conversations, so that both sides use the model's template."""
    user = [[{"role": "user", "content": row["prompt"]}] for row in found]

    def said(name: str) -> list[list[dict[str, str]]]:
        return [[{"role": "assistant", "content": row[name]}] for row in found]

    if method == "sft":
        return [{"prompt": a, "completion": b} for a, b in zip(user, said("chosen"), strict=True)]
    return [
        {"prompt": a, "chosen": b, "rejected": c}
        for a, b, c in zip(user, said("chosen"), said("rejected"), strict=True)
    ]


def take(side: str, method: str, model: Path, rows: Path, steps: int) -> dict[str, Any]:
    python = PEER if side == "trl" else sys.executable
    script = Path(__file__).with_name("trl_side.py" if side == "trl" else "our_side.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TRAINYARD_WORKERS": "1", "HF_HUB_OFFLINE": "1"}
    command = [python, str(script), method, str(model), str(rows), str(steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{side} {method}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--methods", default="sft,dpo,reward")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found = pairs()[: 4 * options.steps]
    with tempfile.TemporaryDirectory() as scratch:
        model = options.model or Path(scratch) / "model"
        if options.model is None:
            small_model(model, pairs())
        print("| method | ours s/step | TRL s/step | ratio | bar | peak MiB | ratio | start s | ratio |")
        print("|---|---|---|---|---|---|---|---|---|")
        for method in options.methods.split(","):
            files = {}
            for side in ("ours", "trl"):
                files[side] = Path(scratch) / f"{side}-{method}.jsonl"
                plain = [{**row, "completion": row["chosen"]} for row in found]
                rows = plain if side == "ours" else conversations(method, found)
                files[side].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            turns: dict[str, list[dict[str, Any]]] = {"ours": [], "trl": []}
            for _ in range(options.rounds):
                for side in turns:
                    turns[side].append(take(side, method, model, files[side], options.steps))
            step = {s: statistics.median(statistics.fmean(one["seconds"]) for one in t) for s, t in turns.items()}
            peak = {s: statistics.median(one["peak_mib"] for one in t) for s, t in turns.items()}
            start = {s: statistics.median(one["start"] for one in t) for s, t in turns.items()}
            print(
                f"| {method} | {step['ours']:.3f} | {step['trl']:.3f} | {step['trl'] / step['ours']:.2f} | "
                f"{BARS[method]} | {peak['ours']:.0f} / {peak['trl']:.0f} | {peak['ours'] / peak['trl']:.2f} | "
                f"{start['ours']:.1f} / {start['trl']:.1f} | {start['ours'] / start['trl']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
