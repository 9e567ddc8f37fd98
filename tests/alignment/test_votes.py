"""Votes of people: files as the annotation page writes them, and what they come to; the stage on them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from stages.alignment.data.formats import read_rows
from stages.alignment.data.votes import (
    VOTE,
    against_people,
    measure_votes,
    preferences_of,
    read_votes,
    showable,
    table_of_votes,
)
from stages.annotators.client import Pair
from stages.annotators.votes import Vote
from stages.base.errors import InputError
from stages.publishing.serve.annotation import display_order, vote_row

GOOD = {
    "id": "7", "prompt": "Which?", "output_a": "this", "output_b": "that", "annotator": "Ida", "vote": "a",
    "order": "ba", "seconds": 4.5,
}  # fmt: skip


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path, *rows: dict[str, Any]) -> Any:
    return read_votes(read_rows(write(path, *rows)), "people")


def test_a_vote_is_read_as_the_page_writes_it(tmp_path: Path) -> None:
    voted = read(tmp_path / "v.jsonl", GOOD, GOOD | {"annotator": "Bo", "vote": "tie", "guideline": "facts first"})
    (pair,) = voted.pairs
    assert (pair.id, pair.output_a, pair.output_b) == ("7", "this", "that")
    ida, bo = voted.votes
    assert (ida.preference, ida.b_first, ida.seconds) == (1.0, 1.0, 4.5) and math.isnan(ida.a_first)
    assert bo.preference == 1.5
    assert table_of_votes(voted.pairs, voted.votes).schema == VOTE


def test_the_majority_counts_ties_and_skips_are_two_things(tmp_path: Path) -> None:
    def on(pair: str, **votes: str) -> list[dict[str, Any]]:
        return [
            GOOD | {"id": pair, "prompt": f"{pair}?", "annotator": name, "vote": said} for name, said in votes.items()
        ]

    voted = read(
        tmp_path / "v.jsonl", *on("p", x="a", y="b", z="b"), *on("q", x="a", y="b"), *on("r", x="skip", y="b"),
        *on("s", x="skip"), *on("t", x="tie", y="a"), *on("u", x="tie"),
    )  # fmt: skip
    found, drops = preferences_of(voted)
    assert [(one.id, one.chosen, one.annotator) for one in found] == [
        ("p", "that", "x, y, z"), ("r", "that", "y"), ("t", "this", "x, y"),
    ]  # fmt: skip
    assert drops == {"tie": 2, "no_preference": 1}
    numbers = measure_votes(voted)
    assert (numbers["votes"], numbers["votes_missing"], numbers["annotators"]) == (9, 2, 3)
    assert numbers["disputed"] == 3 and numbers["usd_per_1000"] == 0 and numbers["seconds_per_1000"] == 4500


def test_the_last_vote_of_one_annotator_counts_and_answers_may_stand_the_other_way_round(tmp_path: Path) -> None:
    turned = GOOD | {"output_a": "that", "output_b": "this", "vote": "a", "order": "ab"}
    voted = read(tmp_path / "v.jsonl", GOOD, turned, GOOD | {"annotator": "Bo"})
    assert len(voted.pairs) == 1 and voted.revoted == 1
    bo, ida = sorted(voted.votes, key=lambda vote: vote.annotator)
    assert (ida.preference, ida.b_first) == (2.0, 2.0) and math.isnan(ida.a_first)
    assert bo.preference == 1.0
    assert preferences_of(voted)[1] == {"tie": 1}


def test_a_conversation_is_kept(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "Hm"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Go"},
    ]
    row = {key: value for key, value in GOOD.items() if key != "prompt"}
    ((one,), _) = preferences_of(read(tmp_path / "v.jsonl", row | {"messages": turns}))
    assert [message["content"] for message in one.messages] == ["Hm", "Yes?", "Go"]
    ((alone,), _) = preferences_of(read(tmp_path / "v.jsonl", row | {"messages": turns[2:]}))
    assert (alone.prompt, alone.messages) == ("Go", [])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vote": "left"}, "`vote` is 'left'; known: a, tie, b, skip"),
        ({"vote": 1}, "`vote` must be a string"),
        ({"order": "first"}, "`order` is 'first'"),
        ({"seconds": -1}, "`seconds`"),
        ({"seconds": "4"}, "`seconds`"),
        ({"seconds": True}, "`seconds`"),
        ({"output_b": "this"}, "the same"),
        ({"output_b": " this\n"}, "the same"),
        ({"output_b": " "}, "`output_b` is missing or empty"),
        ({"annotator": None}, "`annotator` is missing"),
        ({"stars": 4}, "unknown key `stars`"),
        ({"output_b": "another"}, "id `7` stands above with another pair"),
        ({"prompt": "Who?"}, "id `7` stands above with another pair"),
        ({"messages": "no list"}, "`messages` must be a list"),
    ],
)
def test_what_is_no_vote_is_named_by_its_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=r"v\.jsonl:2: .*") as caught:
        read(tmp_path / "v.jsonl", GOOD, GOOD | {"annotator": "Bo"} | changes)
    assert said in str(caught.value)
    path = tmp_path / "broken.jsonl"
    path.write_text(json.dumps(GOOD) + "\n{half\n")
    with pytest.raises(InputError, match=r"broken\.jsonl:2"):
        read_rows(path)


@pytest.mark.parametrize("text", ["th\0is", "\u200b", " that "])
def test_a_pair_is_showable_where_votes_on_it_can_be_read(tmp_path: Path, text: str) -> None:
    assert showable(Pair("7", "Which?", "this", "that"))
    assert not showable(Pair("7", "Which?", text, "that"))
    with pytest.raises(InputError, match=r"v\.jsonl:1"):
        read(tmp_path / "v.jsonl", GOOD | {"output_a": text})


def test_one_who_always_says_the_first_does_not_count(tmp_path: Path) -> None:
    rows = []
    for n in range(40):
        shown = "ab" if n % 3 else "ba"
        pair = GOOD | {"id": str(n), "prompt": f"{n}?", "order": shown}
        rows.append(pair | {"annotator": "stuck", "vote": shown[0]})
        if n < 30:
            rows.append(pair | {"annotator": "fair", "vote": "a" if n % 2 else "b"})
    voted = read(tmp_path / "v.jsonl", *rows)
    found, drops = preferences_of(voted)
    assert drops == {"one_sided": 10} and {one.annotator for one in found} == {"fair"}
    assert [one.chosen for one in found] == ["this" if n % 2 else "that" for n in range(30)]
    assert measure_votes(voted)["one_sided"] == 1 and measure_votes(voted)["votes"] == 30


def test_annotators_beside_people(tmp_path: Path) -> None:
    """Two people and two annotators on three pairs, by hand; the second pair stands the other way round."""
    cast = {"p": ("a", "a"), "q": ("b", "b"), "r": ("a", "b"), "s": ("a", "a")}
    rows = [
        GOOD | {"id": pair, "prompt": f"{pair}?", "annotator": name, "vote": vote}
        for pair, votes in cast.items()
        for name, vote in zip(("Ida", "Bo"), votes, strict=True)
    ]
    people = read(tmp_path / "v.jsonl", *rows)
    said = {"p": (1.0, 1.0), "q": (1.1, 1.9), "r": (1.0, 1.0), "x": (1.0, 2.0)}
    pairs = [Pair(name, f"{name}?", *(("that", "this") if name == "q" else ("this", "that"))) for name in said]
    votes = [
        Vote(place, annotator, vote, usd=0.01, seconds=2.0)
        for place, cast_on in enumerate(said.values())
        for annotator, vote in zip(("m", "n"), cast_on, strict=True)
    ]
    found = against_people(people, table_of_votes(pairs, votes))
    assert found["pairs"] == 3 and found["votes"] == 6  # x is no pair of theirs
    # People: p this, q that, r even. Annotators: p this twice, q that once and this once, r this twice.
    assert found["agreement_with_people"] == 3 / 4 and found["bias"] == 0.0
    assert found["people_variance"] == 2 / 8 and found["variance"] == pytest.approx(2 / 6)
    assert found["usd_per_1000"] == pytest.approx(10) and found["seconds_per_1000"] == 2000
    assert against_people(people, table_of_votes([], []))["bias"] is None


def test_what_the_annotation_page_writes_is_read(tmp_path: Path) -> None:
    item = {key: GOOD[key] for key in ("id", "prompt", "output_a", "output_b")}
    rows = [vote_row(item, name, vote, 3.25) for name, vote in (("Ida", "first"), ("Bo", "tie"), ("Eve", "skip"))]
    voted = read(tmp_path / "v.jsonl", *rows)
    ida, bo, eve = voted.votes
    assert ida.preference == (1.0 if display_order("Ida", "7") == "ab" else 2.0) and bo.preference == 1.5
    assert math.isnan(eve.preference) and ida.seconds == 3.25
