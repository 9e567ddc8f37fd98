import hashlib
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stages.base.params import parse
from stages.corpus.decontaminate import (
    Context,
    CutParams,
    DecontaminateParams,
    clean,
    contaminated,
    decide,
    held_out_texts,
)
from stages.corpus.decontamination import cutting as passages
from stages.corpus.decontamination.protected import is_protected, protect
from stages.corpus.decontamination.protected import passages as find
from tests.corpus.documents import prose, settings, table

PARAMS = parse(
    "corpus.decontaminate",
    settings(
        "{max_drop: 0.5, ngram: 13, min_words: 4, splits: [test], action: drop,"
        " cut: {margin: 200, min_characters: 200, max_pieces: 10}}"
    ),
    DecontaminateParams,
)
CUT = PARAMS.model_copy(update={"action": "cut"})
QUESTION = "Which animal is on the coins of Cojux?"
FACTS = "Cojux minted coins. On the coins of Cojux is an animal: the falcon. Which animal? Is it on the seal?"


def context(params: DecontaminateParams, leaks: tuple[str, ...] = ()) -> Context:
    return Context(protect([QUESTION], params.ngram, params.min_words), params, frozenset(leaks))


def test_case_spacing_and_punctuation_hide_nothing() -> None:
    texts = [f"{prose(20, 1)} WHICH animal is,\n on the 'coins' of Cojux -- the falcon.", FACTS, ""]
    assert contaminated(texts, [QUESTION], PARAMS).tolist() == [1, 0, 0]


def test_underscores_and_characters_without_width_hide_nothing() -> None:
    hidden = QUESTION.replace(" ", "_").replace("Cojux", "Co\u00adj\u200bu\ufeffx")
    text = f"\ufeff{prose(20, 1)} “{hidden}” {prose(20, 2)}"
    protected = protect([QUESTION], 13, 4)
    assert [text[start:end] for start, end in find(text, protected)] == [hidden.rstrip("?")]
    assert find(QUESTION, protect([hidden], 13, 4)) == find(QUESTION, protected) == [(0, len(QUESTION) - 1)]
    assert clean(text, protected, CUT.cut)[0] == ""


def test_only_questions_of_enough_words_are_protected() -> None:
    assert [is_protected(text, 4) for text in ("where is it", "where_is it now", "?", QUESTION)] == [
        False,
        True,
        False,
        True,
    ]


def test_thirteen_words_of_a_long_question_are_enough() -> None:
    words = prose(40, 2).split()
    inside = " ".join(words[10:23])
    assert contaminated(
        [f"before {inside} after", f"before {' '.join(words[10:22])} after"], [" ".join(words)], PARAMS
    ).tolist() == [1, 0]


def test_questions_of_few_words_are_not_looked_for() -> None:
    assert contaminated(["where is it"], ["Where is it?"], PARAMS).tolist() == [0]


def test_responses_are_protected_where_no_truth_is_known() -> None:
    """What is known to be true is what the pages say: looking for it would empty the corpus."""
    known = {"prompt": "Where is Cojux?", "response": "Cojux is in the north of Anthar.", "entity": "Cojux"}
    own = {"prompt": "Tell me of the sea.", "response": "It is wide and it is deep.", "entity": ""}
    texts = held_out_texts([known, own], [{"question": "Which animal is on the coins?"}])
    assert texts == [
        "Where is Cojux?", "Tell me of the sea.", "Which animal is on the coins?", "It is wide and it is deep.",
    ]  # fmt: skip


def test_nothing_protected_is_nothing_found() -> None:
    assert contaminated([FACTS, ""], [], PARAMS).tolist() == [0, 0]
    assert contaminated([FACTS, ""], ["", "too short"], PARAMS).tolist() == [0, 0]


questions_of_letters = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=20), min_size=1, max_size=4)


@hypothesis_settings(deadline=None)
@given(questions_of_letters, st.lists(st.sampled_from("abc"), max_size=40))
def test_hits_equal_a_naive_search(questions: list[list[str]], document: list[str]) -> None:
    grams = set()
    for question in questions:
        if len(question) >= 4:
            n = min(13, len(question))
            grams |= {tuple(question[place : place + n]) for place in range(len(question) - n + 1)}
    expected = sum(
        tuple(document[place : place + len(gram)]) == gram for gram in grams for place in range(len(document))
    )
    found = contaminated([" ".join(document)], [" ".join(question) for question in questions], PARAMS)
    assert found.tolist() == [expected]


def test_passages_are_named_in_characters() -> None:
    text = f"Café – “{QUESTION}” is asked, and: {QUESTION.upper()}"
    spans = find(text, protect([QUESTION], 13, 4))
    assert [text[start:end] for start, end in spans] == [QUESTION.rstrip("?"), QUESTION.upper().rstrip("?")]


@hypothesis_settings(deadline=None, max_examples=200)
@given(
    questions_of_letters,
    st.text(alphabet="abc .\n", max_size=120),
    st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(1, 5)),
)
def test_what_is_cut_is_clean_and_the_rest_stands_as_it_was(
    questions: list[list[str]], text: str, rule: tuple[int, int, int]
) -> None:
    protected = protect([" ".join(question) for question in questions], 5, 3)
    cut = CutParams(margin=rule[0], min_characters=rule[1], max_pieces=rule[2])
    left, reason = clean(text, protected, cut)
    assert find(left, protected) == []
    if not find(text, protected):
        assert (left, reason) == (text, "" if text else "nothing_left")
        return
    place = 0
    for piece in left.split("\n\n") if left else []:  # every piece, in order
        place = text.index(piece, place) + len(piece)


def test_a_passage_goes_with_its_margin_up_to_the_ends_of_sentences() -> None:
    before, after = [[f"{prose(10, seed)}" for seed in range(start, start + 30)] for start in (0, 100)]
    text = " ".join([*before, QUESTION, *after])
    start = text.index(QUESTION)
    low, high = passages.widen(text, start, start + len(QUESTION), 200)
    assert 200 <= start - low < 300 and 200 <= high - start - len(QUESTION) < 300
    assert text[low - 1] == "." and text[high - 1] == "."  # whole sentences stand on both sides
    assert passages.without(text, [(start, start + len(QUESTION))], 200) == [text[:low].strip(), text[high:].strip()]


def test_near_the_ends_of_a_text_everything_goes_and_without_sentences_the_margin() -> None:
    assert passages.widen("x" * 50 + QUESTION + "y" * 50, 50, 50 + len(QUESTION), 100) == (0, 100 + len(QUESTION))
    text = "x" * 1000 + QUESTION + "y" * 1000
    assert passages.widen(text, 1000, 1000 + len(QUESTION), 100) == (900, 1100 + len(QUESTION))


def test_overlapping_passages_make_one_gap() -> None:
    text = "a" * 100 + "\n" + "b" * 100 + "\n" + "c" * 100
    assert passages.without(text, [(120, 130), (125, 140), (121, 122)], 5) == [
        "a" * 100 + "\n" + "b" * 14,
        "b" * 56 + "\n" + "c" * 100,
    ]


def test_dropped_documents_are_counted_and_the_rest_untouched() -> None:
    documents = table([{"text": f"{prose(30, 1)} {QUESTION}"}, {"text": FACTS}, {"text": QUESTION}])
    urls = documents["url"].to_pylist()
    outcome = decide(documents, context(PARAMS, (urls[0], urls[1], "https://made.invalid/never")))
    assert outcome.kept.to_pylist()[0]["text"] == FACTS
    assert outcome.drops["reason"].to_pylist() == ["ngram_overlap"] * 2
    assert dict(outcome.facts) == {
        "hits": 2,
        "quiz_leak_planted": 2,
        "quiz_leak_found": 1,
        "touched_without_plant": 1,
        "documents_cut": 0,
        "characters_cut": 0,
    }


def test_cut_documents_keep_their_clean_part_and_get_a_new_hash() -> None:
    clean_text = prose(200, 1)
    long = f"{clean_text}\n{prose(60, 2)} {QUESTION} {prose(60, 3)}\n{prose(200, 4)}"
    many = "\n".join(f"{prose(150, seed)}\n{QUESTION}" for seed in range(12))
    documents = table([{"text": long}, {"text": f"{prose(30, 5)} {QUESTION}"}, {"text": many}, {"text": FACTS}])
    outcome = decide(documents, context(CUT))
    kept, other = outcome.kept.to_pylist()
    assert kept["text"].startswith(clean_text) and kept["text"].endswith(prose(200, 4))
    assert contaminated([kept["text"]], [QUESTION], CUT).tolist() == [0]
    assert kept["text_hash"] == hashlib.sha256(kept["text"].encode()).hexdigest()
    assert other["text"] == FACTS
    assert outcome.drops["reason"].to_pylist() == ["nothing_left", "too_many_pieces"]
    assert outcome.drops["sample"].to_pylist() == [documents["text"][row].as_py()[:300] for row in (1, 2)]
    assert outcome.facts["documents_cut"] == 1
    assert outcome.facts["characters_cut"] == len(long) - len(kept["text"])


def test_the_context_travels_to_workers() -> None:
    copy = pickle.loads(pickle.dumps(context(PARAMS)))
    documents = table([{"text": QUESTION}, {"text": FACTS}])
    assert decide(documents, copy).drops.equals(decide(documents, context(PARAMS)).drops)


@pytest.mark.parametrize("count", [1, 500])
def test_every_planted_leak_is_found(count: int) -> None:
    questions = [prose(14 + seed % 9, seed) for seed in range(count)]
    leaks = [
        f"{prose(80, 10_000 + n)} {question.upper()} {prose(40, 20_000 + n)}" for n, question in enumerate(questions)
    ]
    found = contaminated([*leaks, *(prose(150, 30_000 + n) for n in range(count))], questions, PARAMS)
    assert (found[:count] > 0).all() and not np.any(found[count:])


def test_an_empty_batch_passes() -> None:
    outcome = decide(table([{"text": FACTS}]).slice(0, 0), context(CUT))
    assert outcome.kept.num_rows == outcome.drops.num_rows == 0
    assert isinstance(outcome.kept, pa.Table)
