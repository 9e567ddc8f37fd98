"""Asking: items under a protocol become requests, an engine answers them, and each answer is a row.

With a store, answers are kept in batches as they come and a rerun asks only for what is missing.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from stages.base.errors import InputError
from stages.base.progress import Progress
from stages.evaluation.protocols.protocol import Answer, EvaluationProtocol, Setting, TooLong, fit
from stages.evaluation.scoring.requests import (
    Choices,
    Engine,
    Generate,
    Generated,
    Likelihood,
    NoRoom,
    Rolling,
    Truncation,
    Unanswered,
    is_logprob,
)
from stages.evaluation.store import AnswerStore, Found, Shape, answer_key, request_digest
from stages.evaluation.tasks.item import Item

TOO_LONG = "too_long"
ROLLING = "rolling"
FIRST_BATCH, SECONDS_A_BATCH = 32, 8.0  # a batch grows until it takes about so long: what a kill may lose
ABSENT = (
    -100.0
)  # nats of a letter that isn't among a server's likeliest tokens, as in the code of Hendrycks et al. 2021


@dataclass(frozen=True)
class Row:
    """One item under one protocol: what was sent and what came back."""

    item: Item
    protocol: str
    version: int
    variant: str = ""  # name of the wording; "" for the plain one
    shots: int = 0  # examples really shown
    truncated: bool = False  # the context lost its beginning
    prompt: str = ""  # exactly as sent; of several contexts the first one
    request: Choices | Generate | None = None  # what the engine was asked; None for a text, or an imported row
    found: Found | None = None  # None where the item was left out
    answer: Answer | None = None
    left_out: str = ""  # why: `too_long`, or in words

    @property
    def prompt_digest(self) -> str:
        return hashlib.sha256(self.prompt.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def likelihoods(self) -> tuple[Likelihood, ...]:
        """Of the choices; none where the answer was generated."""
        return () if self.found is None or isinstance(self.found, Generated | Rolling) else self.found


@dataclass(frozen=True)
class _Asked:
    place: int  # among the items
    request: Choices | Generate
    shots: int
    truncated: bool
    key: str
    shape: Shape  # of its answer


def ask(
    engine: Engine,
    items: Sequence[Item],
    shots_of: Callable[[Item], Sequence[Item]],
    protocol: EvaluationProtocol,
    setting: Setting,
    store: AnswerStore | None = None,
    *,
    variant: str = "",
    label: str = "evaluating",
) -> list[Row]:
    """One row an item, in their order; items that can't be asked have a row that says why.

    shots_of: the examples that may stand before an item; as many are shown as the protocol has room for. Raises
    InputError, naming the item, where the model's answer is no number.
    """
    rows: dict[int, Row] = {}
    asked: list[_Asked] = []
    how: Truncation = "left" if protocol.overflow == "left" else "refuse"
    for place, item in enumerate(items):
        blank = Row(item, protocol.name, protocol.version, variant)
        if why := protocol.why_not(item):
            rows[place] = _left_out(blank, why)
            continue
        try:
            request, count = fit(protocol, item, shots_of(item), setting, engine)
        except TooLong:
            rows[place] = _left_out(blank, TOO_LONG)
            continue
        truncated = how == "left" and engine.length(request) > engine.limit
        key = ""
        if store is not None:
            asked_as = f"{protocol.name}@{protocol.version}{f'/{variant}' if variant else ''}"
            key = answer_key(store.model, item.set, asked_as, item.id, request_digest(request, how))
        shape: Shape = len(request.continuations) if isinstance(request, Choices) else Generated
        asked.append(_Asked(place, request, count, truncated, key, shape))

    def request_all(batch: Sequence[_Asked]) -> list[Found | str]:
        return _request(engine, [one.request for one in batch], how)

    about = {one.place: {"task": items[one.place].set, "item": items[one.place].id, "protocol": protocol.name,
                         "version": protocol.version, "shots": one.shots} for one in asked}  # fmt: skip
    for one, found in _answers(asked, request_all, store, about, label):
        item = items[one.place]
        blank = Row(item, protocol.name, protocol.version, variant)
        if isinstance(found, str):
            rows[one.place] = _left_out(blank, found)
            continue
        assert not isinstance(found, Rolling)
        _check(found, item, protocol.name, engine)
        rows[one.place] = Row(
            item=item,
            protocol=protocol.name,
            version=protocol.version,
            variant=variant,
            shots=one.shots,
            truncated=one.truncated,
            prompt=engine.sent(one.request),
            request=one.request,
            found=found,
            answer=_read(protocol, item, setting, found),
        )
    return [rows[place] for place in range(len(items))]


def ask_rolling(
    engine: Engine, items: Sequence[Item], stride: int, store: AnswerStore | None = None, *, label: str = "reading"
) -> list[Row]:
    """Items whose whole text is scored (`loglikelihood_rolling`), in windows of which all but `stride` tokens are
    context; rows without an answer: what is measured is in `found`."""

    def key(item: Item) -> str:
        if store is None:
            return ""
        return answer_key(store.model, item.set, f"{ROLLING}@1", item.id, request_digest(text_of(item), stride))

    asked = [
        _Asked(place, Generate(text_of(item), (), 0), 0, False, key(item), Rolling) for place, item in enumerate(items)
    ]

    def request_all(batch: Sequence[_Asked]) -> list[Found | str]:
        return list(engine.rolling([text_of(items[one.place]) for one in batch], stride))

    about = {place: {"task": item.set, "item": item.id, "protocol": ROLLING} for place, item in enumerate(items)}
    rows = []
    for one, found in _answers(asked, request_all, store, about, label):
        assert isinstance(found, Rolling)
        item = items[one.place]
        if not math.isfinite(found.nats):
            raise InputError(f"item {item.id} of {item.set}: the model's loss is {found.nats}; check its weights")
        rows.append((one.place, Row(item, ROLLING, 1, prompt=text_of(item), found=found)))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def text_of(item: Item) -> str:
    """Of a rolling item: the text that is scored."""
    return item.prompt or item.question


def _left_out(blank: Row, why: str) -> Row:
    return Row(blank.item, blank.protocol, blank.version, blank.variant, left_out=why)


def _answers(
    asked: Sequence[_Asked],
    request_all: Callable[[Sequence[_Asked]], list[Found | str]],
    store: AnswerStore | None,
    about: dict[int, dict[str, Any]],
    label: str,
) -> Iterator[tuple[_Asked, Found | str]]:
    """Each one's answer, or why there is none: from the store, else asked for; in no order that matters."""
    kept = {}
    for one in asked:
        if store is not None and (answer := store.get(one.key, one.shape)) is not None:
            kept[one.place] = answer
    yield from ((one, kept[one.place]) for one in asked if one.place in kept)
    # Contexts that begin alike stand together, so that an engine reads what they share once a batch.
    todo = sorted((one for one in asked if one.place not in kept), key=lambda one: (_text(one.request), one.place))
    if not todo:
        return
    with Progress(len(asked), label, unit="items", silent=store is None, alone=store is not None) as bar:
        bar.start_at(len(kept))
        size = FIRST_BATCH if store is not None else len(todo)
        start = 0
        while start < len(todo):
            batch, begun = todo[start : start + size], time.monotonic()
            answers = list(zip(batch, request_all(batch), strict=True))
            if store is not None:
                store.add(
                    {
                        one.key: (answer, about[one.place])
                        for one, answer in answers
                        if not isinstance(answer, str) and _is_possible(answer)
                    }
                )
            yield from answers
            start += len(batch)
            bar.advance(len(batch))
            rate = len(batch) / max(time.monotonic() - begun, 1e-3)
            size = max(1, min(2 * size, round(rate * SECONDS_A_BATCH)))


def _text(request: Choices | Generate) -> str:
    if request.messages:
        return "\n".join(message["content"] for message in request.messages)
    return request.contexts[0] if isinstance(request, Choices) else request.context


def _request(engine: Engine, requests: Sequence[Choices | Generate], how: Truncation) -> list[Found | str]:
    """An answer each, or why there is none. Those that turn out to be too long are taken out and the others asked."""
    answers: dict[int, Found | str] = {}
    for kind in (Choices, Generate):
        places = [place for place, request in enumerate(requests) if isinstance(request, kind)]
        while places:
            own: list[Any] = [requests[place] for place in places]
            found: list[Any]
            try:
                found = engine.likelihoods(own, how) if kind is Choices else engine.generate(own, how)
            except NoRoom as error:
                answers[places.pop(error.index)] = TOO_LONG
                continue
            except Unanswered as error:
                answers |= {places[index]: why for index, why in error.why.items()}
                found = error.found
            for place, answer in zip(places, found, strict=True):
                if answer is not None:
                    answers[place] = answer if isinstance(answer, Generated) else tuple(answer)
            break
    return [answers[place] for place in range(len(requests))]


def _is_possible(found: Found) -> bool:
    """Whether its numbers are log-likelihoods."""
    if isinstance(found, Generated):
        return True
    if isinstance(found, Rolling):
        return math.isfinite(found.nats)
    return all(is_logprob(one.nats, one.tokens) for one in found)


def _check(found: Found, item: Item, protocol: str, engine: Engine) -> None:
    if not _is_possible(found):
        raise InputError(
            f"{engine.name}: item {item.id} of {item.set}, protocol {protocol}: what it gives is no log-probability "
            "(NaN, above 0, or too far below); its weights or the server are broken, and its scores would be chance"
        )


def _read(
    protocol: EvaluationProtocol, item: Item, setting: Setting, found: tuple[Likelihood, ...] | Generated
) -> Answer:
    """The protocol's reading; where none of the choices was among a server's likeliest tokens nothing was chosen."""
    answer = protocol.read(item, setting, found)
    if isinstance(found, Generated) or any(one.nats != ABSENT for one in found):
        return answer
    scores = dict.fromkeys(answer.scores, 0.0)
    return answer._replace(choice=-1, choice_norm=-1, scores=scores, flags=("no_answer", *answer.flags))
