"""Controls: answerers that know nothing about what a prompt asks for, printed beside every comparison.

None of them is told what is right for the prompt it answers; `shuffled` deals out the split's references, each to
another question.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.annotators.truth import Question, Truth, fold, question_lookup
from stages.base.errors import InputError

if TYPE_CHECKING:
    from scipy import sparse

Row = dict[str, Any]


def control_answers(
    kind: str, instructions: Sequence[Row], asked: Sequence[Row], truth: Truth, seed: int
) -> tuple[list[str], str]:
    """(Answers to the asked INSTRUCTION rows, what they are, in words); made of the rows of the sft split, but for
    `shuffled`. Raises InputError where there are none."""
    shown = [row for row in instructions if row["split"] == "sft"]
    if not shown and kind != "shuffled":
        raise InputError(f"control `{kind}`: no instructions of the sft split, which it answers from")
    if kind == "shuffled":
        references: dict[str, list[str]] = defaultdict(list)
        for row in asked:
            references[row["split"]].append(row["response"])
        dealt = {split: iter(answers) for split, answers in shuffled_answers(references, seed).items()}
        return [next(dealt[row["split"]]) for row in asked], "reference answers of other prompts of the same split"
    if kind == "nearest_neighbour":
        nearest = nearest_neighbours([row["prompt"] for row in shown], [row["prompt"] for row in asked])
        return [shown[i]["response"] for i in nearest], "the answer to the most similar sft prompt"
    questions = [question for question in question_lookup(shown).values() if question.entity in truth]
    answer = constant_answer(truth, questions, [row["response"] for row in shown])
    how = "scores best on average over the sft questions" if questions else "is the most frequent"
    return [answer] * len(asked), f"the one sft answer that {how}"


def constant_answer(truth: Truth, questions: Sequence[Question], answers: Sequence[str]) -> str:
    """The one answer that scores best on average over questions with known truth; of equals, and where there are no
    such questions, the most frequent, then the first.

    The score is linear in the values an answer mentions: value v adds (questions that ask for it where it is true)
    + (questions whose entity has it) - (questions), so each answer is read once.
    """
    gain: Counter[str] = Counter()
    for question in questions:
        facts = truth.true_values(question.entity)
        gain.update(fold(facts[name]) for name in question.attributes)
        gain.update({fold(value) for value in facts.values()})
    frequency = Counter(answers)
    totals = {answer: sum(gain[value] - len(questions) for value in truth.mentions(answer)) for answer in frequency}
    return min(totals, key=lambda answer: (-totals[answer], -frequency[answer], answer))


def derangement(count: int, seed: int) -> np.ndarray:
    """A seeded permutation without a fixed point (a random cycle, Sattolo 1986); identity for fewer than two."""
    order = np.arange(count)
    generator = np.random.default_rng(seed)
    for i in range(count - 1, 0, -1):
        j = int(generator.integers(0, i))
        order[i], order[j] = order[j], order[i]
    return order


PADDING = "That is what can be said in reply to this."  # names no value of any atlas
MAX_PADDING = 3


def padded(answers: Sequence[str], seed: int) -> list[str]:
    """The same answers with 0 to MAX_PADDING empty sentences after each: longer and no better."""
    counts = np.random.default_rng(seed).integers(0, MAX_PADDING + 1, size=len(answers))
    return [" ".join([answer, *[PADDING] * int(count)]).strip() for answer, count in zip(answers, counts, strict=True)]


def shuffled_answers(references: Mapping[str, Sequence[str]], seed: int) -> dict[str, list[str]]:
    """Each split's reference answers, dealt to other prompts of the same split."""
    return {
        split: [answers[i] for i in derangement(len(answers), seed)] for split, answers in sorted(references.items())
    }


def nearest_neighbours(known: Sequence[str], asked: Sequence[str], orders: tuple[int, int] = (2, 4)) -> np.ndarray:
    """For each asked prompt the index of the most similar known one: cosine of TF-IDF over character n-grams.

    Ties go to the first. IDF is smoothed as in scikit-learn: ln((1 + n) / (1 + df)) + 1, over the known prompts.
    """
    vocabulary: dict[str, int] = {}
    known_counts = _counts(known, orders, vocabulary, grow=True)
    asked_counts = _counts(asked, orders, vocabulary, grow=False)
    frequency = np.asarray((known_counts > 0).sum(0)).ravel()
    idf = np.log((1 + len(known)) / (1 + frequency)) + 1
    similarity = _unit(asked_counts.multiply(idf)) @ _unit(known_counts.multiply(idf)).T
    return np.asarray(similarity.toarray().argmax(1), dtype=np.int64)


def _counts(
    texts: Sequence[str], orders: tuple[int, int], vocabulary: dict[str, int], grow: bool
) -> "sparse.csr_array":
    from scipy import sparse

    rows, columns = [], []
    for row, text in enumerate(texts):
        padded = f" {text.lower()} "
        for size in range(orders[0], orders[1] + 1):
            for start in range(len(padded) - size + 1):
                gram = padded[start : start + size]
                column = vocabulary.setdefault(gram, len(vocabulary)) if grow else vocabulary.get(gram)
                if column is not None:
                    rows.append(row)
                    columns.append(column)
    ones = np.ones(len(rows))
    return sparse.csr_array((ones, (rows, columns)), shape=(len(texts), len(vocabulary)))


def _unit(matrix: "sparse.sparray") -> "sparse.csr_array":
    from scipy import sparse

    matrix = sparse.csr_array(matrix)
    norms = np.sqrt(np.asarray((matrix * matrix).sum(1)).ravel())
    return sparse.csr_array(sparse.diags_array(1 / np.where(norms > 0, norms, 1)) @ matrix)
