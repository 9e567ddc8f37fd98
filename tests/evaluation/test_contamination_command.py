"""`trainyard contaminate`: a corpus of anyone's, an index that is kept, a model of others."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from stages.base.tables import read_table
from stages.cli import main
from stages.evaluation.overlap.summary import OVERLAP
from stages.lm.checkpoint import save_model

QUESTIONS = [
    f"In which of the {name} provinces does the long river {name} meet the sea at low tide?"
    for name in ("Velak", "Moren", "Tanith", "Brios", "Solur", "Keten")
] + ["Who is it?"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": question, "answer": "Anthar"} for question in QUESTIONS]
    Path("items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = {
        "task": "rivers",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "items.jsonl"}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "{{answer}}",
        "doc_to_decontamination_query": "{{question}}",
    }
    Path("rivers.yaml").write_text(yaml.safe_dump(task))
    documents = [
        {"id": "clean", "text": "Nothing of this kind stands here, and nothing else does. " * 5},
        {"id": "leak", "url": "https://example.org/quiz", "text": f"Quiz: {QUESTIONS[2].upper()} — Anthar, of course."},
        {"id": "part", "text": " ".join(QUESTIONS[4].split()[:13])},
    ]
    Path("corpus").mkdir()
    Path("corpus/a.jsonl").write_text("\n".join(map(json.dumps, documents)))
    return tmp_path


def test_what_is_in_a_corpus_is_told_with_its_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contaminate", "--task", "rivers.yaml", "--corpus", "corpus", "--items", "found.parquet"]) == 0
    told = capsys.readouterr().out
    assert "rivers" in told and "contaminated" in told
    assert "(dirty) in a.jsonl: https://example.org/quiz, byte 6, its answer behind it" in told
    rows = {row["state"]: row for row in read_table("found.parquet", OVERLAP).to_pylist()}
    assert set(rows) == {"clean", "suspect", "dirty", "unknown"} and pq.read_metadata("found.parquet").num_rows == 7
    assert (rows["suspect"]["document"], rows["suspect"]["ngram"]) == ("part", True)


def test_a_kept_index_is_built_once_and_anew_for_other_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["contaminate", "--task", "rivers.yaml", "--json"]
    kept = [*asked, "--corpus", "corpus", "--keep", "index"]
    assert main(kept) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["overlap"][0]["suspect"], len(first["overlap"][0]["dirty_ids"])) == (1, 1)
    assert main(kept) == 0
    again = capsys.readouterr()
    assert "reused" in again.err and json.loads(again.out) == first
    assert main([*asked, "--index", "index"]) == 0
    assert json.loads(capsys.readouterr().out)["overlap"] == first["overlap"]
    Path("corpus/b.txt").write_text(QUESTIONS[0])
    assert main(kept) == 0
    more = capsys.readouterr()
    assert "reused" not in more.err and len(json.loads(more.out)["overlap"][0]["dirty_ids"]) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["corpus", "index", "items.jsonl", "rivers.yaml"]


def test_a_failed_build_leaves_the_old_index(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = ["contaminate", "--task", "rivers.yaml", "--corpus", "corpus", "--keep", "index"]
    assert main(kept) == 0
    Path("corpus/b.jsonl").write_text('{"body": 1}')
    assert main(kept) == 2
    assert "corpus/b.jsonl:1: no text in `text`" in capsys.readouterr().err
    assert main(["contaminate", "--task", "rivers.yaml", "--index", "index"]) == 0
    assert not list(folder.glob(".*partial"))


def test_a_model_of_others_is_unknown_and_only_accused(
    folder: Path, capsys: pytest.CaptureFixture[str], model, tokenizer
) -> None:
    save_model("theirs", model, tokenizer)
    assert main(["contaminate", "--task", "rivers.yaml", "--model", "theirs", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["corpus"] == "unknown" and found["overlap"] == []
    (ordering,) = found["ordering"]
    assert (ordering["model"], ordering["verdict"]) == ("theirs", "unknown") and "too few" in ordering["reason"]
    assert {row["method"] for row in found["membership"]} == {"min_k", "min_k_plus_plus"}
    assert all(row["auc"] is None for row in found["membership"])
    assert main(["contaminate", "--task", "rivers.yaml", "--model", "theirs"]) == 0
    assert "what it was trained on is unknown here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "rivers.yaml"], "what corpus"),
        (["--task", "rivers.yaml", "--keep", "x"], "--keep keeps the index of --corpus"),
        (["--task", "rivers.yaml", "--corpus", "corpus", "--index", "corpus"], "name one"),
        (["--task", "rivers.yaml", "--index", "corpus"], "corpus: no index"),
        (["--task", "rivers.yaml", "--corpus", "nowhere"], "nowhere: no such file"),
        (["--task", "rivers.yaml", "--corpus", "corpus", "--keep", "corpus"], "exists and is no index"),
        (["--task", "rivers.yaml", "--corpus", "corpus", "--limit", "0"], "--limit is 0"),
        (["--task", "rivesr.yaml", "--corpus", "corpus"], "rivesr"),
    ],
)
def test_what_cant_be_done_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["contaminate", *arguments]) == 2
    assert said in capsys.readouterr().err
