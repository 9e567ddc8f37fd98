"""Labels by people: which answer of a pair is better, and answers to keep, drop or rewrite."""

import asyncio
import hashlib
import secrets
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stages.annotators.agreement import krippendorff_alpha, percent_agreement
from stages.base.errors import InputError
from stages.base.files import json_lines
from stages.base.seeds import derive
from stages.publishing.serve.endpoint import read_whole
from stages.publishing.serve.journal import Journal, Row
from stages.publishing.serve.protocol import ApiError, Strict, read_body

LONGEST_NAME = 64  # characters
PAIR = ("id", "prompt", "output_a", "output_b")
ANSWER = ("id", "instruction", "response")
NUMBERS = {"a": 1.0, "tie": 1.5, "b": 2.0}  # votes as `annotators.agreement` reads them


def read_items(path: Path, fields: Sequence[str]) -> dict[str, Row]:
    """The rows of a JSON Lines or parquet file by id, with these fields alone, all texts; an id may be a number.
    Raises InputError naming the line for anything else, for one id twice, and for a pair of equal answers.
    """
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not a readable parquet file ({str(error)[:200]})") from None
        rows = enumerate(table.select([name for name in fields if name in table.column_names]).to_pylist(), 1)
    else:
        rows = json_lines(path)  # type: ignore[assignment]
    found: dict[str, Row] = {}
    for number, row in rows:
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: not a JSON object")
        item: dict[str, Any] = {name: row.get(name) for name in fields}
        if isinstance(item["id"], int) and not isinstance(item["id"], bool):
            item["id"] = str(item["id"])
        for name, value in item.items():
            if not isinstance(value, str):
                raise InputError(f"{path}:{number}: `{name}` must be a text; a row has {', '.join(fields)}")
        if "output_a" in item and item["output_a"] == item["output_b"]:
            raise InputError(f"{path}:{number}: both answers are the same; leave the row out")
        if item["id"] in found:
            raise InputError(f"{path}:{number}: the id {item['id']!r} stands there twice")
        found[item["id"]] = item
    if not found:
        raise InputError(f"{path}: holds no rows")
    return found


class Annotators:
    """Names and the secrets of who bears them: a name that is taken needs its secret, so that two people never write
    under one. Kept as digests.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._name_of = {row.get("secret"): row.get("name") for row in journal.rows}
        self._taken = {str(row.get("name")).casefold() for row in journal.rows}

    def enroll(self, name: str) -> str:
        """The new secret of a name. Raises ApiError where it is taken or can't be one."""
        name = unicodedata.normalize("NFC", name).strip()
        if not 0 < len(name) <= LONGEST_NAME or any(unicodedata.category(one)[0] == "C" for one in name):
            raise ApiError(f"a name has 1 to {LONGEST_NAME} characters that can be seen", param="name")
        if name.casefold() in self._taken:
            raise ApiError(
                "someone has this name already: choose another, or give the code that this name was given",
                status=409,
                param="name",
                code="name_taken",
            )
        secret = secrets.token_urlsafe(9)
        self.journal.append({"name": name, "secret": _digest(secret)})
        self._name_of[_digest(secret)] = name
        self._taken.add(name.casefold())
        return secret

    def name(self, secret: str) -> str:
        found = self._name_of.get(_digest(secret))
        if found is None:
            raise ApiError("this code belongs to nobody here; give your name again", status=401, code="unknown")
        return found


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Labels:
    """Items and what each person has said of them. who, said: the fields that hold the person and the label. each:
    labels an item gets at most, None for one of everybody.
    """

    def __init__(self, items: dict[str, Row], journal: Journal, who: str, said: str, each: int | None) -> None:
        self.items, self.journal, self.who, self.each = items, journal, who, each
        for number, row in enumerate(journal.rows, 1):
            for name in ("id", who, said):
                if not isinstance(row.get(name), str):
                    raise InputError(f"{journal.path}:{number}: `{name}` is missing; mend or remove the line")
        self._said = {(row[who], row["id"]) for row in journal.rows}
        self._count = Counter(row["id"] for row in journal.rows)

    def next(self, name: str) -> Row | None:
        """The first item that the person hasn't labelled and that may have another label."""
        for number, item in self.items.items():
            full = self.each is not None and self._count[number] >= self.each
            if not full and (name, number) not in self._said:
                return item
        return None

    def add(self, row: Row) -> None:
        key = (row[self.who], row["id"])
        if row["id"] not in self.items:
            raise ApiError("there is no such item", status=404, param="id")
        if key in self._said:
            raise ApiError("you have labelled this already; undo it first", status=409, param="id", code="voted")
        self.journal.append(row)
        self._said.add(key)
        self._count[row["id"]] += 1

    def undo(self, name: str) -> Row:
        """Take the person's last label back. The item."""
        rows = self.journal.rows
        mine = [place for place, row in enumerate(rows) if row[self.who] == name and row["id"] in self.items]
        if not mine:
            raise ApiError("there is nothing to undo", status=409)
        row = self.journal.remove(mine[-1])
        self._said.discard((name, row["id"]))
        self._count[row["id"]] -= 1
        return self.items[row["id"]]

    def progress(self, name: str) -> dict[str, int]:
        mine = sum(1 for who, number in self._said if who == name and number in self.items)
        return {"done": mine, "total": len(self.items)}


def agreement(rows: Sequence[Row]) -> dict[str, float | None]:
    """compared: items with two votes or more; percent: of couples of votes on one item that are equal; alpha, low,
    high: Krippendorff's α with its 95 % interval. Skips are missing votes; what the votes don't say is None.
    """
    items, people = (list(dict.fromkeys(row[name] for row in rows)) for name in ("id", "annotator"))
    votes = np.full((len(items), len(people)), np.nan)
    at_item, at_person = ({name: place for place, name in enumerate(names)} for names in (items, people))
    for row in rows:
        votes[at_item[row["id"]], at_person[row["annotator"]]] = NUMBERS.get(row["vote"], np.nan)
    compared = votes[(~np.isnan(votes)).sum(axis=1) > 1]
    if not len(compared):
        return {"compared": 0, "percent": None, "alpha": None, "low": None, "high": None}
    found = {"percent": 100 * percent_agreement(compared), **krippendorff_alpha(compared)._asdict()}
    found["alpha"] = found.pop("value")
    return {"compared": len(compared), **{k: float(v) if np.isfinite(v) else None for k, v in found.items()}}


class _Name(Strict):
    name: str


class _Vote(Strict):
    id: str
    vote: Literal["first", "second", "tie", "skip"]
    seconds: Annotated[float, Field(ge=0, le=1e7)]


class _Edit(Strict):
    id: str
    verdict: Literal["keep", "drop", "edit"]
    instruction: str | None = None
    response: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Annotation:
    """The pages' side. pairs, answers: what is labelled, either may be None; guideline: what people are told."""

    annotators: Annotators
    pairs: Labels | None
    answers: Labels | None
    guideline: str

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/api/annotate/setup", self.setup, methods=["GET"]),
            Route("/api/annotate/enroll", self.enroll, methods=["POST"]),
            Route("/api/annotate/agreement", self.agreement, methods=["GET"]),
            Route("/api/annotate/{task}/next", self.next, methods=["GET"]),
            Route("/api/annotate/{task}/label", self.label, methods=["POST"]),
            Route("/api/annotate/{task}/undo", self.undo, methods=["POST"]),
        ]

    async def setup(self, http: HttpRequest) -> Response:
        tasks = [name for name, labels in (("pairs", self.pairs), ("answers", self.answers)) if labels is not None]
        return JSONResponse({"tasks": tasks, "guideline": self.guideline})

    async def enroll(self, http: HttpRequest) -> Response:
        body = read_body(await read_whole(http), _Name)
        return JSONResponse({"code": self.annotators.enroll(body.name)})

    async def agreement(self, http: HttpRequest) -> Response:
        rows = [] if self.pairs is None else list(self.pairs.journal.rows)
        return JSONResponse(await asyncio.to_thread(agreement, rows))

    async def next(self, http: HttpRequest) -> Response:
        name, labels = self._who(http), self._labels(http)
        return JSONResponse(self._shown(labels, name, labels.next(name)))

    async def label(self, http: HttpRequest) -> Response:
        name, labels, raw = self._who(http), self._labels(http), await read_whole(http)
        if labels is self.pairs:
            vote = read_body(raw, _Vote)
            if vote.id not in labels.items:
                raise ApiError("there is no such item", status=404, param="id")
            labels.add(vote_row(labels.items[vote.id], name, vote.vote, vote.seconds))
        else:
            edit = read_body(raw, _Edit)
            labels.add(_edit_row(edit, name))
        return JSONResponse(self._shown(labels, name, labels.next(name)))

    async def undo(self, http: HttpRequest) -> Response:
        name, labels = self._who(http), self._labels(http)
        await read_whole(http)
        return JSONResponse(self._shown(labels, name, labels.undo(name)))

    def _who(self, http: HttpRequest) -> str:
        return self.annotators.name(http.headers.get("x-annotator", ""))

    def _labels(self, http: HttpRequest) -> Labels:
        labels = {"pairs": self.pairs, "answers": self.answers}.get(http.path_params["task"])
        if labels is None:
            raise ApiError("there is nothing of this kind to label here", status=404)
        return labels

    def _shown(self, labels: Labels, name: str, item: Row | None) -> dict[str, Any]:
        shown: dict[str, Any] = {"name": name, "item": item, **labels.progress(name)}
        if labels is self.pairs and item is not None:
            first, second = (item[f"output_{side}"] for side in display_order(name, item["id"]))
            shown["item"] = {"id": item["id"], "prompt": item["prompt"], "first": first, "second": second}
        return shown


def display_order(annotator: str, pair: str) -> Literal["ab", "ba"]:
    """Which answer stands first: a fair coin that falls the same way again for this person and pair."""
    return "ab" if derive(0, annotator, pair) & 1 else "ba"


def vote_row(item: Row, annotator: str, vote: str, seconds: float) -> Row:
    """One line of the file of votes, as `alignment.preferences.sources` of kind `votes` reads it."""
    order = display_order(annotator, item["id"])
    chosen = {"first": order[0], "second": order[1]}.get(vote, vote)
    said = {"annotator": annotator, "vote": chosen, "order": order, "seconds": round(seconds, 3)}
    return {name: item[name] for name in PAIR} | said


def _edit_row(edit: _Edit, reviewer: str) -> Row:
    """One line of the file of edits, as `alignment.self_instruct.edits` reads it."""
    given = {"instruction": edit.instruction, "response": edit.response}
    texts = {name: text for name, text in given.items() if text is not None}
    if edit.verdict != "edit" and texts:
        raise ApiError(f"`{edit.verdict}` takes no texts; say `edit`, or leave them out", param=next(iter(texts)))
    if edit.verdict == "edit" and not any(text.strip() for text in texts.values()):
        raise ApiError("an edit needs a text", param="response")
    return {"id": edit.id, **texts, "verdict": edit.verdict, "reviewer": reviewer, "reason": edit.reason}
