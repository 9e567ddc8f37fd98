"""Instruction and preference files in the formats that people have, and conversations as tokens."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from stages.alignment.answering.verifier import Verifier
from stages.alignment.data.formats import INSTRUCTIONS, PREFERENCES, check_refused, format_of, read_as, read_rows
from stages.alignment.instructions import from_file, from_rows
from stages.alignment.learning.batches import Exchange, encode_turns, lay_out
from stages.alignment.preferences import from_file as pairs_from_file
from stages.alignment.preferences import from_rows as pairs_from_rows
from stages.alignment.sft import completion_loss
from stages.annotators.truth import Truth
from stages.base.errors import InputError
from stages.base.schemas import TASK
from stages.base.tables import write_table
from stages.cli import main
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer

SYSTEM = {"role": "system", "content": "Be brief."}
TALK = [
    {"role": "user", "content": "Where is Velmora?"},
    {"role": "assistant", "content": "In Anthar."},
    {"role": "user", "content": "And Ost?"},
    {"role": "assistant", "content": "In Belmor."},
]
AS_TEXT = "User: Where is Velmora?\n\nAssistant: In Anthar.\n\nUser: And Ost?"
TOLD = "System: Be brief.\n\nUser: Where is Velmora?"
SHAREGPT = [{"from": {"user": "human", "assistant": "gpt"}[m["role"]], "value": m["content"]} for m in TALK]


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "form", "prompt", "answer", "turns"),
    [
        ({"prompt": "a?", "response": "b"}, "own", "a?", "b", 0),
        ({"instruction": "Sum up.", "input": "", "output": "b"}, "alpaca", "Sum up.", "b", 0),
        ({"instruction": "Sum up.", "input": "Text.", "output": "b"}, "alpaca", "Sum up.\n\nText.", "b", 0),
        ({"question": "a?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5"}, "gsm8k", "a?", "2 + 3 = <<2+3=5>>5\n#### 5", 0),
        ({"messages": TALK, "source": "x"}, "messages", AS_TEXT, "In Belmor.", 3),
        ({"conversations": SHAREGPT, "model": "x"}, "sharegpt", AS_TEXT, "In Belmor.", 3),
        ({"messages": [SYSTEM, *TALK[:2]]}, "messages", TOLD, "In Anthar.", 2),
        ({"messages": TALK[:2]}, "messages", "Where is Velmora?", "In Anthar.", 0),
    ],
)  # fmt: skip
def test_instructions(tmp_path: Path, row: Any, form: str, prompt: str, answer: str, turns: int) -> None:
    path = written(tmp_path / "x.jsonl", row)
    assert format_of(read_rows(path), INSTRUCTIONS).name == form
    (found,) = from_file(path, None, 1, "own")
    assert (found.prompt, found.response, len(found.messages)) == (prompt, answer, turns)


@pytest.mark.parametrize(
    ("row", "form", "prompt"),
    [
        ({"prompt": "a?", "chosen": "b", "rejected": "c"}, "own", "a?"),
        ({"chosen": "\n\nHuman: a?\n\nAssistant: b", "rejected": "\n\nHuman: a?\n\nAssistant: c"}, "transcript", "a?"),
        (
            {
                "prompt": "a?", "score_chosen": 8.0,
                "chosen": [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}],
                "rejected": [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "c"}],
            },
            "messages", "a?",
        ),
        (
            {"prompt": "a?", "chosen": [{"role": "assistant", "content": "b"}],
             "rejected": [{"role": "assistant", "content": "c"}]},
            "messages", "a?",
        ),
    ],
)  # fmt: skip
def test_preferences(tmp_path: Path, row: Any, form: str, prompt: str) -> None:
    path = written(tmp_path / "x.jsonl", row)
    assert format_of(read_rows(path), PREFERENCES).name == form
    (found,) = pairs_from_file(path, "own")
    assert (found.prompt, found.chosen, found.rejected, found.messages) == (prompt, "b", "c", [])


def test_the_same_rows_in_every_kind_of_file(tmp_path: Path) -> None:
    rows = [{"messages": TALK}, {"messages": TALK[:2]}]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "b.json").write_text(json.dumps(rows))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "d.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    (tmp_path / "e.json").write_bytes(lines)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f.parquet")
    found = [
        [(row.prompt, row.response, row.messages) for row in from_file(path, None, 1, "own")]
        for path in sorted(tmp_path.iterdir())
    ]
    assert len(found) == 6 and all(one == found[0] for one in found)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": TALK[1:]}, r"messages\[1\]. is the assistant's where the user's"),
        ({"messages": [*TALK[:2], *TALK[:1], TALK[0], TALK[1]]}, r"messages\[4\]. is the user's"),
        ({"messages": [SYSTEM, SYSTEM, *TALK]}, r"messages\[2\]. is the system's"),
        ({"messages": TALK[:3]}, "must end with an answer"),
        ({"messages": []}, "list of messages"),
        ({"messages": [{"role": "user"}]}, r"messages\[1\]. must have"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "is of 'tool'"),
        ({"messages": [TALK[0], {"role": "assistant", "content": " \u200b"}]}, r"messages\[2\].content. is missing"),
        ({"messages": [TALK[0], {"role": "assistant", "content": "a\0"}]}, "NUL"),
        ({"messages": None}, "messages. is missing"),
    ],
)
def test_broken_conversations_are_named(tmp_path: Path, row: Any, said: str) -> None:
    path = written(tmp_path / "x.jsonl", {"messages": TALK}, row)
    with pytest.raises(InputError, match=rf"x\.jsonl:2: .*{said}"):
        from_file(path, None, 1, "own")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"chosen": "a?", "rejected": "\n\nHuman: a?\n\nAssistant: c"}, "chosen. must begin"),
        ({"chosen": "\n\nHuman: a?\n\nAssistant: b", "rejected": "\n\nHuman: e?\n\nAssistant: c"}, "different conv"),
        (
            {"chosen": "\n\nHuman: a?\n\nAssistant: b", "rejected": "\n\nHuman: a?\n\nAssistant: "},
            "rejected. is missing",
        ),
        ({"chosen": "\n\nHuman: a?\n\nAssistant: b", "rejected": "\n\nHuman: a?\n\nAssistant: b"}, "are the same"),
        ({"chosen": "\n\nHuman: o?\n\nAssistant: b", "rejected": "\n\nHuman: o?\n\nAssistant: c"}, "x.jsonl:1 already"),
    ],
)
def test_broken_pairs_are_named(tmp_path: Path, row: Any, said: str) -> None:
    first = {"chosen": "\n\nHuman: o?\n\nAssistant: b", "rejected": "\n\nHuman: o?\n\nAssistant: c"}
    with pytest.raises(InputError, match=rf"x\.jsonl:2: .*{said}"):
        pairs_from_file(written(tmp_path / "x.jsonl", first, row), "own")


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (["b"], r"chosen\[1\]. must have"),
        ([None], r"chosen\[1\]. must have"),
        ([{"role": "user", "content": "b"}], r"chosen\[1\]. is the only message and must be the assistant's"),
        ([{"role": "assistant", "content": 5}], r"chosen\[1\].content. must be a string"),
    ],
)
def test_a_single_message_beside_a_prompt_is_an_answer(tmp_path: Path, chosen: Any, said: str) -> None:
    row = {"prompt": "a?", "chosen": chosen, "rejected": [{"role": "assistant", "content": "c"}]}
    with pytest.raises(InputError, match=rf"x\.jsonl:1: .*{said}"):
        pairs_from_file(written(tmp_path / "x.jsonl", row), "own")


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("Where is Velmora?", ""), (" And\nOst? ", ""), ("<user>And Ost?<end>", ""), ("  ", ""), (None, ""),
        ("Where is Ost?", "`prompt` isn't what `chosen` answers"), (7, "`prompt` must be a string"),
    ],
)  # fmt: skip
def test_a_prompt_beside_a_conversation_must_be_of_it(tmp_path: Path, prompt: Any, said: str) -> None:
    row = {"prompt": prompt, "chosen": TALK, "rejected": [*TALK[:3], {"role": "assistant", "content": "No."}]}
    path = written(tmp_path / "x.jsonl", row)
    if not said:
        assert [pair.prompt for pair in pairs_from_file(path, "own")] == [AS_TEXT]
        return
    with pytest.raises(InputError, match=rf"x\.jsonl:1: {said}"):
        pairs_from_file(path, "own")


def test_messages_may_be_the_prompt_of_both_answers(tmp_path: Path) -> None:
    row = {"prompt": TALK[:3], "chosen": TALK[3:], "rejected": [{"role": "assistant", "content": "No."}]}
    (pair,) = pairs_from_file(written(tmp_path / "x.jsonl", row), "own")
    assert (pair.prompt, pair.chosen, pair.rejected) == (AS_TEXT, "In Belmor.", "No.")
    with pytest.raises(InputError, match=r"`chosen\[3\]` is the assistant's where the user's turn is"):
        pairs_from_file(written(tmp_path / "x.jsonl", {**row, "prompt": TALK[:2]}), "own")


def test_a_number_may_be_an_id(tmp_path: Path) -> None:
    rows = [{"id": n, "prompt": f"{n}?", "response": "b"} for n in (0, 7)]
    assert [row.id for row in from_file(written(tmp_path / "x.jsonl", *rows), None, 1, "own")] == ["0", "7"]
    for odd in (True, 0.5, [1], ""):
        with pytest.raises(InputError, match=r"x\.jsonl:1: `id`"):
            from_file(written(tmp_path / "x.jsonl", {**rows[0], "id": odd}), None, 1, "own")


def test_a_null_is_as_good_as_no_key(tmp_path: Path) -> None:
    rows = [{"id": None, "prompt": f"{n}?", "response": "b", "split": None, "entity": None} for n in range(20)]
    shares = {"test": 0.4}
    found = from_file(written(tmp_path / "x.jsonl", *rows), shares, 1, "own")
    bare = [{"prompt": row["prompt"], "response": "b"} for row in rows]
    assert found == from_file(written(tmp_path / "y.jsonl", *bare), shares, 1, "own")
    assert {row.split for row in found} == {"sft", "test"}
    one_said = from_file(
        written(tmp_path / "z.jsonl", *rows, {**rows[0], "prompt": "x", "split": "test"}), shares, 1, "own"
    )
    assert [row.split for row in one_said] == ["sft"] * 20 + ["test"]


def test_texts_and_times_of_a_table_that_are_none_are_refused(tmp_path: Path) -> None:
    text = pa.array([b"\xff"], pa.binary()).view(pa.string())
    late = pa.array([1 << 60], pa.timestamp("us"))  # the year 38,000
    for name, column in (("text", text), ("time", late)):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"instruction": ["a"], "output": ["b"], "more": column}), path)
        with pytest.raises(InputError, match=rf"{name}\.parquet: can't be read"):
            from_file(path, None, 1, "own")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"prompt": "a", "response": "b", "id": "1"}, {"prompt": "c", "response": "d", "id": "1"}], "stands at"),
        ([{"prompt": "a", "response": "b", "split": "train"}], "`split` is 'train'"),
        ([{"instruction": "a", "output": "b", "id": 0.7}], "`id` must be a string"),
        ([{"prompt": "a", "chosen": "b", "rejected": "b"}], "are the same"),
        ([{"prompt": "a", "chosen": "b", "rejected": "c"}] * 2, "the same pair"),
    ],
)
def test_inspect_refuses_what_the_stage_does(
    rows: list[Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", str(written(tmp_path / "x.jsonl", *rows))]) == 2
    shown = capsys.readouterr().out
    assert said in shown and "1 refused" in shown


def test_some_rows_may_be_refused_and_are_counted(tmp_path: Path) -> None:
    rows: list[Any] = [{"prompt": f"p{n}", "response": "r", "id": f"{n}"} for n in range(8)]
    rows += [{"prompt": "p", "response": " "}, {"prompt": "q", "response": "r", "id": "3"}]
    refused: list[str] = []
    read = read_rows(written(tmp_path / "x.jsonl", *rows))
    assert [row.id for row in from_rows(read, None, 1, "own", refused)] == [f"{n}" for n in range(8)]
    assert [line.split("x.jsonl:")[1].split(":")[0] for line in refused] == ["9", "10"]
    check_refused(10, refused, 0.2)
    check_refused(10, [], 0.0)
    for bound, said in (
        (0.1, r"x\.jsonl:9: .*response.*2 of 10 rows can't be used; `max_drop` allows 10.0%"),
        (0, "9"),
    ):
        with pytest.raises(InputError, match=said):
            check_refused(10, refused, bound)
    with pytest.raises(InputError, match="2 of 2"):
        check_refused(2, refused, 1.0)
    pairs = [{"prompt": "a", "chosen": "b", "rejected": answer} for answer in ("b", "c", "c", "d")]
    told: list[str] = []
    kept = pairs_from_rows(read_rows(written(tmp_path / "y.jsonl", *pairs)), "own", told)
    assert [pair.rejected for pair in kept] == ["c", "d"]
    assert "are the same" in told[0] and "stands at" in told[1] and len(told) == 2


@pytest.fixture
def tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder where a task has been built."""
    monkeypatch.chdir(tmp_path)
    empty = {name: "" for name in TASK.names} | {"choices": [], "targets": [], "contexts": [], "answer": -1}
    row = {
        **empty,
        "statements": [],
        "labels": [],
        "id": "q1",
        "set": "quiz",
        "split": "test",
        "question": "Where is Ost?",
    }
    Path("data/evaluation/task/quiz").mkdir(parents=True)
    Path("data/evaluation/task/items.json").write_text('["quiz", "not_built"]')
    write_table("data/evaluation/task/quiz/questions.parquet", pa.Table.from_pylist([row], schema=TASK), TASK)


@pytest.mark.usefixtures("tested")
def test_inspect_names_the_task_whose_question_a_row_holds(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": "where is ost", "response": "Here."}, {"prompt": "Where is Ost?", "response": "There."}]
    rows += [{"prompt": "Who is Ost?", "response": "A town."}]
    assert main(["inspect", str(written(Path("x.jsonl"), *rows))]) == 0
    shown = capsys.readouterr().out
    assert "prompts: 3 different, 1 of these but for case and punctuation" in shown
    assert "leakage of 1 test questions: 2 rows hold one (quiz_prompt 2)" in shown
    assert "row 1 holds quiz/q1 (prompt): where is ost" in shown


@pytest.mark.usefixtures("tested")
def test_inspect_reads_votes_of_people(capsys: pytest.CaptureFixture[str]) -> None:
    vote = {"prompt": "Why?", "output_a": "So.", "output_b": "Because.", "annotator": "Ida", "vote": "a"}
    rows = [vote, {**vote, "annotator": "Bo"}, {**vote, "prompt": "How?", "vote": "skip"}]
    rows.append({**vote, "annotator": "Eve", "vote": "skip"})
    assert main(["inspect", str(written(Path("x.jsonl"), *rows))]) == 0
    shown = capsys.readouterr().out
    assert "pairs: 2, 1 with a preference" in shown and "agreement 1.00" in shown
    assert "Ida: 1 votes, 1 skipped\n" in shown and "Bo: 1 votes\n" in shown and "Eve: 0 votes, 1 skipped\n" in shown
    assert main(["inspect", str(written(Path("x.jsonl"), vote, {**vote, "vote": "c"}))]) == 2
    assert "x.jsonl:2" in capsys.readouterr().out


def test_unknown_formats_and_doubled_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.jsonl:1: of no known format, it has `question`; known: .*alpaca"):
        from_file(written(tmp_path / "x.jsonl", {"question": "a"}), None, 1, "own")
    (tmp_path / "y.jsonl").write_text('{"prompt": "a", "response": "b", "response": "c"}\n')
    with pytest.raises(InputError, match=r"y\.jsonl:1: .*'response' stands twice"):
        from_file(tmp_path / "y.jsonl", None, 1, "own")
    (tmp_path / "y.json").write_text('[{"prompt": "a", "response": "b", "response": "c"}]')
    with pytest.raises(InputError, match=r"y\.json: .*'response' stands twice"):
        from_file(tmp_path / "y.json", None, 1, "own")
    (tmp_path / "z.jsonl.gz").write_bytes(b"nothing packed")
    with pytest.raises(InputError, match=r"z\.jsonl\.gz: damaged near byte"):
        from_file(tmp_path / "z.jsonl.gz", None, 1, "own")


def test_no_prompt_is_in_two_splits(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n % 40}", "response": f"r{n}"} for n in range(200)]
    shares = {"preference": 0.2, "validation": 0.1, "test": 0.2}
    splits: dict[str, set[str]] = {}
    for row in from_file(written(tmp_path / "x.jsonl", *rows), shares, 3, "own"):
        splits.setdefault(row.prompt, set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values()) and set.union(*splits.values()) == {"sft", *shares}
    said = [{"prompt": "a", "response": "b", "split": split} for split in ("sft", "test")]
    with pytest.raises(InputError, match=r"y\.jsonl:2: the same prompt stands in split sft"):
        from_file(written(tmp_path / "y.jsonl", *said), None, 3, "own")


def test_every_answer_of_a_conversation_is_learned_and_nothing_else(tokenizer: ChatTokenizer) -> None:
    exchange = encode_turns(tokenizer, [SYSTEM, *TALK[:3]], TALK[3]["content"])
    learned = lay_out([[exchange]], torch.device("cpu")).targets.tolist()
    text = tokenizer.tokenizer.decode(learned, skip_special_tokens=False)
    assert text == "In Anthar.<|end|>In Belmor.<|end|>"
    assert exchange.learned_length == len(learned) and exchange.answer_length == len("In Belmor.") + 1
    assert list(exchange.ids[: exchange.start]) == tokenizer.encode_prompt([SYSTEM, *TALK[:3]])


def test_the_loss_of_a_conversation_is_that_of_its_answers(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]
) -> None:
    """Each answer given what was said before it, as rows of their own."""
    model, talk = make_model(), [{**message, "content": message["content"][:8]} for message in TALK]
    both = encode_turns(tokenizer, talk[:3], talk[3]["content"])
    single = [encode_turns(tokenizer, talk[:1], talk[1]["content"]), Exchange(both.ids, both.start)]

    def nats(exchange: Exchange) -> float:
        rows = lay_out([[exchange]], torch.device("cpu"))
        return float(completion_loss(model, rows)[0]) * len(rows.targets)

    with torch.no_grad():
        whole, parts = nats(both), sum(map(nats, single))
    assert whole == pytest.approx(parts, rel=1e-5)


def test_every_row_of_gsm8k_can_be_checked(reference: Path) -> None:
    rows = from_file(reference / "posttraining/gsm8k/train.jsonl.gz", None, 1, "gsm8k")
    verifier = Verifier(Truth({}, {}))
    assert len(rows) == 7473 and all(verifier.knows(row) for row in rows)
    assert all(verifier.reward(row, row.response) == 1 for row in rows)
    wrong = [verifier.reward(row, "I think it is 123456789.") for row in rows]
    assert not any(wrong)


def test_real_files_are_understood(reference: Path) -> None:
    """Alpaca's rows and HH's pairs, as published: every row is read, or named."""
    alpaca = read_rows(reference / "posttraining/alpaca/alpaca_1k.json.gz")
    form = format_of(alpaca, INSTRUCTIONS)
    assert form.name == "alpaca" and all(read_as(form, row).answer for row in alpaca)
    pairs = read_rows(reference / "posttraining/hh/harmless-base-test.jsonl.gz")
    transcript = format_of(pairs, PREFERENCES)
    refused = 0
    for row in pairs:
        try:
            found = read_as(transcript, row)
            assert row.values["chosen"].rstrip().endswith(found.chosen)
        except InputError:
            refused += 1
    assert transcript.name == "transcript" and refused < 0.02 * len(pairs)
