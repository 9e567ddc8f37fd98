import pytest

from stages.evaluation.protocols.protocol import Setting
from stages.evaluation.protocols.registry import PROTOCOLS, find_protocol
from stages.evaluation.protocols.variants import variants
from stages.evaluation.scoring.requests import Choices, Generate, Generated, Likelihood
from stages.evaluation.tasks.item import Item

CHOICES = ("1 m", "20 m", "300 m", "4 km")
SHOT = Item("e", "s", "physics", "development", "How long?", "Long?", ("3 s", "4 s", "5 s", "6 s"), 3)
ITEM = Item("q", "s", "physics", "test", "How far?", "Far?", CHOICES, 2)
SETTING = Setting(description="Measures.\n\n", options=(("output_type", "multiple_choice"),))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_six_wordings_at_least_and_no_two_alike(name: str) -> None:
    found = variants(PROTOCOLS[name])
    assert found[""] is PROTOCOLS[name] and len(found) >= 6
    requests = [repr(protocol.render(ITEM, [SHOT], SETTING)) for protocol in found.values()]
    assert len(set(requests)) == len(requests)


@pytest.mark.parametrize("name", ["original", "harness", "cloze", "chat", "task"])
def test_the_likeliest_choice_is_the_same_one_in_every_order(name: str) -> None:
    """An engine that knows the answer, whatever letter it has, is right under every variant."""
    for variant, protocol in variants(PROTOCOLS[name]).items():
        request = protocol.render(ITEM, [SHOT], SETTING)
        assert isinstance(request, Choices)
        nats = [0.0 if knows(request, text) else -5.0 for text in request.continuations]
        answer = protocol.read(ITEM, SETTING, [Likelihood(value, 1, False) for value in nats])
        assert (answer.choice, answer.scores["acc"]) == (2, 1.0), variant


def knows(request: Choices, continuation: str) -> bool:
    """Whether a continuation is "300 m", or the letter that stands before it in the prompt."""
    if "300 m" in continuation:
        return True
    line = next((line for line in request.contexts[0].split("\n") if "300 m" in line), "") if request.contexts else ""
    return bool(line) and continuation.strip() in (line.split(" ")[0], line[0])


@pytest.mark.parametrize("name", ["helm", "generate", "chat_generate"])
def test_a_letter_is_read_in_the_order_that_was_shown(name: str) -> None:
    for variant, protocol in variants(PROTOCOLS[name]).items():
        request = protocol.render(ITEM, [SHOT], SETTING)
        assert isinstance(request, Generate)
        prompt = request.messages[-1]["content"] if request.messages else request.context
        letter = next(line for line in prompt.split("\n") if line.endswith("300 m")).strip("()")[0]
        answer = protocol.read(ITEM, SETTING, Generated(f" {letter}", 1, False))
        assert (answer.choice, answer.scores) == (2, {"acc": 1.0}), variant


def test_a_variant_is_varied_further() -> None:
    request = variants(find_protocol("harness-text"))["q_a"].render(ITEM, [], SETTING)
    assert isinstance(request, Choices)
    assert request.contexts[0].startswith("Q: How far?") and request.continuations[0] == " 1 m"


@pytest.mark.parametrize("name", ["generate", "chat_generate"])
def test_open_questions_have_wordings_of_their_own(name: str) -> None:
    item = Item("q", "s", "sums", "test", "One and one?", "", targets=("Two.\n#### 2",))
    asked = {variant: one for variant, one in variants(PROTOCOLS[name]).items() if not one.why_not(item)}
    requests = {variant: one.render(item, [item], SETTING) for variant, one in asked.items()}
    assert len(requests) >= 6 and len(set(map(repr, requests.values()))) == len(requests)
    for variant, request in requests.items():
        assert isinstance(request, Generate)
        # what begins the next question ends the answer, and nothing that a solution has does
        assert not any(stop in "Two.\n#### 2" for stop in request.stop), variant
        if variant == "q_a" and name == "generate":
            assert request.context.endswith("\n\nQ: One and one?\nA:") and "\nQ:" in request.stop
        if variant == "rule":
            assert "\n\n---" in request.stop
