"""What the engine's benches ask: real test sets, worded as each task's protocol does, as plain texts for both sides."""

import csv
import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = Path(os.environ.get("TRAINYARD_REFERENCE", ROOT.parent / "shared" / "reference")) / "posttraining"
SUBJECTS = ("astronomy", "econometrics", "high_school_macroeconomics", "philosophy")


class Asked(NamedTuple):
    context: str
    continuations: tuple[str, ...]
    answer: int


def mmlu(count: int, cloze: bool, subjects: int, shots: int = 5) -> list[Asked]:
    """`count` questions of each subject, five-shot: letters after the question with its choices, or the choices' texts
    after the bare question.
    """
    asked = []
    with tarfile.open(REFERENCE / "mmlu" / "mmlu_dev_test.tar.gz") as archive:

        def rows(name: str) -> list[list[str]]:
            found = archive.extractfile(name)
            assert found is not None
            table = list(csv.reader(io.TextIOWrapper(found, encoding="utf-8")))
            return table[1:] if table[0][0] == "question" else table

        for subject in SUBJECTS[:subjects]:
            opening = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}."
            examples = [_mmlu(row, cloze) for row in rows(f"mmlu/dev/{subject}_dev.csv")[:shots]]
            shown = "".join(f"{one.context}{one.continuations[one.answer]}\n\n" for one in examples)
            for row in rows(f"mmlu/test/{subject}_test.csv")[:count]:
                one = _mmlu(row, cloze)
                asked.append(one._replace(context=f"{opening}\n\n{shown}{one.context}"))
    return asked


def table(path: Path, count: int, cloze: bool, shots: int = 5) -> list[Asked]:
    """As `mmlu`, of a `questions.parquet` of ours: the models that the pipeline trains know what it asks."""
    import pyarrow.parquet as pq

    rows = pq.read_table(path).to_pylist()
    texts = [[row["question"], *row["choices"], "ABCD"[row["answer"]]] for row in rows]
    asked, done = [], dict.fromkeys((row["subject"] for row in rows), 0)
    for row, text in zip(rows, texts, strict=True):
        done[row["subject"]] += row["split"] != "development"
        if row["split"] == "development" or done[row["subject"]] > count:
            continue
        shown = [
            _mmlu(other, cloze)
            for other, its in zip(texts, rows, strict=True)
            if its["split"] == "development" and its["subject"] == row["subject"]
        ][:shots]
        one = _mmlu(text, cloze)
        before = "".join(f"{example.context}{example.continuations[example.answer]}\n\n" for example in shown)
        asked.append(one._replace(context=before + one.context))
    return asked


def _mmlu(row: list[str], cloze: bool) -> Asked:
    question, choices, answer = row[0], row[1:5], row[5]
    number = "ABCD".index(answer) if answer in "ABCD" else int(answer)
    if cloze:
        return Asked(f"Question: {question}\nAnswer:", tuple(f" {choice}" for choice in choices), number)
    listed = "".join(f"\n{letter}. {choice}" for letter, choice in zip("ABCD", choices, strict=True))
    return Asked(f"{question}{listed}\nAnswer:", (" A", " B", " C", " D"), number)


def _lines(name: str) -> Iterator[Any]:
    with gzip.open(REFERENCE / name, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def _arc(row: Any) -> Asked:
    choices, labels = row["question"]["choices"], [choice["label"] for choice in row["question"]["choices"]]
    texts = tuple(f" {choice['text']}" for choice in choices)
    return Asked(f"Question: {row['question']['stem']}\nAnswer:", texts, labels.index(row["answerKey"]))


def _openbookqa(row: Any) -> Asked:
    return _arc(row)._replace(context=row["question"]["stem"])


def _boolq(row: Any) -> Asked:
    return Asked(f"{row['passage']}\nQuestion: {row['question']}?\nAnswer:", (" no", " yes"), int(row["answer"]))


def _piqa(row: Any) -> Asked:
    return Asked(f"Question: {row['goal']}\nAnswer:", (f" {row['sol1']}", f" {row['sol2']}"), 0)


def _hellaswag(row: Any) -> Asked:
    return Asked(row["ctx"], tuple(f" {ending}" for ending in row["endings"]), 0)


def _truthfulqa(row: Any) -> Asked:
    return Asked(row["prompt"], (" yes", " no"), int(row["completion"] == " no"))


def _gsm8k(row: Any) -> Asked:
    return Asked(f"Question: {row['question']}\nAnswer:", (f" {row['answer']}",), 0)


def lambada(count: int) -> list[Asked]:
    """The last word of each passage."""
    with gzip.open(REFERENCE / "contam" / "contam-1.4b" / "lambada.txt.gz", "rt", encoding="utf-8") as file:
        passages = [line.strip().rsplit(" ", 1) for line, _ in zip(file, range(count), strict=False)]
    return [Asked(start, (f" {word}",), 0) for start, word in passages]


READERS: dict[str, tuple[str, Callable[[Any], Asked]]] = {
    "arc": ("contam/contam-1.4b/ai2arc.jsonl.gz", _arc),
    "openbookqa": ("contam/contam-1.4b/openbookqa.jsonl.gz", _openbookqa),
    "boolq": ("contam/contam-1.4b/boolq.jsonl.gz", _boolq),
    "piqa": ("contam/contam-1.4b/piqa.jsonl.gz", _piqa),
    "hellaswag": ("contam/contam-1.4b-dupcount-higher/hellaswag.jsonl.gz", _hellaswag),
    "truthfulqa": ("contam/contam-1.4b/truthfulqa.jsonl.gz", _truthfulqa),
    "gsm8k": ("gsm8k/test.jsonl.gz", _gsm8k),
}
TASKS = ("mmlu", "mmlu_cloze", *READERS, "lambada")


def asked(task: str, count: int, questions: Path | None = None, subjects: int = len(SUBJECTS)) -> list[Asked]:
    """`count` questions of a task, of each subject if it has some; `questions`: the table of own and own_cloze."""
    if questions is not None and task in ("own", "own_cloze"):
        return table(questions, count, task == "own_cloze")
    if task in ("mmlu", "mmlu_cloze"):
        return mmlu(count, task == "mmlu_cloze", subjects)
    if task == "lambada":
        return lambada(count)
    name, read = READERS[task]
    return [read(row) for row, _ in zip(_lines(name), range(count), strict=False)]


def wikitext(count: int) -> list[str]:
    """Articles to be scored as a whole."""
    with gzip.open(REFERENCE / "wikitext2" / "test.txt.gz", "rt", encoding="utf-8") as file:
        text = file.read()
    articles = [part.strip() for part in text.split("\n = ") if len(part) > 200]
    return articles[:count]
