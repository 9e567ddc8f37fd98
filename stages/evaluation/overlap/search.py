"""Which items share words with a corpus, by three rules at once, and where.

- 13-gram: Brown et al. 2020 (GPT-3), appendix C: any run of 13 words makes an item suspect.
- 8-gram share: Chowdhery et al. 2022 (PaLM), §8: 70 % of an item's runs of 8 words make it dirty.
- token spans: Touvron et al. 2023 (Llama 2), §A.6: spans that begin with 10 equal words and differ in at most four
  places after these, not at their end; from 20 % of an item's words in such spans it is suspect, from 80 % dirty. Words
  stand for tokens, so that one index serves all tokenizers; a word that differs counts as not found.

An item shorter than a rule's run is looked up as a whole; one shorter than what the index knows is too short to tell.
Of an item of repeated words in a corpus of the same, a segment is given up after MOST comparisons, shared among its
words: what was found till then counts, and an item that is clean so far is unknown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numba
import numpy as np
import pyarrow as pa

from stages.base.errors import InputError
from stages.evaluation.overlap.index import Segment, _bucket, run_hash
from stages.evaluation.overlap.words import NO_WORD, hash_words, words_of

ANSWER_WITHIN = 40  # words behind the found text in which its answer is looked for
SHOWN = 400  # characters of the corpus that are shown of a place
MOST = 1 << 28  # comparisons for one item in one segment, below a second; ordinary ones take some thousand


@dataclass(frozen=True)
class Rules:
    """Lengths in words, shares 0 .. 1; the values of the papers."""

    ngram: int = 13
    share_ngram: int = 8
    dirty_share: float = 0.7
    span: int = 10
    skips: int = 4
    span_suspect: float = 0.2
    span_dirty: float = 0.8


@dataclass(frozen=True)
class Found:
    """Where the longest piece of an item stands in the corpus."""

    document: str
    source: str
    url: str
    offset: int  # bytes of the document before it
    words: int  # of the item that are there
    text: str  # as the corpus has it, cut
    with_answer: bool  # the answer follows: input and label, not input alone (Dodge et al. 2021)


@dataclass
class Match:
    """What was found of one item."""

    words: int  # that it has
    state: str = "clean"  # suspect, dirty; unknown for one too short to tell, or given up
    ngram: bool = False
    share: float = 0.0  # of its 8-grams
    spans: float = 0.0  # of its words
    runs: int = 0  # pieces of 8 words or more in the corpus, each as long as it goes
    place: Found | None = field(default=None)


@numba.njit(cache=True)
def _repeats(items, first, end, found):  # type: ignore[no-untyped-def]
    """found[d]: how far the words from `first` on are the same as those from `first + d` on (Z algorithm)."""
    left = right = 0
    for shift in range(1, end - first):
        same = min(found[shift - left], right - shift) if shift < right else 0
        while first + shift + same < end and items[first + same] == items[first + shift + same]:
            same += 1
        found[shift] = same
        if shift + same > right:
            left, right = shift, shift + same


@numba.njit(cache=True)
def _search(items, offsets, segment, lengths, marks, runs, best, stopped, most):  # type: ignore[no-untyped-def]
    """marks bool [3, words of items]: a run of `ngram`, of `share_ngram` words begins here; this word is in a span.
    runs int64 [items]; best int64 [items, 4]: words, first word of the item, place, end of the longest piece;
    stopped bool [items]: a word of it was given up after its share of `most` comparisons.

    A text that repeats itself holds a piece at very many places, one within the other: what is known of one place is
    not compared again at those within it, nor marked again.
    """
    words, places, buckets, shift, shortest = segment
    ngram, share_ngram, span, skips = lengths
    longs, shares, spans = marks
    repeats = np.empty(max(0, np.max(offsets[1:] - offsets[:-1])) if len(offsets) > 1 else 0, np.int64)
    for item in range(len(offsets) - 1):
        begin, end = offsets[item], offsets[item + 1]
        length = end - begin
        if length < shortest:
            continue
        n_long, n_share, n_span = min(ngram, length), min(share_ngram, length), min(span, length)
        allowed = most // length
        for first in range(begin, end - shortest + 1):
            work = 0
            bucket = _bucket(run_hash(items, first, shortest), shift)
            inside, known, marked = np.int64(0), np.int64(0), 0  # words [inside, known) are the item's from `first` on
            compared = False
            for at in range(buckets[bucket], buckets[bucket + 1]):
                if work > allowed:
                    stopped[item] = True
                    break
                work += 1
                place = np.int64(places[at])
                if first > begin and words[place - 1] == items[first - 1]:
                    continue  # part of a piece that begins earlier
                whole = best[item, 0] == length  # nothing is left but to count
                limit = min(end, first + n_share) if whole else end
                run = before = 0
                if place < known:
                    if not compared:
                        _repeats(items, first, end, repeats)
                        compared = True
                    run = before = min(repeats[place - inside], known - place, limit - first)
                while first + run < limit and words[place + run] == items[first + run]:  # a NO_WORD ends it
                    run += 1
                work += run - before
                if place + run > known:
                    inside, known = place, place + run
                if run < n_share:
                    continue
                runs[item] += 1
                if whole:
                    continue
                for start in range(first + max(0, marked - n_share + 1), first + run - n_share + 1):
                    shares[start] = True
                for start in range(first + max(0, marked - n_long + 1), first + run - n_long + 1):
                    longs[start] = True
                equal, last = run, run
                if run >= n_span:
                    for covered in range(first + (marked if marked >= n_span else 0), first + run):
                        spans[covered] = True
                    left, more, found = skips, run, run
                    while first + more < end and words[place + more] != NO_WORD:
                        if words[place + more] == items[first + more]:
                            found += 1
                            equal, last = found, more + 1
                            spans[first + more] = True
                        elif left == 0:
                            break
                        else:
                            left -= 1
                        more += 1
                    work += more - run
                marked = max(marked, run)
                if equal > best[item, 0]:
                    best[item, 0], best[item, 1], best[item, 2], best[item, 3] = equal, first - begin, place, last


def search(segments: Iterable[Segment], questions: Sequence[str], answers: Sequence[str], rules: Rules) -> list[Match]:
    """What of each question stands in the corpus; answers[i] is looked for behind it ("" for none).

    Segments are read one after the other. Raises InputError where the index knows no runs as short as the rules'.
    """
    hashed = words_of(questions)
    items = np.concatenate([np.zeros(0, np.uint32), *hashed])
    offsets = np.cumsum([0, *map(len, hashed)]).astype(np.int64)
    marks = np.zeros((3, len(items)), bool)  # a run of `ngram`, of `share_ngram` words begins here; in a span
    runs, best = np.zeros(len(hashed), np.int64), np.zeros((len(hashed), 4), np.int64)
    stopped = np.zeros(len(hashed), bool)
    places: dict[int, Found] = {}
    shortest, behind = 1, words_of(answers)
    for segment in segments:
        shortest = segment.shortest
        if min(rules.ngram, rules.share_ngram, rules.span) < shortest:
            raise InputError(
                f"the index knows runs of {shortest} words or more; ask for none shorter, or build another"
            )
        before = best[:, 0].copy()
        held = (segment.words, segment.places, segment.buckets, segment.shift, shortest)
        lengths = (rules.ngram, rules.share_ngram, rules.span, rules.skips)
        _search(items, offsets, held, lengths, (marks[0], marks[1], marks[2]), runs, best, stopped, MOST)
        better = np.flatnonzero(best[:, 0] > before)
        for item in better[np.argsort(best[better, 2])].tolist():  # in the order of the texts, which are unpacked once
            count, _, place, length = best[item].tolist()
            places[item] = found_at(segment, place, length, count, behind[item])
        del segment  # before the next one is made
    found = [
        _match(marks[:, offsets[i] : offsets[i + 1]], int(runs[i]), places.get(i), shortest, rules)
        for i in range(len(hashed))
    ]
    for match, unfinished in zip(found, stopped.tolist(), strict=True):
        if unfinished and match.state == "clean":
            match.state = "unknown"
    return found


def _match(marks: np.ndarray, runs: int, place: Found | None, shortest: int, rules: Rules) -> Match:
    longs, shares, spans = marks
    words = len(spans)
    if words < max(1, shortest):
        return Match(words, "unknown")
    grams = words - min(rules.share_ngram, words) + 1
    found = Match(words, "clean", bool(longs.any()), float(shares.sum()) / grams, float(spans.mean()), runs, place)
    if found.share >= rules.dirty_share or found.spans >= rules.span_dirty:
        found.state = "dirty"
    elif found.ngram or found.spans >= rules.span_suspect:
        found.state = "suspect"
    return found


def found_at(segment: Segment, place: int, length: int, equal: int, answer: np.ndarray) -> Found:
    """The words [place, place + length) of a segment as the corpus has them."""
    row = int(np.searchsorted(segment.rows[:-1], place, side="right")) - 1
    piece = segment.texts.piece(row)
    data = piece["text"].encode()
    stood = hash_words(pa.array([piece["text"]], pa.large_string()), placed=True)
    first = place - int(segment.rows[row])
    last = min(first + length, len(stood.starts)) - 1  # a run may go on in the document's next piece
    start = int(stood.starts[first])
    text = data[start : int(stood.ends[last])].decode()
    following = segment.words[place + length : place + length + ANSWER_WITHIN + len(answer)]
    following = following[: int(np.argmax(following == NO_WORD))] if (following == NO_WORD).any() else following
    told = len(answer) > 0 and any(
        np.array_equal(following[i : i + len(answer)], answer) for i in range(len(following) - len(answer) + 1)
    )
    return Found(
        piece["id"], piece["source"], piece["url"], piece["offset"] + start, equal,
        text if len(text) <= SHOWN else text[: SHOWN - 1] + "…", told,
    )  # fmt: skip
