"""Protocols beside the LM Evaluation Harness 0.4.13 on the same model folder: log-likelihoods and scores of each item.

The model is a small random one; TRAINYARD_PARITY_MODEL names another folder.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tokenizers import processors

from stages.base.files import read_json, write_json
from stages.evaluation.protocols.protocol import EvaluationProtocol, Setting
from stages.evaluation.protocols.registry import PROTOCOLS, find_protocol
from stages.evaluation.run import Row, ask
from stages.evaluation.scoring.local import open_folder
from stages.evaluation.scoring.requests import Choices, Engine, Generated
from stages.evaluation.tasks.declaration import setting
from stages.evaluation.tasks.item import Item
from stages.evaluation.tasks.loading import load
from stages.evaluation.tasks.shots import choose_shots
from stages.evaluation.tasks.yaml_file import read_task_file
from stages.lm.chat import BOS
from stages.lm.checkpoint import save_model
from tests.evaluation.conftest import make_model, make_tokenizer

ROOT = Path(__file__).resolve().parents[3]
NOUNS = ["harbour", "mill", "bridge", "market hall", "lighthouse", "quarry", "theatre", "canal", "tower", "garden"]
VALUES = ["Anthar", "Belmont on the sea", "Copper", "Dun", "Évora", "the old town", "salt and glass", "1412"]

LETTERED = "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:"
LISTED = "Question: {{question}}\nChoices:\n" + LETTERED.split("\n", 1)[1]
TASKS: dict[str, dict[str, Any]] = {
    "letters": {
        "description": "The following are multiple choice questions (with answers) about  old towns.\n\n",
        "doc_to_text": LETTERED,
        "doc_to_choice": ["A", "B", "C", "D"],
        "doc_to_target": "answer",
        "num_fewshot": 3,
    },
    "continuation": {
        "description": "The following are questions (with answers) about old towns.\n\n",
        "doc_to_text": "Question: {{question.strip()}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "num_fewshot": 3,
    },
    "whole_answer": {
        "doc_to_text": LISTED,
        "doc_to_choice": "{{['A. ' + choices[0], 'B. ' + choices[1], 'C. ' + choices[2], 'D. ' + choices[3]]}}",
        "doc_to_target": "answer",
        "num_fewshot": 2,
    },
    "answer_text": {"doc_to_text": LISTED, "doc_to_choice": "choices", "doc_to_target": "answer", "num_fewshot": 2},
    "chat_turns": {
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "num_fewshot": 1,
    },
    "measures": {
        "doc_to_text": "{{question}} It is",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "target_delimiter": " ",
        "metric_list": [
            {"metric": metric} for metric in ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")
        ],
        "num_fewshot": 2,
        "fewshot_config": {"sampler": "default"},
    },
    "sentences": {  # as BLiMP: nothing before them
        "doc_to_text": "",
        "doc_to_choice": "{{['It is in ' + choices[0] + '.', 'In it is ' + choices[0] + '.']}}",
        "doc_to_target": 0,
        "target_delimiter": "",
    },
    "blank": {  # as Winogrande: the choice is in the context
        "doc_to_text": "{{answer}}",
        "doc_to_choice": "{{['At ' + choices[0], 'At ' + choices[1], 'At ' + choices[2], 'At ' + choices[3]]}}",
        "doc_to_target": "stands the {{noun}} of the town.",
        "num_fewshot": 2,
    },
    "last_word": {  # as LAMBADA
        "output_type": "loglikelihood",
        "doc_to_text": "The {{noun}} of the town stands at",
        "doc_to_target": "{{' ' + choices[answer]}}",
        "num_fewshot": 1,
    },
    "too_long": {
        "doc_to_text": "{{question * 100}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "num_fewshot": 1,
    },
    "worked": {  # as GSM8K
        "output_type": "generate_until",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "{{noun}} #### {{number}}",
        "generation_kwargs": {"until": ["Question:", "\n\n"], "max_gen_toks": 24, "do_sample": False},
        "num_fewshot": 2,
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "ignore_case": True,
                "regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"],
            }
        ],
        "filter_list": [
            {
                "name": "strict-match",
                "filter": [
                    {"function": "regex", "regex_pattern": "#### (\\-?[0-9\\.\\,]+)"},
                    {"function": "take_first"},
                ],
            },
            {
                "name": "flexible-extract",
                "filter": [
                    {
                        "function": "regex",
                        "group_select": -1,
                        "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)",
                    },
                    {"function": "take_first"},
                ],
            },
        ],
    },
}
TWINS = {
    "letters": "original",
    "continuation": "cloze",
    "whole_answer": "harness",
    "answer_text": "harness-text",
    "chat_turns": "chat",
}


def documents(count: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        noun = NOUNS[int(rng.integers(len(NOUNS)))]
        choices = [VALUES[int(i)] for i in rng.permutation(len(VALUES))[:4]]
        question = f"Where is the {noun} {'very ' * (number % 4)}old?"
        rows.append(
            {
                "question": question,
                "noun": noun,
                "choices": choices,
                "answer": number % 4,
                "number": int(rng.integers(99)),
            }
        )
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model")
    if named := os.environ.get("TRAINYARD_PARITY_MODEL"):
        for file in Path(named).resolve().iterdir():
            (out / file.name).symlink_to(file)
    else:
        tokenizer = make_tokenizer(tmp_path_factory.mktemp("tokenizer"))
        tokenizer.tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.bos_id)]
        )
        save_model(out, make_model(max_seq_len=768), tokenizer)
    # transformers 5 prefers a foreign folder's `max_new_tokens` to the `max_gen_toks` that the harness asks it for.
    config = read_json(out / "generation_config.json")
    (out / "generation_config.json").unlink()
    write_json(out / "generation_config.json", {name: config[name] for name in config if name != "max_new_tokens"})
    return out


@pytest.fixture(scope="module")
def yamls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tasks")
    for split, (count, seed) in {"dev": (6, 1), "test": (12, 2)}.items():
        lines = [json.dumps(row) + "\n" for row in documents(count, seed)]
        (home / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: str(home / f"{split}.jsonl") for split in ("dev", "test")}},
        "test_split": "test",
        "fewshot_split": "dev",
        "fewshot_config": {"sampler": "first_n"},
        "output_type": "multiple_choice",
        "metadata": {"version": 1.0},
    }
    for name, own in TASKS.items():
        (home / f"{name}.yaml").write_text(yaml.safe_dump(common | own | {"task": name}), encoding="utf-8")
    return home


@pytest.fixture(scope="module")
def harness(folder: Path, yamls: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    python = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(ROOT / ".venv-peers" / "bin" / "python")
    if not Path(python).exists() or subprocess.run([python, "-c", "import lm_eval"], capture_output=True).returncode:
        pytest.skip("no lm-eval: set TRAINYARD_PEERS_PYTHON, or make .venv-peers from bench/requirements.lock")
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
    done = subprocess.run(
        [python, str(Path(__file__).with_name("harness_peer.py")), str(folder), str(yamls), *TASKS],
        env={**os.environ, **offline, "HF_HOME": str(tmp_path_factory.mktemp("hub")), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return open_folder(folder)


def asked(engine: Engine, yamls: Path, name: str) -> list[Row]:
    """The task's file as the protocol `task` asks it."""
    task = read_task_file(yamls / f"{name}.yaml")
    items = load(task, name)
    tested = [item for item in items if item.split == "test"]
    return ask(
        engine, tested, lambda item: choose_shots(task, items, item, task.num_fewshot), PROTOCOLS["task"], setting(task)
    )


def under(protocol: EvaluationProtocol, engine: Engine, shots: int) -> list[Row]:
    """The same documents as bare questions, under a protocol of ours."""
    items = [
        Item(f"{split}{n}", "towns", "old_towns", split, row["question"], "", tuple(row["choices"]), row["answer"])
        for split, count, seed in (("development", 6, 1), ("test", 12, 2))
        for n, row in enumerate(documents(count, seed))
    ]
    examples = [item for item in items if item.split == "development"][:shots]
    tested = [item for item in items if item.split == "test"]
    return ask(engine, tested, lambda item: examples, protocol, Setting())


def compared(rows: list[Row], expected: list[dict[str, Any]], engine: Engine) -> Iterator[tuple[Row, dict[str, float]]]:
    """Each row with the harness' scores, after contexts and log-likelihoods have been found equal."""
    assert len(rows) == len(expected)
    opening = engine.sent(Choices(("",), ("a",)))  # what stands before an empty text
    for row, want in zip(rows, expected, strict=True):
        assert row.answer is not None, row.left_out
        assert row.prompt.removeprefix(opening) == want["contexts"][0].removeprefix(opening)
        if isinstance(row.found, Generated):
            assert row.found.text == want["found"][0]
        else:
            nats = [float(nats) for nats, _ in want["found"]]
            np.testing.assert_allclose([one.nats for one in row.likelihoods], nats, rtol=1e-6, atol=1e-4)
            assert [one.greedy for one in row.likelihoods] == [str(greedy) == "True" for _, greedy in want["found"]]
        yield row, want["scores"]


@pytest.mark.parametrize("name", [name for name in TASKS if not name.startswith("chat_")])
def test_a_file_is_asked_as_the_harness_asks_it(name, engine, yamls, harness) -> None:
    rows = asked(engine, yamls, name)
    for row, scores in compared(rows, harness[name], engine):
        assert row.answer is not None
        ours = {metric if "," in metric else f"{metric},none": value for metric, value in row.answer.scores.items()}
        assert ours.keys() == scores.keys()
        for metric, value in scores.items():
            assert ours[metric] == pytest.approx(value, abs=1e-4), metric
    if name == "too_long" and engine.limit < 1000:
        assert all(row.truncated for row in rows)


@pytest.mark.parametrize("name", TWINS)
def test_a_protocol_equals_its_twin(name, engine, harness) -> None:
    protocol = find_protocol(TWINS[name])
    rows = under(protocol, engine, TASKS[name]["num_fewshot"])
    for row, scores in compared(rows, harness[name], engine):
        assert row.answer is not None
        assert row.shots == TASKS[name]["num_fewshot"]
        for metric in ("acc", "acc_norm"):
            assert row.answer.scores[metric] == scores[f"{metric},none"]


def test_the_harness_mmlu_is_the_original_with_one_space(engine, yamls, harness) -> None:
    original = PROTOCOLS["original"]
    one_space: Any = replace(original.wording, instruction=original.wording.instruction.replace("  ", " "))  # type: ignore[attr-defined]
    rows = under(replace(original, wording=one_space), engine, 3)  # type: ignore[type-var]
    moved = [
        np.abs(np.subtract([one.nats for one in row.likelihoods], [nats for nats, _ in want["found"]])).max()
        for row, want in zip(rows, harness["letters"], strict=True)
    ]
    assert min(moved) > 1e-3  # so the space is no detail
