"""Chat completions by the thousand from one server: each answered once, failures tried again, every reply kept.

A call that waits for its next try holds no place among those under way, so that a server which refuses some calls is
kept as busy as one that refuses none. But only WAITING times `concurrency` calls are begun at a time: a server that
limits its rate is not asked for more while it says no.
"""

import asyncio
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from stages.annotators.attempt import TryAgain, attempt, open_client
from stages.annotators.cache import CACHE_FILE, CallCache, call_key
from stages.annotators.server import ServerSettings, estimate, price
from stages.base.errors import InputError, ParamError
from stages.base.progress import Progress
from stages.base.store import project_store

WAITING = 2
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0  # back-off doubles from one to the other
RATE_LIMIT_PATIENCE_S = 900.0  # of waiting on 429, after which a call has failed
DEAD_AFTER = 20  # calls in a row that failed for good (at least; and twice the concurrency): the server is gone


@dataclass(frozen=True)
class Answer:
    reply: dict[str, Any] | None  # the chat completion as the server gave it
    error: str  # "" or why there is none
    seconds: float  # of the try that was answered, also where the reply is from the cache; NaN without a reply


def ask(bodies: Sequence[Mapping[str, Any]], settings: ServerSettings, label: str = "asking") -> list[Answer]:
    """An Answer for each request body, in their order; equal bodies are one call.

    Replies are cached as they come, so whatever ends the run, a rerun asks only for what is missing. Raises ParamError
    if the estimated or the actual cost is above `max_cost_usd`, InputError if the server refuses every call alike.
    """
    keys = [call_key(settings.base_url, body) for body in bodies]
    wanted = dict(zip(keys, bodies, strict=True))
    with ExitStack() as stack:
        cache = stack.enter_context(CallCache(project_store() / CACHE_FILE))
        found = {key: kept for key in wanted if (kept := cache.get(key))}
        answers = {key: Answer(reply, "", seconds) for key, (reply, seconds) in found.items()}
        missing = {key: body for key, body in wanted.items() if key not in answers}
        if missing:
            cost = estimate(missing.values(), settings)
            print(
                f"{label}: {len(missing)} calls to {settings.model} ({len(answers)} more are cached), "
                f"estimated ${cost:.4f}",
                file=sys.stderr,
            )
            if cost > settings.max_cost_usd:
                raise ParamError(
                    f"the estimated cost ${cost:.4f} is above `max_cost_usd` = {settings.max_cost_usd}; raise it or "
                    "ask less"
                )

            def keep(key: str, reply: dict[str, Any], seconds: float) -> None:
                cache.add(key, missing[key], reply, seconds)

            answers |= run_calls(missing, settings, keep=keep, label=label)
    return [answers[key] for key in keys]


def run_calls(
    bodies: Mapping[str, Mapping[str, Any]],
    settings: ServerSettings,
    *,
    keep: Callable[[str, dict[str, Any], float], None],
    label: str,
) -> dict[str, Answer]:
    """An Answer for each key; nothing is cached here. keep: called with each reply as it comes."""
    run = _Run(settings, keep)
    with Progress(len(bodies), label, unit="calls") as bar:
        asyncio.run(run.all(bodies, bar))
    if run.stop is not None:
        raise run.stop
    print(f"{label}: {len(bodies)} calls billed about ${run.spent:.4f}", file=sys.stderr)
    return run.answers


@dataclass
class _Run:
    settings: ServerSettings
    keep: Callable[[str, dict[str, Any], float], None]
    answers: dict[str, Answer] = field(default_factory=dict)
    spent: float = 0.0
    failed_in_a_row: int = 0  # calls, for good
    failing: int = 0  # tries since the last reply to any call
    stop: Exception | None = None  # why no further call is made; those under way are waited for, as they are paid for

    async def all(self, bodies: Mapping[str, Mapping[str, Any]], bar: Progress) -> None:
        self.slots, self.stopped = asyncio.Semaphore(self.settings.concurrency), asyncio.Event()
        queue = iter(bodies.items())
        async with open_client(self.settings) as client, asyncio.TaskGroup() as group:
            for _ in range(min(len(bodies), WAITING * self.settings.concurrency)):
                group.create_task(self._work(client, queue, bar))

    async def _work(self, client: Any, queue: Iterator[tuple[str, Mapping[str, Any]]], bar: Progress) -> None:
        for key, body in queue:
            answer = await self._answer(client, body)
            if answer.reply is not None:
                self.keep(key, answer.reply, answer.seconds)
                self._pay(answer.reply)
            self.answers[key] = answer
            bar.advance()
            if self.stop is not None:
                return

    async def _answer(self, client: Any, body: Mapping[str, Any]) -> Answer:
        tries = refusals = 0
        waited = 0.0
        why = ""
        while self.stop is None:
            try:
                async with self.slots:
                    if self.stop is not None:
                        break
                    start = time.monotonic()
                    async with asyncio.timeout(self.settings.timeout_s):
                        reply = await attempt(client, body, self.settings)
                self.failed_in_a_row = self.failing = 0
                return Answer(reply, "", time.monotonic() - start)
            except InputError as error:
                self._end(error)
                why = str(error)
                break
            except ValueError as error:  # this request and no other is at fault
                return Answer(None, str(error), float("nan"))
            except TimeoutError:
                failure = TryAgain(f"no whole reply within {self.settings.timeout_s:g} s")
            except TryAgain as error:
                failure = error
            why = failure.why
            refusals, tries = refusals + failure.limited, tries + (not failure.limited)
            if tries > self.settings.max_retries or waited > RATE_LIMIT_PATIENCE_S:
                self._fail(why)
                break
            # While others are answered the server is well, and a call that was unlucky twice need not wait longer.
            self.failing += not failure.limited
            wait = _pause(failure.wait, refusals if failure.limited else min(tries, self.failing))
            waited += wait if failure.limited else 0.0
            await self._sleep(wait)
        return Answer(None, why or "not asked", float("nan"))

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.stopped.wait()
        except TimeoutError:
            pass

    def _pay(self, reply: dict[str, Any]) -> None:
        self.spent += price(reply, self.settings)
        if self.spent > self.settings.max_cost_usd and self.stop is None:
            self._end(
                ParamError(
                    f"${self.spent:.4f} are spent, more than `max_cost_usd` = {self.settings.max_cost_usd}; the "
                    "replies so far are cached: raise the bound and rerun to go on from here"
                )
            )

    def _fail(self, why: str) -> None:
        self.failed_in_a_row += 1
        if self.failed_in_a_row >= max(DEAD_AFTER, WAITING * self.settings.concurrency):
            self._end(
                InputError(
                    f"{self.settings.base_url}: {self.failed_in_a_row} calls in a row failed, the last one with: "
                    f"{why}; the replies so far are cached: rerun when the server is back"
                )
            )

    def _end(self, why: Exception) -> None:
        if self.stop is None:
            self.stop = why
            self.stopped.set()


def _pause(asked: float | None, failures: int) -> float:
    """What the server asked for, else exponential back-off; with jitter, so that calls don't come back together."""
    if asked is not None:
        return asked * random.uniform(1.0, 1.1)
    return min(FIRST_WAIT_S * 2 ** (failures - 1), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
