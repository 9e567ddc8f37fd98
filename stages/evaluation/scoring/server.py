"""The engine over an OpenAI-compatible server: log-likelihoods where it gives them, answers in text everywhere.

What a server can do is found out by asking, the best way first:

- `echo`: /v1/completions repeats the prompt with a log-probability for each token (vLLM, and what stands on it), as
  the LM Evaluation Harness's local-completions needs it. Any continuation can be scored.
- `top`: /v1/completions, or `chat_top`: /v1/chat/completions, name the likeliest next tokens. One letter can be scored;
  one that isn't among them has −100 nats, as in the code of Hendrycks et al. 2021.
- otherwise answers are generated.

There is no tokenizer here: only the server knows how long a request is; one that it refuses as too long is left out.
"""

import hashlib
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from stages.annotators.calls import Answer, ask
from stages.annotators.reply import UnparsableReply, read_answer
from stages.annotators.server import ServerSettings, normal_url
from stages.base.conversation import Message, messages_of, text_of
from stages.base.errors import InputError, ParamError
from stages.evaluation.run import ABSENT, TOO_LONG
from stages.evaluation.scoring.requests import (
    MOST_NATS,
    CannotAsk,
    Choices,
    Generate,
    Generated,
    Likelihood,
    Rolling,
    Truncation,
    Unanswered,
    is_logprob,
)

Body = dict[str, Any]
Mode = Literal["echo", "top", "chat_top", ""]
KEY = "OPENAI_API_KEY"
MOST_STOPS = 4  # that the protocol takes; further ones are looked for here
TOPS = (20, 5)  # likeliest tokens to ask for: servers allow one or the other
_LONG = re.compile(r"context.{0,20}(?:length|window|size)|too long|maximum .{0,20}tokens|413", re.IGNORECASE)
_PROBE = "The capital of France is Paris"


def server_settings(address: str, model: str) -> ServerSettings:
    """Of `http://host/v1` and a model's name there; a missing path is /v1. The key is in $OPENAI_API_KEY.

    Raises ParamError for what is no address.
    """
    url = normal_url(address)
    if not model:
        raise ParamError(f"{url}: which model? write {url}#NAME, or --server {url} --model NAME")
    if urlsplit(url).path in ("", "/"):
        base, mark, query = url.partition("?")
        url = f"{base.rstrip('/')}/v1{mark}{query}"
    return ServerSettings(
        base_url=url,
        model=model,
        api_key_env=KEY,
        temperature=0.0,
        max_tokens=None,
        concurrency=8,
        max_retries=3,
        timeout_s=300.0,
        max_cost_usd=0.0,  # prices aren't known, so nothing is counted
        usd_per_million_input=0.0,
        usd_per_million_output=0.0,
    )


class Ability(NamedTuple):
    """How log-likelihoods can be had, and how many of the likeliest tokens are named."""

    mode: Mode
    top: int = 0


class ServerEngine:
    """An `Engine` over one model of one server. kept: file of the replies, so that none is paid for twice.

    Calls that a server refuses by themselves raise Unanswered with all that was answered. A log-probability that can't
    be one is NaN here, for who asks to refuse with the item's name.
    """

    def __init__(self, settings: ServerSettings, kept: Path) -> None:
        self.settings, self.kept = settings, kept
        self.limit = sys.maxsize  # only the server knows
        self.name = f"{settings.server}#{settings.model}"
        self._said: dict[str, str] = {}  # by endpoint: why the last probe of it found no answer

    @property
    def digest(self) -> str:
        """Of what names the model: its weights can't be seen."""
        return hashlib.sha256(f"{normal_url(self.settings.base_url)}\0{self.settings.model}".encode()).hexdigest()

    def length(self, request: Choices | Generate) -> int:
        return 0

    def sent(self, request: Choices | Generate) -> str:
        if request.messages:
            return text_of(request.messages)
        return request.contexts[0] if isinstance(request, Choices) else request.context

    def likelihoods(self, requests: Sequence[Choices], truncation: Truncation) -> list[list[Likelihood]]:
        ability = self.ability
        letters = all(_are_letters(request.continuations) for request in requests)
        if ability.mode == "echo" and not any(request.messages for request in requests):
            return self._echoed(requests)
        if ability.mode in ("top", "chat_top") and letters:
            return self._named(requests, ability)
        if not ability.mode:
            self._check_that_it_answers()
        raise CannotAsk(
            f"{self.name} gives no log-probabilities of {'letters' if letters else 'whole continuations'}"
            f"{' behind a chat template' * any(request.messages for request in requests)}: ask with --protocols "
            "helm,generate, whose answers are generated, or use a server whose /v1/completions takes `echo` and "
            "`logprobs` (vLLM)"
        )

    def generate(self, requests: Sequence[Generate], truncation: Truncation) -> list[Generated]:
        self._check_that_it_answers()
        bodies = []
        for request in requests:
            rest: Body = {"max_tokens": request.max_tokens, "temperature": 0.0}
            if request.stop:
                rest["stop"] = list(request.stop[:MOST_STOPS])
            bodies.append(self._prompt(request.context, request.messages, chat=not self._completes) | rest)
        stops = dict(enumerate(request.stop for request in requests))
        return self._all(bodies, lambda place, reply: _generated(reply, stops[place]), read_generated)

    def rolling(self, texts: Sequence[str], stride: int) -> list[Rolling]:
        raise CannotAsk(
            f"{self.name}: whole texts are scored in windows of tokens, which a server doesn't show; use a model folder"
        )

    # ------------------------------------------------------------------------------------------- what it can do

    @cached_property
    def ability(self) -> Ability:
        echo = {"prompt": _PROBE, "echo": True, "logprobs": 1, "max_tokens": 1}
        if self._can(echo, lambda reply: _echo(reply, _PROBE, _PROBE.split()[-1])):
            return Ability("echo", 1)
        for top in TOPS:
            body: Body = {"prompt": _PROBE, "logprobs": top, "max_tokens": 1}
            if self._can(body, _tops):
                return Ability("top", top)
        for top in TOPS:
            body = {"messages": _user(_PROBE), "logprobs": True, "top_logprobs": top, "max_tokens": 1}
            if self._can(body, _tops):
                return Ability("chat_top", top)
        return Ability("")

    @cached_property
    def _completes(self) -> bool:
        """Whether there is a /v1/completions; else a context is sent as a user's message."""
        return self._can({"prompt": _PROBE, "max_tokens": 1}, read_generated)

    @cached_property
    def _chats(self) -> bool:
        return self._can({"messages": _user(_PROBE), "max_tokens": 16}, _first)

    def _check_that_it_answers(self) -> None:
        """Raises InputError, with what it says, where the server answers no request of any kind."""
        if not self._completes and not self._chats:
            said = "; ".join(f"{endpoint}: {why}" for endpoint, why in self._said.items())
            raise InputError(f"{self.name} answers nothing; check the address and what runs there; {said}")

    def _can(self, body: Body, read: Callable[[Mapping[str, Any]], Any]) -> bool:
        """Whether the server answers this as `read` wants it. Raises InputError where it can't be reached."""
        endpoint = "/completions" if "prompt" in body else "/chat/completions"
        try:
            (answer,) = self._ask([body | {"temperature": 0.0}], read)
        except InputError as error:
            said = str(error)
            if not said.startswith(self.settings.server) or any(f" ({status})" in said for status in (401, 402, 403)):
                raise  # of the file of replies, or of the key
            self._said[endpoint] = said
            return False
        if answer.reply is None and answer.error.startswith(("APIConnectionError", "no whole reply")):
            raise InputError(f"{self.settings.server} can't be reached: {answer.error}; check the address")
        self._said[endpoint] = answer.error
        return answer.reply is not None

    # ------------------------------------------------------------------------------------------- asking

    def _ask(self, bodies: Sequence[Body], read: Callable[[Mapping[str, Any]], Any]) -> list[Answer]:
        named = [{"model": self.settings.model, **body} for body in bodies]
        return ask(named, self.settings, self.name, read, kept=self.kept, silent=True)

    def _prompt(self, context: str, messages: Sequence[Message], chat: bool) -> Body:
        if messages:
            return {"messages": messages_of(messages)}
        return {"messages": _user(context)} if chat else {"prompt": context}

    def _echoed(self, requests: Sequence[Choices]) -> list[list[Likelihood]]:
        asked = []  # (request, context, continuation)
        for place, request in enumerate(requests):
            contexts = request.contexts * (len(request.continuations) if len(request.contexts) == 1 else 1)
            asked += [(place, *pair) for pair in zip(contexts, request.continuations, strict=True)]
        rest = {"echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0.0}
        bodies = [{"prompt": context + continuation, **rest} for _, context, continuation in asked]
        answers = self._ask(bodies, _has_logprobs)
        found: list[list[Likelihood] | None] = [[] for _ in requests]
        why: dict[int, str] = {}
        for (place, context, continuation), answer in zip(asked, answers, strict=True):
            try:
                if answer.reply is None:
                    raise UnparsableReply(answer.error)
                likelihood = _echo(answer.reply, context + continuation, continuation)
            except UnparsableReply as error:
                why.setdefault(place, _reason(str(error)))
                continue
            own = found[place]
            assert own is not None
            own.append(likelihood)
        return _or_unanswered(found, why)

    def _named(self, requests: Sequence[Choices], ability: Ability) -> list[list[Likelihood]]:
        chat = ability.mode == "chat_top"
        flags = {"logprobs": True, "top_logprobs": ability.top} if chat else {"logprobs": ability.top}
        bodies = []
        for request in requests:
            if request.messages and not chat:
                raise CannotAsk(
                    f"{self.name} names the likeliest tokens behind a text, not behind a chat; ask with --protocols "
                    "chat_generate"
                )
            bodies.append(self._prompt(request.contexts[0] if request.contexts else "", request.messages, chat)
                          | flags | {"max_tokens": 1, "temperature": 0.0})  # fmt: skip
        wanted = [request.continuations for request in requests]
        return self._all(bodies, lambda place, reply: _letters(_tops(reply), wanted[place]), _tops)

    def _all(
        self,
        bodies: Sequence[Body],
        use: Callable[[int, Mapping[str, Any]], Any],
        read: Callable[[Mapping[str, Any]], Any],
    ) -> list[Any]:
        answers = self._ask(bodies, read)
        found = [None if one.reply is None else use(place, one.reply) for place, one in enumerate(answers)]
        return _or_unanswered(found, {place: _reason(one.error) for place, one in enumerate(answers) if one.error})


def _or_unanswered(found: list[Any], why: dict[int, str]) -> list[Any]:
    if why:
        raise Unanswered([None if place in why else one for place, one in enumerate(found)], why)
    return found


def _reason(error: str) -> str:
    return TOO_LONG if _LONG.search(error) else f"the server gave no answer: {error}"


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _are_letters(continuations: Sequence[str]) -> bool:
    return all(len(text.strip()) == 1 and text.strip().isalpha() for text in continuations)


# ---------------------------------------------------------------------------------------------- reading replies


def _first(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = reply.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, Mapping):
        raise UnparsableReply("the reply has no choices")
    return first


def read_generated(reply: Mapping[str, Any]) -> str:
    """Text of a completion, also an empty one; of a chat without thoughts. Raises UnparsableReply."""
    first = _first(reply)
    if isinstance(text := first.get("text"), str):
        return text
    message = first.get("message")
    if isinstance(message, Mapping) and message.get("content") == "" and first.get("finish_reason") == "stop":
        return ""
    return read_answer(reply)


def _generated(reply: Mapping[str, Any], stops: Sequence[str]) -> Generated:
    text = read_generated(reply)
    cut = min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))
    usage = reply.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    ended = cut < len(text) or _first(reply).get("finish_reason") == "stop"
    return Generated(text[:cut], count if isinstance(count, int) else 0, ended)


def _has_logprobs(reply: Mapping[str, Any]) -> tuple[list[str], list[Any], list[Any]]:
    """(Tokens, log-probability of each, likeliest ones at each) of a completion, what was generated left out."""
    logprobs = _first(reply).get("logprobs")
    if not isinstance(logprobs, Mapping):
        raise UnparsableReply("the reply has no log-probabilities")
    tokens, values, tops = (logprobs.get(name) for name in ("tokens", "token_logprobs", "top_logprobs"))
    if not isinstance(tokens, list) or not isinstance(values, list) or len(tokens) != len(values):
        raise UnparsableReply("the reply's log-probabilities aren't one a token")
    if not isinstance(tops, list) or len(tops) != len(tokens):
        tops = [None] * len(tokens)
    usage = reply.get("usage")
    new = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    end = len(tokens) - (new if isinstance(new, int) and 0 <= new <= 1 else 1)
    return [str(token) for token in tokens[:end]], values[:end], tops[:end]


def _echo(reply: Mapping[str, Any], whole: str, continuation: str) -> Likelihood:
    """Of the continuation that ends the prompt. A token that begins before it and ends in it is counted in full."""
    tokens, values, tops = _has_logprobs(reply)
    begin = _boundary(reply, tokens, whole, continuation)
    scored = values[begin:]
    if not scored or not all(map(_is_number, scored)):
        what = "nothing stands before it" if begin == 0 else "a token has no log-probability"
        raise UnparsableReply(f"the continuation can't be scored: {what}")
    if not all(map(is_logprob, scored)):
        return Likelihood(math.nan, len(scored), False)
    greedy = all(
        (likeliest := _numbers(top)) and value >= max(likeliest.values()) - 1e-9
        for value, top in zip(scored, tops[begin:], strict=True)
    )
    return Likelihood(math.fsum(scored), len(scored), greedy)


def _boundary(reply: Mapping[str, Any], tokens: list[str], whole: str, continuation: str) -> int:
    """Number of the first token that reaches into the continuation, by the tokens' texts; by their offsets where the
    texts aren't those of the prompt (bytes of a broken character)."""
    tail, begin = "", len(tokens)
    while begin and len(tail) < len(continuation):
        begin -= 1
        tail = tokens[begin] + tail
    if tail.endswith(continuation):
        return begin
    offsets = _first(reply)["logprobs"].get("text_offset")
    if not isinstance(offsets, list) or len(offsets) < len(tokens) or not all(isinstance(one, int) for one in offsets):
        raise UnparsableReply("the reply doesn't repeat the prompt")
    end = offsets[len(tokens)] if len(offsets) > len(tokens) else len(whole)
    start = end - len(continuation)
    if end - offsets[0] < len(whole):
        raise UnparsableReply("the reply doesn't repeat the prompt")
    return max((place for place, offset in enumerate(offsets[: len(tokens)]) if offset <= start), default=0)


def _tops(reply: Mapping[str, Any]) -> dict[str, float]:
    """Likeliest first tokens of an answer with their log-probabilities. Raises UnparsableReply where none are named."""
    logprobs = _first(reply).get("logprobs")
    found: dict[str, Any] = {}
    if isinstance(logprobs, Mapping):
        tops, content = logprobs.get("top_logprobs"), logprobs.get("content")
        if isinstance(tops, list) and tops and isinstance(tops[0], Mapping):
            found = dict(tops[0])
        elif isinstance(content, list) and content and isinstance(content[0], Mapping):
            entries = content[0].get("top_logprobs") or []
            found = {str(one.get("token")): one.get("logprob") for one in entries if isinstance(one, Mapping)}
    known = _numbers(found)
    if len(known) < 2:
        raise UnparsableReply("the reply names no likeliest tokens")
    return known


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(found: Any) -> dict[str, float]:
    """Log-probabilities by token, NaN for those that can't be one. What is no number is left out, as is the lowest
    float of all, which llama.cpp gives to tokens of probability 0."""
    if not isinstance(found, Mapping):
        return {}
    known = {token: value for token, value in found.items() if _is_number(value) and not value <= -MOST_NATS}
    return {token: float(value) if is_logprob(value) else math.nan for token, value in known.items()}


def _letters(tops: Mapping[str, float], letters: Sequence[str]) -> list[Likelihood]:
    """Of each letter as it is written, else of its likeliest spelling with other white space."""
    if any(math.isnan(value) for value in tops.values()):
        return [Likelihood(math.nan, 1, False) for _ in letters]
    best = max(tops.values())
    found = []
    for letter in letters:
        spelled = [value for token, value in tops.items() if token.strip() == letter.strip()]
        nats = tops.get(letter, max(spelled, default=ABSENT))
        found.append(Likelihood(nats, 1, nats == best))
    return found
