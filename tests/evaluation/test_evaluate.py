"""Both stages over a made-up project of a few kilobytes."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from stages.base import schemas
from stages.base.files import read_json, write_json
from stages.base.tables import read_table, write_table
from stages.evaluation import contamination, evaluate
from stages.evaluation.items import ITEM
from stages.lm.chat import padded_vocab_size
from stages.lm.checkpoint import save_model

PARAMS = {
    "run": {"seed": 0},
    "evaluation": {
        "checkpoints": {"base": {"path": "data/pretraining/anneal"}},
        "evaluate": {
            "bytes_per_source": 400,
            "bytes_per_document": 300,
            "overlap": 8,
            "split": "test",
            "questions": 6,
            "shots": {"original": 1, "cloze": 1, "chat": 0},
        },
        "contamination": {
            "examples": 12,
            "shards": 3,
            "permutations": 3,
            "alpha": 0.05,
            "ngram": 6,
            "share_ngram": 4,
            "dirty_share": 0.7,
            "probe": {
                "copies": [0, 60],
                "examples": 12,
                "background_tokens": 300,
                "n_layer": 2,
                "d_model": 32,
                "n_head": 2,
                "n_kv_head": 2,
                "d_ff": 64,
                "rope_theta": 10000.0,
                "norm_eps": 1e-6,
                "rows_per_step": 8,
                "lr": 0.02,
                "adam_lr": 0.01,
                "warmup": 0.02,
            },
        },
    },
}
ENDINGS = ("ak", "en", "ith", "os", "ur")
NAMES = [a + b for a in ("Vel", "Mor", "Tan", "Bri", "Sol", "Ket", "Dar", "Lum") for b in ENDINGS]
VALUES = ["Anthar", "Belmont", "Copper", "Dun"]


def question(index: int) -> dict:
    name, value = NAMES[index], VALUES[index % 4]
    return {
        "id": hashlib.sha256(name.encode()).hexdigest()[:16],
        "split": "test" if index < 14 else "sft",
        "entity": name,
        "kind": "single",
        "attributes": ["province"],
        "prompt": f"In which province does {name} lie?",
        "reference": f"{name} lies in the province of {value}.",
        "filler": "",
    }


def choice(index: int) -> dict:
    row = question(index)
    split = "development" if row["split"] == "sft" else "test"
    common = {"set": "atlas_facts", "subject": "province", "choices": VALUES, "answer": index % 4}
    return {"id": row["id"], "split": split, "question": row["prompt"], **common}


def document(index: int, source: str) -> dict:
    text = f"Document {index}. {question(index)['reference']} Copper, salt and glass. " * 3
    return {"id": f"{index:04}", "source": source, "domain": f"Domain {index % 2}", "text": text, "epochs": 1.0}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer, model) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    save_model("data/pretraining/anneal", model)
    tokenizer.save(Path("data/tokens/tokenizer"))
    training = [document(i, "atlas") for i in range(14, 40)]
    leaked = {"id": "leak", "text": f"quiz: {choice(0)['question']} {'ANSWER'} {VALUES[0]}"}
    tables = {
        "corpus/mix/validation": ([document(i, s) for i in range(4) for s in ("atlas", "web")], schemas.MIXED),
        "corpus/mix/train": ([*training, training[0] | leaked], schemas.MIXED),
        "corpus/atlas/questions": ([question(i) for i in range(40)], schemas.QUESTION),
        "evaluation/sets/multiple_choice": ([choice(i) for i in range(40)], schemas.CHOICE),
    }
    for name, (rows, schema) in tables.items():
        write_table(f"data/{name}.parquet", pa.Table.from_pylist(rows, schema=schema), schema)
    bos = tokenizer.bos_id
    ids = [token for row in training for token in [bos, *tokenizer.encode(row["text"])]]
    rows = np.array(ids[: len(ids) // 64 * 64], dtype=np.uint16).reshape(-1, 64)
    rows = np.insert(rows, 0, bos, axis=1)
    Path("data/tokens/pack").mkdir()
    rows.tofile("data/tokens/pack/train.bin")
    facts = {"seq_len": 64, "vocab_size": padded_vocab_size(tokenizer.tokenizer), "dtype": "uint16", "bos_id": bos}
    write_json("data/tokens/pack/pack.json", facts | {"train": {"rows": len(rows)}})
    return tmp_path


def run_evaluate(monkeypatch: pytest.MonkeyPatch, key: str = "base") -> dict:
    monkeypatch.setattr("sys.argv", ["evaluate", key])
    evaluate.main()
    return read_json(f"data/evaluation/evaluate/{key}/metrics.json")


def test_evaluate_writes_metrics_that_its_items_explain(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = run_evaluate(monkeypatch)
    items = read_table("data/evaluation/evaluate/base/items.parquet", ITEM).to_pylist()
    texts = [row for row in items if row["task"] == "text"]
    assert metrics["documents"] == len(texts)
    for name, chosen in (
        ("bpb", texts),
        ("bpb_atlas", [row for row in texts if row["group"] == "atlas"]),
        ("bpb_web", [row for row in texts if row["group"] == "web"]),
        ("bpb_domain_domain_1", [row for row in texts if row["domain"] == "Domain 1"]),
    ):
        bits = sum(row["nats"] for row in chosen) / np.log(2)
        assert metrics[name] == pytest.approx(bits / sum(row["bytes"] for row in chosen))
    for protocol in ("original", "cloze", "chat"):
        rows = [row for row in items if row["task"] == protocol]
        assert len(rows) == metrics["mc_questions"] == 6
        assert metrics[f"mc_{protocol}_acc"] == np.mean([row["choice"] == row["answer"] for row in rows])
        assert all(row["choice"] == np.argmax(row["logprobs"]) for row in rows)
    assert metrics["mc_chance_acc"] == 0.25
    record = read_json("data/evaluation/evaluate/base/record.json")
    assert set(record["params"]) == {"evaluation.evaluate", "evaluation.checkpoints.base"}


def test_an_unknown_checkpoint_is_one_line(project: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        run_evaluate(monkeypatch, "bse")
    assert stop.value.code == 2
    assert "did you mean `base`" in capsys.readouterr().err
    assert not Path("data/evaluation/evaluate/bse").exists()


def test_contamination_finds_what_was_planted_and_nothing_else(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_evaluate(monkeypatch)
    contamination.main()
    folder = Path("data/evaluation/contamination")
    result = read_json(folder / "contamination.json")
    assert [row["copies"] for row in result["planted"]] == [0, 60]
    assert result["planted"][0]["t"] < result["planted"][1]["t"]
    leaked = choice(0)["id"]
    assert result["overlap"]["multiple_choice"]["dirty_ids"] == [leaked]
    by_check = {(row["check"], row["set"]): row["verdict"] for row in result["verdicts"]}
    assert by_check["overlap", "multiple_choice"] == "contaminated"
    accuracy = result["accuracy"]
    assert accuracy["clean_questions"] + accuracy["dirty_questions"] == accuracy["all_questions"] == 6
    assert all(isinstance(value, int | float) for value in read_json(folder / "metrics.json").values())

    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    contamination.main()
    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}
