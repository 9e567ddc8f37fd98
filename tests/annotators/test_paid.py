"""What was paid for is neither lost, nor paid twice, nor shown to anyone: the cache, the bill and the key."""

import json
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from stages.annotators.bill import billed_tokens
from stages.annotators.cache import CACHE_FILE, CallCache, call_key
from stages.annotators.calls import ask
from stages.annotators.client import Pair, compare
from stages.annotators.server import normal_url
from stages.base.errors import InputError, ParamError, ResourceError
from stages.base.store import project_store
from tests.annotators.flaky_server import Scripted
from tests.annotators.judges import settings
from tests.annotators.quirky_server import chat
from tests.annotators.test_calls import bodies, number_of, whole

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-proj-4f9a1c77e2b84d"


@pytest.mark.parametrize(
    "other",
    ["http://host/v1/", "HTTP://HOST/v1", "http://host:80/v1", "http://me:secret@host/v1//", " http://host/v1 "],
)
def test_one_server_has_one_name(other: str) -> None:
    assert normal_url(other) == "http://host/v1"
    assert call_key(other, {}) == call_key("http://host/v1", {})
    assert call_key("http://host:8080/v1", {}) != call_key("http://host/v1", {}) != call_key("http://host/V1", {})


@pytest.mark.parametrize("bad", ["host/v1", "", "ftp://host", "http://host:port/v1", "http://[::1/v1"])
def test_what_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(ParamError, match="`base_url`"):
        normal_url(bad)


def test_two_spellings_pay_once(start) -> None:
    judge = Scripted(lambda body, tries: (200, whole(), ""))
    url = start(judge)
    ask(bodies(3), settings(base_url=url))
    ask(bodies(3), settings(base_url=url.replace("http:", "HTTP:") + "/"))
    assert len(judge.asked) == 3


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}, (9, 5)),
        # among the completion tokens (OpenAI), beside them (xAI, Gemini), told without a total
        (
            {"prompt_tokens": 9, "completion_tokens": 50, "total_tokens": 59,
             "completion_tokens_details": {"reasoning_tokens": 40}},
            (9, 50),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 50, "total_tokens": 99,
             "completion_tokens_details": {"reasoning_tokens": 40}},
            (9, 90),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 99}, (9, 90)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "reasoning_tokens": 40}, (9, 45)),
        ({"prompt_tokens": 9, "completion_tokens": 50, "reasoning_tokens": 40}, (9, 50)),
        ({"input_tokens": 9, "output_tokens": 50, "output_tokens_details": {"reasoning_tokens": 40}}, (9, 50)),
        ({"completion_tokens": 5, "total_tokens": 14}, (9, 5)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 3}, (9, 5)),
        ({"prompt_tokens": 9.0, "completion_tokens": "5", "total_tokens": None}, (9, 0)),
        ("lots", (0, 0)),
        (None, (0, 0)),
    ],
)  # fmt: skip
def test_thoughts_are_billed_once(usage: Any, expected: tuple[int, int]) -> None:
    assert billed_tokens(usage) == expected


def test_one_call_under_two_ids_is_paid_by_the_first(start) -> None:
    judge = Scripted(lambda body, tries: (200, chat("2"), ""))
    pairs = [Pair(f"q{i}", "Which?", "short", "longer") for i in range(6)]
    got = compare(pairs, settings(provider="openai", base_url=start(judge)), seed=1)
    assert sum(preference.usd for preference in got) == pytest.approx(len(judge.asked) * 101 / 1e6)
    assert len(judge.asked) == 2, "one for each order"


def test_replies_without_token_counts_count_by_estimate_for_the_bound(start, capsys) -> None:
    judge = Scripted(lambda body, tries: (200, chat("2", usage={"none": 1}), ""))
    dear = settings(base_url=start(judge), usd_per_million_output=1e5, max_cost_usd=1.0, concurrency=1)
    ask(bodies(5), dear)
    assert "5 replies name no token counts" in capsys.readouterr().err


def test_the_cache_is_its_owners_alone(start, own_cache: Path) -> None:
    ask(bodies(2), settings(base_url=start(Scripted(lambda body, tries: (200, whole(), "")))))
    files = [path for path in (own_cache / ".trainyard").iterdir() if path.name.startswith("calls")]
    assert {path.name for path in files} >= {"calls.sqlite", "calls.lock"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)


def test_a_cache_that_was_open_to_all_is_closed(own_cache: Path) -> None:
    path = own_cache / "calls.sqlite"
    path.touch(0o644)
    with CallCache(path) as cache:
        cache.add("k", {}, {}, 1.0)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in own_cache.iterdir()}
    assert set(modes.values()) == {0o600} and "calls.sqlite-wal" in modes


def test_replies_without_use_that_older_versions_kept_are_asked_again(start) -> None:
    judge = Scripted(lambda body, tries: (200, whole(), ""))
    server = settings(base_url=start(judge))
    (body,) = bodies(1)
    with CallCache(project_store() / CACHE_FILE) as cache:
        cache.add(call_key(server.base_url, body), body, chat(None), 1.0)
    (got,) = ask([body], server)
    assert got.reply == whole() and len(judge.asked) == 1
    assert got.usd == pytest.approx((101 + 1) / 1e6), "the one that was thrown away was paid too"
    ask([body], server)
    assert len(judge.asked) == 1


def test_a_full_disk_ends_the_run_and_says_what_is_lost(start, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Scripted(lambda body, tries: (200, whole(), ""))
    server = settings(base_url=start(judge), concurrency=2)
    add, kept = CallCache.add, []

    def full(self: CallCache, *arguments: Any) -> None:
        if len(kept) >= 3:
            raise sqlite3.OperationalError("database or disk is full")
        kept.append(arguments)
        add(self, *arguments)

    monkeypatch.setattr(CallCache, "add", full)
    with pytest.raises(
        ResourceError, match=r"disk is full\): free space .* paid replies \(\$0\.0000\) are lost"
    ) as ended:
        ask(bodies(30), server)
    assert "move it away" not in str(ended.value)
    paid = len(judge.asked)
    assert paid <= 3 + 2 * 2, "those under way were waited for, and no further one was made"
    monkeypatch.setattr(CallCache, "add", add)
    ask(bodies(30), server)
    assert len(judge.asked) == paid + 27


def test_a_disk_that_is_full_for_a_moment_loses_nothing(start, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Scripted(lambda body, tries: (200, whole(), ""))
    server = settings(base_url=start(judge), concurrency=1)
    add, failures = CallCache.add, [sqlite3.OperationalError("disk I/O error")]

    def once(self: CallCache, *arguments: Any) -> None:
        if failures:
            raise failures.pop()
        add(self, *arguments)

    monkeypatch.setattr(CallCache, "add", once)
    with pytest.raises(ResourceError, match="all paid replies are cached"):
        ask(bodies(30), server)
    paid = len(judge.asked)
    ask(bodies(30), server)
    assert paid < 30 and len(judge.asked) == 30


def test_a_disk_without_room_is_found_before_anything_is_paid(start, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Scripted(lambda body, tries: (200, whole(), ""))
    monkeypatch.setattr("stages.annotators.cache.LEAST_FREE_BYTES", 1 << 60)
    with pytest.raises(ResourceError, match=r"free .* MiB before paying"):
        ask(bodies(1), settings(base_url=start(judge)))
    assert not judge.asked


def test_a_damaged_cache_is_named(own_cache: Path) -> None:
    (own_cache / "calls.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="move it away"):
        CallCache(own_cache / "calls.sqlite")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE calls SET reply = replace(reply, '\"1\"', '\"2\"')",  # a verdict turned round
        "UPDATE calls SET reply = 'no JSON'",
        "UPDATE calls SET reply = '[]'",
        "UPDATE calls SET reply = CAST(x'ff00fe' AS TEXT)",
        "UPDATE calls SET reply = x'00'",
        "UPDATE calls SET seconds = 'long'",
        "UPDATE calls SET seconds = seconds + 1",
        "UPDATE calls SET body = '{}'",
        "UPDATE calls SET sha256 = NULL",
    ],
)
def test_a_damaged_reply_is_told_of_and_asked_for_again(
    start, damage: str, own_cache: Path, capsys: pytest.CaptureFixture
) -> None:
    judge = Scripted(lambda body, tries: (200, chat("1"), ""))
    server = settings(base_url=start(judge))
    first = ask(bodies(3), server)
    with sqlite3.connect(own_cache / ".trainyard" / CACHE_FILE) as database:
        database.execute(f"{damage} WHERE key = (SELECT min(key) FROM calls)")
    assert [answer.reply for answer in ask(bodies(3), server)] == [answer.reply for answer in first]
    assert len(judge.asked) == 4 and "1 kept replies are damaged and asked for again" in capsys.readouterr().err
    ask(bodies(3), server)
    assert len(judge.asked) == 4


def test_a_cache_of_an_older_version_is_taken_over(own_cache: Path) -> None:
    path = own_cache / "calls.sqlite"
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE calls (key TEXT PRIMARY KEY, body TEXT NOT NULL, reply TEXT NOT NULL, seconds REAL NOT NULL)"
        )
        database.execute("INSERT INTO calls VALUES ('k', '{}', '{\"a\": \"\u00e9\"}', 2)")
    for _ in range(2):
        with CallCache(path) as cache:
            assert cache.get("k") == ({"a": "\u00e9"}, 2.0) and not cache.damaged


TWICE = """
import sys
from stages.annotators.calls import ask
from tests.annotators.judges import settings
from tests.annotators.test_calls import bodies
got = ask(bodies(20), settings(base_url=sys.argv[1], concurrency=4))
assert all(answer.reply for answer in got)
"""


def test_two_processes_at_once_pay_once(start, own_cache: Path) -> None:
    def slow(body: dict[str, Any], tries: int) -> tuple[int, dict[str, Any], str]:
        return (429, {}, "Retry-After: 0.3\r\n") if tries == 1 and number_of(body) % 2 else (200, whole(), "")

    judge = Scripted(slow)
    url = start(judge)
    command = [sys.executable, "-c", TWICE, url]
    runs = [subprocess.Popen(command, cwd=own_cache, env={"PYTHONPATH": str(ROOT), "PATH": ""}) for _ in range(2)]
    assert [run.wait(60) for run in runs] == [0, 0]
    assert len(judge.asked) == 20 + 10, "every call once, and those that were told to wait once more"


def test_a_claim_ends_with_its_process(own_cache: Path) -> None:
    path = own_cache / "calls.sqlite"
    key = call_key("http://host/v1", {})
    code = "import sys, time; from stages.annotators.cache import CallCache; from pathlib import Path\n"
    code += f"cache = CallCache(Path({str(path)!r})); print(cache.claim({key!r}), flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "True\n"
    with CallCache(path) as cache:
        assert not cache.claim(key) and cache.claim("f" * 64)
        other.kill()
        other.wait()
        assert cache.claim(key)


@pytest.mark.parametrize("status", [200, 400, 401, 422, 500])
def test_a_key_that_the_server_echoes_is_nowhere(
    start, status: int, own_cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("TRAINYARD_TEST_KEY", KEY)
    escaped = json.dumps(f"key {KEY}").replace("sk-", "sk\\u002d")

    def script(body: dict[str, Any], tries: int) -> tuple[int, bytes, str]:
        if status == 200:
            reply = json.dumps(chat("2", **{KEY: f"Bearer {KEY}"})).replace('"quirky', f'"{KEY} quirky')
            return 200, reply.replace('"id": "r"', f'"id": {escaped}').encode(), ""
        return status, f'{{"error": {{"message": {escaped}, "code": "{KEY}"}}}}'.encode(), ""

    server = settings(provider="openai", base_url=start(Scripted(script)), max_retries=0)
    said = ""
    try:
        said = str(compare([Pair("q", "Which?", "short", "longer")], server, seed=1))
    except InputError as error:
        said = str(error)
    out, err = capfd.readouterr()
    kept = b"".join(path.read_bytes() for path in (own_cache / ".trainyard").iterdir())
    assert KEY not in said + out + err and KEY.encode() not in kept
    assert "[key]" in said


def test_words_that_stand_for_no_key_are_left_in_answers(start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_TEST_KEY", "ollama")
    judge = Scripted(lambda body, tries: (200, chat("ollama runs here"), ""))
    (got,) = ask(bodies(1), settings(base_url=start(judge)))
    assert got.reply is not None and got.reply["choices"][0]["message"]["content"] == "ollama runs here"


def test_a_key_that_no_header_can_carry_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_TEST_KEY", "sk-gehe\u00efm-123456")
    with pytest.raises(InputError, match=r"\$TRAINYARD_TEST_KEY holds characters") as ended:
        ask(bodies(1), settings(base_url="http://127.0.0.1:9/v1"))
    assert "geheïm" not in str(ended.value)


def test_a_user_in_the_address_is_not_shown() -> None:
    server = settings(base_url="http://me:hunter2hunter2@127.0.0.1:9/v1", max_retries=0, concurrency=1)
    with pytest.raises(InputError) as ended:
        ask(bodies(40), server)
    assert "hunter2" not in str(ended.value) and "127.0.0.1:9/v1" in str(ended.value)


def test_a_key_in_the_query_of_the_address_is_not_shown() -> None:
    assert settings(base_url=f"https://host/v1?key={KEY}").server == "https://host/v1"


def test_processes_that_wait_for_each_other_see_replies_when_they_come(start) -> None:
    """A thread holds the claim as another process would, and then gives it up without a reply."""
    judge = Scripted(lambda body, tries: (200, whole(), ""))
    server = settings(base_url=start(judge))
    key = call_key(server.base_url, bodies(1)[0])
    path = project_store() / CACHE_FILE
    code = "import sys, time; from stages.annotators.cache import CallCache; from pathlib import Path\n"
    code += f"cache = CallCache(Path({str(path)!r})); cache.claim({key!r}); print('held', flush=True); time.sleep(1.5)"
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    threading.Thread(target=holder.wait, daemon=True).start()
    begun = time.monotonic()
    (got,) = ask(bodies(1), server)
    assert got.reply is not None and len(judge.asked) == 1 and time.monotonic() - begun > 0.3
