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
    assert main(["contaminate", "--tasks", "rivers.yaml", "--corpus", "corpus", "--items", "found.parquet"]) == 0
    told = capsys.readouterr().out
    assert "rivers" in told and "contaminated" in told
    assert "(dirty) in a.jsonl: https://example.org/quiz, byte 6, its answer behind it" in told
    rows = {row["state"]: row for row in read_table("found.parquet", OVERLAP).to_pylist()}
    assert set(rows) == {"clean", "suspect", "dirty", "unknown"} and pq.read_metadata("found.parquet").num_rows == 7
    assert (rows["suspect"]["document"], rows["suspect"]["ngram"]) == ("part", True)


def test_a_kept_index_is_built_once_and_anew_for_other_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["contaminate", "--tasks", "rivers.yaml", "--json"]
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
    kept = ["contaminate", "--tasks", "rivers.yaml", "--corpus", "corpus", "--keep", "index"]
    assert main(kept) == 0
    Path("corpus/b.jsonl").write_text('{"body": 1}')
    assert main(kept) == 2
    assert "corpus/b.jsonl:1: no text in `text`" in capsys.readouterr().err
    assert main(["contaminate", "--tasks", "rivers.yaml", "--index", "index"]) == 0
    assert not list(folder.glob(".*partial"))


def test_a_model_of_others_is_unknown_and_only_accused(
    folder: Path, capsys: pytest.CaptureFixture[str], model, tokenizer
) -> None:
    save_model("theirs", model, tokenizer)
    assert main(["contaminate", "--tasks", "rivers.yaml", "--model", "theirs", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["corpus"] == "unknown" and found["overlap"] == []
    (ordering,) = found["ordering"]
    assert (ordering["model"], ordering["verdict"]) == ("theirs", "unknown") and "too few" in ordering["reason"]
    assert {row["method"] for row in found["membership"]} == {"min_k", "min_k_plus_plus"}
    assert all(row["auc"] is None for row in found["membership"])
    assert main(["contaminate", "--tasks", "rivers.yaml", "--model", "theirs"]) == 0
    assert "what it was trained on is unknown here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tasks", "rivers.yaml"], "what corpus"),
        (["--tasks", "rivers.yaml", "--keep", "x"], "--keep keeps the index of --corpus"),
        (["--tasks", "rivers.yaml", "--corpus", "corpus", "--index", "corpus"], "name one"),
        (["--tasks", "rivers.yaml", "--index", "corpus"], "corpus: no index"),
        (["--tasks", "rivers.yaml", "--corpus", "nowhere"], "nowhere: no such file"),
        (["--tasks", "rivers.yaml", "--corpus", "corpus", "--keep", "corpus"], "exists and is no index"),
        (["--tasks", "rivers.yaml", "--corpus", "corpus", "--limit", "0"], "--limit is 0"),
        (["--tasks", "rivesr.yaml", "--corpus", "corpus"], "rivesr"),
        (["--tasks", ",", "--corpus", "corpus"], "which tasks?"),
        (["--tasks", "rivers.yaml", "--data", "", "--corpus", "corpus"], "--data is empty"),
        (["--tasks", "rivers.yaml", "--corpus", "void.txt"], "the corpus has no text in it"),
        (["--tasks", "rivers.yaml", "--corpus", "marks.jsonl", "void.txt"], "the corpus has no text in it"),
        (["--tasks", "rivers.yaml", "--corpus", "void.txt", "--keep", "new"], "the corpus has no text in it"),
        (["--tasks", "rivers.yaml", "--corpus", "corpus", "--items", "corpus"], "corpus: is there, and no file"),
        (["--tasks", "rivers.yaml", "--corpus", "corpus", "--items", "/dev/null"], "/dev/null: is there, and no file"),
        (["--tasks", "rivers.yaml", "--corpus", "corpus", "--items", "/proc/k"], "/proc/k: can't be written"),
        (["--tasks", "rivers.yaml", "--corpus", "corpus", "--items", "void.txt/k"], "void.txt/k: can't be written"),
        (["--tasks", "rivers.yaml", "--corpus", "corpus", "--keep", "/proc/k"], "/proc/k: can't be written"),
        (["--tasks", "rivers.yaml", "--corpus", "corpus", "--keep", "void.txt"], "void.txt: is there, and no folder"),
        (["--tasks", "rivers.yaml", "--model", "none", "--items", "x.parquet"], "--items tells where"),
    ],
)
def test_what_cant_be_done_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    Path("void.txt").touch()
    Path("marks.jsonl").write_text('{"text": ""}\n{"text": "--- !!! \\u200b"}')
    before = sorted(folder.rglob("*"))
    assert main(["contaminate", *arguments]) == 2
    told = capsys.readouterr().err
    # A slow machine shows progress before.
    assert said in told and [line.startswith("trainyard: ") for line in told.splitlines()].count(True) == 1
    assert "Traceback" not in told
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("option", ["--corpus", "--index", "--keep", "--items", "--model"])
def test_an_empty_name_is_no_folder(folder: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    with pytest.raises(SystemExit):
        main(["contaminate", "--tasks", "rivers.yaml", option, ""])
    assert f"argument {option}: the name is empty" in capsys.readouterr().err


def test_each_task_is_looked_for_with_its_own_documents(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One task is clean and one is not; both ways to say where their documents lie."""
    named = Path("rivers.yaml").read_text()
    for name, question in {"fair": QUESTIONS[0], "leaked": QUESTIONS[2]}.items():
        for place in (Path("tasks", name), Path("elsewhere", name)):
            place.mkdir(parents=True)
            (place / "test.jsonl").write_text(json.dumps({"question": question, "answer": "Anthar"}))
        task = yaml.safe_load(named) | {"task": name, "data_dir": "."}
        del task["dataset_path"], task["dataset_kwargs"]
        Path("tasks", name, f"{name}.yaml").write_text(yaml.safe_dump(task))
    Path("tasks/leaked/test.jsonl").write_text(Path("tasks/fair/test.jsonl").read_text())
    asked = ["contaminate", "--tasks", "tasks/fair/fair.yaml", "tasks/leaked/leaked.yaml", "--corpus", "corpus"]

    def verdicts() -> dict[str, str]:
        return {row["set"]: row["verdict"] for row in json.loads(capsys.readouterr().out)["overlap"]}

    assert main([*asked, "--json"]) == 0
    assert verdicts() == {"fair": "clean", "leaked": "clean"}
    assert main([*asked, "--json", "--data", "elsewhere"]) == 0
    assert verdicts() == {"fair": "clean", "leaked": "contaminated"}
    assert main([*asked, "--data", "elsewhere/fair"]) == 2  # the documents of one task aren't those of both
    assert "--data: no elsewhere/fair/fair" in capsys.readouterr().err


def test_nothing_of_a_corpus_or_task_moves_the_cursor(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2J\x9b1m\r\n\u202edirty"
    rows = [
        {"question": question, "answer": "Anthar", "id": f"{i}{evil}\ud800"} for i, question in enumerate(QUESTIONS)
    ]
    Path("items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("rivers.yaml").write_text(yaml.safe_dump(yaml.safe_load(Path("rivers.yaml").read_text()) | {"id": "id"}))
    words = f" {evil} ".join(QUESTIONS[2].split())
    document = {"id": evil, "url": evil, "source": evil, "text": words}
    Path("corpus/a.jsonl").write_text(json.dumps(document) + "\n" + json.dumps(document | {"url": ""}))
    asked = ["contaminate", "--tasks", "rivers.yaml", "--corpus", "corpus", "--items", "found.parquet"]
    Path("corpus/b.jsonl").write_text(json.dumps(document | {"text": QUESTIONS[2]}))
    for more in ([], ["--json"]):
        assert main([*asked, *more]) == 0
        told = capsys.readouterr()
        assert all(c == "\n" or c.isprintable() or c == " " for c in told.out + told.err)
    Path("corpus/b.jsonl").write_text(json.dumps({evil: 1}))
    assert main(asked) == 2
    told = capsys.readouterr().err
    assert told.rstrip("\n").isprintable() and "corpus/b.jsonl:1" in told


def test_a_damaged_index_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contaminate", "--tasks", "rivers.yaml", "--corpus", "corpus", "--keep", "index"]) == 0
    (part,) = Path("index").glob("segment_*")
    for name in ("words.npy", "documents.parquet"):
        content = (part / name).read_bytes()
        (part / name).write_bytes(content[: len(content) // 2])
        assert main(["contaminate", "--tasks", "rivers.yaml", "--index", "index"]) == 2
        assert f"{part}: damaged" in capsys.readouterr().err
        (part / name).unlink()
        assert main(["contaminate", "--tasks", "rivers.yaml", "--index", "index"]) == 2
        assert f"{part}: damaged" in capsys.readouterr().err
        (part / name).write_bytes(content)
