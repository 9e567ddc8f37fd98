"""Sentences as spaCy's sentencizer counts them: a new one begins with the first token after an end mark that is neither
punctuation nor an end mark itself.

White space is a token where it is more than one blank between words, so it may begin a sentence, and a sentence may be
nothing else: datatrove counts those too, and never fewer than one.
"""

import numba
import numpy as np

from stages.corpus.rules.characters import BLANK, codes, is_space
from stages.corpus.rules.english import english
from stages.corpus.rules.lexicon import END, PUNCTUATION, Lexicon, word_flags


@numba.njit(cache=True)
def count_words_and_sentences(
    codes: np.ndarray,
    chunks: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    words: np.ndarray,
    flags: np.ndarray,
) -> tuple[int, int]:
    """(words, sentences) of a text of these code points and chunks."""
    sentences, seen, total = 1, False, 0
    place, number = 0, 0
    while place < codes.shape[0]:
        start = place
        if is_space(codes[place]):
            while place < codes.shape[0] and is_space(codes[place]):
                place += 1
            if seen and (place - start > 1 or codes[start] != BLANK):
                sentences += 1
                seen = False
            continue
        while place < codes.shape[0] and not is_space(codes[place]):
            place += 1
        chunk = chunks[number]
        number += 1
        for word in range(starts[chunk], ends[chunk]):
            total += 1
            flag = flags[words[word]]
            if flag & END:
                seen = True
            elif seen and not flag & PUNCTUATION:
                sentences += 1
                seen = False
    return total, sentences


def count(text: str, lexicon: Lexicon) -> int:
    """Sentences of a text whose chunks are known to the lexicon."""
    points = codes(text)
    chunks = lexicon.chunks(text, points)
    lexicon.describe()
    if lexicon.expand(chunks)[1]:
        return count_whole(text)
    return count_words_and_sentences(points, chunks, *lexicon.cuts, lexicon.flags)[1]


def count_whole(text: str) -> int:
    """Sentences of a text, neighbours and all; slower."""
    sentences, seen = 1, False
    for token in english().whole(text):
        flag = word_flags(token)
        if flag & END:
            seen = True
        elif seen and not flag & PUNCTUATION:
            sentences += 1
            seen = False
    return sentences
