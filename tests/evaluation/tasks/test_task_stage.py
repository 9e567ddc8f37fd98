"""The stage `task` on tasks that are files: items, how they are asked, and what is cleaned of them."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from stages.base import schemas
from stages.base.files import read_json
from stages.base.tables import read_table
from stages.corpus.decontaminate import held_out_texts
from stages.evaluation import task as stage
from stages.evaluation.tasks.item import item_of
from stages.evaluation.tasks.loading import load
from stages.evaluation.tasks.yaml_file import find_task

OWN = {
    "task": "arithmetic",
    "data_dir": "rows.jsonl",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{ question }}\n",
    "doc_to_target": "{{ answers }}",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    (tmp_path / "sums").mkdir()
    rows = [{"question": f"How much is {n} and {n}?", "answers": [str(2 * n), f"it is {2 * n}"]} for n in range(1, 6)]
    (tmp_path / "sums" / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "sums" / "sums.yaml").write_text(yaml.safe_dump(OWN))
    (tmp_path / "gsm").mkdir()
    for split, count in (("train", 3), ("test", 2)):
        texts = [json.dumps({"question": f"{split} {n}?", "answer": f"#### {n}"}) for n in range(count)]
        (tmp_path / "gsm" / f"{split}.jsonl").write_text("\n".join(texts))
    tasks = {
        "sums": {"kind": "file", "path": "sums"},
        "gsm8k": {"kind": "library", "task": "gsm8k", "path": "gsm"},
        "pairs": {"kind": "file", "path": str(Path(stage.__file__).parent / "tasks/library/minimal_pairs.yaml")},
    }
    values = {"corpus": {"seed": 1}, "evaluation": {"tasks": tasks}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def build(monkeypatch: pytest.MonkeyPatch, key: str) -> list[dict]:
    monkeypatch.setattr("sys.argv", ["task", key])
    stage.main()
    return read_table(f"data/evaluation/task/{key}/questions.parquet", schemas.TASK).to_pylist()


def test_a_task_of_a_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = build(monkeypatch, "sums")
    assert [row["targets"] for row in rows][:2] == [["2", "it is 2"], ["4", "it is 4"]]
    assert {row["set"] for row in rows} == {"sums"} and all(row["prompt"].endswith("?\n") for row in rows)
    record = read_json("data/evaluation/task/sums/record.json")
    assert list(record["inputs"]) == ["sums"] and record["rows"]["out"] == 5
    task = find_task("sums")
    assert [vars(item) for item in load(task, "sums")] == [vars(item_of(row)) for row in rows]


def test_built_items_are_what_the_key_stands_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = build(monkeypatch, "gsm8k")
    assert [row["split"] for row in rows] == ["test"] * 2 + ["development"] * 3
    built = read_json("data/evaluation/task/gsm8k/task.json")
    assert built["built"] == "data/evaluation/task/gsm8k/questions.parquet" and built["data_dir"] is None
    assert load(find_task("gsm8k"), "gsm8k") == [item_of(row) for row in rows]
    task = find_task("gsm8k").model_copy(update={"built": built["built"]})
    assert load(task, "gsm8k", 1) == [item_of(row) for row in rows if row["id"] != rows[1]["id"]]


def test_generated_pairs_need_no_data(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(build(monkeypatch, "pairs")) == 1080
    assert pq.read_metadata("data/evaluation/task/pairs/questions.parquet").num_rows == 1080


def test_a_folder_with_two_tasks_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "sums" / "other.yaml").write_text("task: other")
    with pytest.raises(SystemExit):
        build(monkeypatch, "sums")
    assert "sums: 2 YAML files; a folder holds one task's" in capsys.readouterr().err
    assert not Path("data/evaluation/task/sums").exists()


def test_questions_are_looked_for_with_their_answers() -> None:
    generated = {"question": "How many?", "targets": ["Six eggs, as two were broken.", "6"], "choices": []}
    chosen = {"question": "Which?", "choices": ["a", "b"], "answer": 1, "targets": []}
    contexts = {"question": "It is _ big.", "contexts": ["It is so", "It is too"], "answer": 1, "targets": ["big."]}
    rolling = {"question": "A long text.", "choices": [], "targets": [], "contexts": [], "answer": -1}
    assert held_out_texts([], [generated, chosen, contexts, rolling]) == [
        "How many?",
        "How many? Six eggs, as two were broken.",
        "How many? 6",
        "Which?",
        "Which? b",
        "It is _ big.",
        "It is too big.",
        "A long text.",
    ]
