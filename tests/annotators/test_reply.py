"""Replies of judges of all kinds, hostile ones too."""

import math
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.annotators.bill import price
from stages.annotators.reply import UnparsableReply, cut_short, read_choice, reply_text, version, without_thoughts
from tests.annotators.judges import settings


def reply(text: Any, top: dict[str, float] | None = None) -> dict[str, Any]:
    logprobs = None
    if top:
        tokens = [{"token": t, "logprob": math.log(p)} for t, p in top.items()]
        logprobs = {"content": [{**tokens[0], "top_logprobs": tokens}]}
    return {"choices": [{"message": {"content": text}, "logprobs": logprobs}]}


def test_preferences_are_weighted_by_the_labels_log_probabilities() -> None:
    weighted = read_choice(reply("2", {"2": 0.6, "1": 0.2, " 1": 0.1, "A": 0.1}))
    assert weighted.second == pytest.approx(0.6 / 0.9) and weighted.weighted
    assert read_choice(reply("1", {"1": 1.0})).second == 0.0


@pytest.mark.parametrize("logprob", [math.nan, 5.0, math.inf])
def test_numbers_that_are_no_log_probabilities_leave_the_text_to_be_read(logprob: float) -> None:
    tokens = [{"token": "1", "logprob": logprob}, {"token": "2", "logprob": -0.1}]
    logprobs = {"content": [{**tokens[0], "top_logprobs": tokens}]}
    choice = read_choice({"choices": [{"message": {"content": "1"}, "logprobs": logprobs}]})
    assert (choice.second, choice.weighted) == (0.0, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2", 1),
        (" 1.", 0),
        ("Answer: 2", 1),
        ("**2**", 1),
        (r"\boxed{1}", 0),
        ("<think>1? 2?</think>\n1", 0),
        ("The first, 1, is shorter than 2.</think> 2", 1),  # the server had put the opening tag into the prompt
        ("[THINK]1 or 2[/THINK]2", 1),
        ("<Thinking>\n1\n</Thinking>\n2", 1),
        ([{"type": "thinking", "thinking": "1?"}, {"type": "text", "text": "2"}], 1),
    ],
)
def test_text_replies(text: Any, expected: int) -> None:
    choice = read_choice(reply(text))
    assert choice.second == expected and not choice.weighted


def test_log_probabilities_of_thoughts_are_not_the_verdict() -> None:
    thinking = reply("<think>1 looks fine</think>2", {"1": 0.9, "2": 0.1})
    assert read_choice(thinking).second == 1 and not read_choice(thinking).weighted


@pytest.mark.parametrize("text", ["", "12", "1 or 2", "1.5", "<think>2", "neither", None, 2, {"a": 1}])
def test_text_that_names_no_single_answer(text: Any) -> None:
    with pytest.raises(UnparsableReply):
        read_choice(reply(text))


def test_names_and_texts_out_of_replies_are_printable() -> None:
    assert version({"model": "gpt\x1b[31m\n" + "x" * 1000, "system_fingerprint": 7}) == "gpt[31m" + "x" * 91
    assert (
        version({"model": "gpt-4.1-mini-2025-04-14", "system_fingerprint": "fp_1"}) == "gpt-4.1-mini-2025-04-14 (fp_1)"
    )
    assert reply_text(reply("half \ud800 pair")) == "half ? pair"
    assert cut_short({"choices": [{"finish_reason": "length"}]}) and not cut_short({})


KEYS = ["choices", "message", "content", "logprobs", "top_logprobs", "token", "logprob", "usage", "type", "text"]
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(["1", "2", " 1", "x", "</think>"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)
near_replies = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries({"message": json_values, "logprobs": st.fixed_dictionaries({"content": json_values})})
            | json_values,
            max_size=2,
        ),
        "usage": json_values,
        "model": json_values,
    }
)


@hypothesis.settings(deadline=None)
@given(near_replies)
def test_no_reply_breaks_the_reader(hostile: dict[str, Any]) -> None:
    try:
        choice = read_choice(hostile)
    except UnparsableReply:
        pass
    else:
        assert 0 <= choice.second <= 1
    assert price(hostile, settings()) >= 0 and version(hostile).isprintable()


@hypothesis.settings(deadline=None)
@given(st.lists(st.sampled_from(["<think>", "</think>", "a", "1", "[THINK]", "[/THINK]"]), max_size=8))
def test_what_is_left_of_a_text_has_no_thoughts(parts: list[str]) -> None:
    left = without_thoughts("".join(parts))
    assert "think" not in left.lower()
