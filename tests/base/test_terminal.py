"""Nothing of others moves the cursor, forges a line or reorders words."""

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from stages.base.terminal import one_line, shown_json

HARMFUL = st.sampled_from("\x1b\x9b\r\n\x00\x7f\u202e\u2066\u2028\ud800")


def is_harmless(line: str) -> bool:
    moves = {"Cc", "Cs", "Zl", "Zp"}
    turns = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    return not any(unicodedata.category(c) in moves or unicodedata.bidirectional(c) in turns for c in line)


@given(st.text(st.one_of(st.characters(), HARMFUL), max_size=40))
def test_a_line_is_harmless_and_keeps_its_words(text: str) -> None:
    shown = one_line(text)
    assert is_harmless(shown) and len(shown.splitlines()) <= 1
    assert len(shown.split()) == len(text.split())
    assert len(one_line(text, 5)) <= 5
    assert one_line("a\x1b[31m b\n\n Größe 東京") == "a\ufffd[31m b Größe 東京"


@given(
    st.dictionaries(
        st.text(st.one_of(st.characters(), HARMFUL), max_size=20), st.text(st.one_of(st.characters(), HARMFUL))
    )
)
def test_json_is_harmless_and_means_the_same(value: dict[str, str]) -> None:
    shown = shown_json(value)
    assert json.loads(shown) == json.loads(json.dumps(value)) and is_harmless(shown.replace("\n", ""))
    assert shown_json({"a": "Größe 東京"}) == json.dumps({"a": "Größe 東京"}, indent=2, ensure_ascii=False)
