"""Inputs of one's own for `bench/life_cycle.py doors`: pages, questions, instructions, preferences, a base model.

The texts are the embedded encyclopaedia's, as files that say nothing of where they come from: to the pipeline they are
anybody's, and nothing is known of what is true in them.
"""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PAGES, ARTICLES, QUESTIONS = 400, 4, 30  # articles of a page
# Run by the peers' Python, whose transformers saves it: another vocabulary, head size and number type than ours.
MAKE_MODEL = """
import json, sys, torch
from pathlib import Path
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

texts, folder = Path(sys.argv[1]), sys.argv[2]
rows = [json.loads(line) for line in texts.read_text().splitlines()]
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
bytes_ = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=777, special_tokens=special, initial_alphabet=bytes_)
tokenizer.train_from_iterator([f"{row['prompt']} {row['response']}" for row in rows], trainer)
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
fast.chat_template = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\\n{{ message.content }}<|im_end|>\\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}"
)
torch.manual_seed(0)
config = Qwen3Config(
    vocab_size=len(fast), hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=24, max_position_embeddings=512, tie_word_embeddings=True, rope_theta=1e6,
    eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id, bos_token_id=None,
)
Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
fast.save_pretrained(folder)
"""


def write_inputs(folder: Path) -> None:
    """pages/*.html, questions.csv, instructions.jsonl and preferences.jsonl, below the folder."""
    from stages.base.params import parse
    from stages.corpus.atlas.pages import encyclopaedia, render
    from stages.corpus.atlas.questions import ask
    from stages.corpus.atlas.world import build
    from stages.corpus.source import AtlasSource

    source = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["corpus"]["sources"]["atlas"]
    params = parse("corpus.sources.atlas", source, AtlasSource)
    read, world = build(params, 7), build(params, 8)  # questions of another world: pages don't have their answers
    (folder / "pages").mkdir(parents=True)
    articles = encyclopaedia(read, params, 7)
    for number in range(PAGES):
        part = articles[number * ARTICLES : (number + 1) * ARTICLES]
        paragraphs = tuple(text for article in part for text in article.paragraphs)
        (folder / "pages" / f"{number:04}.html").write_bytes(render(replace(part[0], paragraphs=paragraphs)))
    asked = [row for row in ask(world, params, 8).to_pylist() if row["kind"] == "single"]
    others = [*asked[len(asked) // 2 :], *asked[: len(asked) // 2]]
    write_lines(folder / "instructions.jsonl", [{"prompt": a["prompt"], "response": a["reference"]} for a in asked])
    pairs = [(a, b) for a, b in zip(asked, others, strict=True) if a["reference"] != b["reference"]]
    write_lines(
        folder / "preferences.jsonl",
        [{"prompt": a["prompt"], "chosen": a["reference"], "rejected": b["reference"]} for a, b in pairs],
    )
    facts = {name: entity["facts"] for name, entity in world.truth()["entities"].items()}
    with (folder / "questions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["question", "A", "B", "answer", "split"])
        for number, row in enumerate(asked[:QUESTIONS]):
            attribute = row["attributes"][0]
            right = facts[row["entity"]][attribute]
            wrong = next(known[attribute] for known in facts.values() if known.get(attribute, right) != right)
            choices = (right, wrong) if number % 2 else (wrong, right)
            split = ("development", "validation", "test")[number % 3]
            table.writerow([row["prompt"], *choices, "A" if number % 2 else "B", split])


def write_lines(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_model(python: Path, instructions: Path, folder: Path) -> None:
    """A random Qwen3 in bf16, saved by transformers with a tokenizer and a chat template of its own."""
    subprocess.run([str(python), "-c", MAKE_MODEL, str(instructions), str(folder)], check=True)
