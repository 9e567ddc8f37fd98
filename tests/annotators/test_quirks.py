"""A judge with every quirk of the public reports: right verdicts or reasons, the server's own bill, cheap reruns."""

import math
from typing import Any

from stages.annotators.client import AnnotatorSettings, Pair, compare
from tests.annotators.judges import settings
from tests.annotators.quirky_server import QUIRKS, USD_PER_MILLION, QuirkyJudge


def pairs(count: int) -> list[Pair]:
    return [Pair(f"q{i}", f"Question {i}?", "short", "a longer answer") for i in range(count)]


def judge_at(url: str, **over: Any) -> AnnotatorSettings:
    price_in, price_out = USD_PER_MILLION
    prices = {"usd_per_million_input": price_in, "usd_per_million_output": price_out, "max_cost_usd": 100.0}
    return settings(provider="openai", base_url=url, **(prices | over))


def test_every_pair_has_the_right_verdict_or_a_reason_and_the_bill_is_the_servers(start) -> None:
    judge = QuirkyJudge(220)
    assert set(judge.fate) == {"", *QUIRKS}, "all of them occur"
    asked = judge_at(start(judge))
    got = compare(pairs(220), asked, seed=1)
    for number, preference in enumerate(got):
        reason = judge.expected(number)
        if reason:
            assert math.isnan(preference.preference) and reason in preference.error, (judge.fate[number], preference)
        else:
            assert preference.preference > 1.95 and not preference.error, (judge.fate[number], preference)
    assert len(judge.asked) == 220
    assert math.isclose(sum(preference.usd for preference in got), judge.usd)
    without = sum(bool(judge.expected(number)) for number in range(220))
    judge.well = True
    again = compare(pairs(220), asked, seed=1)
    assert len(judge.asked) == 220 + without, "only what had no usable reply"
    assert all(preference.preference > 1.95 for preference in again)
    assert math.isclose(sum(preference.usd for preference in again), judge.usd), "what was paid for nothing counts too"
    compare(pairs(220), asked, seed=1)
    assert len(judge.asked) == 220 + without


def test_weights_come_from_the_answer_and_not_from_thoughts(start) -> None:
    judge = QuirkyJudge(220)
    got = compare(pairs(220), judge_at(start(judge)), seed=1)
    weighted = {judge.fate[number] for number, preference in enumerate(got) if preference.weighted}
    assert weighted == {"", "log-probabilities of thoughts first", "cut at one token"}
