"""The models that are served: loaded when first asked for, each with an engine of its own."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from stages.lm.chat import load_tokenizer
from stages.lm.checkpoint import load_model
from stages.publishing.serve.engine import Engine, Piece, Request

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """rows: requests of one model that are answered at a time. queue: that wait at most. seconds: until an answer is
    whole. tokens: of one answer at most.
    """

    rows: int = 32
    queue: int = 256
    seconds: float = 300.0
    tokens: int = 2048


class Served:
    """One model with its tokenizer and engine."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name, self.engine, self.tokenizer = name, engine, engine.tokenizer
        self.stop_ids = frozenset(self.tokenizer.stop_ids)
        self.token_name = lru_cache(maxsize=1 << 17)(self._token_name)

    def _token_name(self, token: int) -> str:
        """Special tokens by their names; U+FFFD for part of a character."""
        return self.tokenizer.tokenizer.decode([token], skip_special_tokens=False)


class Shelf:
    """folders: of the models by name. `start` belongs to the event loop that asks; `close` ends all engines."""

    def __init__(self, folders: dict[str, Path], limits: Limits) -> None:
        self.folders, self.limits, self.created = folders, limits, int(time.time())
        # One thread for what reads texts and weights: neither holds up the event loop.
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._served: dict[str, Served] = {}
        self._locks = {name: asyncio.Lock() for name in folders}
        self._listeners: dict[Request, tuple[asyncio.Queue[tuple[int, Piece]], int]] = {}

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def get(self, name: str) -> Served:
        """KeyError for a name that isn't served; InputError for a folder that holds no model."""
        async with self._locks[name]:
            if name not in self._served:
                self._served[name] = await self.encode(lambda: self._load(self.folders[name], name))
            return self._served[name]

    def _load(self, folder: Path, name: str) -> Served:
        limits, tokenizer = self.limits, load_tokenizer(folder)
        return Served(name, Engine(load_model(folder), tokenizer, self._post, rows=limits.rows, queue=limits.queue))

    async def encode(self, work: Callable[[], T]) -> T:
        """What `work` makes of a text with a tokenizer."""
        return await self._loop.run_in_executor(self._encoder, work)

    async def answer(self, served: Served, requests: Sequence[Request]) -> AsyncGenerator[tuple[int, Piece], None]:
        """(Number of the request, what has come of it), until all have ended; whoever stops listening cancels them.
        Raises what `Engine.submit` raises, and what ended a request without an answer.
        """
        arrived: asyncio.Queue[tuple[int, Piece]] = asyncio.Queue()
        self._listeners |= {request: (arrived, number) for number, request in enumerate(requests)}
        left = len(requests)
        try:
            served.engine.submit(*requests)
            while left:
                number, piece = await arrived.get()
                if piece.error is not None:
                    raise piece.error
                left -= piece.finish is not None
                yield number, piece
        finally:
            for request in requests:
                request.cancelled = True
                del self._listeners[request]

    def _post(self, posted: list[tuple[Request, Piece]]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, posted)

    def _deliver(self, posted: list[tuple[Request, Piece]]) -> None:
        for request, piece in posted:
            if request in self._listeners:
                arrived, number = self._listeners[request]
                arrived.put_nowait((number, piece))

    @property
    def load(self) -> dict[str, tuple[int, int]]:
        """Of each loaded model: requests that are answered, that wait."""
        return {name: served.engine.load for name, served in self._served.items()}

    def close(self) -> None:
        for served in self._served.values():
            served.engine.close()
        self._encoder.shutdown()


def fresh_seed() -> int:
    return secrets.randbits(62)
