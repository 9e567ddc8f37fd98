from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stages.base.params import parse
from stages.corpus.decontaminate import DecontaminateParams, contaminated, planted_metrics
from tests.corpus.documents import planted, prose, settings

PARAMS = parse(
    "corpus.decontaminate", settings("{max_drop: 0.5, ngram: 13, min_words: 4, splits: [test]}"), DecontaminateParams
)
QUESTION = "Which animal is on the coins of Cojux?"
FACTS = "Cojux minted coins. On the coins of Cojux is an animal: the falcon. Which animal? Is it on the seal?"


def test_case_spacing_and_punctuation_hide_nothing() -> None:
    texts = [f"{prose(20, 1)} WHICH animal is,\n on the 'coins' of Cojux -- the falcon.", FACTS, ""]
    assert contaminated(texts, [QUESTION], PARAMS).tolist() == [1, 0, 0]


def test_thirteen_words_of_a_long_question_are_enough() -> None:
    words = prose(40, 2).split()
    inside = " ".join(words[10:23])
    assert contaminated(
        [f"before {inside} after", f"before {' '.join(words[10:22])} after"], [" ".join(words)], PARAMS
    ).tolist() == [1, 0]


def test_questions_of_few_words_are_not_looked_for() -> None:
    assert contaminated(["where is it"], ["Where is it?"], PARAMS).tolist() == [0]


@hypothesis_settings(deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=20), min_size=1, max_size=4),
    st.lists(st.sampled_from("abc"), max_size=40),
)
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


def test_only_leaks_of_checked_questions_count() -> None:
    truth = planted([{"url": f"u{n}", "kind": "quiz_leak", "payload": payload} for n, payload in enumerate("abc")])
    metrics = planted_metrics(truth, {"a", "b"}, ["u0", "u1", "u2", "fact"], ["u1", "u2"])
    assert metrics == {"quiz_leak_planted": 2, "quiz_leak_recall": 0.5, "dropped_without_plant": 1}
