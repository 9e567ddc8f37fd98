"""Pages that users of other tools reported, with their right texts: charsets, elements, code, lists, tables, nesting.

The cases are handed ones: a JSON each (`call`, `input`, `expected`) beside the folder of reference data.
"""

import json
import os
import re
from pathlib import Path

import pytest

from stages.corpus.pages.html_text import extract_text
from stages.corpus.pages.page import Bounds, extract_page
from stages.corpus.sources.files import read_file
from stages.corpus.sources.raw import Raw, unwrap
from stages.corpus.sources.warc import read_warc

ROOT = Path(__file__).resolve().parents[2]
CASES = Path(os.environ.get("TRAINYARD_REFERENCE", ROOT.parent / "shared" / "reference")).parent / "cases" / "corpus"
SENTENCE = "The keeper of the tower wrote about the storm in his diary on the following morning."
CODE = (
    'def area(width, height):\n    if width < 0:\n        raise ValueError("width")\n    return width * height\n\n'
    "print(area(3, 4))"
)
HOLDS = {  # what the text of a case has to hold, on lines of its own
    "E1": f"\n\n{CODE}\n\n",
    "E2": f"\n\n{CODE}\n\n",
    "E10.output": f"\n{SENTENCE}\n",
    "E10.ruby": f"\n{SENTENCE}\n",
    "E10.slot": f"\n{SENTENCE}\n",
    "E11": f"\n{SENTENCE}\n",
    "E17": "\n5. Nobody climbs after the bell has rung.\n6. Dogs stay in the yard of the keeper.\n",
    "E18b": "\nNorth | 1873 | 190\nNorth | 1874 | 212\nSouth | 1873 | 88\n",
    "E21": "\nThe height of the wave is h=v/2 in the notation of the diary, and the keeper measured it every day.\n",
    "E32": "The lighthouse at the northern cape was built",
    "E33": "The storm number 449 of the diary had strong wind.",
    "M1e": "It’s a long way – and the keeper didn’t",
    "M1g": "He didn’t go to the café – and couldn",
    "M3": "The first title of the page stands here.\n",
    "M6": "return the longest special subsequence that stands in it",
}
GUTTER = re.compile(r"^\s*1(?:\s+\d)*\s*(?:\||$)", re.MULTILINE)


def text_of(path: Path, bounded: bool) -> str:
    """The text of an input of a case, read the way that its name's ending asks for."""
    if path.suffix == ".html":
        if bounded:
            page = extract_page(path.read_bytes(), "", Bounds("blocks", 5_000_000, 100_000, 400))
            assert page.problem == ""
            return page.text
        return extract_text(path.read_bytes(), "", "blocks")
    rows = read_warc(path, path.name, 5_000_000) if path.suffix == ".warc" else read_file(path, path.name, 5_000_000)
    page = next(row for row in rows if isinstance(row, Raw))
    plain = unwrap(page.html)
    return extract_text(page.html, "", "blocks") if plain is None else plain


def cases() -> list[str]:
    names = sorted(path.stem for path in CASES.glob("*.json")) if CASES.is_dir() else []
    return [name for name in names if name in HOLDS or re.match(r"C\d", name)]


@pytest.mark.skipif(not CASES.is_dir(), reason="cases not found: they lie beside the folder of reference data")
@pytest.mark.parametrize("name", cases())
def test_a_reported_page_has_its_right_text(name):
    case = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))
    text = text_of(CASES / case["input"], "Bounds" in case["call"])
    if name in HOLDS:
        assert HOLDS[name] in text
    else:
        begins = re.search("begins with “(.+?)…?”", case["expected"])
        assert begins and text.startswith(begins[1])
        has = re.search("has '(.+?)'", case["expected"])
        assert has is None or has[1] in text
        assert text.count("\ufffd") <= 2
    if name in ("E1", "E2"):
        assert not GUTTER.search(text)
