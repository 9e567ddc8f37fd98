"""evaluation.task and evaluation.text: what comes in from outside as questions and as text."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from stages.base.errors import InputError, TrainyardError
from stages.evaluation.task import TaskParams, complete, mmlu_questions, table_questions, truth_questions
from stages.evaluation.text import read_texts

VALUES = {"river": [f"R{n}" for n in range(8)], "province": [f"P{n}" for n in range(8)]}
SPLITS = ("sft", "validation", "test", "preference")
TRUTH = {
    "attributes": VALUES,
    "entities": {
        f"E{n}": {"kind": "place", "split": SPLITS[n % 4], "facts": {a: v[n * 3 % 8] for a, v in VALUES.items()}}
        for n in range(400)
    },
}
QUESTIONS = [
    {
        "id": f"{e}-{a}",
        "split": known["split"],
        "entity": e,
        "kind": "single",
        "attributes": [a],
        "prompt": f"{a} of {e}?",
        "reference": f"The {a} of {e} is {known['facts'][a]}.",
    }
    for e, known in TRUTH["entities"].items()
    for a in VALUES
]


def params(**over: object):
    limits = {"development": 30, "validation": 1000, "test": 1000}
    values = {"kind": "truth", "path": "world", "choices": 4, "limits": limits} | over
    return TypeAdapter(TaskParams).validate_python(values)


def test_answers_are_true_and_distractors_are_of_the_same_attribute() -> None:
    rows = complete(truth_questions(QUESTIONS, TRUTH, params(), 7), "facts", "world")
    assert Counter(row["split"] for row in rows) == {"development": 30, "validation": 200, "test": 200}
    for row in rows:
        attribute, entity = row["question"].rstrip("?").split(" of ")
        assert row["choices"][row["answer"]] == TRUTH["entities"][entity]["facts"][attribute]
        assert len(set(row["choices"])) == 4 and set(row["choices"]) <= set(VALUES[attribute])
        assert row["statements"] == [f"The {attribute} of {entity} is {choice}." for choice in row["choices"]]
    positions = Counter(row["answer"] for row in rows)
    assert all(abs(count - len(rows) / 4) < 4 * (len(rows) * 3 / 16) ** 0.5 for count in positions.values())


def test_a_question_keeps_its_choices_when_others_go() -> None:
    few = truth_questions([q for q in QUESTIONS if q["entity"] in ("E0", "E1", "E2")], TRUTH, params(), 7)
    every = {row["id"]: row for row in truth_questions(QUESTIONS, TRUTH, params(), 7)}
    assert all(every[row["id"]] == row for row in few if row["split"] != "development")


def test_too_few_values_or_questions_are_named() -> None:
    with pytest.raises(InputError, match="has 8 values, 9 choices"):
        truth_questions(QUESTIONS, TRUTH, params(choices=9), 7)
    with pytest.raises(InputError, match=r"world/questions\.parquet: .*`test` entity"):
        truth_questions([q for q in QUESTIONS if q["split"] != "test"], TRUTH, params(), 7)


def folder(path: Path, **files: str) -> Path:
    for name, text in files.items():
        file = path / name.rsplit("_", 1)[1] / f"{name}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return path


def test_mmlu_as_it_is_published(tmp_path: Path) -> None:
    place = folder(
        tmp_path,
        town_halls_dev='"Which, if any?",a,b,c,d,B\n',
        town_halls_test='"Two\nlines?",1,2,3,4,A\nOne?,x,y,z,"w ""q""",D\n',
        rivers_val="Deep?,no,yes,both,neither,C\n",
    )
    rows = complete(mmlu_questions(place), "mmlu", str(place))
    told = [(row["split"], row["subject"], row["question"], row["choices"][row["answer"]]) for row in rows]
    assert told == [
        ("development", "town_halls", "Which, if any?", "b"),
        ("validation", "rivers", "Deep?", "both"),
        ("test", "town_halls", "Two\nlines?", "1"),
        ("test", "town_halls", "One?", 'w "q"'),
    ]
    assert {row["set"] for row in rows} == {"mmlu"} and len({row["id"] for row in rows}) == 4
    assert all(row["statements"] == [] for row in rows)


def test_published_mmlu_is_read_whole(reference: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(reference / "posttraining/mmlu/mmlu_dev_test.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    rows = complete(mmlu_questions(tmp_path / "mmlu"), "mmlu", "mmlu")
    assert Counter(row["split"] for row in rows) == {"development": 57 * 5, "test": 14042}
    statement = next(row for row in rows if row["question"].startswith("Statement 1 | If aH"))
    assert statement["choices"][statement["answer"]] == "False, False", "this mirror counts from 0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Q?,a,b,c,d,E\n", r"x_test\.csv:1: the answer must be a letter from A to D or .* got 'E'"),
        ("Q?,a,b,c,d,A\nQ?,a,b,c,d,\n", r"x_test\.csv:2: the answer must be a letter"),
        ("Q?,a,b,c,d\n", r"x_test\.csv:1: the answer must be a letter from A to C or .* got 'd'"),
        ("Q?,a,,c,d,A\n", r"x_test\.csv:1: an empty question or choice"),
        ("Q?\n", r"x_test\.csv:1: the answer"),
        ("", "no questions"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mmlu_questions(folder(tmp_path, x_test=text))


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text("split,question,first,second,third,answer\ntest,Why?,a,b,c,c\n,How?,x,y,,A\n")
    rows = complete(table_questions(file), "own", str(file))
    assert [(row["split"], row["choices"], row["answer"]) for row in rows] == [
        ("test", ["a", "b", "c"], 2),
        ("test", ["x", "y"], 0),
    ]
    table = tmp_path / "own.parquet"
    pq.write_table(pa.Table.from_pylist([{"question": "Why?", "choices": ["a", "b"], "answer": 1, "id": 7}]), table)
    (row,) = complete(table_questions(table), "own", str(table))
    assert (row["id"], row["subject"], row["split"], row["answer"]) == ("7", "own", "test", 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,first,second\nWhy?,a,b\n", r"own\.csv:1: the header must name"),
        ("question,a,b,answer\nWhy?,a,b,C\n", r"own\.csv:2: the answer must be a letter from A to B or .* got 'C'"),
        ("question,a,b,answer\nWhy?,a,b\n", r"own\.csv:2: 3 cells, the header has 4"),
        ("question,a,b,answer,split\nWhy?,a,b,A,train\n", r"own\.csv:2: split 'train'"),
        ("question,a,b,answer,id\nWhy?,a,b,A,q\nHow?,a,b,A,q\n", r"own\.csv: two questions have the id `q`"),
        ("question,a,b,answer\n", r"own\.csv: no questions"),
        ("question,a,b,answer,split\nWhy?,a,b,A,development\n", r"own\.csv: no questions but few-shot examples"),
    ],
)
def test_a_bad_table_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "own.csv"
    file.write_text(text)
    with pytest.raises(TrainyardError, match=message) as raised:
        complete(table_questions(file), "own", str(file))
    assert "\n" not in str(raised.value)


def test_letters_name_columns_of_the_file_whatever_is_blank(tmp_path: Path) -> None:
    file = tmp_path / "blank.csv"
    file.write_text("question,a,b,c,answer\ncapital?,,y,z,B\nother?,x,,z,2\n")
    first, second = table_questions(file)
    assert (first["choices"], first["choices"][first["answer"]]) == (["y", "z"], "y")
    assert (second["choices"], second["choices"][second["answer"]]) == (["x", "z"], "z")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,a,b,answer\nq,x,,B\n", "2: the answer names an empty choice"),
        ("question,a,a,b,answer\nq,x,y,z,A\n", "1: column `a` stands twice"),
        (",question,a,b,answer\n0,q,x,y,A\n", "1: column 1 has no name"),
    ],
)
def test_columns_that_would_be_read_otherwise_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "odd.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        table_questions(file)


def test_choices_of_a_parquet_file_are_a_list(tmp_path: Path) -> None:
    file = tmp_path / "text.parquet"
    pq.write_table(pa.table({"question": ["q"], "choices": ["ab"], "answer": [1]}), file)
    with pytest.raises(InputError, match="row 0: choices must be a list"):
        table_questions(file)


def test_texts_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one document\nof two lines")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "x", "source": "web", "id": "i", "more": 1}) + "\n")
    pq.write_table(pa.Table.from_pylist([{"text": "y"}, {"text": "z"}]), tmp_path / "c.parquet")
    rows = read_texts(tmp_path, "own")
    assert [(row["source"], row["text"]) for row in rows] == [
        ("own", "one document\nof two lines"), ("web", "x"), ("own", "y"), ("own", "z"),
    ]  # fmt: skip
    assert rows[1]["id"] == "i" and len({row["id"] for row in rows}) == 4
    (tmp_path / "d.jsonl").write_text('{"text": 3}\n')
    with pytest.raises(InputError, match=r"d\.jsonl: row 0: no `text`"):
        read_texts(tmp_path, "own")
    with pytest.raises(InputError, match="an ending that isn't known"):
        (tmp_path / "page.html").write_text("<p>")
        read_texts(tmp_path / "page.html", "own")
