"""Tasks read from files ask what lm-eval 0.4.13 asks for the same file and documents, byte for byte.

Where lm-eval's own file is plain it is read unchanged; where it has Python functions, our file says the same.
"""

import json
import os
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from stages.base.errors import InputError
from stages.evaluation.protocols.task import TASK
from stages.evaluation.scoring.requests import Choices, Generate
from stages.evaluation.tasks.declaration import TaskFile, setting
from stages.evaluation.tasks.item import Item
from stages.evaluation.tasks.loading import load
from stages.evaluation.tasks.shots import choose_shots
from stages.evaluation.tasks.yaml_file import find_in_library, read_task_file

ROOT = Path(__file__).resolve().parents[3]
Row = dict[str, Any]
TOWNS = ["Velmora", "Old  Harbour", "Żółw", "Saint-Jean [title]", "Kem 7", "Ålund", "Pit (north)", "Rua"]


def arc(n: int) -> Row:
    count = 3 + n % 3
    labels = "12345" if n % 2 else "ABCDE"
    texts = [f"{TOWNS[(n + i) % 8]} {i} " for i in range(count)]
    return {
        "id": f"q{n}",
        "question": f" Which town is {n} miles away?\n",
        "choices": {"text": texts, "label": list(labels[:count])},
        "answerKey": labels[n % count],
    }


def hellaswag(n: int) -> Row:
    return {
        "activity_label": f"Roof [step] {n}",
        "ctx_a": f" A man  climbs [header] onto {TOWNS[n % 8]}.",
        "ctx_b": "" if n % 3 == 0 else "he [title] LOOKS down",
        "endings": [f"and  goes [x] {TOWNS[(n + i) % 8]} [title] home{i}. " for i in range(4)],
        "label": str(n % 4),
        "source_id": f"s{n // 2}",
    }


def piqa(n: int) -> Row:
    return {"goal": f"Dry  {TOWNS[n % 8]}", "sol1": f"use fire {n}", "sol2": "use “ice”", "label": n % 2}


def boolq(n: int) -> Row:
    return {"passage": f"{TOWNS[n % 8]} lies\r\non a hill {n}.", "question": "is it high", "label": (n + 1) % 2}


def openbookqa(n: int) -> Row:
    choices = {"text": [f"{town}{n}" for town in TOWNS[:4]], "label": list("ABCD")}
    return {"id": f"o{n}", "question_stem": f"A hill {n} is", "choices": choices, "answerKey": f" {'ABCD'[n % 4]}"}


def lambada(n: int) -> Row:
    return {"text": f"{TOWNS[n % 8]} went home and  said {n} {TOWNS[(n + 1) % 8].split()[0]}"}


def gsm8k(n: int) -> Row:
    return {
        "question": f"Ann has {n} + {{2}} eggs. How many?",
        "answer": f"{n}+2=<<{n}+2={n + 2}>>{n + 2}\n#### {n + 2}",
    }


def truthfulqa(n: int) -> Row:
    choices = [f"{town} {n}." for town in TOWNS[: 3 + n % 3]]
    return {
        "question": f"What if {n}?",
        "mc1_targets": {"choices": choices, "labels": [1] + [0] * (len(choices) - 1)},
        "mc2_targets": {"choices": choices, "labels": [1, int(n % 2)] + [0] * (len(choices) - 2)},
    }


def mmlu(n: int) -> Row:
    return {
        "question": f"  Which bone is {n}?\n",
        "subject": "anatomy",
        "choices": [f"{town} {n}" for town in TOWNS[n % 4 : n % 4 + 4]],
        "answer": n % 4,
    }


def winogrande(n: int) -> Row:
    return {
        "sentence": f"The cup {n} didn't fit the box, as _ was  too small_er. ",
        "option1": "the cup",
        "option2": TOWNS[n % 8],
        "answer": str(1 + n % 2),
    }


def wikitext(n: int) -> Row:
    page = f' = {TOWNS[n]} = \n = = History = = \n The town \'s " old " bridge ( built 1 @,@ 0{n}0 @-@ 1 @.@ 5 ) , '
    return {"page": page + "is 'long ' ; [ see below ] : 20 ° N of { here } ! Isn 't it ? The boys ' map . \n"}


def blimp(n: int) -> Row:
    return {"sentence_good": f"{TOWNS[n % 8]} is {n}.", "sentence_bad": f"{TOWNS[n % 8]} are {n}."}


def bbh(n: int) -> Row:
    return {"input": f"not ( True and {n} ) is", "target": "True" if n % 2 else "False"}


Case = tuple[str, str | None, Callable[[int], Row], dict[str, int], tuple[int, ...]]
CASES: dict[str, Case] = {  # file of lm-eval, ours (None: lm-eval's, unchanged), documents, splits, shots
    "arc": ("arc/arc_easy.yaml", None, arc, {"train": 20, "validation": 5, "test": 9}, (0, 3)),
    "our arc": ("arc/arc_easy.yaml", "arc_easy", arc, {"train": 20, "validation": 5, "test": 9}, (0, 3)),
    "our hellaswag": ("hellaswag/hellaswag.yaml", "hellaswag", hellaswag, {"train": 12, "validation": 9}, (0, 4)),
    "piqa": ("piqa/piqa.yaml", None, piqa, {"train": 9, "validation": 12}, (0, 5)),
    "our piqa": ("piqa/piqa.yaml", "piqa", piqa, {"train": 9, "validation": 12}, (5,)),
    "boolq": ("super_glue/boolq/default.yaml", None, boolq, {"train": 9, "validation": 9}, (0, 2)),
    "our boolq": ("super_glue/boolq/default.yaml", "boolq", boolq, {"train": 9, "validation": 9}, (2,)),
    "openbookqa": ("openbookqa/openbookqa.yaml", None, openbookqa, {"train": 9, "validation": 3, "test": 9}, (0, 2)),
    "our openbookqa": ("openbookqa/openbookqa.yaml", "openbookqa", openbookqa, {"train": 9, "test": 9}, (2,)),
    "lambada": ("lambada/lambada_openai.yaml", None, lambada, {"test": 9}, (0,)),
    "our lambada": ("lambada/lambada_openai.yaml", "lambada", lambada, {"test": 9}, (0,)),
    "gsm8k": ("gsm8k/gsm8k.yaml", None, gsm8k, {"train": 20, "test": 9}, (0, 5)),
    "our gsm8k": ("gsm8k/gsm8k.yaml", "gsm8k", gsm8k, {"train": 20, "test": 9}, (5,)),
    "truthfulqa": ("truthfulqa/truthfulqa_mc1.yaml", None, truthfulqa, {"validation": 6}, (0,)),
    "mmlu": ("mmlu/default/mmlu_anatomy.yaml", None, mmlu, {"dev": 5, "test": 9}, (0, 5)),
    "our mmlu": ("mmlu/default/mmlu_anatomy.yaml", "mmlu", mmlu, {"dev": 5, "test": 9}, (0, 5)),
    "our winogrande": ("winogrande/default.yaml", "winogrande", winogrande, {"train": 9, "validation": 9}, (0, 3)),
    "our wikitext": ("wikitext/wikitext.yaml", "wikitext", wikitext, {"train": 1, "validation": 1, "test": 8}, (0,)),
    "blimp": ("blimp/adjunct_island.yaml", None, blimp, {"train": 8}, (0,)),
    "bbh": ("bbh/cot_fewshot/boolean_expressions.yaml", None, bbh, {"test": 6}, (0, 3)),
}


@cache
def peer(cases: str) -> str:
    python = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(ROOT / ".venv-peers" / "bin" / "python")
    script = Path(__file__).with_name("lm_eval_peer.py")
    if not Path(python).exists() or subprocess.run([python, "-c", "import lm_eval"], capture_output=True).returncode:
        pytest.skip("no lm-eval in the peers' environment: make .venv-peers from bench/requirements.lock")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run([python, str(script)], input=cases, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, (_, _, document, splits, _) in CASES.items():
        made[name] = tmp_path_factory.mktemp("documents")
        start = 0
        for split, count in splits.items():
            rows = [json.dumps(document(start + n), ensure_ascii=False) for n in range(count)]
            (made[name] / f"{split}.jsonl").write_text("\n".join(rows))
            start += count if document is not wikitext else 0
    return made


@pytest.fixture(scope="module")
def expected(folders: dict[str, Path]) -> dict[tuple[str, int], list[Row]]:
    cases = [
        {"yaml": yaml, "files": {split: str(folders[name] / f"{split}.jsonl") for split in splits}, "shots": n}
        for name, (yaml, _, _, splits, shots) in CASES.items()
        for n in shots
    ]
    keys = [(name, n) for name, case in CASES.items() for n in case[4]]
    return dict(zip(keys, json.loads(peer(json.dumps(cases))), strict=True))


def task_of(name: str, folder: Path) -> TaskFile:
    yaml, own, *_ = CASES[name]
    return find_in_library(own, str(folder)) if own else read_task_file(Path(peer("[]"), yaml), str(folder))


def requests_of(task: TaskFile, items: list[Item], item: Item, shots: int) -> list[list[str]]:
    if task.output_type == "loglikelihood_rolling":
        return [[item.question]]
    asked = TASK.render(item, choose_shots(task, items, item, shots), setting(task))
    if isinstance(asked, Generate):
        return [[asked.context]]
    assert isinstance(asked, Choices)
    contexts = asked.contexts if len(asked.contexts) > 1 else asked.contexts * len(asked.continuations)
    return [list(pair) for pair in zip(contexts, asked.continuations, strict=True)]


@pytest.mark.parametrize("name", CASES)
def test_asks_what_lm_eval_asks(
    name: str, folders: dict[str, Path], expected: dict[tuple[str, int], list[Row]]
) -> None:
    task = task_of(name, folders[name])
    items = load(task, name)
    for shots in CASES[name][4]:
        asked = [item for item in items if item.split == "test"]
        assert len(asked) == len(expected[name, shots]) > 0
        for item, theirs in zip(asked, expected[name, shots], strict=True):
            assert requests_of(task, items, item, shots) == [
                [part for part in request if isinstance(part, str)] for request in theirs["requests"]
            ]
            gold = theirs["gold"]
            if item.choices and not isinstance(gold, int):
                gold = item.choices.index(gold) if gold in item.choices else int(gold)
            assert (item.answer if item.choices else item.targets[0] if item.targets else item.question) == gold


def test_answers_are_generated_until_the_same_stops(
    folders: dict[str, Path], expected: dict[tuple[str, int], list[Row]]
) -> None:
    for name in ("gsm8k", "our gsm8k"):
        _, options = expected[name, 5][0]["requests"][0]
        assert setting(task_of(name, folders[name])).stop == tuple(options["until"])


def test_words_and_bytes_of_a_page_are_those_before_it_was_put_right(folders: dict[str, Path]) -> None:
    for number, item in enumerate(load(task_of("our wikitext", folders["our wikitext"]), "wikitext")[:8]):
        assert item.counted == wikitext(number)["page"] != item.question


@pytest.mark.parametrize("name", ["hellaswag/hellaswag.yaml", "winogrande/default.yaml", "wikitext/wikitext.yaml"])
def test_code_is_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=r"\.yaml:\d+: `\w+` is code \(!function"):
        read_task_file(Path(peer("[]"), name))
