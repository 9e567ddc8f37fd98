import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from stages.base import schemas
from stages.base.errors import InputError, ParamError
from stages.evaluation.multiple_choice import score
from stages.lm.checkpoint import save_model
from tests.evaluation.conftest import make_tokenizer
from tests.evaluation.protocols.naive import NaiveEngine

FORMS = {
    "original": lambda row: (
        "\n".join([row["question"], *map("{}. {}".format, "ABCD", row["choices"]), "Answer:"]),
        [f" {letter}" for letter in "ABCD"[: len(row["choices"])]],
    ),
    "cloze": lambda row: (f"Question: {row['question']}\nAnswer:", [f" {choice}" for choice in row["choices"]]),
    "harness": lambda row: (
        "\n".join(
            ["Question: " + row["question"], "Choices:", *map("{}. {}".format, "ABCD", row["choices"]), "Answer:"]
        ),
        list(map(" {}. {}".format, "ABCD", row["choices"])),
    ),
}
HEADS = {
    "original": "The following are multiple choice questions (with answers) about  {}.\n\n",
    "cloze": "The following are questions (with answers) about {}.\n\n",
    "harness": "",
}


@pytest.mark.parametrize("arch", ["model", "lstm"])
@pytest.mark.parametrize("protocol, shots", [("original", 0), ("original", 1), ("cloze", 2), ("harness", 1)])
def test_scores_equal_a_naive_loop(arch, protocol, shots, questions, tokenizer, request) -> None:
    model = request.getfixturevalue(arch)
    found = score(model, questions, protocol, shots, tokenizer=tokenizer)
    tested = [row for row in questions if row["split"] == "test"]
    assert found["id"].tolist() == [row["id"] for row in tested]
    naive = NaiveEngine(model, tokenizer)
    for row, got in zip(tested, found.to_dict("records"), strict=True):
        examples = [q for q in questions if q["split"] == "development" and q["subject"] == row["subject"]]
        context, continuations = FORMS[protocol](row)
        for example in reversed(examples[: got["shots"]]):
            shown, answers = FORMS[protocol](example)
            context = shown + answers[example["answer"]] + "\n\n" + context
        context = HEADS[protocol].format(row["subject"].replace("_", " ")) + context
        expected = [naive.nats(context, continuation) for continuation in continuations]
        np.testing.assert_allclose(got["logprobs"], expected, atol=2e-4)
        assert got["choice"] == int(np.argmax(expected))
        assert got["correct"] == (got["choice"] == row["answer"])
        by_length = [nats / len(text[1:]) for nats, text in zip(expected, continuations, strict=True)]
        assert got["choice_norm"] == int(np.argmax(by_length))
        assert got["correct_norm"] == (got["choice_norm"] == row["answer"])


def test_a_letter_of_two_tokens_is_scored_as_a_whole(model, questions, tmp_path) -> None:
    tokenizer = make_tokenizer(tmp_path, vocab_size=261)  # bytes alone
    assert len(tokenizer.encode(" A")) == 2
    row = questions[2]
    found = score(model, [row], "original", 0, tokenizer=tokenizer).to_dict("records")[0]
    naive = NaiveEngine(model, tokenizer)
    context = HEADS["original"].format("rivers") + FORMS["original"](row)[0]
    np.testing.assert_allclose(found["logprobs"], [naive.nats(context, f" {letter}") for letter in "ABC"], atol=2e-4)


def test_chat_scores_what_stands_behind_the_template(model, tokenizer, questions) -> None:
    found = score(model, questions, "chat", 0, tokenizer=tokenizer).to_dict("records")
    naive = NaiveEngine(model, tokenizer)
    for row, got in zip([row for row in questions if row["split"] == "test"], found, strict=True):
        prompt = tokenizer.encode_prompt(row["question"])
        expected = [naive.of_tokens(prompt, tokenizer.encode(choice)) for choice in row["choices"]]
        np.testing.assert_allclose(got["logprobs"], expected, atol=2e-4)


def test_examples_are_dropped_until_the_question_fits(model, tokenizer, questions) -> None:
    tested = [row for row in questions if row["split"] == "test"]
    many = [questions[0] | {"id": f"e{number}"} for number in range(9)]
    found = score(model, tested[:6], "original", 9, examples=many, tokenizer=tokenizer)
    assert found["shots"].between(1, 8).all()
    with pytest.raises(InputError, match="max_seq_len"):
        score(model, [tested[0] | {"question": "long " * 200}], "original", 9, examples=many, tokenizer=tokenizer)


def test_a_generated_answer_has_no_logprobs(model, tokenizer, questions) -> None:
    found = score(model, questions, "helm", 1, tokenizer=tokenizer)
    assert found["logprobs"].map(len).eq(0).all()
    assert (found["correct"] == (found["choice"] == found["answer"])).all()
    assert found["choice"].between(-1, 3).all()


def test_of_options_that_read_the_same_any_is_right(model, tokenizer, questions) -> None:
    row = questions[4] | {"choices": ["Copper", "Copper"], "answer": 1}
    assert score(model, [row], "cloze", 0, tokenizer=tokenizer)["correct"].tolist() == [True]


def test_a_folder_a_table_and_a_frame_are_accepted(model, questions, tokenizer, tmp_path) -> None:
    save_model(tmp_path / "model", model, tokenizer)
    table = pa.Table.from_pylist(questions, schema=schemas.TASK)
    of_rows = score(model, questions, "cloze", 1, tokenizer=tokenizer)
    of_table = score(tmp_path / "model", table, "cloze", 1)
    of_frame = score(str(tmp_path / "model"), table.to_pandas(), "cloze", 1, tokenizer=tmp_path / "model")
    pd.testing.assert_frame_equal(of_rows, of_table)
    pd.testing.assert_frame_equal(of_rows, of_frame)
    with pytest.raises(ParamError, match="tokenizer="):
        score(model, table, "cloze", 1)


def test_bad_requests_are_refused(model, tokenizer, questions) -> None:
    with pytest.raises(ParamError, match="did you mean `cloze`"):
        score(model, questions, "clozed", 0, tokenizer=tokenizer)
    with pytest.raises(InputError, match="no questions"):
        score(model, questions[:2], "cloze", 0, tokenizer=tokenizer)
    with pytest.raises(InputError, match="answer 7"):
        score(model, [questions[4] | {"answer": 7}], "cloze", 0, tokenizer=tokenizer)
    with pytest.raises(InputError, match="empty"):
        score(model, [questions[4] | {"choices": ["a", " "], "answer": 0}], "cloze", 0, tokenizer=tokenizer)
    many = [f"choice {number}" for number in range(27)]
    with pytest.raises(InputError, match="27 choices"):
        score(model, [questions[4] | {"choices": many}], "original", 0, tokenizer=tokenizer)
