"""What a verdict is: the one place that reads a label, 1 or 2, off the words of a judge.

A label that is merely mentioned ("Answer 1 names the wrong river.") is none. The verdict is the label that the answer
ends on: its last sentence ends with a label and holds no other one. Where it doesn't, the labels that the answer states
elsewhere count, if they agree: alone in a sentence ("2"), after a word such as `answer` or `verdict` and `is` or a
colon ("Verdict: 2"), as in "2 is better", or first of all, if the other one is named nowhere ("2, because …").
Questions and what is denied ("not 1", "1 is worse") state nothing.
"""

import re
from dataclasses import dataclass

LONGEST = 20_000  # characters of an answer that are read, its last ones
FARTHEST = 400  # characters before a label in which a word may deny it
_LABEL = r"(?<![\w.])(?<!\d[,:/-])([12])(?!\w|[.,:/-]\d)"  # no part of 12, 1.5, 1/2, 2nd
_WRAP = r"[\s.*_`'\"“”‘’«»()\[\]{}<>$\\#|=~-]{0,20}"
_NOUN = (
    r"(?:answer|output|response|option|choice|verdict|decision|winner|preference|preferred|judge?ment|result|label|number"
    r"|conclusion|better|best|final|pick|choose|chosen|prefer|select|selected|boxed|text)"
)
_SAYS = r"(?:is|are|was|:|=+>?|->|→|goes\s+to)"
_MENTION = re.compile(_LABEL)
# Nothing but a label, or one noun and a label: what a judge says that was asked for one character.
_ALONE = re.compile(rf"{_WRAP}(?:{_NOUN}{_WRAP}){{0,4}}[:=]?{_WRAP}{_LABEL}{_WRAP}", re.IGNORECASE)
_TOLD = re.compile(
    rf"\b{_NOUN}\b{_WRAP}{_SAYS}{_WRAP}(?:the\s+)?(?:{_NOUN}{_WRAP}:?){{0,2}}{_WRAP}(?:#\s*)?{_LABEL}", re.IGNORECASE
)
_BETTER = re.compile(
    rf"{_LABEL}{_WRAP}(?:(?:is|was|are)\s+)?(?:(?:the|clearly|much|slightly|far|overall|a|bit|definitely|"
    r"significantly|generally)\s+){0,3}(?:better|best|superior|preferable|preferred|winner|wins)\b",
    re.IGNORECASE,
)
_DENIES = re.compile(
    r"\b(?:not|never|neither|nor|cannot|worse|worst|wrong|incorrect|false|bad|rather|instead|than|over|unlike|against|"
    r"reject\w*|loses?|loser|weaker|inferior|except|if|unless|either|between|tie[ds]?)\b|n[’']t\b",
    re.IGNORECASE,
)
_MARKS = re.compile(
    r"</?[A-Za-z]{1,10}/?>|<[|｜][^<>]{1,40}[|｜]>|(?<=[A-Za-z])[_-](?=[12]\b)"
)  # <b>, <|im_end|>, output_1
_OPENING = re.compile(rf"{_WRAP}{_LABEL}[*_`'\"”)\]}}]{{0,9}}\s{{0,9}}[.,:;!()–—-]")
# After a full stop, question or exclamation mark with white space, a semicolon, or at the end of a line.
_SENTENCE_END = re.compile(r"(?<=[.!?;])(?=[*_`'\"”)\]]{0,9}\s|$)|\n")


@dataclass(frozen=True)
class Verdict:
    label: str  # "1" or "2"
    place: int  # of the label in the answer, in characters


def find_verdict(answer: str, cut: bool = False) -> Verdict | None:
    """The verdict of an answer without thoughts; None where it has none, or states both labels.

    `cut`: the reply ends at `max_tokens`, so that its last sentence may go on: only what is stated counts.
    """
    skipped = max(0, len(answer) - LONGEST)
    if skipped:
        found = find_verdict(answer[skipped:], cut)
        return found and Verdict(found.label, found.place + skipped)
    answer = _MARKS.sub(lambda match: " " * len(match[0]), answer)
    sentences = _sentences(answer)
    stated = [found for place, text in sentences for found in _stated(place, text)]
    mentioned = {match[1] for match in _MENTION.finditer(answer)}
    if cut and sentences:
        whole = len(sentences) == 1 and _bare(answer)
        place, text = sentences[-1]
        stated = [verdict for verdict in stated if verdict.place < place or whole or _TOLD.search(text)]
    elif len(mentioned) == 1 and (opening := _OPENING.match(answer)):  # "2, because …"
        stated.append(Verdict(opening[1], opening.start(1)))
    labels = {verdict.label for verdict in stated}
    final = None if cut or not sentences else _final(*sentences[-1])
    if final is None:
        return stated[-1] if len(labels) == 1 else None
    bare = [text for _, text in sentences if _bare(text)]
    if len(bare) == len(sentences) and len(labels) > 1:  # "1\n2": two labels and not a word between them
        return None
    return final


def _sentences(answer: str) -> list[tuple[int, str]]:
    """(place, text) of each sentence that holds a letter or a digit; the number of a list's item goes with the item."""
    found, start = [], 0
    for end in [*(match.end() for match in _SENTENCE_END.finditer(answer)), len(answer)]:
        text = answer[start:end]
        numbers_an_item = re.fullmatch(r"\s*\d+\.", text) and re.match(r"[ \t]+\S*[^\W\d]", answer[end:])
        if numbers_an_item:
            continue
        if re.search(r"\w", text):
            found.append((start, text))
        start = end
    return found


def _bare(sentence: str) -> bool:
    return re.fullmatch(r"[\W_]*[12][\W_]*", sentence) is not None


def _asks_or_heads(sentence: str) -> bool:
    """Whether it is a question, or a heading such as `Answer 1:`."""
    return sentence.rstrip(" \t\r\n*_`'\"”)]").endswith(("?", ":", "："))


def _final(place: int, sentence: str) -> Verdict | None:
    """The label that the last sentence ends with, if it names no other and denies nothing."""
    mentions = list(_MENTION.finditer(sentence))
    if not mentions or len({match[1] for match in mentions}) > 1 or _asks_or_heads(sentence):
        return None
    last = mentions[-1]
    if re.search(r"\w", re.sub(r"\\?\b(?:im_end|eot_id|boxed|text)\b", "", sentence[last.end() :])):
        return None
    return None if _denied(sentence, last.start()) else Verdict(last[1], place + last.start(1))


def _stated(place: int, sentence: str) -> list[Verdict]:
    if _asks_or_heads(sentence):
        return []
    alone = _ALONE.fullmatch(sentence.strip().rstrip(".!;。 "))
    if alone:
        mention = _MENTION.search(sentence)
        return [Verdict(mention[1], place + mention.start(1))] if mention else []
    found = []
    for match in (*_TOLD.finditer(sentence), *_BETTER.finditer(sentence)):
        if not _denied(sentence, match.start(1)):
            found.append(Verdict(match[1], place + match.start(1)))
    return found


def _denied(sentence: str, place: int) -> bool:
    """Whether the words before a label deny it: those of its clause, or of all clauses where its own has none."""
    before = sentence[max(0, place - FARTHEST) : place]
    clause = re.split(r"[,;:—]", before)[-1]
    return _DENIES.search(clause if re.search(r"\w", clause) else before) is not None
