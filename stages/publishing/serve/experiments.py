"""Experiments side by side: what two arms of claims differ in, in params and in numbers, seed by seed."""

import asyncio
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stages.base.contracts.claim import Arm, Claim, Run
from stages.base.errors import TrainyardError
from stages.base.stats import mean_interval
from stages.publishing.claims.publish import FOLDER, read_claim
from stages.publishing.serve.protocol import ApiError

Row = dict[str, Any]
Compare = Callable[[str, str], Mapping[str, Any]]
EMPTY: Mapping[str, Any] = {"params": {}, "metrics": [], "stages": {"all": 0, "differing": {}}, "notes": []}


@dataclass(frozen=True)
class Side:
    """One arm of a claim; seed: one of its runs, "" for all."""

    claim: Claim
    arm: Arm
    seed: str

    @property
    def name(self) -> str:
        """As `trainyard compare` takes it."""
        return f"{self.claim.name}:{self.arm.name}" + (f"@{self.seed}" if self.seed else "")

    @property
    def runs(self) -> list[Run]:
        """Those that have numbers."""
        return [
            run
            for run in self.claim.runs
            if run.arm == self.arm.name and run.status == "finished" and self.seed in ("", run.seed)
        ]

    def values(self, metric: str) -> dict[str, float]:
        """Label of the seed → the run's number."""
        found = {run.seed: run.values.get(metric) for run in self.runs}
        return {seed: value for seed, value in found.items() if value is not None}


class Experiments:
    """What reports/claims/*.json say of arms, and what `compare` says of their runs item by item: as `trainyard compare
    A B --json`. It raises TrainyardError where the runs aren't on this machine."""

    def __init__(self, compare: Compare) -> None:
        self._compare, self._one = compare, asyncio.Lock()
        self._read: dict[str, tuple[int, Claim]] = {}

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/api/experiments", self.claims, methods=["GET"]),
            Route("/api/experiments/compare", self.compare, methods=["GET"]),
        ]

    async def claims(self, http: HttpRequest) -> Response:
        found, problems = await asyncio.to_thread(self._all)
        return JSONResponse({"claims": [_listed(claim) for claim in found], "notes": problems})

    async def compare(self, http: HttpRequest) -> Response:
        known = {claim.name: claim for claim in (await asyncio.to_thread(self._all))[0]}
        a, b = (_side(http.query_params.get(which, ""), known, which) for which in "ab")
        async with self._one:  # tables of items are large
            return JSONResponse(await asyncio.to_thread(self._compared, a, b))

    def _all(self) -> tuple[list[Claim], list[str]]:
        """All claims that have a page, and what is wrong with the files of others."""
        found, problems = [], []
        for path in sorted(FOLDER.glob("*.json")):
            try:
                found.append(self._claim(path))
            except (TrainyardError, OSError) as error:
                problems.append(str(error))
        return found, problems

    def _claim(self, path: Path) -> Claim:
        changed = path.stat().st_mtime_ns
        if self._read.get(path.stem, (0,))[0] != changed:
            self._read[path.stem] = (changed, read_claim(path.stem))
        return self._read[path.stem][1]

    def _compared(self, a: Side, b: Side) -> Row:
        notes = []
        try:
            found = self._compare(a.name, b.name)
        except TrainyardError as error:
            found = EMPTY
            notes.append(f"By seed only, as the runs themselves can't be read here: {error}")
        metrics = list(found["metrics"]) or [by_seed(a, b, name) for name in _metrics(a, b)]
        names = [row["name"] for row in metrics]
        first = [name for name in (a.claim.metric, b.claim.metric) if name in names]
        order = dict.fromkeys([*first, *names])
        by_name = {row["name"]: row for row in metrics}
        stages = found["stages"]
        return {
            "a": _told(a),
            "b": _told(b),
            "params": _params(found["params"] or {name: pair for name, pair in _own_params(a, b)}),
            "metrics": [_finite(by_name[name]) for name in order],
            "runs": {name: {"a": a.values(name), "b": b.values(name)} for name in _metrics(a, b)},
            "stages": {"all": stages["all"], "differing": len(stages["differing"])},
            "notes": [*notes, *found["notes"]],
        }


def by_seed(a: Side, b: Side, metric: str) -> Row:
    """A metric as `trainyard compare` tells it, from the numbers of runs alone: B − A with its 95 % interval (of t)
    over the seeds that both have, or, where they share none, of the difference of means without one."""
    ours, theirs = a.values(metric), b.values(metric)
    shared = [seed for seed in ours if seed in theirs]
    means = [math.fsum(one.values()) / len(one) if one else None for one in (ours, theirs)]
    row: Row = {"name": metric, "unit": _unit(a, b, metric), "a": means[0], "b": means[1]}
    row |= {"difference": None, "low": None, "high": None, "items": 0, "clusters": 0, "seeds": 0, "item": "item"}
    equal = all(ours[seed] == theirs[seed] for seed in shared)
    row["same"] = equal and bool(ours) and set(ours.values()) == set(theirs.values())
    if len(shared) > 1:
        mean, low, high = mean_interval([theirs[seed] - ours[seed] for seed in shared])
        row |= {"difference": mean, "low": low, "high": high, "seeds": len(shared)}
    elif means[0] is not None and means[1] is not None:
        row["difference"] = means[1] - means[0]
    return row


def _unit(a: Side, b: Side, metric: str) -> str:
    return next((side.claim.unit for side in (a, b) if side.claim.metric == metric), "")


def _metrics(a: Side, b: Side) -> list[str]:
    """Of either side's runs, the ruling ones first."""
    ruling = [side.claim.metric for side in (a, b)]
    return list(dict.fromkeys([*ruling, *(name for side in (a, b) for run in side.runs for name in run.values)]))


def _own_params(a: Side, b: Side) -> Iterator[tuple[str, dict[str, Any]]]:
    """As far as the claims' own arms name them."""
    for name in dict.fromkeys([*a.arm.params, *b.arm.params]):
        pair = {key: side.arm.params[name] for key, side in (("a", a), ("b", b)) if name in side.arm.params}
        if len(pair) == 1 or pair["a"] != pair["b"]:
            yield name, pair


def _params(differing: Mapping[str, Mapping[str, Any]]) -> list[list[str | None]]:
    """Name, A's value and B's as JSON; null where a side has none."""
    return [
        [name, *(json.dumps(pair[side], ensure_ascii=False) if side in pair else None for side in "ab")]
        for name, pair in differing.items()
    ]


def _finite(row: Mapping[str, Any]) -> Row:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def _told(side: Side) -> Row:
    return {
        "name": side.name,
        "claim": side.claim.claim,
        "verdict": side.claim.verdict.verdict,
        "sentence": side.claim.verdict.sentence,
        "seeds": [run.seed for run in side.runs],
    }


def _listed(claim: Claim) -> Row:
    return {
        "name": claim.name,
        "claim": claim.claim,
        "metric": claim.metric,
        "verdict": claim.verdict.verdict,
        "arms": [arm.name for arm in claim.arms],
        "baseline": next((arm.name for arm in claim.arms if arm.baseline), ""),
        "seeds": claim.seeds,
    }


def _side(name: str, claims: Mapping[str, Claim], which: str) -> Side:
    """Raises ApiError for what is no arm, or no seed of one."""
    named, _, rest = name.partition(":")
    arm, _, seed = rest.partition("@")
    claim = claims.get(named)
    found = next((one for one in claim.arms if one.name == arm), None) if claim else None
    if claim is None or found is None:
        raise ApiError(f"{which}: no arm {name[:200]!r}; say CLAIM:ARM or CLAIM:ARM@SEED", status=404, param=which)
    if seed and seed not in claim.seeds:
        raise ApiError(f"{which}: the claim has no seed {seed[:200]!r}", status=404, param=which)
    return Side(claim, found, seed)
