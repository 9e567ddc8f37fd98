"""A base model asked by examples: what it reads, where an answer ends, and prompts without room."""

import json
from pathlib import Path
from typing import Any

import pytest

from stages.base.errors import InputError
from stages.judging.few_shot import answers_few_shot, asked_with, examples_of, read_continuation
from stages.lm.checkpoint import save_model
from stages.lm.generate import generate
from tests.evaluation.conftest import make_model, make_tokenizer

ROWS: list[dict[str, Any]] = [
    {"split": split, "prompt": f"{split}{n}?", "response": f"r{n}"} for split in ("sft", "test") for n in range(9)
]
EXAMPLES = [("a?", "b"), ("c?", "d")]
SETTINGS: dict[str, Any] = {"temperature": 0.0, "seed": 1, "max_new_tokens": 5, "batch_size": 4}


def test_examples_are_sft_rows_in_a_seeded_order() -> None:
    found = examples_of(ROWS, 4, 7)
    assert found == examples_of(list(ROWS), 4, 7) != examples_of(ROWS, 4, 8)
    assert len(set(found)) == 4 and all(prompt.startswith("sft") for prompt, _ in found)
    with pytest.raises(InputError, match=r"10 shots, but 9 .* lower `shots`"):
        examples_of(ROWS, 10, 7)


@pytest.mark.parametrize(
    ("text", "end", "answer"),
    [
        (" clay.\n\nQuestion: what?", "\n", "clay."),
        ("\n clay.\nand more", "\n", "clay."),
        (" one\ntwo\n\nthree", "\n\n", "one\ntwo"),
        (" clay. Question: what?", "\n", "clay."),
        (" clay and so on", "\n", "clay and so on"),
        ("Question: what?", "\n", ""),
        ("", "\n", ""),
    ],
)
def test_an_answer_ends_where_the_examples_do(text: str, end: str, answer: str) -> None:
    assert read_continuation(text, end) == answer


def test_the_model_reads_examples_and_question_and_what_has_no_room_is_counted(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path)
    model = make_model(max_seq_len=64)
    folder = tmp_path / "model"
    save_model(folder, model, tokenizer)
    limit = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
    long = "w" * (limit - 18)
    prompts = ["e?", "f?", long, "x" * 2 * limit]
    answers, found = answers_few_shot(folder, prompts, EXAMPLES, **SETTINGS)
    texts = [asked_with(EXAMPLES) + f"Question: {prompt}\nAnswer:" for prompt in prompts[:2]]
    texts.append(f"Question: {long}\nAnswer:")
    read = [[tokenizer.prefix_id, *tokenizer.encode(text)] for text in texts]
    assert len(read[0]) + 5 <= limit < 5 + len(tokenizer.encode(asked_with(EXAMPLES[1:]) + texts[2]))
    plain = generate(
        model.eval(), read, max_new_tokens=5, temperature=0.0, top_p=1.0, seed=0, stop_ids=tokenizer.stop_ids
    )
    assert answers == [*(read_continuation(tokenizer.decode(new), "\n") for new in plain), ""]
    assert found == {"shots": pytest.approx(4 / 3), "fewer_shots": 1, "no_room": 1}
    assert answers_few_shot(folder, prompts[:2], EXAMPLES, **SETTINGS)[0] == answers[:2], "examples read once"
