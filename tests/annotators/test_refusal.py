"""What servers' errors mean: one call given up, another try, or the end of the run with the setting to change."""

from typing import Any

import pytest

from stages.annotators.calls import DEAD_AFTER, ask
from stages.annotators.client import Pair, compare
from stages.annotators.refusal import Refused, TryAgain, meaning
from stages.base.errors import InputError
from tests.annotators.flaky_server import Scripted
from tests.annotators.judges import settings
from tests.annotators.quirky_server import chat
from tests.annotators.test_calls import bodies, number_of, whole

SENT = {"messages": [{"role": "user", "content": "Is `logprobs` not supported? Is temperature unknown?"}]}
FIELD = [  # status, what the server says, the setting to change
    (400, {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
           "'max_completion_tokens' instead.", "param": "max_tokens", "code": "unsupported_parameter"},
     "max_tokens: null"),
    (400, {"message": "Unsupported value: 'temperature' does not support 0.0 with this model.", "param": "temperature",
           "code": "unsupported_value"}, "temperature: null"),
    (400, {"message": "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.",
           "param": "max_tokens", "code": "invalid_value"}, "max_tokens: null"),
    (400, {"message": "Unrecognized request argument supplied: top_logprobs"}, "logprobs: false"),
    (403, {"message": "You are not allowed to request logprobs from this model."}, "logprobs: false"),
    (501, {"message": "logprobs is not supported by this server", "type": "not_supported_error"}, "logprobs: false"),
    (400, 'Invalid JSON payload received. Unknown name "logprobs": Cannot find field.', "logprobs: false"),
    (400, {"message": "litellm.UnsupportedParamsError: openai does not support parameters: ['logprobs']"},
     "logprobs: false"),
    (400, {"message": "[{'type': 'extra_forbidden', 'loc': ('body', 'top_logprobs'), 'msg': 'Extra inputs are not "
           "permitted', 'input': 5}]"}, "logprobs: false"),
    (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "logprobs"], "msg": "Extra inputs"}]},
     "logprobs: false"),
    (400, {"message": "Provider returned error", "code": 400, "metadata": {"raw": "logprobs is not supported"}},
     "logprobs: false"),
    (422, {"detail": [{"type": "less_than_equal", "loc": ["body", "temperature"], "msg": "should be at most 1"}]},
     "temperature: null"),
    (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
     "takes no `seed`"),
    (400, {"message": "Requested sample logprobs of 5, which is greater than max allowed: 0"}, "logprobs: false"),
]  # fmt: skip
OWN = [  # of the one call
    (400, {"message": "This model's maximum context length is 2048 tokens. However, your request has 2300 input "
           "tokens. Please reduce the length of the input messages.", "code": "context_length_exceeded"}),
    (400, {"message": "'max_tokens' or 'max_completion_tokens' is too large: 40. This model's maximum context length "
           "is 2048 tokens and your request has 2030 input tokens", "param": "max_tokens"}),
    (400, {"message": "the request exceeds the available context size", "type": "exceed_context_size_error"}),
    (400, {"message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"}),
    (400, {"message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy",
           "param": "prompt", "code": "content_filter"}),
    (403, {"message": "Your chosen model requires moderation and your input was flagged for \"violence\"",
           "metadata": {"reasons": ["violence"], "flagged_input": "logprobs not supported"}}),
    (400, {"message": "Invalid prompt: your prompt was flagged as potentially violating our usage policy",
           "code": "invalid_prompt"}),
    (413, "Payload Too Large"),
    (422, {"detail": [{"type": "string_too_long", "loc": ["body", "messages", 0, "content"], "msg": "too long",
                       "input": "Is temperature unknown?"}]}),
    (400, {"message": "cannot parse: Is `logprobs` not supported? Is temperature unknown?"}),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "remedy"), FIELD)
def test_a_field_that_no_call_may_have_ends_the_run(status: int, body: Any, remedy: str) -> None:
    got = meaning(status, body, {}, SENT, settings(), "BadRequestError")
    assert isinstance(got, InputError) and remedy in str(got) and "\n" not in str(got)


@pytest.mark.parametrize(("status", "body"), OWN)
def test_what_one_prompt_is_refused_for_is_its_own(status: int, body: Any) -> None:
    got = meaning(status, body, {}, SENT, settings(), "BadRequestError")
    assert isinstance(got, Refused), got


def test_what_another_try_may_help() -> None:
    for status in (408, 409, 429, 500, 502, 503, 529):
        got = meaning(status, {"message": "later"}, {"retry-after": "3"}, SENT, settings(), "X")
        assert isinstance(got, TryAgain) and got.wait == 3 and got.limited == (status == 429)


def test_a_server_that_begins_to_refuse_a_field_in_the_middle_ends_the_run_there(start) -> None:
    judge = Scripted(lambda body, tries: (200, whole(), ""))

    def script(body: dict[str, Any], tries: int) -> tuple[int, dict[str, Any], str]:
        if len(judge.asked) <= 30:
            return 200, whole(), ""
        return 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "max_tokens"], "msg": "Extra"}]}, ""

    judge.script = script
    server = settings(base_url=start(judge), concurrency=4)
    with pytest.raises(InputError, match=r"takes no `max_tokens` .* set `max_tokens: null`"):
        ask(bodies(500), server)
    asked = len(judge.asked)
    assert asked <= 30 + 2 * 4
    judge.script = lambda body, tries: (200, whole(), "")
    ask(bodies(500), server)
    assert len(judge.asked) == asked + 470, "what was answered before is kept"


def test_refusals_that_nobody_understands_end_the_run_before_500_of_them(start) -> None:
    judge = Scripted(lambda body, tries: (400, {"error": {"message": "no"}}, ""))
    with pytest.raises(InputError, match=f"{DEAD_AFTER} calls in a row were refused"):
        ask(bodies(500), settings(base_url=start(judge), concurrency=4))
    assert len(judge.asked) <= DEAD_AFTER + 2 * 4


def test_prompts_that_are_all_too_long_are_rows(start) -> None:
    judge = Scripted(lambda body, tries: (400, {"error": {"message": "maximum context length is 9 tokens"}}, ""))
    got = ask(bodies(60), settings(base_url=start(judge), concurrency=4))
    assert len(judge.asked) == 60 and all("context length" in answer.error for answer in got)


def test_replies_of_no_use_end_a_run_that_had_no_other_but_not_a_rerun_for_what_is_left(start) -> None:
    judge = Scripted(lambda body, tries: (200, chat(None), ""))
    server = settings(base_url=start(judge), concurrency=4)
    with pytest.raises(InputError, match="100 replies in a row are no answers"):
        ask(bodies(500), server)
    judge.script = lambda body, tries: (200, chat(None if number_of(body) < 150 else "2"), "")
    paid = len(judge.asked)
    ask(bodies(500)[150:], server)
    got = ask(bodies(500), server)
    assert [answer.reply is None for answer in got] == [number < 150 for number in range(500)]
    assert len(judge.asked) == paid + 500


@pytest.mark.parametrize("code", [400, "context_length_exceeded", 429, 502])
def test_an_error_in_a_reply_that_says_200(start, code: Any) -> None:
    error = {"error": {"message": "maximum context length is 9 tokens", "code": code}}
    judge = Scripted(lambda body, tries: (200, error if tries == 1 else whole(), ""))
    (got,) = ask(bodies(1), settings(base_url=start(judge), max_retries=1))
    assert (got.reply is None) == (code == 400), "400 is the prompt's own, others are tried again"


def test_a_judge_that_changes_in_the_middle_is_named(start, capsys: pytest.CaptureFixture[str]) -> None:
    judge = Scripted(lambda body, tries: (200, chat("2") | {"model": f"judge-{int(len(judge.asked) > 3)}"}, ""))
    pairs = [Pair(f"q{i}", f"Question {i}?", "short", "longer") for i in range(6)]
    got = compare(pairs, settings(provider="openai", base_url=start(judge)), seed=1)
    assert {preference.annotator for preference in got} == {"judge-0", "judge-1"}
    assert "answered as 2 models: " in capsys.readouterr().err


def test_log_probabilities_that_a_server_ignores_leave_the_text(start) -> None:
    """As `transformers serve` 5.23 does: asked for, not refused, and not there."""

    def reply(body, tries):
        assert body["logprobs"] is True and body["top_logprobs"] == 5
        found = chat("1", finish="length")
        del found["choices"][0]["logprobs"]
        return 200, found, ""

    pairs = [Pair(f"q{i}", f"Question {i}?", "short", "longer") for i in range(6)]
    got = compare(pairs, settings(provider="openai", base_url=start(Scripted(reply)), order="both"), seed=1)
    assert [(preference.preference, preference.weighted) for preference in got] == [(1.5, False)] * 6


def test_log_probabilities_that_stop_in_the_middle_leave_the_text(start) -> None:
    top = [{"token": "2", "logprob": -0.1}, {"token": "1", "logprob": -2.4}]
    given = {"content": [{"token": "2", "logprob": -0.1, "top_logprobs": top}]}
    judge = Scripted(lambda body, tries: (200, chat("2", logprobs=given if len(judge.asked) < 4 else None), ""))
    pairs = [Pair(f"q{i}", f"Question {i}?", "short", "longer") for i in range(6)]
    got = compare(pairs, settings(provider="openai", base_url=start(judge), concurrency=1), seed=1)
    assert [preference.weighted for preference in got] == [True] * 3 + [False] * 3
