"""Does length control find the true ranking where a known length bias hides it? An experiment with known answers.

Models of known skill and verbosity answer questions of a small invented truth; the simulated annotators, whose length
bias and noise are parameters, judge them against a baseline of middling skill and length. The better models are mostly
the terser ones, so that a bias towards length turns the raw ranking around. What a ranking should be is known: by the
exact score of the very same answers. Beside the models the baseline's own answers are judged padded and cut to their
facts, which are the regularising rows, as AlpacaEval has its baseline's verbose and concise versions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from json import dumps

import numpy as np

from stages.annotators.grades import Grader
from stages.annotators.pool import Pool, PoolSettings
from stages.annotators.truth import Question, Truth, score
from stages.base.seeds import derive
from stages.judging.controls import PADDING
from stages.judging.statistics.intervals import rate_bounds
from stages.judging.statistics.length_control import fit
from stages.judging.statistics.prediction_powered import corrected

ATTRIBUTES = tuple(f"trait{k}" for k in range(4))
VALUES = 6  # of each attribute
SKILLS = (0.50, 0.54, 0.58, 0.62, 0.66, 0.70, 0.74, 0.78)  # chance that a stated fact is true
SENTENCES = (
    4.0,
    2.5,
    3.5,
    3.0,
    1.0,
    2.0,
    0.5,
    1.5,
)  # mean number of empty sentences; rank correlation -0.83 with skill
BASELINE_SKILL, BASELINE_SENTENCES = 0.64, 2.0


@dataclass(frozen=True)
class World:
    """Answers to the same questions, and what is true of them."""

    truth: Truth
    questions: dict[str, Question]  # prompt → question
    prompts: list[str]
    baseline: list[str]
    gamed: dict[str, list[str]]  # the baseline's answers, longer and shorter
    models: dict[str, list[str]]
    scores: dict[str, float]  # mean exact score of each model


@dataclass(frozen=True)
class RankErrors:
    """Mean distance of a rank from the true one, over models; one number a seed."""

    raw: np.ndarray
    controlled: np.ndarray


def world(questions: int, seed: int) -> World:
    """Seeded answers: each asked fact is stated, truly with the model's skill, then empty sentences follow."""
    generator = np.random.default_rng(seed)
    values = {name: [f"{name}value{v}" for v in range(VALUES)] for name in ATTRIBUTES}
    facts = {f"E{i}": {name: values[name][generator.integers(VALUES)] for name in ATTRIBUTES} for i in range(questions)}
    truth = Truth(values, facts)
    asked = {f"What is known of {entity}?": Question(entity, ATTRIBUTES) for entity in facts}

    def answers(skill: float, sentences: float) -> list[str]:
        made = []
        for question in asked.values():
            stated = []
            for name in ATTRIBUTES:
                true = facts[question.entity][name]
                others = [value for value in values[name] if value != true]
                stated.append(true if generator.random() < skill else others[generator.integers(len(others))])
            padding = generator.poisson(sentences)
            made.append(" ".join([", ".join(stated) + ".", *[PADDING] * padding]))
        return made

    baseline = answers(BASELINE_SKILL, BASELINE_SENTENCES)
    models = {
        f"model{k}": answers(skill, sentences)
        for k, (skill, sentences) in enumerate(zip(SKILLS, SENTENCES, strict=True))
    }
    gamed = {
        "longer": [" ".join([text, *[PADDING] * int(generator.poisson(2))]) for text in baseline],
        "shorter": [text.split(". ")[0].rstrip(".") + "." for text in baseline],
    }
    made = World(truth, asked, list(asked), baseline, gamed, models, {})
    return replace(made, scores={model: float(_scores(made, texts).mean()) for model, texts in models.items()})


def rank_errors(known: World, settings: PoolSettings, seeds: Sequence[int]) -> RankErrors:
    """Judge all models once a seed, with annotators of these settings; rank them by raw and by controlled rate."""
    true = _ranks(list(known.scores.values()))
    raw, controlled = [], []
    for seed in seeds:
        pool = Pool(settings, Grader(known.truth, known.questions, {}), seed)
        gamed = _gamed({name: _judged(pool, known, texts, seed) for name, texts in known.gamed.items()})
        fits = [fit(_judged(pool, known, texts, seed), gamed=gamed) for texts in known.models.values()]
        raw.append(np.abs(_ranks([f.win_rate for f in fits]) - true).mean())
        controlled.append(np.abs(_ranks([f.lc_win_rate for f in fits]) - true).mean())
    return RankErrors(np.array(raw), np.array(controlled))


@dataclass(frozen=True)
class Coverage:
    """Percent of 95 % intervals that hold a model's true win rate, over models and draws of questions."""

    naive: float  # of the judge's own rate
    corrected: float  # by prediction-powered inference, where some verdicts are known


def coverage(known: World, settings: PoolSettings, questions: int, labelled: int, draws: int, seed: int) -> Coverage:
    """Draw so many questions from the world, `labelled` of them with a known verdict: the answer with the higher exact
    score wins. The truth is the share of those over the whole world."""
    pool = Pool(settings, Grader(known.truth, known.questions, {}), seed)
    generator = np.random.default_rng(seed)
    theirs = _scores(known, known.baseline)
    naive, mended = [], []
    for texts in known.models.values():
        judged = _judged(pool, known, texts, seed)["preference"] - 1
        right = 0.5 + 0.5 * np.sign(_scores(known, texts) - theirs)
        truth = 100 * float(right.mean())
        for _ in range(draws):
            rows = generator.integers(0, len(right), questions)
            low, high = rate_bounds(judged[rows])
            naive.append(low <= truth <= high)
            got = corrected(judged[rows], np.where(np.arange(questions) < labelled, right[rows], np.nan))
            assert got is not None, "fewer labels than a correction takes"
            mended.append(got.low <= truth <= got.high)
    return Coverage(100 * float(np.mean(naive)), 100 * float(np.mean(mended)))


def _scores(known: World, texts: list[str]) -> np.ndarray:
    """[questions] exact scores of answers."""
    asked = known.questions.values()
    return np.array([score(known.truth, q.entity, q.attributes, t).score for q, t in zip(asked, texts, strict=True)])


def _judged(pool: Pool, known: World, texts: list[str], seed: int) -> dict[str, np.ndarray]:
    preferences = []
    for prompt, ours, theirs in zip(known.prompts, texts, known.baseline, strict=True):
        if ours == theirs:
            preferences.append(1.5)
            continue
        ours_first = bool(derive(seed, "order", prompt) & 1)
        first, second = (ours, theirs) if ours_first else (theirs, ours)
        parts = {"instruction": prompt, "output_1": first, "output_2": second}
        content = "\n".join(dumps({name: value}, ensure_ascii=False) for name, value in parts.items())
        wins = pool.judge([{"role": "user", "content": content}]).second_better
        preferences.append(1 + (1 - wins if ours_first else wins))
    return {
        "instruction_index": np.arange(len(texts)),
        "preference": np.array(preferences),
        "len_output": np.array([len(text) for text in texts]),
        "len_baseline": np.array([len(text) for text in known.baseline]),
    }


def _gamed(judged: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    deltas = {name: rows["len_baseline"] - rows["len_output"] for name, rows in judged.items()}
    return {
        "model": np.concatenate([np.full(len(delta), name) for name, delta in deltas.items()]),
        "std_delta_len": np.concatenate([delta / delta.std(ddof=1) for delta in deltas.values()]),
        "preference_surrogate_0to1": np.concatenate([rows["preference"] - 1 for rows in judged.values()]),
    }


def _ranks(values: Sequence[float]) -> np.ndarray:
    """0 for the highest."""
    return np.argsort(np.argsort(-np.asarray(values), kind="stable"), kind="stable")
