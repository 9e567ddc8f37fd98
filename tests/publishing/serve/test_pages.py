"""The pages in a browser: a chat that streams, a vote in the arena, pairs labelled by the keyboard alone."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.lm.chat import ChatTokenizer
from stages.lm.checkpoint import save_model
from stages.publishing.serve.models import Limits
from tests.publishing.serve.browser import Browser, executable
from tests.publishing.serve.conftest import Running, Start, make_model
from tests.publishing.serve.test_experiments import claim

pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium here")
ROOT = Path(__file__).resolve().parents[3]
AXE = next(ROOT.glob(".venv-peers/lib/python*/site-packages/axe_playwright_python/axe.min.js"), None)
FAULTS = """axe.run(document, {resultTypes: ['violations']}).then((found) => JSON.stringify(found.violations.map(
  (one) => [one.id, one.impact, one.nodes.slice(0, 3).map((node) => node.html.slice(0, 200))])))"""
HOSTILE = (
    "<script>document.title = 'mine'</script><img src=x onerror=\"document.title = 'mine'\"> \u202eمرحبا\u202c \u0000"
)
PAIRS = [
    {
        "id": f"p{n}",
        "prompt": f"Question {n}",
        "output_a": f"{HOSTILE} a{n}",
        "output_b": f"b{n} " + "long " * (n * 2000),
    }
    for n in range(11)
]


@contextmanager
def browsing(server: Running, shot: str) -> Iterator[Browser]:
    """SCREENSHOTS names a folder for pictures of how the pages end."""
    with Browser(server.url) as browser:
        yield browser
        assert browser.value("document.title").endswith(" · Trainyard"), "a script of an answer ran"
        assert browser.problems == []
        if "SCREENSHOTS" in os.environ:
            browser.screenshot(Path(os.environ["SCREENSHOTS"]) / f"{shot}.png")


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_chat_streams_stops_and_goes_on(start: Start, tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    model = make_model(max_seq_len=60_000)
    with torch.no_grad():
        model.head_weight[tokenizer.stop_ids] = 0  # never the likeliest: answers don't end by themselves
    for name in ("long", "longer"):
        save_model(tmp_path / name, model, tokenizer)
    server = start(models={name: tmp_path / name for name in ("long", "longer")}, limits=Limits(tokens=60_000))
    answer = "[...document.querySelectorAll('.card')].at(-1).querySelector('.turn:last-of-type .words').textContent"
    with browsing(server, "chat") as browser:
        browser.open("/chat")
        browser.until("document.querySelectorAll('.card').length === 1")
        browser.value("document.getElementById('max_tokens').value = 50000")
        browser.type(f"Hello {HOSTILE}")
        browser.press("Enter")
        browser.until(f"{answer}.length > 20")
        seen = browser.value(f"{answer}.length")
        browser.until(f"{answer}.length > {seen}")  # it grows: it streams
        browser.value("document.getElementById('halt').click()")
        browser.until("!document.getElementById('send').disabled")
        assert "stopped by you" in browser.text(".card .soft")
        browser.value("document.getElementById('max_tokens').value = 12")
        browser.type("and a second turn")
        browser.press("Enter")
        browser.until("document.querySelectorAll('.turn').length === 4 && !document.getElementById('send').disabled")
        assert "cut at the limit · 12 tokens" in browser.text(".card .soft:last-child")
        browser.value(
            "document.getElementById('right').value = 'longer';"
            "document.getElementById('right').dispatchEvent(new Event('change'))"
        )
        browser.until("document.querySelectorAll('.card').length === 2")
        browser.value("document.getElementById('prompt').focus()")
        browser.type("to both")
        browser.press("Enter")
        browser.until("document.querySelectorAll('.turn').length === 4 && !document.getElementById('send').disabled")
        texts = browser.value("[...document.querySelectorAll('.turn:last-of-type .words')].map((e) => e.textContent)")
        assert texts[0] == texts[1] != ""  # one model under two names, one seed


def test_a_vote_in_the_arena(start: Start) -> None:
    server = start()
    with browsing(server, "arena") as browser:
        browser.open("/arena")
        browser.type("In which province does Velmora lie?")
        browser.press("Enter")
        browser.until("!document.getElementById('battle').hidden")
        blind = browser.text("main")
        assert not any(name in blind for name in ("red", "green", "blue")) and "tokens" not in blind
        browser.press("2")
        browser.until("document.getElementById('votes').hidden && !document.getElementById('table').hidden")
        (row,) = written(server.folder / "arena.jsonl")
        assert row["vote"] == row["order"][1]
        assert browser.text("#second h2") == row[f"model_{row['vote']}"] and "tokens" in browser.text("#second p")
        assert "1 vote." in browser.text("#count") and row["model_a"] in browser.text("#table")
        browser.press("1")  # a vote is given once
        assert len(written(server.folder / "arena.jsonl")) == 1


def test_ten_pairs_by_the_keyboard_alone(start: Start) -> None:
    server = start(pairs=PAIRS, answers=[{"id": "q", "instruction": "Q?", "response": "R"}])
    votes, progress = "1201s", "document.getElementById('progress').textContent.startsWith('{} of')"
    with browsing(server, "annotate") as browser:
        browser.open("/annotate")
        browser.until("document.activeElement.id === 'name'")
        browser.type("Ann")
        browser.press("Enter")
        browser.until(progress.format(0))
        for number in range(10):
            browser.press(votes[number % 5])
            browser.until(progress.format(number + 1))
            if number == 4:
                browser.press("u")
                browser.until(progress.format(4))
                browser.press("2")
                browser.until(progress.format(5))
        rows = written(server.folder / "pairs.labels.jsonl")
        assert [row["id"] for row in rows] == [f"p{n}" for n in range(10)]
        meant = {
            "1": lambda row: row["order"][0],
            "2": lambda row: row["order"][1],
            "0": lambda row: "tie",
            "s": lambda row: "skip",
        }
        keys = "1201" + "2" + "1201s"
        assert [row["vote"] for row in rows] == [meant[key](row) for key, row in zip(keys, rows, strict=True)]
        assert all(row["annotator"] == "Ann" and row["seconds"] >= 0 for row in rows)
        browser.open("/annotate")  # another day: the browser knows who it is, and where
        browser.until(progress.format(10))
        shown = browser.value(
            "[document.getElementById('first').textContent, document.getElementById('second').textContent]"
        )
        assert sorted(shown) == sorted([PAIRS[10]["output_a"], PAIRS[10]["output_b"]])
        browser.press("0")
        browser.until("!document.getElementById('over').hidden")


def test_an_answer_is_edited_by_the_keyboard_alone(start: Start) -> None:
    server = start(answers=[{"id": f"q{n}", "instruction": f"Q{n}", "response": f"R{n}"} for n in range(3)])
    progress = "document.getElementById('progress').textContent.startsWith('{} of')"
    with browsing(server, "edit") as browser:
        browser.open("/annotate")
        browser.until("document.activeElement.id === 'name'")
        browser.type("Bob")
        browser.press("Enter")
        browser.until(progress.format(0))
        browser.press("k")
        browser.until(progress.format(1))
        browser.press("e")
        browser.until("document.activeElement.id === 'edited_response'")
        browser.type(" better")
        browser.press("Enter", modifiers=2)
        browser.until(progress.format(2))
        browser.press("d")
        browser.until(progress.format(3))
        rows = written(server.folder / "answers.labels.jsonl")
        assert [row["verdict"] for row in rows] == ["keep", "edit", "drop"]
        assert rows[1]["response"] == "R1 better" and "instruction" not in rows[1]


@pytest.mark.skipif(AXE is None, reason="no axe-core: `make .venv-peers`")
def test_no_page_has_an_accessibility_fault(
    start: Start, tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """axe-core on each page as it is used, in both schemes, wide and on a phone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports/claims").mkdir(parents=True)
    for name in ("first", "second"):
        (tmp_path / f"reports/claims/{name}.json").write_text(json.dumps(claim(name).model_dump(mode="json")))
    vote = {"id": "1", "model_a": "red", "model_b": "blue", "vote": "a"}
    (tmp_path / "arena.jsonl").write_text(json.dumps(vote) + "\n")
    server = start(pairs=PAIRS, models={name: folders[name] for name in ("red", "blue")})
    ready = {
        "/chat": "document.querySelectorAll('.card').length === 1",
        "/arena": "!document.getElementById('table').hidden",
        "/annotate": "document.activeElement.id === 'name'",
        "/compare": "document.querySelector('svg circle')",
    }
    assert AXE is not None
    with Browser(server.url) as browser:
        for path, condition in ready.items():
            browser.open(path)
            browser.until(condition)
            if path == "/annotate":
                browser.type("Ann")
                browser.press("Enter")
                browser.until("!document.getElementById('pair').hidden")
            browser.value(AXE.read_text() + ";0")
            for scheme, width in (("light", 1200), ("dark", 1200), ("light", 390)):
                browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
                browser.send(
                    "Emulation.setDeviceMetricsOverride",
                    width=width,
                    height=900,
                    deviceScaleFactor=1,
                    mobile=width < 600,
                )
                assert browser.value("document.documentElement.scrollWidth") <= width, (path, width)
                found = json.loads(browser.value(FAULTS))
                assert found == [], (path, scheme, width)
        assert browser.problems == []
