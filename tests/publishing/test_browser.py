"""The published pages in one Chromium: accessible in both schemes, silent, on a phone, sorted and filtered by keys."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.base.files import write_json
from stages.publishing import (
    alignment_report,
    board,
    corpus_report,
    evaluation_report,
    report,
    scaling_report,
    training_report,
)
from tests.contracts import scaling
from tests.publishing.conftest import HOSTILE, PARAMS, write_project
from tests.publishing.serve.browser import Browser, executable

pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium here")
ROOT = Path(__file__).resolve().parents[2]
AXE = next(ROOT.glob(".venv-peers/lib/python*/site-packages/axe_playwright_python/axe.min.js"), None)
PAGES = ("index", "leaderboard", "answers", "alignment", "training", "evaluation", "scaling", "corpus")
FAULTS = """axe.run(document, {resultTypes: ['violations'], %s}).then((found) => JSON.stringify(found.violations.map(
  (one) => [one.id, one.impact, one.nodes.slice(0, 3).map((node) => node.html.slice(0, 200))])))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser at home in the reports of a small project, of hostile names and texts."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TRAINYARD_TRACK", "off")
        Path("params.yaml").write_text(json.dumps(PARAMS))
        write_project()
        write_json("data/scaling/fit/study.json", scaling.study().model_dump(mode="json"))
        for page in (
            board,
            alignment_report,
            training_report,
            evaluation_report,
            scaling_report,
            corpus_report,
            report,
        ):
            page.main()
    with Browser(f"file://{folder}/reports/") as found:
        yield found


@pytest.fixture(autouse=True)
def silent(browser: Browser) -> Iterator[None]:
    """No page prints an error or asks for anything outside its folder."""
    screen(browser, 1200, "light")
    yield
    problems, browser.problems = browser.problems, []
    assert problems == []


def screen(browser: Browser, width: int, scheme: str) -> None:
    browser.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


def visit(browser: Browser, address: str) -> None:
    """Load anew: between addresses that differ behind the # alone, a browser only scrolls."""
    browser.open("index.html")
    browser.open(address)


def faults(browser: Browser, options: str = "") -> list[Any]:
    assert AXE is not None
    browser.value(AXE.read_text() + ";0")
    return json.loads(browser.value(FAULTS % options))


@pytest.mark.skipif(AXE is None, reason="no axe-core: `make peers`")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_fault_that_axe_finds(browser: Browser, page: str) -> None:
    browser.open(f"{page}.html")
    assert faults(browser) == []
    screen(browser, 1200, "dark")
    assert faults(browser, "runOnly: ['color-contrast']") == []
    if "SCREENSHOTS" in os.environ:
        browser.screenshot(Path(os.environ["SCREENSHOTS"]) / f"{page}.png")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_a_phone_and_what_is_wider_can_be_scrolled_by_keys(browser: Browser, page: str) -> None:
    screen(browser, 390, "light")
    browser.open(f"{page}.html")
    assert browser.value("document.documentElement.scrollWidth") <= 390
    wide = "[...document.querySelectorAll('main *')].filter((one) => one.scrollWidth > one.clientWidth + 1"
    wide += " && ['auto', 'scroll'].includes(getComputedStyle(one).overflowX) && one.tabIndex < 0)"
    assert browser.value(f"{wide}.map((one) => one.outerHTML.slice(0, 120))") == []
    if page in ("index", "leaderboard"):  # the column that the rows are ordered by is in sight
        edge = browser.value("document.querySelector('.board td.sorted').getBoundingClientRect().right")
        assert 0 < edge <= 390
    if "SCREENSHOTS" in os.environ:
        browser.screenshot(Path(os.environ["SCREENSHOTS"]) / f"{page}-390.png")


ROWS = "[...document.querySelectorAll('.board tbody tr:not([hidden])')]"
COLUMN = ROWS + ".map((row) => row.cells[%d].firstChild.textContent)"
SORTED = "[...document.querySelectorAll('[aria-sort]')].map((head) => [head.innerText, head.ariaSort])"


def test_a_table_sorts_by_the_keyboard_and_the_address_says_how(browser: Browser) -> None:
    visit(browser, "leaderboard.html")
    asked = browser.value(COLUMN % 3)
    browser.value("document.querySelectorAll('.board th button')[3].focus()")  # exactly right
    browser.press("Enter")
    assert browser.value(SORTED)[0][1] == "descending"
    numbers = [float(text) for text in browser.value(COLUMN % 3)]
    assert numbers == sorted(map(float, asked), reverse=True)
    browser.press("Enter")
    assert browser.value(SORTED)[0][1] == "ascending" and browser.value("location.hash") == "#sort.leaderboard1=3a"
    address = browser.value("location.hash")
    visit(browser, f"leaderboard.html{address}")
    assert [float(text) for text in browser.value(COLUMN % 3)] == numbers[::-1], "a link shows the same again"
    browser.value("document.querySelectorAll('.board th button')[3].click()")
    assert (browser.value(COLUMN % 3), browser.value(SORTED), browser.value("location.hash")) == (asked, [], "")


def test_rows_are_filtered_by_words_and_the_address_says_so(browser: Browser) -> None:
    visit(browser, "leaderboard.html")
    names = "[...document.querySelectorAll('.board tbody tr:not([hidden]) .name')].map((name) => name.textContent)"
    browser.value("document.querySelector('#leaderboard .find input').focus()")
    browser.type("Seeds Trainings")
    assert browser.value(names) == ["dpo"], "all words, in any case"
    assert browser.text("#leaderboard .find [role=status]").strip() == "1 of 8"
    assert browser.value("location.hash") == "#find.leaderboard1=Seeds+Trainings"
    visit(browser, "leaderboard.html#find.leaderboard1=control&sort.leaderboard1=2a")
    assert browser.value(names) == ["constant", "nearest_neighbour", "shuffled"]
    visit(browser, "leaderboard.html#find.nothing1=x&sort.leaderboard1=99d&sort.=&find")
    assert len(browser.value(names)) == 8, "what an address can't mean is left alone"


def test_answers_are_filtered_found_and_linked_to(browser: Browser) -> None:
    visit(browser, "answers.html")
    count = "document.querySelectorAll('#found article').length"
    told = "document.getElementById('shown').textContent"
    assert browser.value(told).startswith("56 of 56 match, 20 shown")
    browser.value("document.getElementById('more').click()")
    assert browser.value(count) == 40
    browser.value("document.querySelector('[name=model]').focus()")
    for name, value in (("model", "dpo"), ("verdict", "w"), ("differ", "a")):
        browser.value(
            f"(() => {{ const field = document.querySelector('[name={name}]'); field.value = '{value}';"
            "field.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )
    assert browser.value(count) == 1 and browser.value("location.hash") == "#model=dpo&verdict=w&differ=a"
    text = browser.text("#found")
    assert "the annotators disagree" in text and HOSTILE in text and "Answer 1 of dpo." in text
    assert browser.value("document.querySelectorAll('#found script, #found img').length") == 0
    link = browser.value("document.querySelector('#found a').getAttribute('href')")
    visit(browser, f"answers.html{link}")
    assert browser.value(count) == 1 and "Answer 1 of sft." in browser.text("#found")
    visit(browser, "answers.html#q=answer%202&verdict=l&differ=o&length=longer&model=nobody")
    assert "5 of 56 match" in browser.value(told), "an unknown model is no filter"
    visit(browser, "answers.html#verdict=n")
    assert "7 of 56 match" in browser.value(told) and "no verdict of the judge" in browser.text("#found")
    visit(browser, "answers.html#q=%D9%85%D8%B1%D8%AD%D8%A8%D8%A7")  # right to left, without its overrides
    assert "7 of 56 match" in browser.value(told) and "\u202e" not in browser.text("#found")
    visit(browser, "answers.html#q=characters&model=dpo")
    assert "1 of 56 match" in browser.value(told) and "100000 characters" in browser.text("#found"), (
        "cut, its length said"
    )
