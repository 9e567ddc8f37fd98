"""HELM's own records of MMLU beside ours: are our prompts its bytes, and do its stored outputs score the same?

    python bench/evaluation/helm.py <folder of <model>/<subject>.json(.gz)> <MMLU's dev folder or .tar.gz> [--json FILE]

A record is what `helm-run` writes as `scenario_state.json`: instances, prompts as sent, completions. The examples of a
prompt are MMLU's dev questions in the order that HELM sampled them in, read off the prompt itself.
"""

import argparse
import csv
import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from stages.evaluation.protocols.helm import HELM
from stages.evaluation.protocols.protocol import Setting
from stages.evaluation.scoring.requests import Generate, Generated
from stages.evaluation.tasks.item import Item

SETTING = Setting()


class Result(NamedTuple):
    model: str
    subject: str
    questions: int
    identical: int  # prompts that are HELM's bytes
    accuracy: float  # of HELM's stored completions by our reading
    unread: int  # completions that are no letter
    first_difference: str  # the first prompt of HELM's that isn't ours, and ours


def development(path: Path) -> dict[str, list[Item]]:
    """Subject: its dev questions, in the order of the file."""
    found = {}
    for name, text in _files(path):
        subject = name.removesuffix("_dev.csv")
        rows = [row for row in csv.reader(io.StringIO(text)) if row and (row[0], row[-1]) != ("question", "answer")]
        found[subject] = [
            Item(f"{subject}{n}", "mmlu", subject, "development", row[0], "", tuple(row[1:5]), _index(row[5]))
            for n, row in enumerate(rows)
        ]
    return found


def _index(answer: str) -> int:
    """Of a letter, or an index from 0 as some mirrors have it."""
    return "ABCD".index(answer) if answer in "ABCD" else int(answer)


def _files(path: Path) -> Iterator[tuple[str, str]]:
    """Names and texts, line ends within a cell as "\n": so HELM reads them."""
    if path.is_dir():
        yield from ((file.name, file.read_text(encoding="utf-8")) for file in sorted(path.glob("*_dev.csv")))
        return
    with tarfile.open(path) as archive:
        for member in archive:
            if member.name.endswith("_dev.csv") and (file := archive.extractfile(member)):
                yield Path(member.name).name, io.TextIOWrapper(file, encoding="utf-8").read()


def state_item(state: dict[str, Any], subject: str) -> Item:
    """Choices in the order of the letters that HELM gave them."""
    texts = list(state["output_mapping"].values())
    right = next(one["output"]["text"] for one in state["instance"]["references"] if "correct" in one["tags"])
    return Item(
        state["instance"]["id"], "mmlu", subject, "test", state["instance"]["input"]["text"], "",
        tuple(texts), texts.index(right),
    )  # fmt: skip


def shown(prompt: str, examples: list[Item]) -> list[Item]:
    """Those of the examples that stand in a prompt, in its order."""
    places = {item.id: prompt.find(f"Question: {HELM.wording.block(item)[len('Question: ') :]}") for item in examples}
    return sorted((item for item in examples if places[item.id] >= 0), key=lambda item: places[item.id])


def check(file: Path, examples: dict[str, list[Item]]) -> Result:
    """One model on one subject."""
    subject = file.name.split(".")[0]
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    states = json.loads(content)["request_states"]
    identical, right, unread, difference = 0, 0.0, 0, ""
    for state in states:
        item, prompt = state_item(state, subject), state["request"]["prompt"]
        ours = HELM.render(item, shown(prompt, examples[subject]), SETTING)
        assert isinstance(ours, Generate) and ours.max_tokens == state["request"]["max_tokens"]
        identical += ours.context == prompt
        difference = difference or ("" if ours.context == prompt else f"{prompt}\n--- ours\n{ours.context}")
        answer = HELM.read(item, SETTING, Generated(state["result"]["completions"][0]["text"], 1, False))
        right += answer.scores["acc"]
        unread += "no_answer" in answer.flags
    return Result(file.parent.name, subject, len(states), identical, right / len(states), unread, difference)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("records", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    examples = development(args.dev)
    results = [check(file, examples) for file in sorted(args.records.glob("*/*.json*"))]
    print(f"{'model':28}{'subject':22}{'questions':>10}{'identical':>10}{'accuracy':>10}{'no letter':>10}")
    for one in results:
        print(f"{one.model:28}{one.subject:22}{one.questions:10}{one.identical:10}{one.accuracy:10.3f}{one.unread:10}")
    if args.json:
        args.json.write_text(json.dumps([one._asdict() for one in results], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
