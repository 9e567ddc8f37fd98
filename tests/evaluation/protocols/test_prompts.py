import gzip
import json
from pathlib import Path

import pytest

from stages.base.errors import ParamError
from stages.evaluation.protocols.choices import statements
from stages.evaluation.protocols.protocol import Setting, TooLong, fit
from stages.evaluation.protocols.registry import PROTOCOLS, find_protocol
from stages.evaluation.scoring.requests import Choices, Generate, Generated, Likelihood
from stages.evaluation.tasks.item import Item
from tests.evaluation.protocols.naive import NaiveEngine

SHOT = Item("e", "s", "high_school_physics", "development", "How long?", "", ("3 s", "4 s"), 0)
ITEM = Item("q", "s", "high_school_physics", "test", " How far?", "", ("1 m", "20 m"), 1)
SOLVED = Item("w", "s", "sums", "test", "One and one?", "", targets=("Two ones.\n#### 2",))
EXPECTED = {
    "original": (
        "The following are multiple choice questions (with answers) about  high school physics.\n\n"
        "How long?\nA. 3 s\nB. 4 s\nAnswer: A\n\n How far?\nA. 1 m\nB. 20 m\nAnswer:",
        (" A", " B"),
    ),
    "harness": (
        "Question: How long?\nChoices:\nA. 3 s\nB. 4 s\nAnswer: A. 3 s\n\n"
        "Question:  How far?\nChoices:\nA. 1 m\nB. 20 m\nAnswer:",
        (" A. 1 m", " B. 20 m"),
    ),
    "harness-text": (
        "Question: How long?\nChoices:\nA. 3 s\nB. 4 s\nAnswer: 3 s\n\n"
        "Question:  How far?\nChoices:\nA. 1 m\nB. 20 m\nAnswer:",
        (" 1 m", " 20 m"),
    ),
    "cloze": (
        "The following are questions (with answers) about high school physics.\n\n"
        "Question: How long?\nAnswer: 3 s\n\nQuestion: How far?\nAnswer:",
        (" 1 m", " 20 m"),
    ),
    "original-rotated_1": (
        "The following are multiple choice questions (with answers) about  high school physics.\n\n"
        "How long?\nA. 4 s\nB. 3 s\nAnswer: B\n\n How far?\nA. 20 m\nB. 1 m\nAnswer:",
        (" B", " A"),
    ),
    "original-parentheses": (
        "The following are multiple choice questions (with answers) about  high school physics.\n\n"
        "How long?\n(A) 3 s\n(B) 4 s\nAnswer: (A)\n\n How far?\n(A) 1 m\n(B) 20 m\nAnswer:",
        (" (A)", " (B)"),
    ),
}


def likelihoods(*nats: float) -> list[Likelihood]:
    return [Likelihood(value, 1, False) for value in nats]


@pytest.mark.parametrize("name", EXPECTED)
def test_bytes_of_a_prompt(name: str) -> None:
    context, continuations = EXPECTED[name]
    assert find_protocol(name).render(ITEM, [SHOT], Setting()) == Choices((context,), continuations)


@pytest.mark.parametrize("subject", ["econometrics", "machine_learning", "virology"])
def test_question_blocks_are_those_of_raw_helm_prompts(reference: Path, subject: str) -> None:
    """HELM puts `Question: ` before the very block that the original code writes."""
    file = reference / "posttraining" / "helm_mmlu" / "meta_llama-3-70b" / f"{subject}.json.gz"
    states = json.loads(gzip.decompress(file.read_bytes()))["request_states"]
    assert len(states) > 50
    for state in states:
        item = Item(
            "", "", subject, "test", state["instance"]["input"]["text"], "", tuple(state["output_mapping"].values()), 0
        )
        request = PROTOCOLS["original"].render(item, [], Setting())
        assert isinstance(request, Choices)
        assert state["request"]["prompt"].endswith("\n\nQuestion: " + request.contexts[0].split("\n\n", 1)[1])


def test_chat_asks_by_messages_with_examples_as_turns() -> None:
    said = ("It is 1 m away.", "It is 20 m away.")
    item = Item("q", "s", "physics", "test", "How far?", "", ("1 m", "20 m"), 1, statements=said)
    assert PROTOCOLS["chat"].render(item, [SHOT], Setting()) == Choices(
        (),
        said,
        (
            {"role": "user", "content": "How long?"},
            {"role": "assistant", "content": "3 s"},
            {"role": "user", "content": "How far?"},
        ),
    )
    # −9 / 15 is less than −9.2 / 16: the longer sentence is likelier per character
    answer = PROTOCOLS["chat"].read(item, Setting(), likelihoods(-9.0, -9.2))
    assert (answer.choice, answer.choice_norm) == (0, 1)
    assert answer.scores == {"acc": 0.0, "acc_norm": 1.0, "acc_bytes": 1.0}


def test_a_letter_written_by_a_chat_model_is_read() -> None:
    protocol = PROTOCOLS["chat_generate"]
    request = protocol.render(ITEM, [SHOT], Setting(max_tokens=32))
    assert isinstance(request, Generate)
    assert [message["role"] for message in request.messages] == ["user", "assistant", "user"]
    assert request.messages[1]["content"] == "A" and request.messages[2]["content"].endswith("\nA. 1 m\nB. 20 m")
    assert request.max_tokens == 32
    assert protocol.read(ITEM, Setting(), Generated("The answer is B.", 5, True)).scores == {"acc": 1.0}


def test_per_character_and_per_byte_are_of_the_answer_without_its_delimiter() -> None:
    item = Item("q", "s", "x", "test", "Which?", "", ("ab", "éàü", "abcdef"), 0)
    answer = PROTOCOLS["cloze"].read(item, Setting(), likelihoods(-2.0, -3.1, -5.9))
    # per character −1, −1.033, −.983; per byte −1, −.517, −.983
    assert (answer.choice, answer.choice_norm) == (0, 2)
    assert answer.scores == {"acc": 1.0, "acc_norm": 0.0, "acc_bytes": 0.0}


def test_the_first_of_equal_ones_is_chosen_and_a_repeated_text_is_right() -> None:
    item = Item("q", "s", "x", "test", "Which?", "", ("a", "b", "a"), 2)
    answer = PROTOCOLS["original"].read(item, Setting(), likelihoods(-1.0, -2.0, -1.0))
    assert (answer.choice, answer.scores["acc"], answer.flags) == (0, 1.0, ("repeated_options",))
    assert PROTOCOLS["original"].read(ITEM, Setting(), likelihoods(-1.0, -1.0)).choice == 0


def test_items_that_a_protocol_cannot_ask_say_why() -> None:
    letters = [name for name in PROTOCOLS if name not in ("task", "generate", "chat_generate")]
    for name in letters:
        assert PROTOCOLS[name].why_not(ITEM) == ""
        assert PROTOCOLS[name].why_not(SOLVED) == "it has no choices"
        assert "answer 2 of 2" in PROTOCOLS[name].why_not(Item("q", "s", "x", "test", "?", "", ("a", "b"), 2))
        blank = Item("q", "s", "x", "test", "", "", (), 0, ("end",), ("left", "right"))
        assert PROTOCOLS[name].why_not(blank)
        lettered = Item("q", "s", "x", "test", "Which?", "Which?\nA. a\nB. b\nAnswer:", ("A", "B"), 1)
        assert "under `task`" in PROTOCOLS[name].why_not(lettered) and PROTOCOLS["task"].why_not(lettered) == ""
    assert PROTOCOLS["generate"].why_not(SOLVED) == ""
    nothing = Item("q", "s", "x", "test", "Why?")
    assert "neither" in PROTOCOLS["generate"].why_not(nothing) and "neither" in PROTOCOLS["task"].why_not(nothing)
    with pytest.raises(ParamError, match="this task has no file"):
        PROTOCOLS["task"].render(ITEM, [], Setting())


def test_worked_solutions_are_read_strictly_and_flexibly() -> None:
    generate = PROTOCOLS["generate"]
    request = generate.render(SOLVED, [SOLVED], Setting(stop=("Question:",), max_tokens=64))
    one = "Question: One and one?\nAnswer:"
    assert request == Generate(f"{one} Two ones.\n#### 2\n\n{one}", ("Question:", "\nQuestion:"), 64)
    worded = Item("w", "s", "sums", "test", "Sum: 1 + 1 =", "Sum: 1 + 1 =", targets=("2",))
    assert generate.render(worded, [], Setting("Sums.\n")).context == "Sums.\nSum: 1 + 1 ="  # no bare question
    for text, strict, flexible, flags in (
        ("So it is\n#### 2", 1, 1, ()),
        ("One and one make 2.", 0, 1, ()),
        ("#### 2 and not 3", 1, 0, ()),
        ("#### $2.", 0, 1, ()),
        ("I can't say", 0, 0, ("no_answer",)),
    ):
        answer = generate.read(SOLVED, Setting(), Generated(text, 9, True))
        assert answer.scores == {"exact_match": flexible, "exact_match_strict": strict}, text
        assert answer.flags == flags


def test_texts_are_compared_by_their_first_line() -> None:
    item = Item("q", "s", "x", "test", "Where?", "", targets=("the Old Town", "Belmont"))
    for text, right in ((" Old town.\nAnd more", 1.0), ("belmont", 1.0), ("Belmont or Dun", 0.0)):
        assert PROTOCOLS["generate"].read(item, Setting(), Generated(text, 3, True)).scores == {"exact_match": right}


def test_too_long_for_the_context(model, tokenizer) -> None:
    engine = NaiveEngine(model, tokenizer)
    shots = [SHOT] * 9
    request, count = fit(PROTOCOLS["original"], ITEM, shots, Setting(), engine)
    assert 0 < count < 9 and engine.length(request) <= engine.limit
    more = PROTOCOLS["original"].render(ITEM, shots[: count + 1], Setting())
    assert engine.length(more) > engine.limit
    long = Item("l", "s", "x", "test", "long " * 200, "long " * 200, ("a", "b"), 0)
    with pytest.raises(TooLong, match=r"item l: \d+ tokens .* room for 160"):
        fit(PROTOCOLS["original"], long, shots, Setting(), engine)
    template = Setting(options=(("output_type", "multiple_choice"),))
    assert fit(PROTOCOLS["task"], long, [], template, engine)[1] == 0  # the engine cuts its beginning


def test_names() -> None:
    assert find_protocol("harness-text").name == "harness-text"
    with pytest.raises(ParamError, match="did you mean `original`"):
        find_protocol("orignal")
    with pytest.raises(ParamError, match="did you mean `original-q_a`"):
        find_protocol("original-qa")
    assert all(protocol.name == name and protocol.version >= 1 for name, protocol in PROTOCOLS.items())


def test_statements_replace_the_value_in_the_reference() -> None:
    said = statements(["Anthar", "Bel"], 0, "Velmora lies in Anthar.")
    assert said == ["Velmora lies in Anthar.", "Velmora lies in Bel."]
    assert statements(["Anthar", "Bel"], 0, "") == statements(["Anthar", "Bel"], 0, "Anthar is Anthar.") == []
