"""Labels by people: what is written, undone, refused, and agreed on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.alignment.data.formats import Row
from stages.alignment.data.votes import read_votes
from stages.alignment.writing.review import read_edits
from stages.base.errors import InputError
from stages.publishing.serve.annotation import PAIR, agreement, display_order, read_items
from tests.publishing.serve.conftest import Running, Start

Post = Callable[..., httpx.Response]
HOSTILE = "<script>alert(1)</script> \u202e\u0000 " + "long " * 20_000
PAIRS = [{"id": f"p{n}", "prompt": f"Q{n}", "output_a": f"a{n}", "output_b": f"b{n}"} for n in range(5)]
ANSWERS = [{"id": f"q{n}", "instruction": f"Q{n}", "response": f"R{n}"} for n in range(3)]


def enroll(server: Running, post: Post, name: str) -> str:
    reply = post(server, "/api/annotate/enroll", {"name": name})
    assert reply.status_code == 200, reply.text
    return reply.json()["code"]


def now(server: Running, code: str, task: str = "pairs") -> dict[str, Any]:
    return httpx.get(f"{server.url}/api/annotate/{task}/next", headers={"x-annotator": code}).json()


def label(server: Running, post: Post, code: str, body: Any, task: str = "pairs") -> httpx.Response:
    return post(server, f"/api/annotate/{task}/label", body, x_annotator=code)


def written(server: Running, task: str = "pairs") -> list[dict[str, Any]]:
    path = server.folder / f"{task}.labels.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_votes_are_written_as_they_were_meant(start: Start, post: Post) -> None:
    server = start(pairs=[*PAIRS, {"id": 7, "prompt": HOSTILE, "output_a": HOSTILE, "output_b": "\u0634", "more": []}])
    code = enroll(server, post, "Åsa O'Neil @ 100 %")
    shown = now(server, code)
    for vote in ("first", "second", "tie", "skip", "first", "second"):
        item = shown["item"]
        shown = label(server, post, code, {"id": item["id"], "vote": vote, "seconds": 2.25}).json()
        row = written(server)[-1]
        assert list(row) == ["id", "prompt", "output_a", "output_b", "annotator", "vote", "order", "seconds"]
        sides = {"a": row["output_a"], "b": row["output_b"]}
        assert (item["first"], item["second"]) == tuple(sides[side] for side in row["order"])
        if vote in ("first", "second"):
            assert sides[row["vote"]] == item[vote]
        else:
            assert row["vote"] == vote
        assert row["annotator"] == "Åsa O'Neil @ 100 %" and row["seconds"] == 2.25
    assert shown["item"] is None and (shown["done"], shown["total"]) == (6, 6)
    assert written(server)[-1]["id"] == "7" and written(server)[-1]["prompt"] == HOSTILE


def test_what_is_written_is_what_alignment_reads(start: Start, post: Post, tmp_path: Path) -> None:
    server = start(pairs=PAIRS, answers=ANSWERS)
    code = enroll(server, post, "ann")
    for number, vote in enumerate(("first", "tie", "skip")):
        label(server, post, code, {"id": f"p{number}", "vote": vote, "seconds": 3})
    for number, body in enumerate(({"verdict": "keep"}, {"verdict": "edit", "response": "é"})):
        label(server, post, code, {"id": f"q{number}", **body}, "answers")
    path = server.folder / "pairs.labels.jsonl"
    read = read_votes([Row(f"{path}:{n}", n, row) for n, row in enumerate(written(server), 1)], "people")
    sides = display_order("ann", "p0")
    assert [pair.id for pair in read.pairs] == ["p0", "p1", "p2"]
    assert read.votes[0].preference == {"a": 1.0, "b": 2.0}[sides[0]] and read.votes[1].preference == 1.5
    edits = read_edits(server.folder / "answers.labels.jsonl")
    assert [(edit.id, edit.verdict, edit.reviewer, edit.response) for edit in edits] == [
        ("q0", "keep", "ann", ""), ("q1", "edit", "ann", "é"),
    ]  # fmt: skip


def test_undo_takes_the_last_one_back_and_shows_it(start: Start, post: Post) -> None:
    server = start(pairs=PAIRS)
    ann, bob = enroll(server, post, "ann"), enroll(server, post, "bob")
    for number in range(3):
        label(server, post, ann, {"id": f"p{number}", "vote": "first", "seconds": 1})
    label(server, post, bob, {"id": "p0", "vote": "tie", "seconds": 1})
    undone = post(server, "/api/annotate/pairs/undo", {}, x_annotator=ann).json()
    assert undone["item"]["id"] == "p2" and undone["done"] == 2
    assert [(row["annotator"], row["id"]) for row in written(server)] == [("ann", "p0"), ("ann", "p1"), ("bob", "p0")]
    assert label(server, post, ann, {"id": "p2", "vote": "second", "seconds": 1}).status_code == 200
    for _ in range(3):
        post(server, "/api/annotate/pairs/undo", {}, x_annotator=ann)
    assert post(server, "/api/annotate/pairs/undo", {}, x_annotator=ann).status_code == 409
    assert [row["annotator"] for row in written(server)] == ["bob"]


def test_a_vote_twice_is_refused(start: Start, post: Post) -> None:
    server = start(pairs=PAIRS)
    code = enroll(server, post, "ann")
    body = {"id": "p0", "vote": "first", "seconds": 1}
    assert label(server, post, code, body).status_code == 200
    again = label(server, post, code, body)
    assert again.status_code == 409 and again.json()["error"]["code"] == "voted" and len(written(server)) == 1


def test_one_name_is_one_person(start: Start, post: Post) -> None:
    server = start(pairs=PAIRS)
    code = enroll(server, post, "José")
    for name in ("José", " JOSÉ ", "Jose\u0301"):
        taken = post(server, "/api/annotate/enroll", {"name": name})
        assert taken.status_code == 409 and taken.json()["error"]["code"] == "name_taken"
    for name in ("", "  ", "a\u202eb", "a\u0000", "x" * 65):
        assert post(server, "/api/annotate/enroll", {"name": name}).status_code == 400
    assert label(server, post, code, {"id": "p0", "vote": "tie", "seconds": 0}).status_code == 200
    assert label(server, post, "guess", {"id": "p1", "vote": "tie", "seconds": 0}).status_code == 401
    # Another day, with the code that the name was given.
    later = start(pairs=PAIRS)
    assert now(later, code)["item"]["id"] == "p1" and now(later, code)["name"] == "José"
    assert post(later, "/api/annotate/enroll", {"name": "josé"}).status_code == 409
    assert code not in (server.folder / "annotators.jsonl").read_text()


def test_each_pair_has_as_many_votes_as_are_wanted(start: Start, post: Post) -> None:
    server = start(pairs=PAIRS, each=2)
    codes = [enroll(server, post, name) for name in ("ann", "bob", "eve")]
    for code in codes[:2]:
        for number in range(4):
            assert label(server, post, code, {"id": f"p{number}", "vote": "first", "seconds": 1}).status_code == 200
    assert now(server, codes[2])["item"]["id"] == "p4"


def test_agreement_counts_pairs_of_votes(start: Start, post: Post) -> None:
    server = start(pairs=PAIRS)
    said = {"ann": "aab", "bob": "abs", "eve": "aat"}
    for name, votes in said.items():
        code = enroll(server, post, name)
        for number, vote in enumerate(votes):
            order = display_order(name, f"p{number}")
            meant = {"s": "skip", "t": "tie"}.get(vote) or ("first" if order[0] == vote else "second")
            label(server, post, code, {"id": f"p{number}", "vote": meant, "seconds": 1})
    assert [row["vote"] for row in written(server)] == ["a", "a", "b", "a", "b", "skip", "a", "a", "tie"]
    shown = httpx.get(f"{server.url}/api/annotate/agreement").json()
    assert shown == agreement(written(server))
    assert shown["compared"] == 3 and shown["percent"] == pytest.approx(100 * (3 + 1 + 0) / (3 + 3 + 1))
    # By hand: coincidences aa 4, ab 1 each way, bb 0, bt 1 each way; 8 values of which 5, 2, 1 are a, b, tie.
    assert shown["alpha"] == pytest.approx(1 - 7 * (8 - 4) / (64 - 25 - 4 - 1))
    assert agreement([])["alpha"] is None


def test_sides_are_a_fair_coin() -> None:
    first = [display_order(f"name{n % 20}", f"id{n // 20}") for n in range(4000)]
    assert abs(first.count("ab") - 2000) < 5 * 31.6  # five standard deviations


def test_edits_have_the_keys_that_are_read(start: Start, post: Post) -> None:
    server = start(answers=ANSWERS)
    code = enroll(server, post, "ann")
    for body in (
        {"id": "q0", "verdict": "keep"},
        {"id": "q1", "verdict": "drop", "reason": HOSTILE},
        {"id": "q2", "verdict": "edit", "response": "better"},
    ):
        assert label(server, post, code, body, "answers").status_code == 200
    assert written(server, "answers") == [
        {"id": "q0", "verdict": "keep", "reviewer": "ann", "reason": ""},
        {"id": "q1", "verdict": "drop", "reviewer": "ann", "reason": HOSTILE},
        {"id": "q2", "response": "better", "verdict": "edit", "reviewer": "ann", "reason": ""},
    ]
    assert now(server, code, "answers")["item"] is None
    undone = post(server, "/api/annotate/answers/undo", {}, x_annotator=code).json()
    assert undone["item"] == ANSWERS[2]
    for body in (
        {"id": "q2", "verdict": "edit"},
        {"id": "q2", "verdict": "edit", "response": " "},
        {"id": "q2", "verdict": "x"},
        {"id": "q2", "verdict": "keep", "response": "better"},
        {"id": "q2", "verdict": "drop", "instruction": ""},
    ):
        assert label(server, post, code, body, "answers").status_code == 400
    assert label(server, post, code, {"id": "q9", "verdict": "keep"}, "answers").status_code == 404
    assert httpx.get(f"{server.url}/api/annotate/pairs/next", headers={"x-annotator": code}).status_code == 404


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no rows"),
        ('{"id": "1", "prompt": "q", "output_a": "a"}\n', r":1: `output_b`"),
        ('{"id": "1", "prompt": "q", "output_a": "a", "output_b": 5}\n', r":1: `output_b`"),
        ('{"id": "1", "prompt": "q", "output_a": "a", "output_b": "b"}\n' * 2, r":2: the id '1' stands there twice"),
        ('{"id": "1", "prompt": "q", "output_a": "a", "output_b": "a"}\n', r":1: both answers are the same"),
        ("[]\n", r":1: not a JSON object"),
        ("{\n", r":1: not valid JSON"),
    ],
)
def test_files_that_hold_no_pairs_are_named(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=what):
        read_items(path, PAIR)


def test_pairs_come_from_parquet_too(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([row | {"more": 1} for row in PAIRS]), tmp_path / "pairs.parquet")
    assert list(read_items(tmp_path / "pairs.parquet", PAIR).values()) == PAIRS
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"broken\.parquet"):
        read_items(tmp_path / "broken.parquet", PAIR)
