"""/v1/chat/completions, /v1/completions and /v1/models, as OpenAI's clients call them."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from stages.base.errors import InputError
from stages.publishing.serve import protocol
from stages.publishing.serve.engine import BusyError, LateError, Piece, Request
from stages.publishing.serve.models import Served, Shelf, fresh_seed
from stages.publishing.serve.protocol import ApiError, Body, ChatRequest, CompletionRequest, Sampling

T = TypeVar("T")
SECONDS_TO_SEND = 30.0  # a body; a client that dawdles holds nothing


class Endpoint:
    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/{name:path}", self.model, methods=["GET"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
        ]

    async def models(self, http: HttpRequest) -> Response:
        return JSONResponse({"object": "list", "data": [self._card(name) for name in self.shelf.folders]})

    async def model(self, http: HttpRequest) -> Response:
        name = http.path_params["name"]
        if name not in self.shelf.folders:
            raise self._unknown(name)
        return JSONResponse(self._card(name))

    def _card(self, name: str) -> Body:
        return {"id": name, "object": "model", "created": self.shelf.created, "owned_by": "trainyard"}

    def _unknown(self, name: str) -> ApiError:
        known = ", ".join(self.shelf.folders) or "none"
        return ApiError(
            f"no model {name[:200]!r} here; there are: {known}", status=404, param="model", code="model_not_found"
        )

    async def served(self, name: str) -> Served:
        if name not in self.shelf.folders:
            raise self._unknown(name)
        try:
            return await self.shelf.get(name)
        except InputError as error:  # the folder's fault, not the client's
            raise ApiError(str(error), status=503, code="model_unreadable") from None

    async def chat(self, http: HttpRequest) -> Response:
        body = protocol.read_body(await read_whole(http), ChatRequest)
        served = await self.served(body.model)
        if body.top_logprobs is not None and not body.logprobs:
            raise ApiError("top_logprobs: needs logprobs to be true", param="top_logprobs")
        if None not in (body.max_tokens, body.max_completion_tokens) and body.max_tokens != body.max_completion_tokens:
            raise ApiError(
                "max_tokens: another number than max_completion_tokens; give one of them", param="max_tokens"
            )
        messages = [message.plain for message in body.messages]
        prompt = await self._encoded(lambda: served.tokenizer.encode_prompt(messages), "messages")
        most = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
        top = (body.top_logprobs or 0) if body.logprobs else None
        replies = _ChatReplies(served, body)
        return await self._respond(http, served, body, [prompt], most, top, replies)

    async def completions(self, http: HttpRequest) -> Response:
        body = protocol.read_body(await read_whole(http), CompletionRequest)
        served = await self.served(body.model)
        if body.best_of is not None and body.best_of != (body.n or 1):
            raise ApiError("best_of: only n itself is taken; ask for n answers and choose", param="best_of")
        prompts = await self._encoded(lambda: _prompts(served, body), "prompt")
        most = protocol.DEFAULT_COMPLETION if body.max_tokens is None else body.max_tokens
        replies = _CompletionReplies(served, body, prompts)
        return await self._respond(http, served, body, prompts, most, body.logprobs, replies)

    async def _encoded(self, work: Callable[[], T], param: str) -> T:
        try:
            return await self.shelf.encode(work)
        except InputError as error:  # a template may refuse the order of roles
            raise ApiError(str(error), param=param) from None

    async def _respond(
        self,
        http: HttpRequest,
        served: Served,
        body: Sampling,
        prompts: list[list[int]],
        most: int | None,
        top: int | None,
        replies: "_Replies",
    ) -> Response:
        if body.stream_options is not None and not body.stream:
            raise ApiError("stream_options: needs stream to be true", param="stream_options")
        requests = self._requests(served, body, prompts, most, top, replies.echo)
        spent = [sum(map(len, prompts)), 0]
        if not body.stream:
            pieces = await unless_gone(http, self._collected(served, requests))
            if pieces is None:
                return Response(status_code=499)
            spent[1] = sum(piece.tokens for piece in pieces)
            choices = [replies.choice(number, piece) for number, piece in enumerate(pieces)]
            return JSONResponse(replies.head() | {"choices": choices, "usage": protocol.usage(*spent)})
        # The first piece is waited for, so that what is refused has a status of its own.
        stream = self.shelf.answer(served, requests)
        try:
            first = await anext(stream)
        except Exception as error:
            raise refusal(error) from None
        return StreamingResponse(
            self._chunks(stream, first, body, replies, len(requests), spent),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    def _requests(
        self, served: Served, body: Sampling, prompts: list[list[int]], most: int | None, top: int | None, echo: bool
    ) -> list[Request]:
        choices, limits = body.n or 1, self.shelf.limits
        if len(prompts) * choices > protocol.MOST_CHOICES:
            raise ApiError(f"prompts times n is {len(prompts) * choices}; at most {protocol.MOST_CHOICES}", param="n")
        seed = fresh_seed() if body.seed is None else body.seed
        deadline = time.monotonic() + limits.seconds
        requests = []
        for prompt in prompts:
            room = served.engine.limit - len(prompt)
            if room < 1 and not (most == 0 and room == 0):
                raise ApiError(
                    f"this model's maximum context length is {served.engine.limit} tokens; the prompt has "
                    f"{len(prompt)}, which leaves none for an answer",
                    param="messages" if isinstance(body, ChatRequest) else "prompt",
                    code="context_length_exceeded",
                )
            requests += [
                Request(
                    prompt,
                    min(room, limits.tokens if most is None else min(most, limits.tokens)),
                    temperature=1.0 if body.temperature is None else body.temperature,
                    top_p=1.0 if body.top_p is None else body.top_p,
                    seed=seed + number,
                    stop_ids=served.stop_ids,
                    stops=body.stops,
                    top=top,
                    score_prompt=echo and top is not None,
                    streaming=bool(body.stream),
                    deadline=deadline,
                )
                for number in range(choices)
            ]
        return requests

    async def _collected(self, served: Served, requests: list[Request]) -> list[Piece]:
        found: list[Piece] = [Piece() for _ in requests]
        try:
            async with aclosing(self.shelf.answer(served, requests)) as stream:
                async for number, piece in stream:
                    found[number] = piece
        except Exception as error:
            raise refusal(error) from None
        return found

    async def _chunks(
        self,
        stream: AsyncGenerator[tuple[int, Piece], None],
        first: tuple[int, Piece],
        body: Sampling,
        replies: "_Replies",
        count: int,
        spent: list[int],
    ) -> AsyncIterator[bytes]:
        head = replies.head(chunk=True) | ({"usage": None} if body.include_usage else {})
        async with aclosing(stream):
            for number in range(count):
                for opening in replies.opening(number):
                    yield protocol.event(head | {"choices": [opening]})
            try:
                following: tuple[int, Piece] | None = first
                while following is not None:
                    number, piece = following
                    spent[1] += piece.tokens
                    for choice in replies.parts(number, piece):
                        yield protocol.event(head | {"choices": [choice]})
                    following = await anext(stream, None)
            except Exception as error:
                yield protocol.event(refusal(error).body)
                return
        if body.include_usage:
            yield protocol.event(head | {"choices": [], "usage": protocol.usage(*spent)})
        yield protocol.event("[DONE]")


class _Replies:
    """What one request's answers look like on the wire."""

    prefix, object, chunk_object, echo = "", "", "", False

    def __init__(self, served: Served, body: Sampling) -> None:
        self.served = served
        self._base: Body = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": None,
        }

    def head(self, chunk: bool = False) -> Body:
        return self._base | {"object": self.chunk_object if chunk else self.object}

    def choice(self, number: int, piece: Piece) -> Body:
        """Of a whole reply."""
        raise NotImplementedError

    def opening(self, number: int) -> list[Body]:
        """What a stream says of a choice before its first token."""
        return []

    def parts(self, number: int, piece: Piece) -> list[Body]:
        """Of a stream."""
        raise NotImplementedError


class _ChatReplies(_Replies):
    prefix, object, chunk_object = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, served: Served, body: ChatRequest) -> None:
        super().__init__(served, body)
        self.scored = bool(body.logprobs)

    def _logprobs(self, piece: Piece) -> Body | None:
        return protocol.chat_logprobs(piece.scored, self.served.token_name) if self.scored else None

    def choice(self, number: int, piece: Piece) -> Body:
        message = {"role": "assistant", "content": piece.text, "refusal": None}
        return {
            "index": number,
            "message": message,
            "logprobs": self._logprobs(piece),
            "finish_reason": piece.finish,
        }

    def opening(self, number: int) -> list[Body]:
        delta = {"role": "assistant", "content": "", "refusal": None}
        return [{"index": number, "delta": delta, "logprobs": None, "finish_reason": None}]

    def parts(self, number: int, piece: Piece) -> list[Body]:
        found: list[Body] = []
        if piece.text or piece.scored:
            delta = {"content": piece.text}
            logprobs = self._logprobs(piece)
            found.append({"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": None})
        if piece.finish:
            found.append({"index": number, "delta": {}, "logprobs": None, "finish_reason": piece.finish})
        return found


class _CompletionReplies(_Replies):
    prefix, object, chunk_object = "cmpl", "text_completion", "text_completion"

    def __init__(self, served: Served, body: CompletionRequest, prompts: list[list[int]]) -> None:
        super().__init__(served, body)
        self.scored, self.echo = body.logprobs is not None, bool(body.echo)
        given, per = body.prompts, body.n or 1
        self.echoed = [
            (text if isinstance(text, str) else served.tokenizer.decode(text)) if self.echo else ""
            for text in given
            for _ in range(per)
        ]
        self.offsets = [0] * (len(prompts) * per)  # characters of the tokens that have been sent of each choice

    def choice(self, number: int, piece: Piece) -> Body:
        text = self.echoed[number] + piece.text
        self.echoed[number] = ""
        logprobs = None
        if self.scored:
            logprobs = protocol.completion_logprobs(
                [*piece.prompt, *piece.scored], self.served.token_name, self.offsets[number]
            )
            self.offsets[number] += sum(map(len, logprobs["tokens"]))
        return {"index": number, "text": text, "logprobs": logprobs, "finish_reason": piece.finish}

    def parts(self, number: int, piece: Piece) -> list[Body]:
        return [self.choice(number, piece)]


def _prompts(served: Served, body: CompletionRequest) -> list[list[int]]:
    """Ids of each prompt. A text begins as the tokenizer begins one (with `<|bos|>`, for ours); an empty one is what
    stands before a document. What looks like a special token in it is text."""
    tokenizer, prompts = served.tokenizer, []
    if not body.prompts:
        raise ApiError("prompt: an empty list", param="prompt")
    vocabulary = served.engine.model.config.vocab_size
    for prompt in body.prompts:
        ids = tokenizer.tokenizer.encode(prompt, add_special_tokens=True).ids if isinstance(prompt, str) else prompt
        if any(not 0 <= token < vocabulary for token in ids):
            raise ApiError(f"prompt: token ids are 0 to {vocabulary - 1}", param="prompt")
        prompts.append(list(ids) or [tokenizer.prefix_id])
    return prompts


def refusal(error: Exception) -> ApiError:
    """Why an engine gave no answer, as a status."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, BusyError):
        return ApiError(str(error), status=429, code="queue_full", kind="rate_limit_error")
    if isinstance(error, LateError):
        return ApiError(str(error), status=503, code="timeout")
    return ApiError(f"the model failed: {type(error).__name__}: {str(error)[:200]}", status=500)


async def read_whole(http: HttpRequest) -> bytes:
    if http.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError("send the body as content-type application/json")  # a form of another site can't
    try:
        return await asyncio.wait_for(http.body(), SECONDS_TO_SEND)
    except TimeoutError:
        raise ApiError("the body didn't arrive in time", status=408) from None
    except ClientDisconnect:  # nobody is left to read this
        raise ApiError("the body broke off", status=499) from None


async def unless_gone(http: HttpRequest, work: Awaitable[T]) -> T | None:
    """What `work` gives; None, and no more work, once the client has hung up."""

    async def gone() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None  # type: ignore[return-value]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
