import re
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.corpus.duplicates import paragraphs
from stages.corpus.duplicates.ngrams import code_points
from stages.corpus.duplicates.spill import Partitions, Spill
from tests.corpus.documents import prose

NO_SALT = np.uint64(0)


def normal(line: str) -> str:
    """The normal form by regular expressions; Greek's two lower-case sigmas count as one."""
    return re.sub(r"\d+", "0", re.sub(r"\s+", " ", line).strip().lower().replace("ς", "σ"))


def hashes(*lines: str) -> np.ndarray:
    return np.sort(paragraphs.line_hashes(code_points("\n".join(lines))))


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.text(alphabet=st.one_of(st.sampled_from("ab AB12१ \t\u00a0\r\x0bİΣςσé.-"), st.characters(codec=None))),
        min_size=1,
        max_size=8,
    )
)
def test_hashes_are_equal_where_normal_forms_are(lines: list[str]) -> None:
    text = "\n".join(lines)
    found, forms = paragraphs.line_hashes(code_points(text)).tolist(), [normal(line) for line in text.split("\n")]
    assert [value == 0 for value in found] == [form == "" for form in forms]
    assert len(set(zip(found, forms, strict=True))) == len(set(found)) == len(set(forms))


def test_digits_case_and_spacing_are_levelled() -> None:
    one, other, third = paragraphs.line_hashes(code_points(" Page 3\tof 19 \npage 14 of  9\npage of 9"))
    assert one == other != third


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.sets(st.integers(0, 5)), st.integers(0, 1), st.booleans()), max_size=20),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_repeated_lines_are_counted_once_a_document_that_stays(
    tmp_path_factory, documents: list[tuple[set[int], int, bool]], limits: tuple[int, int]
) -> None:
    folder: Path = tmp_path_factory.mktemp("lines")
    lines = Partitions(folder)
    counts: Counter[int] = Counter()
    for row, (numbers, source, stays) in enumerate(documents):
        keys = np.array([source << 40 | number * 7919 for number in sorted(numbers)], np.uint64)
        lines.append(keys, np.full(len(keys), row))
        counts.update(keys.tolist() if stays else [])
    keep = np.array([stays for _, _, stays in documents], bool)
    rows = np.array([limits[source] for _, source, _ in documents], np.int64)
    expected = sorted(key for key, count in counts.items() if count > limits[key >> 40])
    assert paragraphs.repeated(lines, keep, rows).tolist() == expected


def test_furniture_goes_and_headings_stay() -> None:
    footer = "Subscribe to the letter of this site 12 times a year."
    page = (
        f"Menu\n\nTopic 3\n\nNotes\n\n{prose(30, 3)}\n\n{footer.replace('12', '3')}\n{footer}\n\n{prose(30, 4)}\n\nMenu"
    )
    known = hashes("menu", "NOTES", footer)
    text, removed = paragraphs.without(page, known, NO_SALT, min_characters=30)
    assert text == f"Topic 3\n\nNotes\n\n{prose(30, 3)}\n\n{prose(30, 4)}"
    assert removed == 2 * len("Menu") + 2 * len(footer) - 1


def test_a_repeated_line_among_others_stays_unless_it_is_at_the_edge() -> None:
    line = "from sklearn.model_selection import train_test_split"
    code = f"import numpy as np\n{line}\nparts = train_test_split(values)"
    known = hashes(line, "import numpy as np")
    page = f"{prose(30, 1)}\n\n{code}\n\n{prose(30, 2)}"
    assert paragraphs.without(page, known, NO_SALT, min_characters=30) == (page, 0)
    page = f"{line}\n{prose(30, 1)}\n{line}\n{prose(30, 2)}\n{line}"
    assert paragraphs.without(page, known, NO_SALT, 30) == (
        f"{prose(30, 1)}\n{line}\n{prose(30, 2)}",
        2 * len(line),
    )


def test_a_block_whose_lines_all_repeat_goes_whole() -> None:
    notice = "Share\nSubscribe to the letter of this site.\n \tContact"
    page = f"{prose(30, 1)}\n \n{notice}\n\n{prose(30, 2)}"
    known = hashes(*notice.split("\n"))
    assert paragraphs.without(page, known, NO_SALT, 30)[0].split() == f"{prose(30, 1)} {prose(30, 2)}".split()
    assert paragraphs.without(page, known, NO_SALT, 60) == (page, 0)


def test_another_salt_is_another_source() -> None:
    known = hashes("menu") ^ np.uint64(5)
    assert paragraphs.without("Menu\ntext", known, NO_SALT, 0) == ("Menu\ntext", 0)
    assert paragraphs.without("Menu\ntext", known, np.uint64(5), 0) == ("text", 4)


def test_a_text_of_nothing_but_furniture_is_emptied() -> None:
    assert paragraphs.without("Menu\n\nMenu\n", hashes("menu"), NO_SALT, 100) == ("", 8)
    assert paragraphs.without("", hashes("menu"), NO_SALT, 100) == ("", 0)


def test_a_text_without_hits_is_left_as_it_is() -> None:
    text = "\n\n\n\n one \n\n\n\ntwo"
    assert paragraphs.without(text, hashes("three"), NO_SALT, 0) == (text, 0)


def test_a_spill_is_what_was_appended(tmp_path: Path) -> None:
    spill, empty = Spill(tmp_path / "numbers", np.uint64), Spill(tmp_path / "none", np.uint64)
    for part in ([1, 2], [], [3]):
        spill.append(np.array(part, np.uint64))
    assert spill.read().tolist() == [1, 2, 3]
    assert empty.read().tolist() == []
