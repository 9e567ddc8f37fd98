"""A panel of annotators: who is asked of which pair, and who more where they disagree."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from stages.annotators.client import AnnotatorSettings, Pair, Preference, compare
from stages.annotators.grades import Grader
from stages.annotators.pool import POOL_MODEL, annotator_model
from stages.annotators.votes import Vote
from stages.base.errors import ParamError
from stages.base.params import Section
from stages.base.seeds import derive


class VoteSettings(Section):
    """How many annotators are asked."""

    each: Annotated[int, Field(ge=1)]
    """Different annotators asked of every pair."""
    disputed: Annotated[int, Field(ge=1)]
    """Of a pair on which those disagree: one more at a time, while their votes could still turn it."""
    max_extra: Annotated[int, Field(ge=0)] | None
    """Votes on disputed pairs, of all pairs together: the closest are asked first; null for as many as there are."""
    models: list[str]
    """Models of the annotator's server that are asked beside its `model`; the simulated pool has its own annotators."""
    max_missing: Annotated[float, Field(ge=0, le=1)]
    """Share of the votes that may be no answer, failed calls and nonsense; more of them is an error."""

    @field_validator("disputed")
    @classmethod
    def _some_can_disagree(cls, disputed: int, info: ValidationInfo) -> int:
        if info.data.get("each") == 1 < disputed:
            raise ValueError("one vote can't differ: set `each` to 2 or more")
        return disputed

    @field_validator("models")
    @classmethod
    def _once(cls, models: list[str]) -> list[str]:
        if len(set(models)) < len(models):
            raise ValueError("names one twice")
        return models


def annotators(settings: AnnotatorSettings, models: Sequence[str]) -> list[str]:
    """All who can be asked, as a request names them: the pool's, or the server's `model` and these others."""
    if settings.provider == "simulated":
        return [annotator_model(k) for k in range(settings.pool.annotators)]
    return list(dict.fromkeys([settings.model, *models]))


def check_seats(settings: AnnotatorSettings, votes: VoteSettings) -> None:
    """Raises ParamError where a pair needs more annotators than there are, or fewer where they disagree."""
    there, simulated = len(annotators(settings, votes.models)), settings.provider == "simulated"
    key, asked = ("each", votes.each) if votes.each >= votes.disputed else ("disputed", votes.disputed)
    if asked > there:
        named = "as `annotator.pool.annotators` says" if simulated else "`annotator.model` and `votes.models`"
        raise ParamError(
            f"`votes.{key}` asks {asked} different annotators of a pair, and there are {there}, {named}: add some "
            "there, or ask fewer"
        )
    if votes.disputed < votes.each:
        raise ParamError(
            f"`votes.each` asks {votes.each} annotators of every pair, and `votes.disputed`, {votes.disputed}, counts "
            f"those too: set `disputed` to {votes.each} or more, or `each` to {votes.disputed}"
        )


def vote(
    pairs: Sequence[Pair],
    settings: AnnotatorSettings,
    votes: VoteSettings,
    *,
    seed: int,
    grader: Grader | None = None,
) -> list[Vote]:
    """The votes on all pairs, in rounds; those on one pair are of different annotators, in an order drawn by its id.

    Each pair is shown in one order to the first annotator (`client.compare`) and turned round for every next one, so
    that a liking for one side goes against itself. `settings.max_cost_usd` bounds all rounds together.
    Raises as `client.compare` does, and ParamError where there are too few annotators.
    """
    check_seats(settings, votes)
    names = annotators(settings, votes.models)
    panel = _Panel(pairs, settings, votes.each, seed, grader)
    places = range(len(pairs))
    drawn = settings.provider == "simulated"
    if drawn:
        panel.ask([Request(place, 0, None) for place in places])
    lines = [_line(names, pair.id, panel.asked(place), seed) for place, pair in enumerate(pairs)]
    panel.ask([Request(place, turn, lines[place][turn]) for turn in range(drawn, votes.each) for place in places])
    left = len(pairs) * votes.disputed if votes.max_extra is None else votes.max_extra
    for turn in range(votes.each, votes.disputed):
        doubtful = [place for place in places if panel.doubtful(place, votes.disputed - turn)]
        doubtful = sorted(doubtful, key=lambda place: abs(panel.lean(place)))[:left]
        left -= len(doubtful)
        panel.ask([Request(place, turn, lines[place][turn]) for place in doubtful])
    return [one for cast in panel.cast for one in cast]


def _line(names: Sequence[str], pair_id: str, asked: Sequence[str], seed: int) -> list[str]:
    """All annotators in the order in which they are asked of a pair: those first who have been."""
    others = [name for name in names if name not in asked]
    order = np.random.default_rng(derive(seed, "panel", pair_id)).permutation(len(others))
    return [*asked, *(others[k] for k in order)]


class Request(NamedTuple):
    place: int  # of the pair
    turn: int  # how many votes it has before
    annotator: str | None  # None: whom the pool draws


class _Panel:
    def __init__(
        self, pairs: Sequence[Pair], settings: AnnotatorSettings, each: int, seed: int, grader: Grader | None
    ) -> None:
        self.pairs, self.settings, self.each, self.seed, self.grader = pairs, settings, each, seed, grader
        self.cast: list[list[Vote]] = [[] for _ in pairs]
        self.spent = 0.0

    def asked(self, place: int) -> list[str]:
        return [one.annotator for one in self.cast[place]]

    def lean(self, place: int) -> float:
        """Sum of the votes, from a draw: below 0 for the first answer, above for the second."""
        return sum(one.preference - 1.5 for one in self.cast[place] if not math.isnan(one.preference))

    def doubtful(self, place: int, left: int) -> bool:
        """Whether annotators disagree, and `left` more votes could still turn the sum."""
        sides = {np.sign(one.preference - 1.5) for one in self.cast[place] if not math.isnan(one.preference)}
        return len(sides) > 1 and abs(self.lean(place)) <= 0.5 * left

    def ask(self, requests: Sequence[Request]) -> None:
        """Adds their votes."""
        if not requests:
            return
        shown = [_turned(self.pairs[one.place]) if one.turn % 2 else self.pairs[one.place] for one in requests]
        names = [one.annotator for one in requests if one.annotator is not None]
        bound = max(0.0, self.settings.max_cost_usd - self.spent)
        settings = self.settings.model_copy(update={"max_cost_usd": bound})
        said = compare(shown, settings, seed=self.seed, grader=self.grader, models=names or None)
        for one, verdict in zip(requests, said, strict=True):
            self.spent += verdict.usd
            said_of = _vote(one, _turned_back(verdict) if one.turn % 2 else verdict)
            self.cast[one.place].append(replace(said_of, extra=one.turn >= self.each))


def _turned(pair: Pair) -> Pair:
    return replace(pair, output_a=pair.output_b, output_b=pair.output_a)


def _turned_back(said: Preference) -> Preference:
    return replace(said, preference=3 - said.preference, a_first=3 - said.b_first, b_first=3 - said.a_first)


def _vote(request: Request, said: Preference) -> Vote:
    return Vote(
        request.place,
        request.annotator or said.annotator or POOL_MODEL,
        said.preference,
        error=said.error,
        a_first=said.a_first,
        b_first=said.b_first,
        weighted=said.weighted,
        version=said.annotator,
        usd=said.usd,
        seconds=said.seconds,
    )
