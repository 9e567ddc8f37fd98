"""Both stages over a made-up project of a few kilobytes."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml

from stages.base import schemas
from stages.base.contracts.contamination import Contamination
from stages.base.contracts.evaluation import Evaluation, Samples
from stages.base.contracts.pack import Pack, TrainShard, ValidationShard
from stages.base.files import read_json, write_json
from stages.base.tables import read_table, write_table
from stages.evaluation import contamination, corpus_index, evaluate
from stages.evaluation.items import ITEM
from stages.evaluation.overlap.summary import OVERLAP
from stages.lm.chat import padded_vocab_size
from stages.lm.checkpoint import save_model
from tests.contracts.scaling import RECIPE
from tests.evaluation.conftest import make_model

PARAMS = {
    "models": {"trained": {"base": {}, "sft": {}}, "import": {"theirs": {"path": "elsewhere"}}},
    "alignment": {"base": "base"},
    "run": {"seed": 0},
    "recipe": RECIPE.model_dump() | {"batch_tokens": 512, "micro_rows": 8},
    "evaluation": {
        "evaluate": {
            "bytes_per_source": 400,
            "bytes_per_document": 300,
            "overlap": 8,
            "split": "test",
            "questions": 6,
            "shots": {"original": 1, "cloze": 1, "chat": 0},
            "variants": ["cloze"],
        },
        "corpus_index": {"shortest": 4},
        "contamination": {
            "examples": 12,
            "shards": 3,
            "permutations": 3,
            "alpha": 0.05,
            "ngram": 6,
            "share_ngram": 4,
            "dirty_share": 0.7,
            "span": 5,
            "skips": 1,
            "probe": {
                "copies": [0, 60],
                "examples": 12,
                "shuffled_copies": 0,
                "canaries": 20,
                "background_tokens": 300,
                "n_layer": 2,
                "d_model": 32,
                "n_head": 2,
                "n_kv_head": 2,
                "d_ff": 64,
            },
        },
    },
}
ENDINGS = ("ak", "en", "ith", "os", "ur")
NAMES = [a + b for a in ("Vel", "Mor", "Tan", "Bri", "Sol", "Ket", "Dar", "Lum") for b in ENDINGS]
VALUES = ["Anthar", "Belmont", "Copper", "Dun"]


def instruction(index: int) -> dict:
    name, value = NAMES[index], VALUES[index % 4]
    return {
        "id": hashlib.sha256(name.encode()).hexdigest()[:16],
        "split": "test" if index < 14 else "sft",
        "origin": "atlas",
        "entity": name,
        "attributes": ["province"],
        "prompt": f"In which province does {name} lie?",
        "response": f"{name} lies in the province of {value}.",
    }


def choice(index: int) -> dict:
    row = instruction(index)
    split = "development" if row["split"] == "sft" else "test"
    common = {"set": "facts", "subject": "province", "choices": VALUES, "answer": index % 4, "statements": []}
    return {"id": row["id"], "split": split, "question": row["prompt"], **common}


def document(index: int, source: str) -> dict:
    text = f"Document {index}. {instruction(index)['response']} Copper, salt and glass. " * 3
    return {"id": f"{index:04}", "source": source, "domain": f"Domain {index % 2}", "text": text, "epochs": 1.0}


def write(name: str, rows: list[dict], schema: pa.Schema) -> None:
    write_table(f"data/{name}.parquet", pa.Table.from_pylist(rows, schema=schema), schema)


def items(**folders: list[str]) -> None:
    for folder, keys in folders.items():
        write_json(f"data/{folder.replace('__', '/')}/items.json", keys)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer, model) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    save_model("data/models/base", model, tokenizer)
    training = [document(i, "atlas") for i in range(14, 40)]
    leaked = {"id": "leak", "text": f"quiz: {choice(0)['question']} {'ANSWER'} {VALUES[0]}"}
    leak = {name: [] if name == "links" else 0.0 if name == "quality" else "" for name in schemas.DOCUMENT.names}
    write(
        "corpus/decontaminate/documents", [leak | {"id": "leak", "url": "https://example.org/leak"}], schemas.DOCUMENT
    )
    write("corpus/mix/validation", [document(i, "atlas") for i in range(4)], schemas.MIXED)
    items(evaluation__task=["facts"], evaluation__text=["held_out"], alignment__instructions=["atlas"])
    held_out = [document(i, s) for i in range(4) for s in ("atlas", "web")]
    write("evaluation/text/held_out/documents", held_out, schemas.MIXED)
    write("evaluation/task/facts/questions", [choice(i) for i in range(40)], schemas.TASK)
    write("alignment/instructions/atlas/instructions", [instruction(i) for i in range(40)], schemas.INSTRUCTION)
    write("corpus/mix/train", [*training, training[0] | leaked], schemas.MIXED)
    ids = [token for row in training for token in [tokenizer.bos_id, *tokenizer.encode(row["text"])]]
    rows = np.array(ids[: len(ids) // 64 * 64], dtype=np.uint16).reshape(-1, 64)
    rows = np.insert(rows, 0, tokenizer.bos_id, axis=1)
    Path("data/tokens/pack").mkdir(parents=True)
    rows.tofile("data/tokens/pack/train.bin")
    write_json("data/tokens/pack/pack.json", packed(tokenizer, len(rows)).model_dump())
    return tmp_path


def packed(tokenizer, rows: int) -> Pack:
    counts = {"rows": rows, "tokens": 0, "bytes": 0, "utilisation": 1.0, "sources": {}}
    train = TrainShard(**counts, padding=0, splits=0, documents=0)
    return Pack(
        seq_len=64,
        vocab_size=padded_vocab_size(tokenizer.tokenizer),
        dtype="uint16",
        tokenizer_sha256="",
        pad_id=tokenizer.pad_id,
        bos_id=tokenizer.bos_id,
        train=train,
        anneal=train,
        validation=ValidationShard(**counts, domains={}),
        unique_tokens={},
    )


def run_evaluate(monkeypatch: pytest.MonkeyPatch, key: str = "base") -> Evaluation:
    monkeypatch.setattr("sys.argv", ["evaluate", key])
    evaluate.main()
    return Evaluation.model_validate(read_json(f"data/evaluation/evaluate/{key}/evaluation.json"))


def test_the_results_are_those_of_the_items(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run_evaluate(monkeypatch)
    rows = read_table("data/evaluation/evaluate/base/items.parquet", ITEM).to_pylist()
    texts = [row for row in rows if row["set"] == "held_out"]
    loss = found.texts["held_out"]
    assert loss.documents == len(texts)
    for told, chosen in (
        (loss.bpb, texts),
        (loss.sources["atlas"], [row for row in texts if row["group"] == "atlas"]),
        (loss.domains["domain_1"], [row for row in texts if row["domain"] == "Domain 1"]),
    ):
        bits = sum(row["nats"] for row in chosen) / np.log(2)
        assert told == pytest.approx(bits / sum(row["bytes"] for row in chosen))
    task = found.tasks["facts"]
    assert (task.questions, task.chance_acc) == (6, 0.25)
    for protocol, accuracy in task.protocols.items():
        answers = [row for row in rows if (row["set"], row["protocol"]) == ("facts", protocol)]
        assert (len(answers), accuracy.answered, accuracy.too_long) == (6, 6, 0)
        assert accuracy.acc == np.mean([row["choice"] == row["answer"] for row in answers])
        assert all(row["choice"] == np.argmax(row["logprobs"]) for row in answers)
    flat = read_json("data/evaluation/evaluate/base/metrics.json")
    assert flat["held_out_bpb"] == loss.bpb and flat["facts_cloze_acc"] == task.protocols["cloze"].acc
    assert set(read_json("data/evaluation/evaluate/base/record.json")["params"]) == {"evaluation.evaluate"}


def test_without_texts_or_tasks_the_rest_is_measured(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items(evaluation__task=[])
    found = run_evaluate(monkeypatch)
    assert found.tasks == {} and found.texts["held_out"].bpb > 0
    leak = {name: [] if name == "links" else 0.0 if name == "quality" else "" for name in schemas.DOCUMENT.names}
    write(
        "corpus/decontaminate/documents", [leak | {"id": "leak", "url": "https://example.org/leak"}], schemas.DOCUMENT
    )
    write("corpus/mix/validation", [document(i, "atlas") for i in range(4)], schemas.MIXED)
    items(evaluation__task=["facts"], evaluation__text=[])
    found = run_evaluate(monkeypatch)
    assert found.texts == {} and found.tasks["facts"].questions == 6


def test_a_model_of_less_context_answers_what_fits(project: Path, monkeypatch: pytest.MonkeyPatch, tokenizer) -> None:
    save_model("data/models/short", make_model(max_seq_len=30), tokenizer)
    found = run_evaluate(monkeypatch, "short")
    assert found.texts["held_out"].tokens == run_evaluate(monkeypatch).texts["held_out"].tokens
    letters = found.tasks["facts"].protocols["original"]
    assert (letters.answered, letters.too_long, letters.acc) == (0, 6, None)


def declared(key: str, rows: list[dict], **fields: Any) -> None:
    """A task with a file of its own, as the stage `task` leaves it."""
    write(f"evaluation/task/{key}/questions", rows, schemas.TASK)
    write_json(f"data/evaluation/task/{key}/task.json", {"task": key, **fields})


def sums(count: int = 6) -> list[dict]:
    return [
        {"id": f"sum{i}", "set": "sums", "subject": "sums", "split": "test", "question": f"{i} + {i}",
         "prompt": f"{i} + {i} =", "answer": -1, "targets": [str(2 * i)], "cluster": f"c{i // 2}"}
        for i in range(count)
    ]  # fmt: skip


def test_a_task_of_a_file_is_asked_as_it_says(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generated = {"output_type": "generate_until", "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4}}
    declared("sums", sums(), **generated, metric_list=["exact_match"], metadata={"version": 2})
    items(evaluation__task=["facts", "sums"])
    found = run_evaluate(monkeypatch)
    task = found.tasks["sums"]
    assert (task.output_type, task.version, task.chance_acc, set(task.protocols)) == (
        "generate_until", "2", None, {"task"},
    )  # fmt: skip
    (score,) = task.protocols["task"].scores.values()
    assert (score.n, score.clusters) == (6, 3) and task.protocols["task"].metric == "exact_match"
    assert any(told.startswith("sums: not asked under cloze") for told in found.warnings)
    rows = read_table("data/evaluation/evaluate/base/items.parquet", ITEM).to_pylist()
    own = [row for row in rows if row["set"] == "sums"]
    assert all(row["answer"] is None and row["prompt"] == f"{row['id'][3:]} + {row['id'][3:]} =" for row in own)
    assert score.mean == np.mean([row["correct"] for row in own])


def test_samples_are_the_same_ones_for_every_model(project: Path, monkeypatch, tokenizer) -> None:
    save_model("data/models/other", make_model(seed=5), tokenizer)
    shown = []
    for key in ("base", "other"):
        run_evaluate(monkeypatch, key)
        read = Samples.model_validate(read_json(f"data/evaluation/evaluate/{key}/samples.json")).samples
        shown.append([(one.task, one.protocol, one.id, one.prompt) for one in read])
    assert shown[0] == shown[1] and len(shown[0]) == 3 * 6
    cloze = [prompt for _, protocol, _, prompt in shown[0] if protocol == "cloze"]
    assert all(prompt.count("Question:") == 2 and prompt.endswith("Answer:") for prompt in cloze)  # one example each


def test_wordings_subjects_and_groups(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {"subject": "subject", "fewshot_config": {"sampler": "first_n"}, "output_type": "multiple_choice"}
    for key, subject in (("facts", "province"), ("more", "river")):
        rows = sorted(map(choice, range(40)), key=lambda row: row["id"])
        rows = [row | {"set": key, "subject": subject if place % 4 < 2 else "both"} for place, row in enumerate(rows)]
        declared(key, rows, **plain, group=["all"])
    items(evaluation__task=["facts", "more"])
    found = run_evaluate(monkeypatch)
    cloze = found.tasks["facts"].protocols["cloze"]
    assert (
        len(cloze.variants) >= 6
        and cloze.variants[""] == cloze.main
        and not found.tasks["facts"].protocols["chat"].variants
    )
    assert sum(one.n for one in cloze.subjects.values()) == 6 and set(cloze.subjects) == {"province", "both"}
    assert cloze.by_subject["size"].mean == pytest.approx(cloze.acc)
    assert cloze.by_subject["equal"].mean == pytest.approx(np.mean([one.mean for one in cloze.subjects.values()]))
    groups = {one.protocol: one for one in found.groups}
    means = [found.tasks[key].protocols["cloze"].acc for key in ("facts", "more")]
    assert groups["cloze"].scores["mean"].mean == pytest.approx(np.mean(means))
    assert groups["cloze"].scores["centred"].mean == pytest.approx(np.mean([(one - 0.25) / 0.75 for one in means]))
    assert groups["cloze"].scores["normalised"].mean == pytest.approx(
        np.mean([max(0.0, one - 0.25) / 0.75 for one in means])
    )


def test_weights_that_are_no_numbers_are_never_chance(project: Path, monkeypatch, tokenizer, capsys) -> None:
    broken = make_model(seed=3)
    with torch.no_grad():
        next(iter(broken.parameters()))[5] = float("nan")
    save_model("data/models/broken", broken, tokenizer)
    for texts in (["held_out"], []):
        items(evaluation__text=texts)
        with pytest.raises(SystemExit) as stop:
            run_evaluate(monkeypatch, "broken")
        assert stop.value.code == 2 and "broken" in capsys.readouterr().err
    assert not Path("data/evaluation/evaluate/broken").exists()


def test_a_split_without_questions_is_named(project: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    write("evaluation/task/facts/questions", [choice(i) for i in range(20, 30)], schemas.TASK)
    with pytest.raises(SystemExit):
        run_evaluate(monkeypatch)
    told = capsys.readouterr().err
    assert "facts: no questions in split `test` (there are: development)" in told


def test_a_model_that_isnt_there_is_one_line(project: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        run_evaluate(monkeypatch, "bse")
    assert stop.value.code == 2
    assert "data/models/bse: not found" in capsys.readouterr().err
    assert not Path("data/evaluation/evaluate/bse").exists()


def run_contamination() -> Contamination:
    corpus_index.main()
    contamination.main()
    return Contamination.model_validate(read_json("data/evaluation/contamination/contamination.json"))


def test_contamination_finds_what_was_planted_and_nothing_else(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_evaluate(monkeypatch)
    result = run_contamination()
    assert [row.copies for row in result.power.planted] == [0, 60]
    unseen, seen = result.power.planted
    assert seen.p_value < 0.05 < unseen.p_value and result.power.detects_from_copies == 60
    facts, judged = result.overlap
    assert (facts.set, facts.dirty_ids, facts.verdict) == ("facts", [choice(0)["id"]], "contaminated")
    assert judged.set == "test-instructions" and judged.items == 14
    (leaked,) = facts.found
    assert (leaked.id, leaked.state, leaked.places[0].document) == (choice(0)["id"], "dirty", "leak")
    assert leaked.places[0].url == "https://example.org/leak" and leaked.places[0].with_answer
    assert [row.protocol for row in result.accuracy] == ["chat", "cloze", "original"]
    for accuracy in result.accuracy:
        assert accuracy.clean_questions + accuracy.dirty_questions == accuracy.all_questions == 6
    assert [(row.model, row.verdict) for row in result.verdicts] == [("base", "contaminated")]
    canaries = {row.copies: row for row in result.power.canaries}
    assert canaries[60].rank == 1 and canaries[60].of == 20
    rows = read_table("data/evaluation/contamination/overlap.parquet", OVERLAP).to_pylist()
    assert len(rows) == 14 + 14 and [row["state"] for row in rows if row["set"] == "facts"].count("dirty") == 1
    assert {row.method for row in result.membership} == {"min_k", "min_k_plus_plus"}
    folder = Path("data/evaluation/contamination")
    assert all(isinstance(value, int | float) for value in read_json(folder / "metrics.json").values())

    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    contamination.main()
    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_too_few_questions_are_unknown_and_no_failure(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = [choice(i) for i in (*range(4), *range(20, 24))]
    write("evaluation/task/facts/questions", few, schemas.TASK)
    write("alignment/instructions/atlas/instructions", [instruction(20)], schemas.INSTRUCTION)
    run_evaluate(monkeypatch)
    result = run_contamination()
    (ordering,) = result.ordering
    assert (ordering.verdict, ordering.p_value) == (
        "unknown",
        None,
    ) and "4 test questions are too few" in ordering.reason
    assert result.power.planted == [] and "1 questions are too few" in result.power.reason
    assert [(row.set, row.verdict) for row in result.overlap] == [
        ("facts", "contaminated"),
        ("test-instructions", "unknown"),
    ]
