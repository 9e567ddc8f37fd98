"""The arena: which pair is drawn, what a vote writes, and that nothing tells who is who before it."""

import json
import math
import random
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from stages.base.errors import InputError
from stages.judging.statistics.arena import fit_bradley_terry
from stages.publishing.serve.arena import PRIOR_SD, expected_gain, informative_pair
from stages.publishing.serve.journal import Journal
from tests.publishing.serve.conftest import Running, Start

Post = Callable[..., httpx.Response]


def posterior(wins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Its mode, found by scipy; the information there, term by term.)"""
    n = len(wins)

    def loss(theta: np.ndarray) -> float:
        said = sum(wins[i, j] * math.log1p(math.exp(theta[j] - theta[i])) for i in range(n) for j in range(n))
        return said + (theta**2).sum() / (2 * PRIOR_SD**2)

    theta = minimize(loss, np.zeros(n), method="BFGS", options={"gtol": 1e-9}).x
    information = np.eye(n) / PRIOR_SD**2
    for i, j in combinations(range(n), 2):
        information += (wins[i, j] + wins[j, i]) * _of_one_battle(theta, i, j)
    return theta, information


def _of_one_battle(theta: np.ndarray, i: int, j: int) -> np.ndarray:
    p = 1 / (1 + math.exp(theta[j] - theta[i]))
    direction = np.zeros(len(theta))
    direction[i], direction[j] = 1, -1
    return p * (1 - p) * np.outer(direction, direction)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([0.0, 0.5, 1.0])), max_size=25))
@settings(max_examples=60)
def test_the_gain_is_that_of_the_determinant(battles: list[tuple[int, int, float]]) -> None:
    wins = np.zeros((4, 4))
    for a, b, share in battles:
        if a != b:
            wins[a, b] += share
            wins[b, a] += 1 - share
    theta, information = posterior(wins)
    gain = expected_gain(wins)
    for i, j in combinations(range(4), 2):
        more = np.linalg.slogdet(information + _of_one_battle(theta, i, j))[1] - np.linalg.slogdet(information)[1]
        assert gain[i, j] == pytest.approx(more, abs=1e-4) and gain[i, j] == pytest.approx(gain[j, i])


def test_pairs_that_inform_rank_sooner_than_chance() -> None:
    """Mean squared error of ratings after so many votes, over seeds: below that of pairs drawn by chance."""
    strength = dict(zip("abcdefgh", np.linspace(-3, 3, 8), strict=True))

    def error(seed: int, informed: bool) -> float:
        draw, battles = random.Random(seed), {"model_a": [], "model_b": [], "winner": []}  # type: ignore[var-annotated]
        names = list(strength)
        for _ in range(120):
            a, b = informative_pair(names, battles, draw) if informed else draw.sample(names, 2)
            won = draw.random() < 1 / (1 + math.exp(strength[b] - strength[a]))
            for column, value in zip(battles, (a, b, "model_a" if won else "model_b"), strict=True):
                battles[column].append(value)
        rated = fit_bradley_terry(battles, disconnected="separate").ratings
        return float(np.mean([(rated[name] - strength[name]) ** 2 for name in names]))

    assert np.mean([error(s, True) for s in range(12)]) < 0.8 * np.mean([error(s, False) for s in range(12)])


def test_models_that_are_served_no_more_count_for_nothing() -> None:
    battles = {"model_a": ["gone", "x"], "model_b": ["x", "gone"], "winner": ["tie", "tie"]}
    assert sorted(informative_pair(["x", "y"], battles, random.Random(0))) == ["x", "y"]


# ----------------------------------------------------------------------------------------------------- the server


def battle(server: Running, post: Post, prompt: str = "In which province does Velmora lie?") -> dict[str, Any]:
    reply = post(server, "/api/arena/battle", {"prompt": prompt})
    assert reply.status_code == 200, reply.text
    return reply.json()


def votes(server: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (server.folder / "arena.jsonl").read_text().splitlines()]


def test_a_vote_is_blind_written_once_and_rated(start: Start, post: Post) -> None:
    server = start()
    orders = set()
    for number in range(12):
        told = battle(server, post, f"Question {number} of 'quotes' \x00 \u202e <script>?")
        assert set(told) == {"battle", "first", "second"}
        given = ["first", "second", "tie", "bad"][number % 4]
        reply = post(server, "/api/arena/vote", {"battle": told["battle"], "vote": given, "seconds": 1.5})
        row = votes(server)[-1]
        orders.add(row["order"])
        assert set(row) == {
            "id", "prompt", "model_a", "model_b", "output_a", "output_b", "tokens_a", "tokens_b", "order", "vote",
            "seconds",
        }  # fmt: skip
        first, second = row["order"]
        assert row["vote"] == {"first": first, "second": second}.get(given, given)
        assert (told["first"], told["second"]) == (row[f"output_{first}"], row[f"output_{second}"])
        assert (reply.json()["first"]["model"], reply.json()["second"]["model"]) == (
            row[f"model_{first}"], row[f"model_{second}"],
        )  # fmt: skip
        again = post(server, "/api/arena/vote", {"battle": told["battle"], "vote": "tie", "seconds": 1})
        assert again.status_code == 409 and len(votes(server)) == number + 1
    assert orders == {"ab", "ba"}
    table = httpx.get(f"{server.url}/api/arena/ratings").json()
    assert table["battles"] == 12 and {one["model"] for one in table["ratings"]} == {"red", "green", "blue"}
    assert sum(one["battles"] for one in table["ratings"]) == 24
    # A server that starts again knows the votes.
    told = votes(server)[0]["id"]
    other = start()
    assert httpx.get(f"{other.url}/api/arena/ratings").json() == table
    assert post(other, "/api/arena/vote", {"battle": told, "vote": "tie", "seconds": 1}).status_code == 409


def test_who_never_lost_has_an_interval_too(start: Start, tmp_path: Path) -> None:
    rows = [{"id": str(n), "model_a": "red", "model_b": "blue", "vote": "a"} for n in range(3)]
    (tmp_path / "arena.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    red, blue = httpx.get(f"{start().url}/api/arena/ratings").json()["ratings"]
    assert red["model"] == "red" and red["rating"] > 0 > blue["rating"]
    assert red["low"] < red["rating"] < red["high"] == pytest.approx(-blue["low"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"battle": "none", "vote": "tie", "seconds": 1}, 404),
        ({"battle": "none", "vote": "a", "seconds": 1}, 400),
        ({"battle": "none", "vote": "tie", "seconds": -1}, 400),
        ({"battle": "none", "vote": "tie", "seconds": 1, "model": "red"}, 400),
    ],
)
def test_votes_that_are_none(start: Start, post: Post, body: Any, status: int) -> None:
    assert post(start(), "/api/arena/vote", body).status_code == status


def test_questions_that_are_none(start: Start, post: Post, folders: dict[str, Any]) -> None:
    server = start()
    assert post(server, "/api/arena/battle", {"prompt": ""}).status_code == 400
    long = post(server, "/api/arena/battle", {"prompt": "long " * 20_000})
    assert long.status_code == 400 and "too long" in long.text and "red" not in long.text
    alone = start(models={"red": folders["red"]})
    assert post(alone, "/api/arena/battle", {"prompt": "a"}).status_code == 409


# ---------------------------------------------------------------------------------------------------- the journal


def test_a_journal_survives_a_torn_line_and_names_a_broken_one(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    journal = Journal(path)
    journal.append({"id": "1", "text": "\u2028 é \x00 \u202e"})
    path.write_bytes(path.read_bytes() + b'{"id": "2", "te')
    assert [row["id"] for row in Journal(path).rows] == ["1"]
    path.write_bytes(path.read_bytes() + b'{"id": "3"}')  # whole, without its end
    again = Journal(path)
    again.append({"id": "4"})
    assert [row["id"] for row in Journal(path).rows] == ["1", "3", "4"]
    again.remove(1)
    assert [row["id"] for row in Journal(path).rows] == ["1", "4"] == [row["id"] for row in again.rows]
    path.write_text('{"id": "1"}\n[]\n')
    with pytest.raises(InputError, match=r"votes\.jsonl:2"):
        Journal(path)
