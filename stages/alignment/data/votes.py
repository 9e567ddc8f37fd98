"""Votes on pairs of answers as tables and files: those that annotators of `annotate` gave, and those of people.

A file of people's votes is JSON Lines (or JSON, Parquet), one vote a row, as the annotation page writes it:

    {"id": "7", "prompt": "…", "output_a": "…", "output_b": "…", "annotator": "Ida", "vote": "a", "order": "ba"}

`vote` is a, b, tie or skip; `order` says which answer was shown first. `id`, `order`, `seconds` and `guideline` may be
missing; `messages`, a conversation, may stand for `prompt`. Rows of one prompt and the same two answers are votes on
one pair.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from stages.alignment.data.formats import Row
from stages.alignment.data.records import Preference
from stages.annotators.agreement import majority, matches
from stages.annotators.client import Pair
from stages.annotators.votes import Tally, Vote, matrix, measure, one_sided, tally
from stages.base.conversation import Message, text_of
from stages.base.errors import InputError

VOTE = pa.schema(
    [
        ("id", pa.string()),  # of the pair
        ("prompt", pa.string()),
        ("output_a", pa.string()),
        ("output_b", pa.string()),
        ("annotator", pa.string()),  # who was asked
        ("version", pa.string()),  # as its replies name it
        ("preference", pa.float64()),  # 1 (output_a wins) .. 2 (output_b wins), NaN if there is none
        ("a_first", pa.float64()),  # the same when output_a was shown first, or output_b; NaN: not shown so
        ("b_first", pa.float64()),
        ("weighted", pa.bool_()),  # from log-probabilities; else read off a text, or a person's
        ("usd", pa.float64()),
        ("seconds", pa.float64()),
        ("extra", pa.bool_()),  # asked for because others disagreed
        ("error", pa.string()),  # "" or why there is no preference
    ]
)
KEYS = ("output_a", "output_b", "annotator", "vote")
OTHER_KEYS = ("prompt", "messages", "id", "order", "seconds", "guideline")
PREFERENCES = {"a": 1.0, "tie": 1.5, "b": 2.0, "skip": math.nan}
SKIPPED = "skipped"  # error of a vote


@dataclass(frozen=True)
class VotedPairs:
    """Pairs in the order of their first votes; of each annotator one vote on a pair, the last one given."""

    pairs: list[Pair]
    messages: list[list[Message]]  # of each pair; empty where its prompt is one message of a user
    votes: list[Vote]  # those that were skipped too, without a preference
    revoted: int  # votes that the same annotator replaced


def is_votes(values: Mapping[str, Any]) -> bool:
    """Whether a row of a file is a vote."""
    return set(KEYS) <= set(values)


def showable(pair: Pair) -> bool:
    """Whether `read_votes` takes votes on the pair: it refuses texts with NUL, or without anything to see."""
    try:
        _pair(Row("", 1, vars(pair)), pair.id)
    except InputError:
        return False
    return True


def read_votes(rows: Sequence[Row], key: str) -> VotedPairs:
    """Votes of people. A pair's id is `<key>-<line of its first vote>` unless given.

    Raises InputError naming the line of a row without one of the texts, with an unknown key, vote or order, with two
    answers that are equal but for white space at their ends, or with the id of another pair.
    """
    pairs: list[Pair] = []
    messages: list[list[Message]] = []
    places: dict[tuple[str, frozenset[str]], int] = {}
    named: dict[str, int] = {}
    votes: dict[tuple[int, str], Vote] = {}
    revoted = 0
    for row in rows:
        asked, pair = _pair(row, row.name(f"{key}-{row.number}"))
        place = places.setdefault((pair.prompt, frozenset((pair.output_a, pair.output_b))), len(pairs))
        if place == len(pairs):
            pairs.append(pair)
            messages.append(asked)
        if "id" in row.values and named.setdefault(pair.id, place) != place:
            raise InputError(f"{row.place}: the id `{pair.id}` stands above with another pair")
        vote = _vote(row, place, turned=pair.output_a != pairs[place].output_a)
        revoted += votes.pop((place, vote.annotator), None) is not None
        votes[place, vote.annotator] = vote
    return VotedPairs(pairs, messages, list(votes.values()), revoted)


def _pair(row: Row, name: str) -> tuple[list[Message], Pair]:
    """Raises InputError naming the row and what is wrong with it."""
    if unknown := sorted(set(row.values) - {*KEYS, *OTHER_KEYS}):
        raise InputError(f"{row.place}: unknown key `{unknown[0]}`; known: {', '.join((*KEYS, *OTHER_KEYS))}")
    answers = [row.text(side) for side in ("output_a", "output_b")]
    if answers[0].strip() == answers[1].strip():
        raise InputError(f"{row.place}: `output_a` and `output_b` are the same, up to white space at their ends")
    if "messages" not in row.values:
        return [], Pair(name, row.text("prompt"), *answers)
    both = {**row.values, "messages": [*_listed(row), {"role": "assistant", "content": answers[0]}]}
    asked = Row(row.place, row.number, both).conversation("messages")[:-1]
    alone = len(asked) == 1 and asked[0]["role"] == "user"
    return [] if alone else asked, Pair(name, text_of(asked), *answers)


def _listed(row: Row) -> list[Any]:
    found = row.values["messages"]
    if not isinstance(found, list):
        raise InputError(f"{row.place}: `messages` must be a list of messages")
    return found


def _vote(row: Row, place: int, turned: bool) -> Vote:
    """turned: the row names the pair's answers the other way round."""
    said = row.text("vote")
    if said not in PREFERENCES:
        raise InputError(f"{row.place}: `vote` is {said!r:.40}; known: {', '.join(PREFERENCES)}")
    order = row.text("order") if "order" in row.values else ""
    if order not in ("", "ab", "ba"):
        raise InputError(f"{row.place}: `order` is {order!r:.40}; known: ab, ba")
    seconds = row.values.get("seconds", math.nan)
    timed = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not timed or ("seconds" in row.values and not 0 <= seconds < math.inf):
        raise InputError(f"{row.place}: `seconds` must be a number of seconds, not {seconds!r:.40}")
    if "guideline" in row.values:
        row.text("guideline", "")
    preference = 3 - PREFERENCES[said] if turned else PREFERENCES[said]
    a_first = (order == "ab") != turned
    return Vote(
        place,
        row.text("annotator").strip(),
        preference,
        error=SKIPPED if said == "skip" else "",
        a_first=preference if order and a_first else math.nan,
        b_first=preference if order and not a_first else math.nan,
        seconds=float(seconds),
    )


def preferences_of(voted: VotedPairs) -> tuple[list[Preference], dict[str, int]]:
    """What people prefer, by the mean of the votes on each pair, and why a pair isn't a preference: a `tie`,
    `no_preference` (all have skipped it) or `one_sided` (only annotators who name one side whatever stands there)."""
    tallies = tally(voted.votes, len(voted.pairs), one_sided(voted.votes))
    found: list[Preference] = []
    drops: dict[str, int] = {}
    for pair, asked, counted in zip(voted.pairs, voted.messages, tallies, strict=True):
        if counted.reason:
            drops[counted.reason] = drops.get(counted.reason, 0) + 1
            continue
        chosen, rejected = by_preference(pair, counted)
        found.append(
            Preference(
                pair.id, pair.prompt, chosen, rejected, counted.preference, None, None, counted.annotators, asked
            )
        )
    return found, drops


def measure_votes(voted: VotedPairs) -> dict[str, float | None]:
    """How far the annotators agree (`annotators.votes.measure`, without those that are one-sided), whose votes were
    left out (`one_sided`), and how many votes were given again (`revoted`). Missing votes are those that were skipped.
    """
    left_out = one_sided(voted.votes)
    counted = [vote for vote in voted.votes if vote.annotator not in left_out]
    numbers = measure(counted, [pair.prompt for pair in voted.pairs])
    return {**numbers, "one_sided": len(left_out), "revoted": voted.revoted}


def against_people(people: VotedPairs, annotated: pa.Table) -> dict[str, float | None]:
    """Annotators beside people on the pairs of both: AlpacaFarm's bias and variance (Dubois et al. 2023, section 4.2),
    and what the labels of each cost.

    annotated: VOTE rows. What `annotators.votes.measure` says of the annotators, `bias` being how often their majority
    differs from that of people; `agreement_with_people`: of single votes with that majority; `people_variance`: how
    often one person differs from the majority of the others; `pairs`: how many both have voted on.
    """
    places = {(pair.prompt, pair.output_a, pair.output_b): place for place, pair in enumerate(people.pairs)}
    votes: list[Vote] = []
    for row in annotated.to_pylist():
        first, second = row["output_a"], row["output_b"]
        as_people = places.get((row["prompt"], first, second))
        place = places.get((row["prompt"], second, first)) if as_people is None else as_people
        if place is not None:
            preference = row["preference"] if as_people is not None else 3 - row["preference"]
            cost = {name: row[name] for name in ("usd", "seconds", "extra")}
            votes.append(Vote(place, row["annotator"], preference, **cost))
    prompts = [pair.prompt for pair in people.pairs]
    said = majority(matrix(people.votes, len(prompts))[1])
    table = matrix(votes, len(prompts))[1]
    agreed = matches(table, np.broadcast_to(said[:, None], table.shape))
    return {
        "pairs": len({vote.pair for vote in votes}),
        **measure(votes, prompts, said),
        "agreement_with_people": None if math.isnan(agreed) else agreed,
        "people_variance": measure(people.votes, prompts)["variance"],
    }


def by_preference(pair: Pair, counted: Tally) -> tuple[str, str]:
    """The answer that is preferred, and the other."""
    first = counted.preference < 1.5
    return (pair.output_a, pair.output_b) if first else (pair.output_b, pair.output_a)


def table_of_votes(pairs: Sequence[Pair], votes: Sequence[Vote]) -> pa.Table:
    """VOTE rows."""
    rows = [
        {
            **{name: getattr(pairs[vote.pair], name) for name in ("id", "prompt", "output_a", "output_b")},
            **{name: getattr(vote, name) for name in VOTE.names[4:]},
        }
        for vote in votes
    ]
    return pa.Table.from_pylist(rows, schema=VOTE)
