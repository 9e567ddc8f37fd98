"""Public bug reports of judges, servers and scaling notebooks, as they were handed over: shared/cases/judging."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.alignment.instructions import from_file
from stages.annotators.bill import price
from stages.annotators.calls import ask
from stages.annotators.client import AnnotatorSettings, Pair, compare
from stages.annotators.reply import read_choice
from stages.base.errors import InputError
from stages.judging.respond import answers_of_endpoint
from stages.scaling.tables.table import read_table
from tests.annotators.flaky_server import Scripted
from tests.annotators.judges import settings
from tests.annotators.quirky_server import chat
from tests.annotators.test_calls import bodies, whole

ROOT = Path(__file__).resolve().parents[2]
STANDARD = ROOT / "stages/judging/prompts/standard.txt"
PAIRS = [Pair(f"q{i}", f"Question {i}?", "short", "a longer answer") for i in range(6)]
Case = Callable[[str], Any]


@pytest.fixture(scope="module")
def folder() -> Path:
    reference = Path(os.environ.get("TRAINYARD_REFERENCE", ROOT.parent / "shared" / "reference"))
    found = reference.parent / "cases" / "judging"
    if not found.is_dir():
        pytest.skip("handed cases not found: set TRAINYARD_REFERENCE to the folder of reference data beside them")
    return found


@pytest.fixture
def case(folder: Path) -> Case:
    return lambda name: json.loads(next(folder.glob(f"{name}_*.json")).read_text(encoding="utf-8"))


def judge_at(url: str, **over: Any) -> AnnotatorSettings:
    return settings(provider="openai", base_url=url, **over)


def test_f01_log_probabilities_of_thoughts(case: Case) -> None:
    handed = case("F01")
    choice = read_choice(handed["reply"])
    assert choice.second == pytest.approx(handed["expected"]["second"], abs=1e-4) and choice.weighted


@pytest.mark.parametrize("number", range(4))
def test_f03_no_answer_at_an_endpoint(case: Case, start, number: int) -> None:
    handed = case("F03")["replies"][number]
    well: list[bool] = []

    def script(body: dict[str, Any], tries: int) -> tuple[int, dict[str, Any], str]:
        spoilt = not well and body["messages"][0]["content"] in ("b", "c")
        return 200, handed["reply"] if spoilt else chat("yes"), ""

    judge = Scripted(script)
    server = settings(base_url=start(judge))
    with pytest.raises(InputError, match=r"2 of 4 prompts have no answer \(prompt 1: .* rerun") as ended:
        answers_of_endpoint(STANDARD, ["a", "b", "c", "d"], server)
    assert "\n" not in str(ended.value)
    well.append(True)
    answers, _ = answers_of_endpoint(STANDARD, ["a", "b", "c", "d"], server)
    assert answers == ["yes"] * 4 and len(judge.asked) == 4 + 2, "nothing of theirs was kept"


def test_f05_a_bad_reply_is_not_kept(case: Case, start) -> None:
    handed = case("F05")
    replies = [handed["replies_first_run"], handed["replies_second_run"]]
    judge = Scripted(lambda body, tries: (200, replies[min(tries, 2) - 1], ""))
    server = judge_at(start(judge))
    (first,), (second,), (third,) = (compare(PAIRS[:1], server, seed=1) for _ in range(3))
    assert math.isnan(first.preference) and "content_filter" in first.error
    assert second.preference in (1.0, 2.0) and second == third and len(judge.asked) == 2


def test_f06_one_long_prompt(case: Case, start) -> None:
    handed = case("F06")

    def script(body: dict[str, Any], tries: int) -> tuple[int, dict[str, Any], str]:
        long = "Question 3?" in body["messages"][0]["content"]
        return (handed["status"], handed["body"], "") if long else (200, chat("2"), "")

    judge = Scripted(script)
    server = judge_at(start(judge))
    for asked in (6, 7):  # the rerun asks once more and goes on as well
        got = compare(PAIRS, server, seed=1)
        assert [math.isnan(preference.preference) for preference in got] == [i == 3 for i in range(6)]
        assert "context of 2048" in got[3].error and len(judge.asked) == asked


def test_f08_a_field_that_the_server_forbids(case: Case, start) -> None:
    handed = case("F08")
    judge = Scripted(lambda body, tries: (handed["status"], handed["body"], ""))
    with pytest.raises(InputError, match=r"takes no `top_logprobs` .* set `logprobs: false`"):
        compare(PAIRS, judge_at(start(judge), concurrency=2), seed=1)
    assert len(judge.asked) <= 2


def test_f09_thoughts_beside_the_completion(case: Case) -> None:
    handed = case("F09")
    price_in, price_out = handed["usd_per_million"]
    server = settings(usd_per_million_input=float(price_in), usd_per_million_output=float(price_out))
    assert price({"usage": handed["usage"]}, server) == pytest.approx(handed["expected"])


def test_f10_a_trailing_slash(case: Case, start) -> None:
    first, second = case("F10")["base_urls"]
    judge = Scripted(lambda body, tries: (200, whole(), ""))
    url = start(judge)
    for spelling in (first, second):
        ask(bodies(1), settings(base_url=spelling.replace("http://host/v1", url)))
    assert len(judge.asked) == 1


def test_f16_millions(folder: Path) -> None:
    with pytest.raises(InputError, match=r"D is less than one token on lines 2 \(0.22\), 3 \(0.528\), 6"):
        read_table(folder / "F16_millions.csv")


def test_f17_separators_inside_lines_of_json(folder: Path) -> None:
    assert len(from_file(folder / "F17_u2028.jsonl", None, 0, "handed")) == 2


def test_f19_an_option_file_that_is_missing(folder: Path, tmp_path: Path) -> None:
    table = folder / "F11_nan_rank.annotations.json"
    for option in ("--difficulty", "--gamed"):
        command = [sys.executable, "-m", "stages.cli", "leaderboard", str(table), option, "/nonexistent.csv"]
        done = subprocess.run([*command, "--out", str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "/nonexistent.csv" in done.stderr and len(done.stderr.strip().splitlines()) == 1
