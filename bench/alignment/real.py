"""A real model learns a style that it doesn't have, by the pipeline's own stages: SFT the form, DPO its brevity.

`python bench/alignment/real.py [--model FOLDER] [--lora] [--seed 1]`

SmolLM2-135M-Instruct (or the model in FOLDER) is tuned on 240 demonstrations of `style.py`, then on 144 comparisons,
each whole. The form and its brevity are counted in the greedy answers to prompts that neither has seen; what is
forgotten in the bits for a byte of prose, in sentences told from wrong ones and, where TRAINYARD_REFERENCE has them, in
MMLU's questions. Everything is paired by prompt, document or question: shares by McNemar's exact test and Newcombe's
interval (1998, method 10), other values by Student's. `--lora` tunes thin matrices beside the frozen ones, too. It
happens in `.trainyard/real/style`, a clone of the last commit; minutes are wall time of each stage.
"""

import argparse
import csv
import gzip
import io
import json
import math
import os
import random
import re
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.alignment import style  # noqa: E402  (the path is the project's root)
from bench.real.run import PLACE, cloned, folded, run  # noqa: E402
from stages.base.paired import difference  # noqa: E402

REFERENCE = Path(os.environ.get("TRAINYARD_REFERENCE", ROOT.parent / "shared" / "reference")) / "posttraining"
PROJECT = PLACE / "style"
BASE, SFT, DPO, LORA = "base_model", "SFT", "DPO", "SFT with LoRA"
SETTINGS = (
    "run.shards=2",
    "alignment.instructions.sources.own.path=style/instructions.jsonl",
    "alignment.preferences.sources.own.path=style/pairs.jsonl",
    "alignment.self_instruct.candidates=2",  # nothing is learned from them
    "alignment.self_instruct.rounds=1",
    "alignment.self_instruct.max_new_tokens=8",
    "alignment.sft.epochs=2",
    "alignment.sft.batch_size=16",
    "alignment.sft.lr=1.0e-4",
    "alignment.sft.validations=1",
    "alignment.sft.max_new_tokens=64",
    "alignment.dpo.epochs=1",
    "alignment.dpo.batch_size=8",
    "alignment.dpo.lr=1.0e-5",
    "alignment.dpo.validations=1",
    "alignment.dpo.max_new_tokens=64",
    "judging.respond.max_new_tokens=64",
    "judging.respond.batch_size=32",
    "evaluation.texts.prose.path=style/prose.jsonl",
    "evaluation.evaluate.bytes_per_source=40000",
    "evaluation.evaluate.questions=200",
    "evaluation.evaluate.shots={cloze: 0}",
    "evaluation.evaluate.variants=[]",
)
LORA_SETTINGS = ("alignment.sft.lora={rank: 16, alpha: 32}", "alignment.sft.lr=1.0e-3")
TIMED = {
    "pretraining.imported@base_model": "import", "alignment.sft": "SFT", "alignment.reference": "DPO's reference",
    "alignment.dpo": "DPO", "judging.respond@base_model": "answers of base", "judging.respond@sft": "answers of SFT",
    "judging.respond@dpo": "answers of DPO", "evaluation.evaluate@base_model": "evaluation of base",
    "evaluation.evaluate@sft": "evaluation of SFT", "evaluation.evaluate@dpo": "evaluation of DPO",
}  # fmt: skip

Values = dict[str, float]  # prompt, document or question → its value


@dataclass(frozen=True)
class Measure:
    name: str
    share: bool  # of prompts that have something: every value 0 or 1
    of: Mapping[str, Values]  # model → values


class Change(NamedTuple):
    gap: float
    low: float
    high: float
    p: float

    def shown(self, scale: float, digits: int) -> str:
        low, gap, high = (f"{scale * value:+.{digits}f}" for value in (self.low, self.gap, self.high))
        return f"{gap} ({low} to {high}), p {self.p:.2g}"


def wilson(count: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (1927)."""
    middle, half = count + z * z / 2, z * math.sqrt(count * (n - count) / n + z * z / 4)
    return (middle - half) / (n + z * z), (middle + half) / (n + z * z)


def share_change(before: Sequence[bool], after: Sequence[bool]) -> Change:
    """Of paired yes-or-no values: after − before with Newcombe's interval (1998, method 10: Wilson's bounds of both
    shares, and their correlation phi with its correction for continuity), and McNemar's exact two-sided p."""
    n, both = len(before), sum(a and b for a, b in zip(before, after, strict=True))
    lost, won = sum(before) - both, sum(after) - both
    neither = n - both - lost - won
    shares = sum(before) / n, sum(after) / n
    (low_0, high_0), (low_1, high_1) = wilson(sum(before), n), wilson(sum(after), n)
    margins = (both + lost) * (won + neither) * (both + won) * (lost + neither)
    excess = both * neither - lost * won
    phi = (max(excess - n / 2, 0) if excess > 0 else excess) / math.sqrt(margins) if margins else 0.0
    down, up = (shares[1] - low_1, high_0 - shares[0]), (high_1 - shares[1], shares[0] - low_0)
    gap = shares[1] - shares[0]
    below, above = (math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b)) for a, b in (down, up))
    p = binomtest(won, won + lost).pvalue if won + lost else 1.0
    return Change(gap, gap - below, gap + above, float(p))


def change(measure: Measure, before: str, after: str) -> Change | None:
    """None where every value is the same in both, as there is nothing to tell."""
    old, new = measure.of[before], measure.of[after]
    items = sorted(old.keys() & new.keys())
    if measure.share:
        return share_change([old[item] == 1 for item in items], [new[item] == 1 for item in items])
    found = difference(new, old)
    return None if found is None else Change(found.difference, found.low, found.high, found.p)


# --------------------------------------------------------------------------------------------- what is asked and read


def prose() -> list[dict[str, str]]:
    """Beginnings of texts: this project's documents and, where they are, pages of WikiText-2 (Merity et al. 2017)."""
    own = [
        {"source": "documents", "text": path.read_text(encoding="utf-8")}
        for path in sorted((ROOT / "docs").glob("*.md"))
    ]
    wikitext = REFERENCE / "wikitext2" / "test.txt.gz"
    pages: list[dict[str, str]] = []
    if wikitext.is_file():
        with gzip.open(wikitext, "rt", encoding="utf-8") as lines:
            parts = re.split(r"(?m)^ (?== [^=]+ = *$)", lines.read())
        pages = [{"source": "wikipedia", "text": part} for part in parts if len(part) > 2000]
    return [{**row, "id": f"{row['source']}-{n}", "text": row["text"][:2000]} for n, row in enumerate([*own, *pages])]


def mmlu(path: Path, count: int = 200) -> bool:
    """Writes a seeded draw of MMLU's test questions (Hendrycks et al. 2021) as a table; whether there are any."""
    archive = REFERENCE / "mmlu" / "mmlu_dev_test.tar.gz"
    if not archive.is_file():
        return False
    rows: list[list[str]] = []
    with tarfile.open(archive) as files:
        for member in files:
            found = files.extractfile(member) if member.name.endswith("_test.csv") else None
            if found is not None:
                rows += list(csv.reader(io.TextIOWrapper(found, encoding="utf-8")))
    drawn = random.Random(1).sample([row[:6] for row in rows if row[5:6] and row[5] in tuple("ABCD0123")], count)
    with path.open("w", encoding="utf-8", newline="") as out:
        lines = csv.writer(out)
        lines.writerow(["question", "A", "B", "C", "D", "answer"])
        lines.writerows(drawn)
    return True


def measured(project: Path, keys: Mapping[str, str]) -> list[Measure]:
    """Of models by the names of their folders: what their answers are like, and what they know."""
    asked = json.loads((project / "style/test.json").read_text(encoding="utf-8"))
    outputs = {
        name: {
            row["id"]: row["output"]
            for row in pq.read_table(project / f"data/judging/respond/{key}/outputs.parquet").to_pylist()
        }
        for name, key in keys.items()
    }
    items = {
        name: pq.read_table(project / f"data/evaluation/evaluate/{key}/items.parquet").to_pylist()
        for name, key in keys.items()
    }
    found = []
    groups = {"same": "same kinds", "open": "open requests", "told": "told the form"}
    for what, judge in (("in form", style.in_form), ("in form and brief", style.in_brief_form)):
        for group, called in groups.items():
            values = {name: {one: float(judge(texts[one])) for one in asked[group]} for name, texts in outputs.items()}
            found.append(Measure(f"{what}: {called}", True, values))
    for group in ("same", "told"):
        values = {
            name: {one: float(style.mentions(texts[one], right)) for one, right in asked[group].items()}
            for name, texts in outputs.items()
        }
        found.append(Measure(f"right: {groups[group]}", True, values))
    length = {name: {one: float(len(texts[one])) for one in asked["same"]} for name, texts in outputs.items()}
    found.append(Measure("characters: same kinds", False, length))
    sources = sorted({row["group"] for row in items[BASE] if row["set"] == "prose"})
    for source in sources:
        values = {
            name: {row["id"]: row["nats"] / math.log(2) / row["bytes"] for row in rows if row["group"] == source}
            for name, rows in items.items()
        }
        found.append(Measure(f"bits a byte: {source}", False, values))
    for task in sorted({row["set"] for row in items[BASE]} - {"prose"}):
        values = {
            name: {row["id"]: row["correct"] for row in rows if row["set"] == task and row["correct"] is not None}
            for name, rows in items.items()
        }
        found.append(Measure(f"right: {task}", True, values))
    return found


# ------------------------------------------------------------------------------------------------------- the table


def printed(measures: Sequence[Measure], names: Sequence[str], against: Mapping[str, str]) -> str:
    """A row a measure: each model's mean, and each model's change from the one it is set against, 95 % intervals."""
    head = ["", "n", *names, *(f"{name} − {other}" for name, other in against.items())]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for one in measures:
        scale, digits = (100.0, 1) if one.share else (1.0, 3 if "byte" in one.name else 1)
        means = [f"{scale * sum(one.of[name].values()) / len(one.of[name]):.{digits}f}" for name in names]
        changes = [change(one, other, name) for name, other in against.items()]
        told = ["–" if found is None else found.shown(scale, digits) for found in changes]
        unit = " (%)" if one.share else ""
        lines.append(f"| {' | '.join([one.name + unit, str(len(one.of[names[0]])), *means, *told])} |")
    return "\n".join(lines)


def minutes(project: Path, stages: Sequence[str], since: float) -> dict[str, float]:
    """Wall minutes of what has been run since then (seconds since 1970); what was there already isn't among them."""
    found = {}
    for stage in stages:
        path = project / ".trainyard/timings" / f"{stage}.json"
        spent = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"finished": 0.0}
        if spent["finished"] >= since:
            found[TIMED[stage]] = spent["wall_seconds"] / 60
    return found


def told(spent: Mapping[str, float]) -> str:
    return "minutes: " + (", ".join(f"{name} {value:.1f}" for name, value in spent.items()) or "all was there already")


def prepared(model: Path, seed: int) -> tuple[str, ...]:
    """The clone with its inputs; what it is configured with."""
    folder = cloned(PROJECT) / "style"
    style.write(folder, seed)
    (folder / "prose.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prose()), encoding="utf-8")
    knows = ("evaluation.tasks.mmlu={kind: table, path: style/mmlu.csv}",) if mmlu(folder / "mmlu.csv") else ()
    return (f"models.import.base_model.path={model}", f"run.seed={seed}", *SETTINGS, *knows)


def repro(settings: Sequence[str], *targets: str) -> None:
    scales = ("laptop", "posttrain")
    run(sys.executable, "-m", "stages.cli", "configure", *scales, *settings, "--write", folder=PROJECT)
    run(sys.executable, "-m", "dvc", "repro", *targets, folder=PROJECT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a Hugging Face folder (default: SmolLM2-135M-Instruct)")
    parser.add_argument("--lora", action="store_true", help="SFT with adapters of rank 16, too")
    parser.add_argument("--seed", type=int, default=1, help="of the templates and of training")
    options = parser.parse_args()
    start = time.time()
    settings = prepared((options.model or folded()).resolve(), options.seed)
    repro(
        settings, "respond_imported@base_model", "respond@sft", "respond@dpo",
        "evaluate_imported@base_model", "evaluate@sft", "evaluate@dpo",
    )  # fmt: skip
    found = measured(PROJECT, {BASE: "base_model", SFT: "sft", DPO: "dpo"})
    print(printed(found, (BASE, SFT, DPO), {SFT: BASE, DPO: SFT}), flush=True)
    print(told(minutes(PROJECT, list(TIMED), start)), flush=True)
    if options.lora:
        start = time.time()
        repro((*settings, *LORA_SETTINGS), "respond@sft", "evaluate@sft")
        found = measured(PROJECT, {BASE: "base_model", LORA: "sft"})
        print(printed(found, (BASE, LORA), {LORA: BASE}))
        print(told(minutes(PROJECT, ["alignment.sft"], start)))


if __name__ == "__main__":
    main()
