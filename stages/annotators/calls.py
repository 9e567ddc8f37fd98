"""Chat completions by the thousand from one server: each answered once, failures tried again, every reply kept.

A call that waits for its next try holds no place among those under way, so that a server which refuses some calls is
kept as busy as one that refuses none. But only WAITING times `concurrency` calls are begun at a time: a server that
limits its rate is not asked for more while it says no.
"""

import asyncio
import random
import sqlite3
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stages.annotators.attempt import attempt, open_client
from stages.annotators.bill import billed_tokens, counts_tokens, estimate, price
from stages.annotators.cache import CACHE_FILE, CallCache, call_key
from stages.annotators.refusal import Refused, TryAgain
from stages.annotators.reply import UnparsableReply, read_answer
from stages.annotators.server import ServerSettings
from stages.base.errors import InputError, ParamError, ResourceError, TrainyardError
from stages.base.progress import Progress
from stages.base.store import project_store

WAITING = 2
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0  # back-off doubles from one to the other
RATE_LIMIT_PATIENCE_S = 900.0  # of waiting on 429, after which a call has failed
DEAD_AFTER = 20  # calls in a row that failed for good (at least; and twice the concurrency): the server is gone
USELESS_AFTER = 100  # replies in a row, all paid for and none an answer: something else than the prompts is wrong
ELSEWHERE_S = 0.2  # between two looks at a call that another process is making

Read = Callable[[Mapping[str, Any]], Any]
NAN = float("nan")


@dataclass(frozen=True)
class Answer:
    reply: dict[str, Any] | None  # the chat completion as the server gave it; None where there is none of use
    error: str  # "" or why there is none
    seconds: float  # of the try that was answered, also where the reply is from the cache; NaN without a reply
    # All that this call was billed, replies without an answer too; of equal calls the first pays.
    usd: float = field(default=0.0, compare=False)


def ask(
    bodies: Sequence[Mapping[str, Any]],
    settings: ServerSettings,
    label: str = "asking",
    read: Read = read_answer,
    *,
    kept: Path | None = None,
    silent: bool = False,
) -> list[Answer]:
    """An Answer for each request body, in their order; equal bodies are one call.

    `read` says what a reply of use is: it raises UnparsableReply for any other. Replies of use are cached as they come
    (in `kept`, by default the project's file), so whatever ends the run, a rerun asks only for what is missing. silent:
    no progress, and no word of costs. Raises ParamError if the estimated or the actual cost is above `max_cost_usd`,
    InputError if the server refuses every call alike, ResourceError if the cache can't be written.
    """
    keys = [call_key(settings.base_url, body) for body in bodies]
    wanted = dict(zip(keys, bodies, strict=True))
    with CallCache(kept or project_store() / CACHE_FILE) as cache:
        try:
            run = _Run(settings, cache, read, label, wanted, silent)
            run.look_up()
            if run.missing:
                run.begin()
                asyncio.run(run.all())
                run.finish()
        except sqlite3.Error as error:
            raise InputError(cache.trouble(error)) from None
    paid: set[str] = set()
    return [run.answer(key, paid) for key in keys]


@dataclass
class _Run:
    settings: ServerSettings
    cache: CallCache
    read: Read
    label: str
    bodies: Mapping[str, Mapping[str, Any]]
    silent: bool = False
    answers: dict[str, Answer] = field(default_factory=dict)
    tokens: dict[str, tuple[int, int]] = field(default_factory=dict)  # by call, of replies without an answer
    missing: deque[str] = field(default_factory=deque)
    begun: int = 0  # calls
    spent: float = 0.0
    guessed: float = 0.0  # for replies that name no token counts
    uncounted: int = 0  # such replies
    failed_in_a_row: int = 0  # calls, for good
    refused_in_a_row: int = 0  # calls, for a reason that isn't their prompt's
    useless_in_a_row: int = 0  # replies without an answer
    useful: int = 0  # replies with an answer, of this run
    failing: int = 0  # tries since the last reply to any call
    unkept: list[tuple[str, dict[str, Any], float]] = field(default_factory=list)
    stop: TrainyardError | None = None  # why no further call is made; those under way are waited for: they are paid

    def look_up(self) -> None:
        for key in self.bodies:
            self.tokens[key] = self.cache.billed(key)
            if not self._find(key):
                self.missing.append(key)

    def _find(self, key: str) -> bool:
        """Whether the answer is in the cache. A reply without one, of an older version, is taken out of it."""
        kept = self.cache.get(key)
        if kept is None:
            return False
        reply, seconds = kept
        try:
            self.read(reply)
        except UnparsableReply:
            self._waste(key, reply)
            self.cache.discard(key)
            return False
        self.answers[key] = Answer(reply, "", seconds)
        return True

    def begin(self) -> None:
        """Say what it may cost. Raises ParamError above the bound, ResourceError where replies would find no room."""
        cost = estimate((self.bodies[key] for key in self.missing), self.settings)
        models = " and ".join(dict.fromkeys(self.bodies[key].get("model", self.settings.model) for key in self.missing))
        if self.cache.damaged:
            self._say(f"{self.cache.path}: {self.cache.damaged} kept replies are damaged and asked for again")
        self._say(f"{len(self.missing)} calls to {models} ({len(self.answers)} more are cached), estimated ${cost:.4f}")
        if cost > self.settings.max_cost_usd:
            raise ParamError(
                f"the estimated cost ${cost:.4f} is above `max_cost_usd` = {self.settings.max_cost_usd}; raise it or "
                "ask less"
            )
        self.cache.check_space()

    def _say(self, words: str) -> None:
        if not self.silent:
            print(f"{self.label}: {words}", file=sys.stderr)

    async def all(self) -> None:
        self.slots, self.stopped = asyncio.Semaphore(self.settings.concurrency), asyncio.Event()
        with Progress(len(self.missing), self.label, unit="calls", silent=self.silent) as bar:
            async with open_client(self.settings) as client, asyncio.TaskGroup() as group:
                for _ in range(min(len(self.missing), WAITING * self.settings.concurrency)):
                    group.create_task(self._work(client, bar))

    def finish(self) -> None:
        """Say what it did cost, and raise what ended it early."""
        uncounted = f"; {self.uncounted} replies name no token counts" if self.uncounted else ""
        self._say(f"{self.begun} calls billed about ${self.spent:.4f}{uncounted}")
        lost = []
        for key, reply, seconds in self.unkept:
            try:
                self.cache.add(key, self.bodies[key], reply, seconds)
            except sqlite3.Error as error:
                lost.append((price(reply, self.settings), self.cache.trouble(error)))
        if lost and len(self.answers) == len(self.bodies):
            print(f"{self.label}: {len(lost)} paid replies are used but not cached: {lost[0][1]}", file=sys.stderr)
        elif lost:
            usd = sum(cost for cost, _ in lost)
            raise ResourceError(f"{lost[0][1]}; {len(lost)} paid replies (${usd:.4f}) are lost, all others are cached")
        elif self.stop is not None:
            raise self.stop

    def answer(self, key: str, paid: set[str]) -> Answer:
        """The answer to a call with all that it cost, unless it is among those `paid` already."""
        if key in paid:
            return self.answers[key]
        paid.add(key)
        tokens_in, tokens_out = self.tokens[key]
        usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
        answer = self.answers[key]
        usd = price({"usage": usage}, self.settings) + price(answer.reply or {}, self.settings)
        return replace(answer, usd=usd)

    async def _work(self, client: Any, bar: Progress) -> None:
        while self.missing and self.stop is None:
            key = self.missing.popleft()
            if not self.cache.claim(key):  # another process is asking: it will be in the cache, or free again
                self.missing.append(key)
                await self._sleep(ELSEWHERE_S)
                continue
            try:
                if not self._find(key):
                    self.begun += 1
                    self.answers[key] = await self._answer(client, key)
            finally:
                self.cache.release(key)
            bar.advance()

    async def _answer(self, client: Any, key: str) -> Answer:
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
                        reply = await attempt(client, self.bodies[key], self.settings)
                self.failed_in_a_row = self.refused_in_a_row = self.failing = 0
                return self._received(key, reply, time.monotonic() - start)
            except InputError as error:
                self._end(error)
                why = str(error)
                break
            except Refused as error:  # this request and no other is at fault, or so it seems
                self._refuse(error)
                return Answer(None, str(error), NAN)
            except TimeoutError:
                failure = TryAgain(f"no whole reply within {self.settings.timeout_s:g} s")
            except TryAgain as error:
                failure = error
            if counts_tokens(failure.reply):
                self._waste(key, failure.reply)
                self._pay(key, failure.reply)
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
        return Answer(None, why or "not asked", NAN)

    def _received(self, key: str, reply: dict[str, Any], seconds: float) -> Answer:
        """The answer that a reply is, kept; of one without use the reason, and what it cost."""
        self._pay(key, reply)
        try:
            self.read(reply)
        except UnparsableReply as error:
            self._waste(key, reply)
            self.useless_in_a_row += 1
            if self._hopeless(self.useless_in_a_row, USELESS_AFTER):
                self._end(
                    InputError(
                        f"{self.settings.server}: {self.useless_in_a_row} replies in a row are no answers, the last "
                        f"one: {error}; check `model`, `max_tokens` and the prompt; the answers so far are cached"
                    )
                )
            return Answer(None, str(error), NAN)
        self.useless_in_a_row = 0
        self.useful += 1
        try:
            self.cache.add(key, self.bodies[key], reply, seconds)
        except sqlite3.Error as error:
            self.unkept.append((key, reply, seconds))
            self._end(ResourceError(f"{self.cache.trouble(error)}; all paid replies are cached"))
        return Answer(reply, "", seconds)

    def _waste(self, key: str, reply: Mapping[str, Any]) -> None:
        tokens = billed_tokens(reply.get("usage"))
        before = self.tokens[key]
        self.tokens[key] = before[0] + tokens[0], before[1] + tokens[1]
        if any(tokens):
            try:
                self.cache.bill(key, tokens)
            except sqlite3.Error as error:
                self._end(ResourceError(f"{self.cache.trouble(error)}; all paid replies are cached"))

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.stopped.wait()
        except TimeoutError:
            pass

    def _pay(self, key: str, reply: Mapping[str, Any]) -> None:
        self.spent += price(reply, self.settings)
        if not counts_tokens(reply):
            self.uncounted += 1
            self.guessed += estimate([self.bodies[key]], self.settings)
        if self.spent + self.guessed > self.settings.max_cost_usd:
            guessed = f" (${self.guessed:.4f} of them estimated, where replies name no counts)" if self.guessed else ""
            self._end(
                ParamError(
                    f"${self.spent + self.guessed:.4f} are spent{guessed}, more than `max_cost_usd` = "
                    f"{self.settings.max_cost_usd}; the replies so far are cached: raise the bound and rerun to go on "
                    "from here"
                )
            )

    def _fail(self, why: str) -> None:
        self.failed_in_a_row += 1
        if self.failed_in_a_row >= self._dead_after():
            self._end(
                InputError(
                    f"{self.settings.server}: {self.failed_in_a_row} calls in a row failed, the last one with: "
                    f"{why}; the replies so far are cached: rerun when the server is back"
                )
            )

    def _refuse(self, error: Refused) -> None:
        self.refused_in_a_row += not error.own
        if self._hopeless(self.refused_in_a_row, self._dead_after()):
            self._end(
                InputError(
                    f"{self.settings.server}: {self.refused_in_a_row} calls in a row were refused, the last one with: "
                    f"{error}; the replies so far are cached: correct what it says and rerun"
                )
            )

    def _hopeless(self, in_a_row: int, limit: int) -> bool:
        """Whether so many calls without use mean that the others have none: not in a rerun for what is left over."""
        left_over = self.useful < limit and any(answer.reply is not None for answer in self.answers.values())
        return in_a_row >= limit and not left_over

    def _dead_after(self) -> int:
        return max(DEAD_AFTER, WAITING * self.settings.concurrency)

    def _end(self, why: TrainyardError) -> None:
        if self.stop is None:
            self.stop = why
            self.stopped.set()


def _pause(asked: float | None, failures: int) -> float:
    """What the server asked for, else exponential back-off; with jitter, so that calls don't come back together."""
    if asked is not None:
        return asked * random.uniform(1.0, 1.1)
    return min(FIRST_WAIT_S * 2 ** (failures - 1), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
