"""One thread that owns a model and answers all requests together, each as `lm.generate` would answer it alone."""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stages.base.errors import InputError, TrainyardError
from stages.base.seeds import derive
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.device import autocast, set_threads
from stages.lm.generate import pick
from stages.publishing.serve.batch import Batch
from stages.publishing.serve.text import GrowingText

PROMPT_TOKENS = 256  # read between two steps at most, or one prompt: so long others wait for their next token
SCORED = 256  # positions of a prompt whose logits are computed at a time


class BusyError(TrainyardError):
    """The queue is full."""


class LateError(TrainyardError):
    """An answer was not ready in time."""


class Scored(NamedTuple):
    """A token with its log-probability in nats, and the likeliest ones in its place, the likeliest first. None where
    nothing stands before it.
    """

    token: int
    logprob: float | None
    top: list[tuple[int, float]]


@dataclass
class Piece:
    """What has come since the last one. `finish` or `error` is set in the last."""

    text: str = ""
    tokens: int = 0
    prompt: list[Scored] = field(default_factory=list)
    scored: list[Scored] = field(default_factory=list)
    finish: Literal["stop", "length"] | None = None
    error: Exception | None = None


@dataclass(eq=False)
class Request:
    """One answer that is wanted. temperature, top_p, seed: as of `lm.generate.generate`."""

    prompt: list[int]
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop_ids: frozenset[int]
    stops: tuple[str, ...] = ()
    top: int | None = None  # likeliest tokens to name beside each; None: no log-probabilities at all
    score_prompt: bool = False
    streaming: bool = False  # pieces as they come; else one at the end
    deadline: float = float("inf")  # of time.monotonic()
    cancelled: bool = False  # set by whoever no longer wants it; its row is free at the next token


Post = Callable[[list[tuple[Request, Piece]]], None]


class _Row:
    """A request that is being answered."""

    def __init__(self, request: Request, tokenizer: ChatTokenizer) -> None:
        self.request, self.piece = request, Piece()
        self.text = GrowingText(tokenizer.decode, request.stops)
        self.count = 0
        # generate draws its numbers at once; a generator gives the same ones one by one.
        sampled = request.temperature > 0
        self.draws = np.random.default_rng(derive(request.seed, *request.prompt)) if sampled else None

    def add(self, token: int, limit: int) -> bool:
        """Take a token; whether the answer goes on."""
        request = self.request
        if token in request.stop_ids:
            self.finish("stop")
            return False
        self.count += 1
        self.piece.tokens += 1
        self.piece.text += self.text.add(token)
        if self.text.stopped:
            self.finish("stop")
        elif self.count == request.max_new_tokens or len(request.prompt) + self.count >= limit:
            self.finish("length")
        return self.piece.finish is None

    def finish(self, reason: Literal["stop", "length"]) -> None:
        self.piece.text += self.text.end()
        self.piece.finish = "stop" if self.text.stopped else reason

    def take(self) -> Piece:
        piece, self.piece = self.piece, Piece()
        return piece


class Engine:
    """`submit` from any thread; pieces arrive at `post`, called from the engine's own thread once a step.

    rows: answered at a time. queue, queue_tokens: requests that wait, and their prompts' tokens, at most.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: ChatTokenizer,
        post: Post,
        *,
        rows: int = 32,
        queue: int = 256,
        queue_tokens: int = 1 << 20,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.limit = model.config.max_seq_len
        self._post, self._rows, self._queue, self._queue_tokens = post, rows, queue, queue_tokens
        self._waiting: deque[Request] = deque()
        self._live: list[_Row] = []
        self._changed, self._closing = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, *requests: Request) -> None:
        """All or none. BusyError where the queue is full; InputError for an empty or too long prompt."""
        for request in requests:
            most = self.limit if request.max_new_tokens == 0 else self.limit - 1
            if not 0 < len(request.prompt) <= most:
                raise InputError(f"the prompt has {len(request.prompt)} tokens; it must have 1 to {most}")
        with self._changed:
            waiting = [*self._waiting, *requests]
            if self._closing:
                raise BusyError("the server is stopping")
            if len(waiting) > self._queue or sum(len(one.prompt) for one in waiting) > self._queue_tokens:
                raise BusyError(f"{len(self._waiting)} requests are waiting already; ask again later")
            self._waiting.extend(requests)
            self._changed.notify()

    @property
    def load(self) -> tuple[int, int]:
        """(Requests that are being answered, that wait.)"""
        return len(self._live), len(self._waiting)

    def close(self) -> None:
        """What is under way ends with an error."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    # ---------------------------------------------------------------------------------------- the engine's thread

    @torch.inference_mode()
    def _run(self) -> None:
        set_threads()
        batch = Batch(self.model)
        while True:
            with self._changed:
                while not (self._closing or self._live or self._waiting):
                    self._changed.wait()
                if self._closing:
                    break
            try:
                self._turn(batch)
            except Exception as error:  # one request too many for the memory, say, must not end the service
                self._fail(error)
                batch = Batch(self.model)
        self._fail(BusyError("the server is stopping"))

    def _fail(self, error: Exception) -> None:
        failed = [row.request for row in self._live]
        self._live = []
        if self._closing:
            with self._changed:
                failed += self._waiting
                self._waiting.clear()
        self._post([(request, Piece(error=error)) for request in failed])

    def _turn(self, batch: Batch) -> None:
        """One token of every row; new rows first."""
        posted: list[tuple[Request, Piece]] = []
        joining = self._admitted(posted)
        if joining:
            self._live += joining  # before they are read: whatever fails, they hear of it
            self._score_prompts(joining, posted)
            joining = [row for row in joining if row in self._live]
            if joining:
                batch.join([row.request.prompt for row in joining])
        if self._live:
            self._advance(batch, posted)
        if posted:
            self._post(posted)

    def _admitted(self, posted: list[tuple[Request, Piece]]) -> list[_Row]:
        now = time.monotonic()
        joining: list[_Row] = []
        tokens = 0
        with self._changed:
            for request in [one for one in self._waiting if one.cancelled or one.deadline < now]:
                self._waiting.remove(request)
                posted.append((request, Piece(error=LateError("no answer in time: too many others are asking"))))
            while self._waiting and len(self._live) + len(joining) < self._rows:
                tokens += len(self._waiting[0].prompt)
                if joining and tokens > PROMPT_TOKENS:
                    break
                joining.append(_Row(self._waiting.popleft(), self.tokenizer))
        return joining

    def _score_prompts(self, joining: list[_Row], posted: list[tuple[Request, Piece]]) -> None:
        for row in joining:
            if row.request.score_prompt:
                row.piece.prompt = prompt_logprobs(self.model, row.request.prompt, row.request.top or 0)
            if row.request.max_new_tokens == 0:
                row.finish("length")
                self._live.remove(row)
                posted.append((row.request, row.take()))

    def _advance(self, batch: Batch, posted: list[tuple[Request, Piece]]) -> None:
        logits = batch.logits()
        if not bool(torch.isfinite(logits.amax())):
            raise InputError("the model's logits hold NaN or infinity; check its weights")
        chosen = _pick_rows(logits, self._live)
        scored = _scored(logits, chosen, self._live)
        now, going = time.monotonic(), []
        for place, (row, token) in enumerate(zip(self._live, chosen.tolist(), strict=True)):
            request = row.request
            if request.cancelled:
                continue
            if request.deadline < now:
                row.piece.error = LateError("the answer was not ready in time; ask for fewer tokens")
            elif row.add(token, self.limit):
                going.append(place)
            if place in scored and token not in request.stop_ids:
                row.piece.scored.append(scored[place])
            over = row.piece.finish or row.piece.error
            if over or (request.streaming and (row.piece.text or row.piece.scored or row.piece.prompt)):
                posted.append((request, row.take()))
        rows = batch.step(going, chosen)
        self._live = [self._live[row] for row in rows]


def _pick_rows(logits: Tensor, rows: list[_Row]) -> Tensor:
    """The next token [B] of each row: those that are sampled alike together."""
    chosen = torch.empty(len(rows), dtype=torch.int64, device=logits.device)

    def settings(place: int) -> tuple[float, float]:
        request = rows[place].request
        return request.temperature, request.top_p

    order = sorted(range(len(rows)), key=settings)
    for (temperature, top_p), group in itertools.groupby(order, key=settings):
        places = sorted(group)
        own = logits if len(places) == len(rows) else logits[torch.tensor(places, device=logits.device)]
        uniform = None
        if temperature > 0:
            numbers = [draws.random() for place in places if (draws := rows[place].draws) is not None]
            uniform = torch.tensor(numbers, dtype=torch.float64, device=logits.device)
        chosen[torch.tensor(places, device=logits.device)] = pick(own, temperature, top_p, uniform)
    return chosen


def _scored(logits: Tensor, chosen: Tensor, rows: list[_Row]) -> dict[int, Scored]:
    """By place, of the rows that ask for log-probabilities: of the distribution at temperature 1, nothing cut off."""
    wanted = [place for place, row in enumerate(rows) if row.request.top is not None]
    if not wanted:
        return {}
    places = torch.tensor(wanted, device=logits.device)
    tops = [rows[place].request.top or 0 for place in wanted]
    return dict(zip(wanted, _name_likeliest(logits[places], chosen[places], tops), strict=True))


def _name_likeliest(logits: Tensor, tokens: Tensor, tops: list[int]) -> list[Scored]:
    """Of each row of logits [B, V] the log-probability of its token, and the tops[i] likeliest ones."""
    nats = torch.log_softmax(logits.double(), dim=-1)
    own = nats.gather(1, tokens[:, None]).squeeze(1).tolist()
    values, ids = nats.topk(min(max(1, *tops), nats.shape[1]), dim=-1)
    named = zip(ids.tolist(), values.tolist(), strict=True)
    return [
        Scored(token, logprob, list(zip(row_ids, row_values, strict=True))[:top])
        for token, logprob, top, (row_ids, row_values) in zip(tokens.tolist(), own, tops, named, strict=True)
    ]


@torch.inference_mode()
def prompt_logprobs(model: LanguageModel, prompt: list[int], top: int) -> list[Scored]:
    """Each token of a prompt given those before it; the first has no log-probability."""
    found = [Scored(prompt[0], None, [])]
    if len(prompt) == 1:
        return found
    ids = torch.tensor(prompt, device=model.head_weight.device)
    with autocast():
        hidden = model.hidden(ids[None, :-1])[0]
        for start in range(0, len(hidden), SCORED):
            logits = model.logits(hidden[start : start + SCORED]).float()
            tokens = ids[1 + start : 1 + start + len(logits)]
            found += _name_likeliest(logits, tokens, [top] * len(tokens))
    return found
