"""Does the ordering test find test sets that a model has read, and only those? Seeded probes on a finished run's text.

For each seed a probe is trained by the run's recipe on packed training rows among which sets of 100 GSM8K questions
were planted in one order, 0 to 50 times, and one set in another order each time. Then: p of the ordering test on each
set, and what overlap finds of each. With --clean the rate of false alarms over sets that nobody planted, by the first
probe.

    python bench/evaluation/planted.py --run RUN --gsm8k train.jsonl.gz --out FOLDER [--seeds 3] [--clean 400]

RUN is a folder with params.yaml and data/ of a run. Every seed and every 20 clean sets are a file in FOLDER: a rerun
does what is missing.
"""

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np
import yaml

from stages.base.contracts.pack import Pack
from stages.base.files import read_json, write_json
from stages.base.recipe import Recipe
from stages.base.seeds import derive
from stages.base.stats import share_interval
from stages.evaluation.membership import canaries, exposure, rank_of
from stages.evaluation.ordering import model_logprob, ordering_test
from stages.evaluation.overlap.corpora import batches_of
from stages.evaluation.overlap.index import segments_of
from stages.evaluation.overlap.search import Rules, search
from stages.evaluation.planting import (
    PlantedSet,
    ProbeParams,
    planted_canaries,
    planted_rows,
    planted_sets,
    sample_rows,
    train_probe,
)
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.data import PackedRows
from stages.lm.device import set_threads

LONGEST = 220  # characters of a question
CLEAN = {"examples": 24, "shards": 6, "permutations": 5}  # of the tests for false alarms, which are many
AT_ONCE = 20


def questions(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        rows = [json.loads(line) for line in handle]
    return [f"Question: {row['question']}\n\n" for row in rows if len(row["question"]) <= LONGEST]


def make(
    options: argparse.Namespace, seed: int
) -> tuple[LanguageModel, ChatTokenizer, list[PlantedSet], list[str], float]:
    """(Probe, tokenizer, planted sets, canaries: those planted first, share of tokens that was planted)."""
    data = options.run / "data"
    pack = Pack.model_validate(read_json(data / "tokens/pack/pack.json"))
    recipe = Recipe.model_validate(yaml.safe_load((options.run / "params.yaml").read_text())["recipe"])
    tokenizer = load_tokenizer(data / "tokens/tokenizer")
    params = ProbeParams(
        copies=[0, 1, 4, 10, 50], examples=100, shuffled_copies=20, canaries=1000, background_tokens=options.background,
        n_layer=2, d_model=128, n_head=4, n_kv_head=4, d_ff=384,
    )  # fmt: skip
    sets = planted_sets(questions(options.gsm8k), params, seed)
    strings = canaries(derive(seed, "canaries"), params.canaries + len(params.copies) - 1)
    background = sample_rows(PackedRows.of(data / "tokens/pack/train.bin", pack).rows, params.background_tokens, seed)
    rows = planted_rows(background, [*sets, *planted_canaries(params.copies, strings)], tokenizer, seed)
    probe = train_probe(rows, pack, params, recipe, seed)
    return probe, tokenizer, sets, strings, 1 - background.size / rows.size


def dirty_share(sets: list[PlantedSet], seed: int) -> list[float]:
    """Of each set's questions, the share that overlap calls dirty, in a corpus of all planted copies."""
    rng = np.random.default_rng(derive(seed, "corpus"))
    copies = [
        "".join(planted.examples[i] for i in (rng.permutation(100) if planted.shuffled else range(100)))
        for planted in sets
        for _ in range(planted.copies)
    ]
    segments = list(segments_of(batches_of((str(i), "", "", text) for i, text in enumerate(copies)), 5))
    asked = [example.removeprefix("Question: ") for planted in sets for example in planted.examples]
    states = [match.state for match in search(segments, asked, [""] * len(asked), Rules())]
    return [float(np.mean([state == "dirty" for state in states[i : i + 100]])) for i in range(0, len(states), 100)]


def one_seed(options: argparse.Namespace, seed: int) -> None:
    start = time.process_time()
    probe, tokenizer, sets, strings, planted_share = make(options, seed)
    trained = time.process_time()
    logprob = model_logprob(probe, tokenizer)
    tests = [
        ordering_test(logprob, planted.examples, 10, 20, derive(seed, "test", i), batched=True)
        for i, planted in enumerate(sets)
    ]
    values = logprob([[string] for string in strings])
    count = sum(not planted.shuffled for planted in sets)
    ranks = [rank_of(value, values[count:]) for value in values[:count]]
    found = {
        "seed": seed,
        "parameters": sum(weights.numel() for weights in probe.parameters()),
        "planted_share": planted_share,
        "sets": [
            {"copies": planted.copies, "shuffled": planted.shuffled, "p": test.p_value, "dirty": dirty}
            for planted, test, dirty in zip(sets, tests, dirty_share(sets, seed), strict=True)
        ],
        "exposure": [exposure(rank, len(values) - count + 1) for rank in ranks],
        "cpu_seconds": {"training": trained - start, "tests": time.process_time() - trained},
    }
    write_json(options.out / f"seed_{seed}.json", found)
    if seed == 0 and options.clean:
        false_alarms(options, probe, tokenizer, sets)


def false_alarms(
    options: argparse.Namespace, probe: LanguageModel, tokenizer: ChatTokenizer, sets: list[PlantedSet]
) -> None:
    """p of sets in random order that the probe has never read; AT_ONCE in a file."""
    known = {example for planted in sets for example in planted.examples}
    fresh = [question for question in questions(options.gsm8k) if question not in known]
    logprob = model_logprob(probe, tokenizer)
    for first in range(0, options.clean, AT_ONCE):
        path = options.out / f"clean_{first:04}.json"
        if path.exists():
            continue
        p_values = []
        for number in range(first, first + AT_ONCE):
            rng = np.random.default_rng(derive(0, "clean", number))
            drawn = [fresh[int(i)] for i in rng.choice(len(fresh), CLEAN["examples"], replace=False)]
            test = ordering_test(logprob, drawn, CLEAN["shards"], CLEAN["permutations"], number, batched=True)
            p_values.append(test.p_value)
        write_json(path, p_values)


def report(options: argparse.Namespace) -> None:
    for path in sorted(options.out.glob("seed_*.json")):
        found = read_json(path)
        cpu = found["cpu_seconds"]
        print(
            f"seed {found['seed']}: {found['parameters']:,} parameters, {found['planted_share']:.0%} planted, "
            f"{cpu['training']:.0f} + {cpu['tests']:.0f} CPU s; exposures {[round(e, 1) for e in found['exposure']]}"
        )
        for row in found["sets"]:
            name = f"{row['copies']} copies{', shuffled' if row['shuffled'] else ''}"
            print(f"  {name:22} p {row['p']:.2g}  dirty {row['dirty']:.0%}")
    p_values = [p for path in sorted(options.out.glob("clean_*.json")) for p in read_json(path)]
    if p_values:
        share, low, high = share_interval(sum(p < 0.05 for p in p_values), len(p_values))
        print(f"clean sets: {len(p_values)}, p < .05 in {share:.3f} (95 % interval {low:.3f} to {high:.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--gsm8k", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clean", type=int, default=400)
    parser.add_argument("--background", type=int, default=250_000, help="tokens of ordinary text")
    options = parser.parse_args()
    set_threads()
    for seed in range(options.seeds):
        clean_done = seed or len(list(options.out.glob("clean_*.json"))) * AT_ONCE >= options.clean
        if not (options.out / f"seed_{seed}.json").exists() or not clean_done:
            one_seed(options, seed)
        report(options)


if __name__ == "__main__":
    main()
