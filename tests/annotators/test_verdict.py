"""What of a judge's words is the verdict, and what only mentions a label."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.annotators.verdict import LONGEST, find_verdict

SAID = {
    # alone, in any dress
    "2": "2", " 1.": "1", "**2.**": "2", r"\boxed{1}": "1", r"$\boxed{\text{2}}$": "2", "[[2]]": "2", "Output (2)": "2",
    "output_1": "1", "#2": "2", "> 2": "2", "<b>2</b>": "2", "2<|im_end|>": "2", "```\n2\n```": "2", "1!": "1",
    '{"verdict": 2}': "2", '{"winner": "1"}': "1", "Answer:2": "2", "Answer\n2": "2", "**Final Answer: 1**": "1",
    # after words about both
    "Answer 1 names the wrong river. 2": "2",
    "Answer 1 names the wrong river.\n\n2": "2",
    "Answer 1:\nwrong river\nAnswer 2:\nright river\nVerdict: 2": "2",
    "1. Output 1 names the wrong river.\n2. Output 2 names the right river.\n\nVerdict: 1": "1",
    "First I thought 1. But the final answer is 2.": "2",
    "Answer 1 is better. Wait, no. 2": "2",
    "1? Hmm. 2": "2",
    "Explanation: 1 says red, 2 says blue. The sky is blue. Therefore, 2": "2",
    "The first does not name the river, so 2.": "2",
    "La mejor respuesta es la 2.": "2",
    # before its reasons
    "2\n\nAnswer 1 names the wrong river.": "2",
    "2. It names the right river.": "2",
    "2, because it is right": "2",
    "The better answer is 2 because 1 is wrong": "2",
    "2 is better than 1.": "2",
    # no verdict: mentions, questions, headings, denials, both, parts of numbers
    "": None, "Answer 1 names the wrong river.": None, "Answer 1 says Ondra": None, "Output 1 is wrong": None,
    "1 or 2": None, "1\n2": None, "1. 2.": None, "12": None, "1.5": None, "2/10": None, "2nd": None,
    "I prefer 2 over 1": None, "The better answer is not 1": None, "Neither 1 nor 2": None,
    "It is not, in my view, 1": None,
    "Which is better? 1 or 2?": None, "Answer 1:": None, "The wrong answer is 1.": None, "It's a tie: 1 and 2": None,
    "1. Output 1 names the wrong river.\n2. Output 2 names the right river.": None,
    "1 is better on style, 2 is better on facts.": None,
}  # fmt: skip


@pytest.mark.parametrize("text", SAID)
def test_what_a_judge_says(text: str) -> None:
    found = find_verdict(text)
    assert (found and found.label) == SAID[text]
    assert found is None or text[found.place] == found.label


@pytest.mark.parametrize(
    ("text", "label"),
    [("2", "2"), ("Verdict: 2", "2"), ("Answer 1", None), ("I compare. Answer 1", None), ("Reasons:\n1", None)],
)
def test_a_reply_that_was_cut_may_go_on(text: str, label: str | None) -> None:
    found = find_verdict(text, cut=True)
    assert (found and found.label) == label


@given(
    st.lists(st.sampled_from(["1", "2", " ", "\n", ".", "answer", "is", ":", "not", "better", "**", "?"]), max_size=14)
)
def test_the_verdict_is_a_label_of_the_text(parts: list[str]) -> None:
    text = "".join(parts)
    for cut in (False, True):
        found = find_verdict(text, cut)
        assert found is None or text[found.place] == found.label in ("1", "2")


def test_of_endless_words_the_last_are_read() -> None:
    found = find_verdict("is 1 better? " * LONGEST + "\nVerdict: 2")
    assert found is not None and found.label == "2"
