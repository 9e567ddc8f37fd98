"""Gopher's, C4's and FineWeb's rules against datatrove's filters: decisions, reasons and rewritten texts."""

import gzip
import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.corpus.pages.html_text import extract_text
from stages.corpus.rules.families import apply_each, apply_rules

ROOT = Path(__file__).resolve().parents[2]
PEER = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(ROOT / ".venv-peers" / "bin" / "python")
SCRIPT = """
import json, sys
from datatrove.data import Document
from datatrove.pipeline import filters as f
source, target, terminal = sys.argv[1:]
blocks = [f.GopherRepetitionFilter(), f.GopherQualityFilter(),
          f.C4QualityFilter(filter_no_terminal_punct=terminal == "yes"), f.FineWebQualityFilter()]
def row(block, document):
    result = block.filter(document)
    kept, reason = result if isinstance(result, tuple) else (result, "")
    return [kept, reason, document.text]
each, chain = [], []
for text in json.load(open(source)):
    each.append([row(block, Document(text=text, id="")) for block in blocks])
    document = Document(text=text, id="")
    for block in blocks:
        last = row(block, document)
        if not last[0]:
            break
    chain.append(last)
json.dump([each, chain], open(target, "w"))
"""
PROSE = (
    "The miller's wife didn't sleep; she'd counted 3.14 sacks, e.g. of rye, at 10a.m. on the U.S. side. Was it so? "
    "It was! “Well,” he said, “that’s well-known…” See https://example.org/a?b=c#d, or write to a.b@example.org now. "
    "She walked and/or ran 5km/h to St. Ives (pop. 1,234) with $5, £6 and 7€ to be of use and to have that. "
)
ODD = [
    "",
    " ",
    "\n",
    "a",
    "…",
    "...",
    "[1]",
    "[1] Yes. [2]",
    "Yes.[citation needed]  [edit] No.\t[3] ",
    "{",
    "x" * 1001,
    "Java[1]script is on. It is. So it is. And so. And on.",
    "LOREM IPSUM dolor.",
    "a {b} c.",
    "Terms of Use apply here.",
    "One. \u00a0 Two.\u2003)Three!) Four? 'Five.' “Six.” (Seven.) 8. Nine.\x85Ten.\u2028Eleven.",
    "\ufeffThe end.",
    "She’s here:( and :) there :-)) (: ) :) ) =( ;-) <3 <33 >:( :'( ): :D (-: x:-) ) y :( (",
    "a:-) ) b ( :-( ( 8-) 8)",
    "IS_ALPHA is not NOUN.",
    "e\u0301te\u0301 nai\u0308ve co\u00adop",
    "👩‍👩‍👧 👍🏽! 🇩🇪. ☂️ ok",
    "漢字仮名。混じり！文？　全角",
    "ſ İ ŉ ß ﬁ Ǆ ΑΣ Σ",
    "100km 5m/s 3GB. 7T 9K! 20% 1+ +1 ++ US$5 5US$ A$ C$3",
    "a.b A.B AA. Aa. aa. 1. .1 ..1 1.. a..b a...b",
    "foo--bar foo---bar foo----bar a-b a–b a—b 1-2 1--2 a~b ~a",
    "don't can't cannot gonna I'm He's it's 'tis y'all o'clock",
    "x=[1,2];y={'a':(3)}:z</b>=c/d\\e|f^g*h&i",
    "....a....,b.'c'.\"D\".e,F,g.H:I=J",
    "\x1c a\x1db \x1e c\x1fd \x0b e \x0c f",
    "' '' ' \" ` `` ´ ‘a’ ‚b’ „c“ «d»",
    "°C. °F. 5°C. 5°F",
    "http://a.bc www.a.de a.co.uk/x a.b.c. (a.com) a.com, x@y.z",
    "#" * 30 + " word" * 60,
    "- a\n" * 40,
    "word ...\n" * 60,
    "\n\n".join(["same paragraph here."] * 9),
    "\n \n\n\t\n x\n\n\n",
]


def made_up() -> list[str]:
    """Texts near the thresholds: prose with odd lines, spaces and marks mixed in."""
    generator = random.Random(5)
    words = PROSE.split() + [word for text in ODD for word in text.split()]
    spaces = [" "] * 30 + ["  ", "\n", "\n", "\n\n", "\t", "\u00a0", " \n", "\r\n", "\u2028", "\x85", "\x1c", "\u3000"]
    texts = []
    for _ in range(300):
        share = generator.random()
        chosen = [
            generator.choice(words) if generator.random() < share else generator.choice(PROSE.split())
            for _ in range(generator.randrange(400))
        ]
        plain = generator.random() < 0.3
        texts.append("".join(word + (" " if plain else generator.choice(spaces)) for word in chosen))
    for number in range(60):
        texts.append(
            (PROSE * generator.randrange(1, 6)).replace(". ", generator.choice([". ", ".\n", ".[1] ", ". \n\n"]))
        )
        texts.append("\n".join(f"{PROSE} It is number {generator.randrange(9)}." for _ in range(number % 12)))
    return texts


def real(reference: Path) -> list[str]:
    with gzip.open(reference / "extraction" / "aeb_public.jsonl.gz", "rt", encoding="utf-8") as lines:
        pages = [json.loads(line) for line, _ in zip(lines, range(60), strict=False)]
    return [extract_text(page["html"].encode("utf-8", "ignore"), page["url"], "volume") for page in pages]


def compare(texts: list[str], terminal: bool, folder: Path) -> None:
    if not Path(PEER).is_file():
        pytest.skip("no peers' environment: set TRAINYARD_PEERS_PYTHON, or `make peers`")
    source, target = folder / "texts.json", folder / "rows.json"
    source.write_text(json.dumps(texts))
    command = [PEER, "-c", SCRIPT, source, target, "yes" if terminal else "no"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    each, chain = json.loads(target.read_text())
    rules = yaml.safe_load((ROOT / "params.yaml").read_text())["corpus"]["heuristics"]["rules"]["default"]
    rules["c4_quality"]["filter_no_terminal_punct"] = terminal
    rows: list[Any] = [
        [[made.kept, made.reason, made.text] for made in decisions] for decisions in apply_each(texts, rules)
    ]
    for text, mine, theirs in zip(texts, rows, each, strict=True):
        assert mine == theirs, text
    for text, made, theirs in zip(texts, apply_rules(texts, rules), chain, strict=True):
        assert [made.kept, made.reason, made.text] == theirs, text
    assert len({reason for decisions in each for _, reason, _ in decisions}) > 12  # not all dropped by one rule


@pytest.mark.parametrize("terminal", [True, False])
def test_decisions_reasons_and_texts_are_datatroves(terminal: bool, tmp_path: Path) -> None:
    compare(ODD + made_up(), terminal, tmp_path)


def test_and_so_they_are_on_real_pages(reference: Path, tmp_path: Path) -> None:
    compare(real(reference) + made_up()[:50], True, tmp_path)
