import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from stages.base import schemas
from stages.base.errors import InputError, ParamError
from stages.evaluation.continuations import Request, common_prefix, score_group, score_separately
from stages.evaluation.multiple_choice import answer, encode, fit, score
from stages.evaluation.protocols.choices import PROTOCOLS, cloze, original, statements
from stages.lm.checkpoint import save_model

QUESTION = {"id": "q", "subject": "high_school_physics", "question": "How far?", "choices": ["1 m", "2 m"], "answer": 1}
EXAMPLE = QUESTION | {"id": "e", "question": "How long?", "choices": ["3 s", "4 s"], "answer": 0}


def naive(model, context: list[int], continuation: list[int]) -> float:
    """The sum of log softmax over one full forward pass, in double precision."""
    ids = context + continuation
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([ids[:-1]]))[0].double(), -1)
    return sum(logprobs[t - 1, ids[t]].item() for t in range(len(context), len(ids)))


def test_original_prompt_bytes() -> None:
    """Hendrycks' evaluate.py: two spaces before the subject, and `Answer: X` with a blank line behind it."""
    rendered = original(QUESTION, [EXAMPLE])
    assert rendered.context == (
        "The following are multiple choice questions (with answers) about  high school physics.\n\n"
        "How long?\nA. 3 s\nB. 4 s\nAnswer: A\n\n"
        "How far?\nA. 1 m\nB. 2 m\nAnswer:"
    )
    assert rendered.continuations == (" A", " B")


def test_cloze_prompt_bytes() -> None:
    """mmlu_continuation of the LM Evaluation Harness."""
    rendered = cloze(QUESTION, [EXAMPLE])
    assert rendered.context == (
        "The following are questions (with answers) about high school physics.\n\n"
        "Question: How long?\nAnswer: 3 s\n\n"
        "Question: How far?\nAnswer:"
    )
    assert rendered.continuations == (" 1 m", " 2 m")


@pytest.mark.parametrize("subject", ["econometrics", "machine_learning", "virology"])
def test_question_blocks_are_those_of_raw_helm_prompts(reference: Path, subject: str) -> None:
    """HELM puts `Question: ` before the very block that the original code writes."""
    file = reference / "posttraining" / "helm_mmlu" / "meta_llama-3-70b" / f"{subject}.json.gz"
    states = json.loads(gzip.decompress(file.read_bytes()))["request_states"]
    assert len(states) > 50
    for state in states:
        choices = list(state["output_mapping"].values())
        question = {"subject": subject, "question": state["instance"]["input"]["text"], "choices": choices}
        block = original(question, []).context.split("\n\n", 1)[1]
        assert state["request"]["prompt"].endswith(f"\n\nQuestion: {block}")


def test_statements_replace_the_value_in_the_reference() -> None:
    said = statements(["Anthar", "Bel"], 0, "Velmora lies in Anthar.")
    assert said == ["Velmora lies in Anthar.", "Velmora lies in Bel."]
    assert PROTOCOLS["chat"](QUESTION | {"statements": said}, []).continuations == tuple(said)
    assert PROTOCOLS["chat"](QUESTION | {"statements": []}, []).continuations == ("1 m", "2 m")
    assert statements(["Anthar", "Bel"], 0, "") == statements(["Anthar", "Bel"], 0, "Anthar is Anthar.") == []


@pytest.mark.parametrize("arch", ["model", "lstm"])
@pytest.mark.parametrize("protocol, shots", [("original", 0), ("original", 1), ("cloze", 2), ("chat", 0)])
def test_scores_equal_a_naive_loop(arch, protocol, shots, questions, tokenizer, request) -> None:
    model = request.getfixturevalue(arch)
    found = score(model, questions, protocol, shots, tokenizer=tokenizer)
    tested = [row for row in questions if row["split"] == "test"]
    assert found["id"].tolist() == [row["id"] for row in tested]
    for row, got in zip(tested, found.to_dict("records"), strict=True):
        examples = [q for q in questions if q["split"] == "development" and q["subject"] == row["subject"]]
        rendered = PROTOCOLS[protocol](row, examples[: got["shots"]])
        wanted = encode(rendered, tokenizer)
        expected = [naive(model, wanted.context, continuation) for continuation in wanted.continuations]
        np.testing.assert_allclose(got["logprobs"], expected, atol=2e-4)
        assert got["choice"] == int(np.argmax(expected))
        assert got["correct"] == (got["choice"] == row["answer"])
        if protocol == "cloze":
            by_length = [value / len(choice) for value, choice in zip(expected, row["choices"], strict=True)]
            assert got["choice_norm"] == int(np.argmax(by_length))


def test_sharing_the_prefix_changes_nothing(model) -> None:
    rng = np.random.default_rng(0)
    shared = rng.integers(0, 448, 20).tolist()
    requests = [
        Request(
            shared + rng.integers(0, 448, n).tolist(),
            [rng.integers(0, 448, int(k)).tolist() for k in rng.integers(1, 6, 3)],
        )
        for n in (1, 9, 4, 30)
    ]
    for got, expected in zip(score_group(model, requests), score_separately(model, requests), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_common_prefix_leaves_a_token_to_each_context() -> None:
    assert common_prefix([[1, 2, 3], [1, 2, 4, 5]]) == 2
    assert common_prefix([[1, 2, 3], [1, 2, 3]]) == 2
    assert common_prefix([[1, 2], [1, 2, 3]]) == 1


def test_examples_are_dropped_until_the_question_fits(model, tokenizer, questions) -> None:
    row, examples = questions[7], [questions[0]] * 9
    request, count = fit(row, examples, "original", tokenizer, limit=200)
    assert 0 < count < 9
    assert len(request.context) + 1 <= 201
    more = encode(original(row, examples[: count + 1]), tokenizer)
    assert len(more.context) + 1 > 201
    with pytest.raises(InputError, match="max_seq_len"):
        fit(row | {"question": "long " * 200}, [], "original", tokenizer, limit=200)


def test_context_and_continuation_are_the_tokens_of_the_whole_text(tokenizer) -> None:
    rendered = cloze(QUESTION, [EXAMPLE])
    request = encode(rendered, tokenizer)
    for text, continuation in zip(rendered.continuations, request.continuations, strict=True):
        assert request.context[1:] + continuation == tokenizer.encode(rendered.context + text)


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


def test_a_small_context_leaves_long_questions_out_and_counts_them(model, questions, tokenizer) -> None:
    tested = [row for row in questions if row["split"] == "test"]
    longer = [tested[0] | {"id": "long", "question": "long " * 200}, *tested]
    found, too_long = answer(model, tokenizer, longer, [], "cloze", 0, skip_too_long=True)
    assert too_long == ["long"]
    assert found == answer(model, tokenizer, tested, [], "cloze", 0)[0]


def test_bad_requests_are_refused(model, tokenizer, questions) -> None:
    with pytest.raises(ParamError, match="known: original, cloze, chat"):
        score(model, questions, "clozed", 0, tokenizer=tokenizer)
    with pytest.raises(InputError, match="no questions"):
        score(model, questions[:2], "cloze", 0, tokenizer=tokenizer)
    with pytest.raises(InputError, match="answer 7"):
        score(model, [questions[4] | {"answer": 7}], "cloze", 0, tokenizer=tokenizer)
    with pytest.raises(InputError, match="empty"):
        score(model, [questions[4] | {"choices": ["a", " "], "answer": 0}], "cloze", 0, tokenizer=tokenizer)
    with pytest.raises(ParamError, match="shots = 0"):
        score(model, questions, "chat", 1, tokenizer=tokenizer)
