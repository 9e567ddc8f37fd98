"""What the index finds, against a search that compares words place by place."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base.errors import InputError
from stages.evaluation.overlap import search as search_module
from stages.evaluation.overlap.index import CORPUS, OVERLAP_WORDS, Index, segments_of, write_index
from stages.evaluation.overlap.search import Match, Rules, search
from stages.evaluation.overlap.words import split_words

RULES = Rules(ngram=6, share_ngram=4, span=5, skips=2)
SHORTEST = 3
SENTENCE = st.lists(st.sampled_from("abcd"), max_size=24).map(" ".join)


@pytest.fixture(autouse=True, scope="module")
def compiled() -> None:
    search(segments_of([corpus(["a b c d e f"])], SHORTEST), ["a b c d e f"], [""], RULES)


def corpus(texts: list[str], offsets: list[int] | None = None) -> pa.Table:
    count = len(texts)
    columns = {
        "id": [f"document {i}" for i in range(count)],
        "source": ["made up"] * count,
        "url": [f"https://example.org/{i}" for i in range(count)],
        "offset": offsets or [0] * count,
        "text": texts,
    }
    return pa.table(columns, schema=CORPUS)


def naive(question: str, texts: list[str], rules: Rules) -> tuple[bool, float, float]:
    """(Any n-gram, share of n-grams, share of words in spans) by trying every word of every text with every word."""
    item = split_words(question)
    documents = [split_words(text) for text in texts]
    if len(item) < SHORTEST:
        return False, 0.0, 0.0

    def grams(n: int) -> list[bool]:
        n = min(n, len(item))
        found = {tuple(words[p : p + n]) for words in documents for p in range(len(words) - n + 1)}
        return [tuple(item[q : q + n]) in found for q in range(len(item) - n + 1)]

    covered, begin = set(), min(rules.span, len(item))
    for words in documents:
        for q in range(len(item)):
            for p in range(len(words)):
                if item[q : q + begin] != words[p : p + begin] or len(item[q : q + begin]) < begin:
                    continue
                wrong = 0
                for i in range(min(len(item) - q, len(words) - p)):
                    wrong += item[q + i] != words[p + i]
                    if wrong > rules.skips:
                        break
                    if item[q + i] == words[p + i]:
                        covered.add(q + i)
    shares = grams(rules.share_ngram)
    return any(grams(rules.ngram)), sum(shares) / len(shares), len(covered) / len(item)


def told(match: Match) -> tuple[bool, float, float]:
    return match.ngram, pytest.approx(match.share), pytest.approx(match.spans)  # type: ignore[return-value]


@settings(deadline=None)
@given(st.lists(SENTENCE, max_size=4), st.lists(SENTENCE, min_size=1, max_size=4))
def test_all_three_rules_equal_a_naive_search(texts: list[str], questions: list[str]) -> None:
    texts = [*texts, "another"]
    found = search(segments_of([corpus(texts)], SHORTEST), questions, [""] * len(questions), RULES)
    assert [naive(question, texts, RULES) for question in questions] == [told(match) for match in found]


REPEATED = st.tuples(st.lists(st.sampled_from("ab"), min_size=1, max_size=4), st.integers(1, 12), SENTENCE).map(
    lambda parts: " ".join(parts[0] * parts[1]) + " " + parts[2]
)


def pieces(question: str, texts: list[str]) -> int:
    """Pieces of the item that go on in neither direction, of `share_ngram` words or, in a shorter one, all of them."""
    item, least, count = split_words(question), min(RULES.share_ngram, len(split_words(question))), 0
    for words in map(split_words, texts):
        for q in range(len(item)):
            for p in range(len(words)):
                run = 0
                while q + run < len(item) and p + run < len(words) and item[q + run] == words[p + run]:
                    run += 1
                begins = q == 0 or p == 0 or item[q - 1] != words[p - 1]
                count += begins and run >= least
    return count


@settings(deadline=None)
@given(st.lists(REPEATED, min_size=1, max_size=3), st.lists(REPEATED, min_size=1, max_size=3))
def test_repeated_words_equal_a_naive_search(texts: list[str], questions: list[str]) -> None:
    found = search(segments_of([corpus(texts)], SHORTEST), questions, [""] * len(questions), RULES)
    assert [naive(question, texts, RULES) for question in questions] == [told(match) for match in found]
    for question, match in zip(questions, found, strict=True):
        assert match.state == "unknown" or match.runs == pieces(question, texts)


@settings(deadline=None)
@given(st.lists(REPEATED, min_size=1, max_size=3), REPEATED, st.integers(0, 300))
def test_what_is_given_up_is_never_clean(texts: list[str], question: str, most: int) -> None:
    segments = list(segments_of([corpus(texts)], SHORTEST))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_module, "MOST", most)
        (part,) = search(segments, [question], [""], RULES)
    (whole,) = search(segments, [question], [""], RULES)
    assert part.state == whole.state or part.state != "clean"
    assert part.spans <= whole.spans and part.share <= whole.share and part.runs <= whole.runs


def test_much_that_is_repeated_is_found_in_a_bounded_number_of_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """250,000 places of an item of 6,000 words, which would be 1.5e9 comparisons of places alone."""
    monkeypatch.setattr(search_module, "MOST", 1 << 24)
    segments = list(segments_of([corpus(["a b " * 250_000]), corpus([("x " + "a b " * 6) * 20_000])], 5))
    found = search(segments, ["a b " * 3000, "a b " * 3000 + "and then what?"], ["", ""], Rules())
    assert [match.state for match in found] == ["dirty", "dirty"]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_segments_and_batches_lose_nothing(seed: int, rows: int) -> None:
    """Documents of many lengths, one of them longer than a segment, in any batches: as in one segment."""
    rng = np.random.default_rng(seed)
    lengths = [*rng.integers(0, 400, 20), 4000]
    documents = [" ".join(f"w{i}" for i in rng.integers(0, 40, n)) for n in lengths]
    # The long one in pieces, each cut between two words.
    pieces, long = documents[:-1], documents[-1]
    offsets = [0] * len(pieces)
    for start in range(0, len(long), 3000):
        begin = long.rfind(" ", 0, start) if start else 0
        end = long.rfind(" ", 0, start + 3000) if start + 3000 < len(long) else len(long)
        pieces.append(long[begin:end])
        offsets.append(begin)
    whole = corpus(pieces, offsets)
    at = [int(rng.integers(0, max(1, n - 80))) for n in lengths]
    questions = [" ".join(text.split()[place : place + 80]) for text, place in zip(documents, at, strict=True)]
    none = [""] * len(questions)
    one = search(segments_of([whole], SHORTEST), questions, none, RULES)
    batches = [whole.slice(i, rows) for i in range(0, whole.num_rows, rows)]
    segments = list(segments_of(batches, SHORTEST, segment_words=OVERLAP_WORDS + 2000))
    assert len(segments) > 2
    many = search(segments, questions, none, RULES)
    assert [(m.words, m.state, *told(m)) for m in one] == [(m.words, m.state, m.ngram, m.share, m.spans) for m in many]
    assert all(m.ngram and m.share == m.spans == 1.0 for m in one if m.words >= SHORTEST)
    for match in (*one, *many):
        if match.place:
            number = int(match.place.document.removeprefix("document "))
            text = long if number >= 20 else documents[number]
            cut = match.place.text.removesuffix("…")
            assert text.encode()[match.place.offset :].decode().startswith(cut)


def test_an_index_on_disk_finds_the_same_and_says_what_it_is(tmp_path: Path) -> None:
    texts = [f"document number {i} tells of the river {i % 7} and of nothing else at all" for i in range(50)]
    questions = [texts[3].upper(), "nothing like this is in any of the documents", "two words"]
    facts = write_index(tmp_path / "index", [corpus(texts)], 5, {"corpus": "made up"})
    assert facts["documents"] == 50 and facts["words"] == 50 * 14 and facts["corpus"] == "made up"
    index = Index(tmp_path / "index")
    found = search(index, questions, ["", "", ""], Rules())
    assert found == search(segments_of([corpus(texts)], 5), questions, ["", "", ""], Rules())
    assert [match.state for match in found] == ["dirty", "clean", "unknown"]
    with pytest.raises(InputError, match="runs of 5 words"):
        search(index, questions, ["", "", ""], Rules(share_ngram=4))
    with pytest.raises(InputError, match="no index"):
        Index(tmp_path)


def test_a_place_names_document_text_and_answer() -> None:
    texts = ["Nothing here.", "Quiz — in which PROVINCE, does Velmora lie?! Answer: Anthar.", "does Velmora lie? no"]
    asked, unasked = "In which province does Velmora lie?", "Which dye gives Jillith its shade today?"
    leaked, clean = search(segments_of([corpus(texts)], 5), [asked, unasked], ["Anthar", "ochre"], Rules())
    assert (leaked.state, clean.state, leaked.runs) == ("dirty", "clean", 1) and clean.place is None
    place = leaked.place
    assert place is not None and place.with_answer and place.words == 6
    assert (place.document, place.url) == ("document 1", "https://example.org/1")
    assert place.text == "in which PROVINCE, does Velmora lie"
    assert texts[1].encode()[place.offset :].decode().startswith(place.text)
    (other,) = search(segments_of([corpus(texts)], 5), [asked], ["Belmont"], Rules())
    assert other.place is not None and not other.place.with_answer


WORDS = [f"word{i}" for i in range(60)]


def changed(words: list[str], *places: int) -> str:
    return " ".join("other" if i in places else word for i, word in enumerate(words))


@pytest.mark.parametrize(
    ("copy", "state", "ngram", "spans"),
    [
        (changed(WORDS), "dirty", True, 1.0),
        (changed(WORDS, 9), "dirty", True, 50 / 60),  # nothing may differ among the first ten words of a span
        (changed(WORDS, 10, 20, 30, 40), "dirty", True, 56 / 60),
        (changed(WORDS, *range(12, 60, 2)), "suspect", False, 16 / 60),  # 12 words, then four of the 24 that differ
        (" ".join(WORDS[:13]), "suspect", True, 13 / 60),
        (" ".join(WORDS[:12]), "suspect", False, 12 / 60),
        (" ".join(WORDS[:11]), "clean", False, 11 / 60),
    ],
)
def test_states_are_those_of_the_papers(copy: str, state: str, ngram: bool, spans: float) -> None:
    (found,) = search(segments_of([corpus([copy])], 5), [" ".join(WORDS)], [""], Rules())
    assert (found.state, found.ngram) == (state, ngram)
    assert found.spans == pytest.approx(spans)


def test_eight_grams_make_dirty_what_thirteen_and_spans_do_not() -> None:
    """Parts of nine words in another order: no run of ten, but most runs of eight."""
    parts = [WORDS[i : i + 9] for i in range(0, 18, 9)]
    (found,) = search(segments_of([corpus([" ".join(parts[1] + parts[0])])], 5), [" ".join(WORDS[:18])], [""], Rules())
    assert found.spans == 0.0 and not found.ngram and found.share == pytest.approx(4 / 11)
    lax = Rules(dirty_share=0.3)
    (found,) = search(segments_of([corpus([" ".join(parts[1] + parts[0])])], 5), [" ".join(WORDS[:18])], [""], lax)
    assert found.state == "dirty"


def test_characters_are_words_where_no_spaces_are() -> None:
    asked = "日本で一番高い山は何という名前ですか"
    (found,) = search(segments_of([corpus([f"問題集「{asked}」答え富士山"])], 5), [asked], ["富士山"], Rules())
    assert found.state == "dirty" and found.place is not None and found.place.with_answer
