"""A blind arena: two models that nobody sees answer one question, and what people vote rates them."""

import asyncio
import random
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stages.base.errors import InputError
from stages.publishing.serve.endpoint import read_whole, refusal, unless_gone
from stages.publishing.serve.engine import Piece, Request
from stages.publishing.serve.journal import Journal, Row
from stages.publishing.serve.models import Shelf, fresh_seed
from stages.publishing.serve.protocol import ApiError, Strict, read_body

TEMPERATURE, TOP_P, MOST_TOKENS = 0.7, 0.95, 512  # of answers
PRIOR_SD = 1.0  # of log-strengths, before anything is known
OPEN_BATTLES = 1000  # that wait for a vote; older ones are forgotten
WINNERS = {"a": "model_a", "b": "model_b", "tie": "tie", "bad": "tie"}  # both bad: neither beat the other


@dataclass(frozen=True)
class Rated:
    """One model's log-strength with its 95 % interval. Models of different groups never met, so that theirs can't be
    compared.
    """

    model: str
    rating: float
    low: float
    high: float
    group: int = 0


Rate = Callable[[dict[str, list[str]]], list[Rated]]


def informative_pair(names: Sequence[str], battles: Mapping[str, Sequence[str]], draw: random.Random) -> list[str]:
    """The pair whose next battle is expected to teach most about the ratings; of equal ones any.

    One battle of i and j adds p (1 - p) to the Fisher information along θ_i - θ_j, so the posterior's log-determinant
    falls by log(1 + p (1 - p) Var(θ_i - θ_j)): D-optimal design. Bradley–Terry with a normal prior of PRIOR_SD, by
    Laplace's approximation; a tie is half a win for each. Columns of battles: model_a, model_b, winner.
    """
    place = {name: number for number, name in enumerate(names)}
    n = len(names)
    wins = np.zeros((n, n))
    for a, b, winner in zip(battles["model_a"], battles["model_b"], battles["winner"], strict=True):
        if a in place and b in place:
            share = {"model_a": 1.0, "model_b": 0.0}.get(winner, 0.5)
            wins[place[a], place[b]] += share
            wins[place[b], place[a]] += 1 - share
    gain = expected_gain(wins)
    upper = [(i, j) for i in range(n) for j in range(i + 1, n)]
    best = max(gain[pair] for pair in upper)
    i, j = draw.choice([pair for pair in upper if gain[pair] >= best - 1e-9])
    return [names[i], names[j]]


def expected_gain(wins: np.ndarray) -> np.ndarray:
    """[n, n]: by how much a battle of i and j is expected to raise the log-determinant of the information."""
    games, theta = wins + wins.T, np.zeros(len(wins))
    for _ in range(50):  # Newton's method; the prior makes the maximum finite
        p = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
        between = games * p * (1 - p)
        information = np.diag(between.sum(1) + PRIOR_SD**-2) - between
        step = np.linalg.solve(information, wins.sum(1) - (games * p).sum(1) - theta * PRIOR_SD**-2)
        theta = theta + step
        if np.abs(step).max() < 1e-9:
            break
    covariance = np.linalg.inv(information)
    variance = np.diag(covariance)[:, None] + np.diag(covariance) - 2 * covariance
    return np.log1p(p * (1 - p) * variance)


class _Question(Strict):
    prompt: Annotated[str, Field(min_length=1)]


class _Vote(Strict):
    battle: str
    vote: Literal["first", "second", "tie", "bad"]
    seconds: Annotated[float, Field(ge=0, le=1e7)]


class Arena:
    """rate: how votes become ratings."""

    def __init__(self, shelf: Shelf, journal: Journal, rate: Rate) -> None:
        self.shelf, self.journal, self._rate = shelf, journal, rate
        self._draw = random.SystemRandom()
        self._open: OrderedDict[str, Row] = OrderedDict()
        for number, row in enumerate(journal.rows, 1):
            texts = [row.get(name) for name in ("id", "model_a", "model_b")]
            if not all(isinstance(text, str) for text in texts) or row.get("vote") not in WINNERS:
                raise InputError(f"{journal.path}:{number}: not a vote of the arena; mend or remove the line")
        self._voted = {row["id"] for row in journal.rows}
        self._rated: tuple[int, list[dict[str, Any]]] = (-1, [])

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/api/arena/battle", self.battle, methods=["POST"]),
            Route("/api/arena/vote", self.vote, methods=["POST"]),
            Route("/api/arena/ratings", self.ratings, methods=["GET"]),
        ]

    def battles(self) -> dict[str, list[str]]:
        rows = self.journal.rows
        return {
            "model_a": [row["model_a"] for row in rows],
            "model_b": [row["model_b"] for row in rows],
            "winner": [WINNERS[row["vote"]] for row in rows],
        }

    async def battle(self, http: HttpRequest) -> Response:
        """Both answers at once, as their speed would tell who writes them."""
        body = read_body(await read_whole(http), _Question)
        if len(self.shelf.folders) < 2:
            raise ApiError("the arena needs two models; start the server with more", status=409)
        pair = informative_pair(list(self.shelf.folders), self.battles(), self._draw)
        self._draw.shuffle(pair)  # which is called a
        order = self._draw.choice(("ab", "ba"))
        answers = await unless_gone(http, self._answers(pair, body.prompt))
        if answers is None:
            return Response(status_code=499)
        row: Row = {"id": secrets.token_hex(12), "prompt": body.prompt}
        for side, model, piece in zip("ab", pair, answers, strict=True):
            row |= {f"model_{side}": model, f"output_{side}": piece.text, f"tokens_{side}": piece.tokens}
        self._open[row["id"]] = row | {"order": order}
        while len(self._open) > OPEN_BATTLES:
            self._open.popitem(last=False)
        first, second = (row[f"output_{side}"] for side in order)
        return JSONResponse({"battle": row["id"], "first": first, "second": second})

    async def _answers(self, pair: list[str], prompt: str) -> list[Piece]:
        return list(await asyncio.gather(*(self._answer(name, prompt) for name in pair)))

    async def _answer(self, name: str, prompt: str) -> Piece:
        try:
            served = await self.shelf.get(name)
            ids = await self.shelf.encode(lambda: served.tokenizer.encode_prompt(prompt))
            room = served.engine.limit - len(ids)
            if room < 1:
                raise ApiError("the question is too long for one of the models; ask a shorter one", param="prompt")
            request = Request(
                ids,
                min(room, MOST_TOKENS, self.shelf.limits.tokens),
                TEMPERATURE,
                TOP_P,
                seed=fresh_seed(),
                stop_ids=served.stop_ids,
                deadline=time.monotonic() + self.shelf.limits.seconds,
            )
            async with aclosing(self.shelf.answer(served, [request])) as stream:
                async for _, piece in stream:
                    if piece.finish:
                        return piece
        except InputError as error:
            raise ApiError(f"one of the models can't answer this: {error}", status=503) from None
        except Exception as error:
            raise refusal(error) from None
        raise ApiError("the answer broke off", status=500)

    async def vote(self, http: HttpRequest) -> Response:
        body = read_body(await read_whole(http), _Vote)
        if body.battle in self._voted:
            raise ApiError("this battle has its vote already", status=409, param="battle", code="voted")
        row = self._open.get(body.battle)
        if row is None:
            raise ApiError("no such battle is open; ask a new question", status=404, param="battle")
        vote = {"first": row["order"][0], "second": row["order"][1]}.get(body.vote, body.vote)
        self.journal.append(row | {"vote": vote, "seconds": round(body.seconds, 3)})
        self._voted.add(body.battle)
        del self._open[body.battle]
        first, second = (
            {
                "model": row[f"model_{side}"],
                "tokens": row[f"tokens_{side}"],
                "characters": len(row[f"output_{side}"]),
            }
            for side in row["order"]
        )
        return JSONResponse({"first": first, "second": second})

    async def ratings(self, http: HttpRequest) -> Response:
        count = len(self.journal.rows)
        if self._rated[0] != count:
            self._rated = (count, self._table() if count else [])
        return JSONResponse({"battles": count, "ratings": self._rated[1]})

    def _table(self) -> list[dict[str, Any]]:
        battles = self.battles()
        met = [*battles["model_a"], *battles["model_b"]]
        rated = sorted(self._rate(battles), key=lambda one: (one.group, -one.rating, one.model))
        return [
            {
                "model": one.model,
                "rating": one.rating,
                "low": one.low,
                "high": one.high,
                "group": one.group,
                "battles": met.count(one.model),
            }
            for one in rated
        ]
