"""Language identification with py3langid's model (naive Bayes over byte n-grams; Lui & Baldwin 2012, langid.py).

The model and its decisions are py3langid's; the walk over the bytes and the sums are compiled here, because they are
most of what screening a document costs. Sums are taken in one order, so that no number of threads moves a confidence.
"""

import math
import unicodedata
from functools import cache
from typing import Annotated, NamedTuple

import numba
import numpy as np
from pydantic import Field

from stages.base.params import Section
from stages.corpus.drops import for_source


class LanguageParams(Section):
    """Which languages stay."""

    keep: dict[str, list[str]]
    """Source (or `default`) -> ISO 639-1 codes; an empty list keeps every language."""
    sample_characters: Annotated[int, Field(ge=100)]
    """Of a text that are looked at."""
    min_characters: Annotated[int, Field(ge=0)]
    """Shorter texts are not judged: the identifier guesses on them."""
    min_confidence: Annotated[float, Field(ge=0, le=1)]
    """Below it a text is kept whatever its language seems to be."""
    max_drop: Annotated[float, Field(ge=0, le=1)]
    """Share of a source's documents that may be in other languages: most of a crawl is."""


class Language(NamedTuple):
    """What a text is written in."""

    code: str  # ISO 639-1, "und" where nothing was recognised
    confidence: float
    stays: bool


class Model(NamedTuple):
    """py3langid's tables: an automaton over bytes whose states name n-grams, and the weights of the n-grams."""

    rows: np.ndarray  # int64 [states]: where a state's transitions start
    transitions: np.ndarray  # uint32
    found: np.ndarray  # int64 [states]: the n-gram that a state has just read, -1 for none
    weights: np.ndarray  # float32 [n-grams, classes]: log probability of the n-gram in the language
    counts: np.ndarray  # int32 [n-grams], zeros: room for the walk to count in
    priors: np.ndarray  # float32 [classes]
    languages: list[str]  # ISO 639-1; two classes of one language share their name


@cache
def _model() -> Model:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    model = LanguageIdentifier.from_model_file(MODEL_FILE)
    return Model(
        np.asarray(model.tk_row, np.int64) << 8,
        np.asarray(model.tk_nextmove),
        np.asarray(model.tk_output, np.int64),
        np.asarray(model.nb_ptc, np.float32),
        np.zeros(len(model.nb_ptc), np.int32),
        np.asarray(model.nb_pc, np.float32),
        list(model.nb_classes),
    )


def identify(text: str, characters: int) -> tuple[str, float]:
    """ISO 639-1 code and confidence (0..1) of the middle `characters` of a text, where menus and footers are rare.

    Text without a feature of the model has the code "und" and confidence 0.
    """
    from stages.corpus.screening.language import score

    start = max(0, (len(text) - characters) // 2)
    sample = text[start : start + characters]
    sample = unicodedata.normalize("NFC", sample.lower() if sample.isupper() else sample)
    data = np.frombuffer(sample.encode("utf-8", "surrogatepass"), np.uint8)
    model = _model()
    met, scores = score(data, model.rows, model.transitions, model.found, model.weights, model.counts)
    if met == 0:
        return "und", 0.0
    # py3langid's temperature: the square root of the length keeps the softmax calibrated for any length.
    scores = (scores + model.priors) / np.float32(math.sqrt(len(data)))
    powers = np.exp(scores - scores.max())
    shares = dict.fromkeys(model.languages, 0.0)
    for name, power in zip(model.languages, powers.tolist(), strict=True):
        shares[name] += power
    best = max(shares, key=lambda name: shares[name])
    confidence = shares[best] / sum(shares.values())
    # A posterior this close to uniform means that nothing was recognised.
    return ("und", 0.0) if confidence <= 4 / len(shares) else (best, confidence)


def judge(text: str, source: str, params: LanguageParams) -> Language:
    """The language of a document, and whether it is kept. Raises ParamError for a source without settings."""
    code, confidence = identify(text, params.sample_characters)
    keep = for_source(params.keep, source, "corpus.screen.language.keep")
    sure = len(text) >= params.min_characters and confidence >= params.min_confidence
    return Language(code, confidence, not (keep and sure and code not in keep))


@numba.njit(cache=True)
def score(
    data: np.ndarray,
    rows: np.ndarray,
    transitions: np.ndarray,
    found: np.ndarray,
    weights: np.ndarray,
    counts: np.ndarray,
) -> tuple[int, np.ndarray]:
    """(distinct n-grams met, float32 [classes] Σ log(1 + count) · weight over them in the order of their first sight).

    Parameters: `data`: uint8 bytes; `counts`: int32 [n-grams], zeros, and zeros again afterwards; the rest as in
    `language.Model`.
    """
    met = np.empty(len(data), np.int64)
    state, distinct = np.int64(0), 0
    for byte in data:
        state = np.int64(transitions[rows[state] + byte])
        ngram = found[state]
        if ngram >= 0:
            if counts[ngram] == 0:
                met[distinct] = ngram
                distinct += 1
            counts[ngram] += 1
    total = np.zeros(weights.shape[1], np.float32)
    for place in range(distinct):
        ngram = met[place]
        factor = np.float32(np.log1p(counts[ngram]))
        counts[ngram] = 0
        for column in range(weights.shape[1]):
            total[column] += factor * weights[ngram, column]
    return distinct, total
