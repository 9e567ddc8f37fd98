"""Calls to a server that fails as servers do, by the server's own ledger."""

import time
from typing import Any

import pytest

from stages.annotators.attempt import MAX_REPLY_BYTES
from stages.annotators.calls import DEAD_AFTER, ask
from stages.annotators.refusal import LONGEST_RETRY_AFTER_S, _retry_after
from stages.base.errors import InputError, ParamError
from tests.annotators.flaky_server import FATES, FlakyJudge, Scripted
from tests.annotators.judges import settings

OUTPUTS = '{"output_1": "short"}\n{"output_2": "longer"}'


def bodies(count: int) -> list[dict[str, Any]]:
    content = [f"Question {number}?\n{OUTPUTS}" for number in range(count)]
    return [{"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 1} for text in content]


def whole(text: str = "2", tokens: int = 1) -> dict[str, Any]:
    return {
        "model": "judge",
        "choices": [{"message": {"content": text}}],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 0},
    }


def number_of(body: dict[str, Any]) -> int:
    return int(body["messages"][0]["content"].split("?")[0].split()[-1])


def test_every_call_is_answered_once_whatever_the_server_does_and_a_rerun_asks_nothing(start) -> None:
    judge = FlakyJudge(latency=0.02, fates=[odds for odds in FATES if odds[0] != "hanging"])
    server = settings(base_url=start(judge), concurrency=32, max_retries=6, timeout_s=60.0)
    got = ask(bodies(300), server)
    assert all(answer.reply is not None and answer.error == "" and answer.seconds > 0 for answer in got)
    ledger = judge.ledger()
    assert {"limited", "broken", "cut", "slow"} <= set(ledger["fates"]), "the server did fail"
    assert (ledger["calls"], ledger["whole_replies"], ledger["most_replies_of_a_call"]) == (300, 300, 1)
    assert ledger["most_at_once"] <= 32
    assert ask(bodies(300), server) == got
    assert judge.ledger() == ledger


def test_a_rate_limit_is_no_failure(start) -> None:
    judge = FlakyJudge(latency=0.001, requests_per_second=20)
    server = settings(base_url=start(judge), concurrency=32, max_retries=0)
    assert all(answer.reply for answer in ask(bodies(40), server))
    assert judge.fates["limited"] > 5, "it did limit"
    assert judge.fates["limited"] < 10 * 40, "and wasn't hammered"


def test_a_call_that_waits_leaves_its_place_to_others(start) -> None:
    def script(body: dict[str, Any], tries: int) -> tuple[int, dict[str, Any], str]:
        wait = number_of(body) == 0 and tries == 1
        return (429, {}, "Retry-After: 0.5\r\n") if wait else (200, whole(), "")

    judge = Scripted(script)
    ask(bodies(5), settings(base_url=start(judge), concurrency=1))
    assert [number_of(body) for body in judge.asked] == [0, 1, 2, 3, 4, 0]


def test_equal_requests_are_one_call(start) -> None:
    judge = Scripted(lambda body, tries: (200, whole(), ""))
    got = ask(bodies(3) + bodies(3), settings(base_url=start(judge)))
    assert len(judge.asked) == 3 and got[:3] == got[3:]


def test_replies_that_never_end_or_never_make_sense_are_error_rows(start) -> None:
    def script(body: dict[str, Any], tries: int) -> tuple[int, Any, str]:
        contents = [b"<html>", b"[" * 100_000, {"error": {"message": "overloaded"}}, b" " * (MAX_REPLY_BYTES + 1)]
        return 200, contents[number_of(body)], ""

    got = ask(bodies(4), settings(base_url=start(Scripted(script)), max_retries=0))
    assert [answer.reply for answer in got] == [None] * 4
    for answer, word in zip(got, ("no JSON", "no JSON", "overloaded", "bytes"), strict=True):
        assert word in answer.error
    hanging = FlakyJudge(latency=60)
    (slow,) = ask(bodies(1), settings(base_url=start(hanging), max_retries=0, timeout_s=0.2))
    assert "no whole reply within 0.2 s" in slow.error


def test_a_budget_that_the_estimate_missed_stops_the_run_and_keeps_what_was_paid_for(start) -> None:
    judge = Scripted(lambda body, tries: (200, whole(tokens=100_000), ""))
    server = settings(base_url=start(judge), concurrency=2, max_cost_usd=0.55)  # at $1 a million: $0.1 a reply
    with pytest.raises(ParamError, match="max_cost_usd"):
        ask(bodies(40), server)
    paid = len(judge.asked)
    assert 6 <= paid <= 8, "those under way are waited for, no other is begun"
    ask(bodies(40), server.model_copy(update={"max_cost_usd": 9.0}))
    assert len(judge.asked) == 40, "nothing was bought twice"


@pytest.mark.parametrize(
    ("status", "error", "remedy"),
    [
        (401, {"message": "bad key"}, "TRAINYARD_TEST_KEY"),
        (404, {"message": "no such model"}, "`model`"),
        (429, {"message": "pay", "code": "insufficient_quota"}, "refuses calls"),
        (400, {"message": "Unsupported parameter", "param": "max_tokens"}, "set `max_tokens: null`"),
        (400, {"message": "logprobs are not supported with reasoning models"}, "set `logprobs: false`"),
    ],
)
def test_what_every_call_would_meet_ends_the_run_at_once(start, status: int, error: dict, remedy: str) -> None:
    judge = Scripted(lambda body, tries: (status, {"error": error}, ""))
    with pytest.raises(InputError, match=remedy):
        ask(bodies(40), settings(base_url=start(judge), concurrency=2))
    assert len(judge.asked) <= 2


def test_a_bad_request_is_one_row_and_not_tried_again(start) -> None:
    def script(body: dict[str, Any], tries: int) -> tuple[int, dict[str, Any], str]:
        return (400, {"error": {"message": "too long"}}, "") if number_of(body) == 1 else (200, whole(), "")

    judge = Scripted(script)
    got = ask(bodies(3), settings(base_url=start(judge)))
    assert [bool(answer.error) for answer in got] == [False, True, False] and "too long" in got[1].error
    assert len(judge.asked) == 3


def test_a_dead_server_ends_the_run() -> None:
    with pytest.raises(InputError, match=f"{DEAD_AFTER} calls in a row failed"):
        ask(bodies(500), settings(base_url="http://127.0.0.1:9/v1", concurrency=4, max_retries=0))


def test_what_a_server_asks_us_to_wait() -> None:
    def after(**headers: str) -> float | None:
        return _retry_after({name.replace("_", "-"): value for name, value in headers.items()})

    assert after() is None and after(retry_after="soon") is None and after(retry_after="nan") is None
    assert after(retry_after="-3") is None
    assert after(retry_after="2") == 2 and after(retry_after_ms="250", retry_after="9") == 0.25
    assert after(retry_after="1e12") == LONGEST_RETRY_AFTER_S
    assert after(retry_after="Wed, 21 Oct 2015 07:28:00 GMT") is None
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))
    assert 55 < after(retry_after=date) <= 60  # type: ignore[operator]
