"""Comparison of experiments: arms of claims, seed by seed, from files that anyone may have written."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from scipy.stats import ttest_rel

from stages.base.contracts.claim import Arm, Claim, Cost, Run, Verdict
from tests.publishing.serve.browser import Browser, executable
from tests.publishing.serve.conftest import Running, Start

HOSTILE = "<script>document.title = 'mine'</script><img src=x onerror=\"document.title = 'mine'\"> \u202e'@%\" "
SCORES = {"baseline": {"1": 0.25, "2": 0.5, "3": 0.375}, "warm": {"1": 0.5, "2": 0.75, "3": 0.5, "4": 0.625}}


def claim(name: str, **changes: Any) -> Claim:
    runs = [
        Run(arm=arm, seed=seed, status="finished", values={"dpo/right": value, "same": 1.0}, n_items={}, stages={})
        for arm, values in SCORES.items()
        for seed, value in values.items()
    ]
    runs.append(Run(arm="warm", seed="5", status="failed", reason=HOSTILE, values={}, n_items={}, stages={}))
    arms = [
        Arm(name=arm, baseline=arm == "baseline", level=None, revision="", params=params, metrics={})
        for arm, params in (("baseline", {"a.lr": 0.1, "a.tag": HOSTILE}), ("warm", {"a.lr": 0.2}))
    ]
    told: dict[str, Any] = {
        "name": name, "claim": HOSTILE + "x" * 100_000, "source": "", "question": "", "topic": "", "scale": [],
        "rule": "warm > baseline", "metric": "dpo/right", "unit": "percent", "pair": ["seed"], "margin": None,
        "alpha": 0.05, "power": 0.8, "seeds": ["1", "2", "3", "4", "5"], "arms": arms, "runs": runs, "changes": [],
        "verdict": Verdict(verdict="undecided", sentence=HOSTILE, analysis="paired", level=0.95),
        "cost": Cost(executed=1, reused=0, cpu_seconds=1.0, judge_usd=0.0), "declaration": "", "digest": "0",
        "environment": {},
    }  # fmt: skip
    return Claim(**(told | changes))


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "reports" / "claims"
    folder.mkdir(parents=True)
    for name in ("first", "second"):
        (folder / f"{name}.json").write_text(json.dumps(claim(name).model_dump(mode="json")))
    monkeypatch.chdir(tmp_path)
    return folder


def compared(server: Running, a: str, b: str) -> httpx.Response:
    return httpx.get(f"{server.url}/api/experiments/compare", params={"a": a, "b": b}, timeout=60)


def test_claims_are_listed_and_broken_ones_named(start: Start, claims: Path) -> None:
    (claims / "third.json").write_text('{"name": 5}')
    server = start(models={})
    told = httpx.get(f"{server.url}/api/experiments").json()
    assert [one["name"] for one in told["claims"]] == ["first", "second"]
    assert told["claims"][0]["arms"] == ["baseline", "warm"] and told["claims"][0]["baseline"] == "baseline"
    assert len(told["notes"]) == 1 and "third.json" in told["notes"][0]
    (claims / "third.json").write_text(json.dumps(claim("third").model_dump(mode="json")))  # a report made meanwhile
    assert [one["name"] for one in httpx.get(f"{server.url}/api/experiments").json()["claims"]][2:] == ["third"]
    assert httpx.get(server.url, follow_redirects=True).url.path == "/compare"


def test_without_the_runs_seeds_are_paired(start: Start, claims: Path) -> None:
    told = compared(start(models={}), "first:baseline", "second:warm").json()
    row, same = told["metrics"]
    right = ttest_rel([SCORES["warm"][seed] for seed in "123"], [SCORES["baseline"][seed] for seed in "123"])
    interval = right.confidence_interval(0.95)
    assert (row["low"], row["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert row["difference"] == pytest.approx(0.625 / 3) and row["seeds"] == 3 and row["a"] == 0.375
    assert row["b"] == pytest.approx(0.59375) and row["unit"] == "percent" and same["name"] == "same"
    assert told["runs"]["dpo/right"] == {"a": SCORES["baseline"], "b": SCORES["warm"]}
    assert told["params"] == [["a.lr", "0.1", "0.2"], ["a.tag", json.dumps(HOSTILE, ensure_ascii=False), None]]
    assert any("no runs here" in note for note in told["notes"])


def test_one_seed_has_no_interval(start: Start, claims: Path) -> None:
    told = compared(start(models={}), "first:baseline@2", "first:warm@4").json()
    row = told["metrics"][0]
    assert row["difference"] == pytest.approx(0.125) and row["low"] is None and row["seeds"] == 0
    assert told["runs"]["dpo/right"] == {"a": {"2": 0.5}, "b": {"4": 0.625}}


def test_with_the_runs_items_are_paired(start: Start, claims: Path) -> None:
    asked = []

    def compare(a: str, b: str) -> dict[str, Any]:
        asked.append((a, b))
        row = {"unit": "", "a": 1.0, "b": float("nan"), "difference": 0.5, "low": float("-inf"), "high": 1.0}
        rows = [row | {"name": name, "items": 8, "clusters": 0, "seeds": 3, "item": "question", "same": False}
                for name in ("pretrain/loss", "dpo/right")]  # fmt: skip
        return {
            "params": {"b.c": {"a": [1], "b": None}},
            "metrics": rows,
            "stages": {"all": 9, "differing": {"sft": ["params"]}},
            "notes": ["seen"],
        }

    told = compared(start(models={}, compare=compare), "first:baseline", "first:warm@2").json()
    assert asked == [("first:baseline", "first:warm@2")]
    assert [row["name"] for row in told["metrics"]] == ["dpo/right", "pretrain/loss"]  # what the claim rules by first
    assert told["metrics"][0]["b"] is None and told["metrics"][0]["low"] is None
    assert told["params"] == [["b.c", "[1]", "null"]] and told["stages"] == {"all": 9, "differing": 1}
    assert told["notes"] == ["seen"]


NO_ARMS = ["", "first", "first:", "first:cold", "third:warm", "first:warm@9", "../first:warm", ".", HOSTILE, "a" * 9000]


@pytest.mark.parametrize("name", NO_ARMS)
def test_what_is_no_arm_is_refused(start: Start, claims: Path, name: str) -> None:
    reply = compared(start(models={}), name, "first:warm")
    assert reply.status_code == 404 and reply.json()["error"]["param"] == "a" and len(reply.text) < 2000


@pytest.mark.skipif(executable() is None, reason="no Chromium here")
def test_two_arms_in_the_browser(start: Start, claims: Path) -> None:
    server = start(models={})
    with Browser(server.url) as browser:
        browser.open("/compare?a=first:baseline&b=second:warm&metric=dpo/right")
        browser.until("!document.getElementById('compared').hidden")
        assert browser.value("document.querySelectorAll('svg circle').length") == 3
        assert browser.value("document.querySelectorAll('svg rect').length") == 4
        numbers = browser.text("#numbers")
        assert "dpo/right" in numbers and "3 seeds" in numbers
        assert "The same on both sides: same" in browser.text("#same")
        assert HOSTILE.split()[0] in browser.text("#params") and HOSTILE.split()[0] in browser.text("#a p")
        browser.value(
            "document.querySelector('#b [name=seed]').value = '2';"
            "document.querySelector('#b [name=seed]').dispatchEvent(new Event('change'))"
        )
        browser.until("document.querySelectorAll('svg rect').length === 1")
        assert "b=second%3Awarm%402" in browser.value("location.search")
        browser.open(browser.value("location.pathname + location.search"))  # a link that someone was sent
        browser.until("document.querySelectorAll('svg rect').length === 1")
        browser.send("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
        browser.until("document.querySelector('svg').clientWidth < 390")
        assert browser.value("document.documentElement.scrollWidth") <= 390
        assert browser.value("document.title") == "Compare · Trainyard" and browser.problems == []
