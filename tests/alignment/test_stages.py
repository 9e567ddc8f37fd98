"""The stages one after another on files of one's own: everything is chosen and measured without truth, and models come
from and go to their folders."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml

from stages.alignment import (
    annotate,
    best_of_n,
    dpo,
    grpo,
    instructions,
    leakage,
    ppo,
    preferences,
    reference,
    reward,
    rft,
    self_instruct,
    sft,
)
from stages.alignment.rewards.scalar import load_ensemble
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model, save_model

ROOT = Path(__file__).parents[2]
SMALL: dict[str, dict[str, Any]] = {
    "self_instruct": {"candidates": 2, "rounds": 1, "max_new_tokens": 8},
    "sft": {"epochs": 2, "validations": 2, "max_new_tokens": 6},
    "annotate": {"samples": 2, "pairs": 1, "max_new_tokens": 6, "max_drop": 1.0},
    "reward": {"epochs": 1, "members": 2, "combine": "worst"},
    "dpo": {"epochs": 2, "batch_size": 4, "lr": 0.01, "validations": 2, "max_new_tokens": 6},
    "ppo": {"iterations": 1, "rollouts": 4, "epochs": 1, "validations": 1, "max_new_tokens": 6},
    "grpo": {"iterations": 1, "prompts": 4, "samples": 2, "validations": 1, "max_new_tokens": 6},
    "rft": {"samples": 2, "epochs": 1, "validations": 1, "max_new_tokens": 6},
    "best_of_n": {"n": 2, "max_new_tokens": 6},
}


def write_lines(path: str, rows: list[dict[str, Any]]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def metrics(stage: str) -> dict[str, Any]:
    return json.loads(Path(f"data/alignment/{stage}/metrics.json").read_text())


@pytest.fixture
def workplace(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """params.yaml with sources of one's own, their files, and a base model, in a scratch folder."""
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, changes in SMALL.items():
        params["alignment"][name] |= changes
    shares = {"preference": 0.3, "validation": 0.2, "test": 0.2}
    params["alignment"]["base"] = "tiny"
    params["alignment"]["instructions"]["sources"] = {"own": {"kind": "jsonl", "path": "own.jsonl", "splits": shares}}
    params["alignment"]["preferences"]["sources"] = {"own": {"kind": "jsonl", "path": "pairs.jsonl"}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    write_lines("own.jsonl", [{"prompt": f"What is {n} and 1?", "response": str(n + 1)} for n in range(20)])
    write_lines("pairs.jsonl", [{"prompt": f"Is {n} odd?", "chosen": "yes", "rejected": "no"} for n in range(12)])
    save_model("data/models/tiny", make_model(), tokenizer)
    for name in ("seed_tasks", "edits"):
        Path("lists", name).mkdir(parents=True)
    for name, items in (
        ("alignment/instructions", ["own"]), ("alignment/preferences", ["own"]), ("evaluation/task", [])
    ):  # fmt: skip
        Path("data", name).mkdir(parents=True)
        Path("data", name, "items.json").write_text(json.dumps(items))


@pytest.mark.usefixtures("workplace")
def test_from_own_files_to_every_method() -> None:
    instructions.main("own")
    leakage.main()
    preferences.main("own")
    assert json.loads(Path("data/alignment/instructions/own/truth.json").read_text())["entities"] == {}
    for stage in (self_instruct, sft, annotate, reward, reference, dpo, ppo, grpo, rft, best_of_n):
        stage.main()
    drifted = json.loads(Path("data/alignment/self_instruct/generations.json").read_text())["generations"]
    assert [one["generation"] for one in drifted] == [0, 1] and drifted[0]["tasks"] == 2
    assert metrics("self_instruct")["kept"] + round(drifted[1]["dropped_no_answer"] * 2) <= 2
    chosen = {name: metrics(name)["chosen_by"] for name in ("sft", "rft", "dpo", "ppo", "grpo")}
    assert chosen == {
        "sft": "loss", "rft": "loss", "dpo": "preference_accuracy", "ppo": "reward", "grpo": "reward",
    }  # fmt: skip
    for name, number in (
        ("sft", "validation_loss"),
        ("dpo", "validation_preference_accuracy"),
        ("ppo", "validation_reward"),
        ("grpo", "validation_reward"),
        ("rft", "validation_loss"),
    ):
        assert metrics(name)["validation_exact_right"] is None and metrics(name)[number] is not None
        record = json.loads(Path(f"data/alignment/{name}/record.json").read_text())
        assert record["notes"]["chosen_by"] == chosen[name]
        assert f"data/models/{name}/model.safetensors" in record["outputs"]
        assert f"data/models/{'tiny' if name == 'sft' else 'sft'}" in record["inputs"]
        load_model(f"data/models/{name}")
        load_tokenizer(f"data/models/{name}")
        rows = [json.loads(line) for line in Path(f"data/alignment/{name}/steps.jsonl").read_text().splitlines()]
        assert number in rows[-1] if rows else metrics(name)["kept"] == 0  # no answer that has ended
    assert metrics("reward")["held_out_score_accuracy"] is None and metrics("reward")["held_out_accuracy"] is not None
    assert metrics("reward")["members"] == 2 and 0 <= metrics("reward")["held_out_members_disagree"] <= 1
    ensemble = load_ensemble(Path("data/alignment/reward"))
    assert (len(ensemble.members), ensemble.combine, len(ensemble.levels)) == (2, "worst", 2)
    trained = [json.loads(line) for line in Path("data/alignment/reward/steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in trained] == list(range(len(trained))) and {row["member"] for row in trained} == {
        0,
        1,
    }
    assert metrics("annotate")["pairs"] == 0  # no source takes them
    answered = pq.read_table("data/alignment/best_of_n/outputs.parquet").column("split").to_pylist()
    assert set(answered) == {"validation", "test"}


@pytest.mark.usefixtures("workplace")
def test_low_rank_adapters_are_merged_in_the_folder() -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["alignment"]["sft"]["lora"] = {"rank": 2, "alpha": 4.0}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    instructions.main("own")
    for stage in (leakage, self_instruct, sft):
        stage.main()
    base, tuned = (load_model(f"data/models/{name}").state_dict() for name in ("tiny", "sft"))
    assert base.keys() == tuned.keys()
    assert {name for name in base if not torch.equal(base[name], tuned[name])} == {n for n in base if "_proj" in n}


@pytest.mark.usefixtures("workplace")
def test_annotated_pairs_are_a_source_like_any_other() -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["alignment"]["preferences"]["sources"] = {"own": {"kind": "annotated", "path": "data/alignment/annotate"}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    instructions.main("own")
    for stage in (leakage, self_instruct, sft, annotate):
        stage.main()
    preferences.main("own")
    assert metrics("annotate")["pairs"] == metrics("preferences/own")["pairs"] > 0
    assert metrics("annotate")["score_agreement"] is None  # no truth


@pytest.mark.usefixtures("workplace")
def test_what_is_missing_is_one_line_and_nothing_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/alignment/preferences/items.json").write_text("[]")
    instructions.main("own")
    leakage.main()
    self_instruct.main()
    sft.main()
    write_lines("own.jsonl", [{"prompt": "p", "response": ""}])
    for stage, said in ((lambda: instructions.main("own"), "own.jsonl:1"), (dpo.main, "no preferences")):
        with pytest.raises(SystemExit, match="2"):
            stage()
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert said in line and line.startswith("trainyard: alignment.")
    assert not Path("data/alignment/dpo").exists() and not Path("data/models/dpo").exists()
    assert Path("data/alignment/instructions/own/instructions.parquet").exists()  # of the run before
