"""Leakage: what is found agrees with a search by hand, templates tell no row, and what leaks is left out by name."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stages.alignment import leakage, preferences
from stages.alignment.data.records import LEAK
from stages.alignment.leakage import HeldOut, Leak, Search, Trained, counts, held_out, left_out, words_of
from stages.base import schemas
from stages.base.errors import InputError
from stages.base.tables import write_table

ROOT = Path(__file__).parents[2]
LONG = "A farmer sells nine baskets of ripe plums at the market for four coins each and buys a lamp"
PASSAGE = "The old mill by the river was built in the year of the great flood and burned down twice"


def question(text: str | tuple[str, ...], number: int = 0, test: str = "quiz") -> HeldOut:
    return HeldOut(test, f"t{number}", (text,) if isinstance(text, str) else text)


def found(rows: list[Trained], *questions: HeldOut) -> list[tuple[int, str, str]]:
    return [(leak.row, leak.question.id, leak.kind) for leak in Search(questions, 13, 5).leaks(rows)]


def row(asked: Any, *answers: str) -> Trained:
    return Trained("r", asked, answers)


def test_a_prompt_is_the_question_whatever_its_dress() -> None:
    rows = [row("  what is  2+2 "), row("What is 2+3?"), row("Café, naïve?"), row("Ca\u00adfe\u0301 NAI\u0308VE")]
    assert found(rows, question("What is 2 + 2?"), question("Cafe\u0301, nai\u0308ve", 1)) == [
        (0, "t0", "prompt"), (2, "t1", "prompt"), (3, "t1", "prompt"),
    ]  # fmt: skip


def test_thirteen_words_in_a_row_are_an_overlap_and_twelve_are_not() -> None:
    words = LONG.split()
    for count, expected in ((13, [(0, "t0", "overlap")]), (12, [])):
        piece = " ".join(words[3 : 3 + count])
        assert found([row(f"Solve: {piece}!", "So.")], question(LONG)) == expected
        assert found([row("Write.", f"Once, {piece}; so.")], question(LONG)) == expected
    assert found([row(" ".join(words[:7]), " ".join(words[7:14]))], question(LONG)) == [], "not across two texts"


def test_a_short_question_counts_as_a_whole_where_it_has_five_words() -> None:
    rows = [row("Tell me: which dye gives Bejick its shade? Thanks", "x"), row("Tell me: who is Ost? Thanks", "x")]
    assert found(rows, question("Which dye gives Bejick its shade?"), question("Who is Ost?", 1)) == [
        (0, "t0", "overlap")
    ]
    assert found([row("Which dye gives Bollas its shade?")], question("Which dye gives Bejick its shade?")) == []


def test_what_two_questions_share_is_a_template() -> None:
    first, second = f"{PASSAGE}. Who built it first?", f"{PASSAGE}. When did it burn last?"
    learned = [row(f"{PASSAGE}. What colour was it?", "Red.")]
    assert found(learned, question(first), question(second, 1)) == []
    assert found(learned, question(first)) == [(0, "t0", "overlap")]
    assert found([row(f"{second} Say it in one word.")], question(first), question(second, 1)) == [(0, "t1", "overlap")]
    # A question all of whose runs stand in another, longer one is looked for as a whole.
    assert found([row(f"Read: {PASSAGE}.")], question(PASSAGE), question(first, 1)) == [(0, "t0", "overlap")]


def test_conversations_leak_by_their_last_message_and_not_by_what_systems_say() -> None:
    system = {"role": "system", "content": f"You are kind. {LONG}"}
    asked = [system, {"role": "user", "content": "Who is Ost?"}]
    longer = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, asked[1]]
    (tested,) = held_out([], [instruction(0, "test", messages=asked)])
    assert tested.texts == ("Who is Ost?",) and tested.test == "instructions/own"
    assert found([row(longer, "A lord."), row(asked, "A lord."), row(longer[:1], "Hi")], tested) == [
        (0, "i0", "prompt"), (1, "i0", "prompt"),
    ]  # fmt: skip
    assert found([row("Who is Ost?")], question(("Hello", "Hi", "Who is Ost?"))) == []
    assert found([row(longer, "x")], question(("Hello", "Hi", "Who is Ost?"))) == [(0, "t0", "prompt")]


def test_scripts_without_spaces_are_compared_by_character() -> None:
    assert words_of("東京はどこ? Ost-Straße हिन्दी") == ["東", "京", "は", "と", "こ", "ost", "strasse", "हनद"]
    assert found([row("質問:東京はどこにありますか。", "日本")], question("東京はどこにありますか")) == [
        (0, "t0", "overlap")
    ]


VOCABULARY = st.sampled_from("abcdef")
TEXT = st.lists(VOCABULARY, min_size=1, max_size=14).map(" ".join)


@given(st.lists(TEXT, min_size=1, max_size=5), st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_agrees_with_a_search_by_hand(questions: list[str], rows: list[tuple[str, str]]) -> None:
    ngram, shortest = 4, 2

    def runs(text: str) -> set[str]:
        words = text.split()
        return {" ".join(words[i : i + ngram]) for i in range(len(words) - ngram + 1)}

    def within(run: str, text: str) -> bool:
        return f" {run} " in f" {text} "

    distinct, expected = list(dict.fromkeys(questions)), set()
    for text in distinct:
        own = runs(text) - {run for other in distinct if other != text for run in runs(other)}
        told = own or ({text} if len(text.split()) >= shortest else set())
        for index, (prompt, answer) in enumerate(rows):
            if prompt == text:
                expected.add((index, text, "prompt"))
            elif any(within(run, part) for run in told for part in (prompt, answer)):
                expected.add((index, text, "overlap"))
    held = [question(text, number) for number, text in enumerate(questions)]
    leaks = Search(held, ngram, shortest).leaks([row(prompt, answer) for prompt, answer in rows])
    assert {(leak.row, leak.question.texts[0], leak.kind) for leak in leaks} == expected
    assert len(leaks) == len(expected)
    for leak in leaks:
        assert any(within(leak.words, part) for part in rows[leak.row])


def test_many_rows_are_searched_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "BLOCK", 3)
    rows = [row(LONG if index in (2, 3, 9) else f"Number {index}") for index in range(10)]
    assert [place for place, *_ in found(rows, question(LONG))] == [2, 3, 9]


def task(number: int, text: str, split: str = "test", **more: Any) -> dict[str, Any]:
    empty = {name: "" for name in schemas.TASK.names} | {"choices": [], "targets": [], "contexts": [], "answer": -1}
    return {**empty, "statements": [], "labels": [], "id": f"q{number}", "set": "quiz", "split": split,
            "question": text, **more}  # fmt: skip


def instruction(number: int, split: str, prompt: str = "", **more: Any) -> dict[str, Any]:
    return {
        "id": f"i{number}", "split": split, "origin": "own", "entity": "", "attributes": [],
        "prompt": prompt or f"Prompt {number}", "response": "So.", "messages": [], **more,
    }  # fmt: skip


def test_questions_that_ask_alike_are_told_apart_by_their_answers() -> None:
    tasks = [
        task(0, "Which is right?", choices=["one", "two"], answer=1),
        task(1, "Which is right?", targets=["three", "drei"]),
        task(2, "Why?", split="development"),
        task(3, "She put", contexts=["The cup fell; it", "The pot fell; it"], targets=["broke"], answer=0),
    ]
    texts = [one.texts for one in held_out(tasks, [])]
    assert texts == [("Which is right? two",), ("Which is right? three",), ("The cup fell; it broke",)]


def test_more_than_the_bound_is_an_error_that_names_row_and_task() -> None:
    rows = [Trained(f"r{n}", "p", ()) for n in range(10)]
    leaks = [Leak(3, question("x", 7), "overlap", "x"), Leak(3, question("y", 8), "prompt", "y")]
    assert left_out(rows, leaks, 0.1, "rows") == {3: "overlap"}
    assert counts(leaks) == {"quiz_overlap": 1, "quiz_prompt": 1}
    with pytest.raises(InputError, match=r"1 of 10 rows .*max_leak.*`r3` has quiz/t7 \(overlap\)"):
        left_out(rows, leaks, 0.05, "rows")


def write(folder: str, name: str, rows: list[dict[str, Any]], schema: pa.Schema, items: list[str]) -> None:
    Path(folder, items[0]).mkdir(parents=True)
    Path(folder, "items.json").write_text(json.dumps(items))
    write_table(Path(folder, items[0], name), pa.Table.from_pylist(rows, schema=schema), schema)


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["alignment"]["leakage"]["max_leak"] = 0.25
    params["alignment"]["preferences"]["sources"] = {"own": {"kind": "jsonl", "path": "pairs.jsonl"}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    rows = [instruction(n, "sft") for n in range(9)] + [instruction(9, "test", "Where does the river Ost end?")]
    rows[4]["prompt"] = "Say: where does the river Ost end?"
    rows[6] |= {"split": "preference", "prompt": "What is in the box?"}
    write("data/alignment/instructions", "instructions.parquet", rows, schemas.INSTRUCTION, ["own"])
    asked = [task(0, "What is in the box?"), task(1, "Prompt 1", split="development")]
    write("data/evaluation/task", "questions.parquet", asked, schemas.TASK, ["quiz"])


@pytest.mark.usefixtures("project")
def test_the_stage_lists_what_leaks_and_pairs_are_held_against_the_same_questions() -> None:
    leakage.main()
    listed = pq.read_table("data/alignment/leakage/leaks.parquet")
    assert listed.schema.equals(LEAK)
    assert [(one["id"], one["test"], one["question"], one["kind"]) for one in listed.to_pylist()] == [
        ("i4", "instructions/own", "i9", "overlap"), ("i6", "quiz", "q0", "prompt"),
    ]  # fmt: skip
    record = json.loads(Path("data/alignment/leakage/record.json").read_text())
    assert record["rows"] == {"in": 9, "out": 7, "dropped": {"overlap": 1, "prompt": 1}}
    pairs = [{"prompt": f"Is {n} odd?", "chosen": "yes", "rejected": "no"} for n in range(7)]
    pairs.append({"prompt": "Guess.", "chosen": "Ask: what is in the box?", "rejected": "no"})
    Path("pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    preferences.main("own")
    metrics = json.loads(Path("data/alignment/preferences/own/metrics.json").read_text())
    assert (metrics["pairs"], metrics["left_out"], metrics["quiz_overlap"]) == (7, 1, 1)
    assert pq.read_table("data/alignment/preferences/own/leaks.parquet").to_pylist()[0]["id"] == "own-8"


@pytest.mark.usefixtures("project")
def test_too_many_leaks_stop_the_stage(capsys: pytest.CaptureFixture[str]) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["alignment"]["leakage"]["max_leak"] = 0.2
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(SystemExit):
        leakage.main()
    assert "2 of 9 training rows of source `own`" in capsys.readouterr().err
    assert not Path("data/alignment/leakage").exists()
