"""Pairwise comparisons by a judge that speaks the OpenAI protocol, through the `openai` client.

`provider: simulated` puts the in-process pool behind the same client; `provider: openai` is any compatible server
(OpenAI, vLLM, Ollama, llama.cpp) at `base_url`.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
from pydantic import Field

from stages.annotators.cache import CACHE_FILE, CallCache, call_key, shared_folder
from stages.annotators.pool import Pool, PoolSettings
from stages.annotators.reply import UnparsableReply, second_preferred
from stages.annotators.transport import POOL_MODEL, SimulatedTransport, annotator_model
from stages.annotators.truth import Question, Truth
from stages.base.closure import ROOT
from stages.base.errors import InputError, ParamError
from stages.base.params import Section
from stages.base.progress import Progress
from stages.base.seeds import derive

CHARACTERS_PER_TOKEN = 4  # for the estimate before the first call only; the bill uses the server's own counts
SIMULATED_URL = "http://simulated.invalid/v1"


class AnnotatorSettings(Section):
    """Who judges, and how it is called."""

    provider: Literal["simulated", "openai"]
    base_url: str
    model: str
    api_key_env: str  # name of the environment variable that holds the key; may be unset for local servers
    prompt: str  # template file with instruction, output_1 and output_2
    temperature: Annotated[float, Field(ge=0, le=2)] | None  # null leaves the parameter out, as reasoning models need
    max_tokens: Annotated[int, Field(ge=1)] | None
    logprobs: bool
    concurrency: Annotated[int, Field(ge=1, le=256)]
    max_retries: Annotated[int, Field(ge=0, le=20)]
    timeout_s: Annotated[float, Field(gt=0)]
    max_cost_usd: Annotated[float, Field(ge=0)]
    usd_per_million_input: Annotated[float, Field(ge=0)]
    usd_per_million_output: Annotated[float, Field(ge=0)]
    pool: PoolSettings


@dataclass(frozen=True)
class Pair:
    id: str
    prompt: str
    output_a: str
    output_b: str


@dataclass(frozen=True)
class Preference:
    id: str
    preference: float  # 1 (output_a wins) .. 2 (output_b wins); NaN if there is none
    annotator: str  # model named in the reply, "" if there was none, "identical" for equal outputs
    error: str  # "" or why there is no preference


def compare(
    pairs: Sequence[Pair],
    settings: AnnotatorSettings,
    *,
    seed: int,
    truth: Truth | None = None,
    questions: Mapping[str, Question] | None = None,
    annotator: int | None = None,
) -> list[Preference]:
    """One preference a pair, in the order of the pairs.

    The order in which the two outputs are shown is drawn per pair id from `seed`. Equal outputs are a draw (1.5)
    without a call, as in AlpacaEval. A failed or unparsable call is a NaN row with its error, never left out.
    `truth` and `questions` (prompt → Question) are needed by the simulated pool; `annotator` picks one of its members.
    Raises ParamError if the estimated cost is above `max_cost_usd`, InputError if the server refuses every call alike.
    """
    template = load_template(settings.prompt)
    simulated = settings.provider == "simulated"
    model = settings.model
    if simulated:
        model = POOL_MODEL if annotator is None else annotator_model(annotator)
    swapped = [shows_b_first(seed, pair.id) for pair in pairs]
    bodies = {
        index: _body(template, pair, swap, model, settings)
        for index, (pair, swap) in enumerate(zip(pairs, swapped, strict=True))
        if pair.output_a != pair.output_b
    }
    with ExitStack() as stack:
        cache = None if simulated else stack.enter_context(CallCache(shared_folder() / CACHE_FILE))
        replies: dict[int, dict[str, Any] | str] = {}
        if cache is not None:
            cached = {index: cache.get(call_key(settings.base_url, body)) for index, body in bodies.items()}
            replies |= {index: reply for index, reply in cached.items() if reply is not None}
        missing = {index: body for index, body in bodies.items() if index not in replies}
        if missing:
            if not simulated:
                _check_cost(missing, settings, cached=len(replies))
            client = stack.enter_context(_client(settings, truth, questions, seed))
            bar = stack.enter_context(Progress(len(missing), "comparing", unit="pairs"))
            spent = 0.0
            for index, reply in _call_all(client, missing, settings):
                if cache is not None and isinstance(reply, dict):
                    cache.add(call_key(settings.base_url, missing[index]), missing[index], reply)
                    spent += _bill(reply, settings)
                replies[index] = reply
                bar.advance()
            if not simulated:
                print(f"judge: {len(missing)} calls billed about ${spent:.4f}", file=sys.stderr)
    return [
        _preference(pair, swap, replies.get(index))
        for index, (pair, swap) in enumerate(zip(pairs, swapped, strict=True))
    ]


def shows_b_first(seed: int, pair_id: str) -> bool:
    """Whether `compare` with this seed shows output_b before output_a: a fair coin per pair id."""
    return bool(derive(seed, "order", pair_id) & 1)


def load_template(path: str) -> str:
    """A prompt template, from the working folder or else from the project's root."""
    found = Path(path) if Path(path).is_file() else ROOT / path
    try:
        template = found.read_text(encoding="utf-8")
        template % {"instruction": "", "output_1": "", "output_2": ""}
    except FileNotFoundError:
        raise InputError(f"{path}: the judge's prompt template isn't there") from None
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: the template may use only %(instruction)s, %(output_1)s and %(output_2)s ({error!r})"
        ) from None
    return template


def _body(template: str, pair: Pair, swap: bool, model: str, settings: AnnotatorSettings) -> dict[str, Any]:
    first, second = (pair.output_b, pair.output_a) if swap else (pair.output_a, pair.output_b)
    # As JSON strings, so that no output can pose as the end of its own field.
    values = {"instruction": pair.prompt, "output_1": first, "output_2": second}
    content = template % {name: dumps(value, ensure_ascii=False) for name, value in values.items()}
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}]}
    if settings.temperature is not None:
        body["temperature"] = settings.temperature
    if settings.max_tokens is not None:
        body["max_tokens"] = settings.max_tokens
    if settings.logprobs:
        body |= {"logprobs": True, "top_logprobs": 5}
    return body


def _client(
    settings: AnnotatorSettings, truth: Truth | None, questions: Mapping[str, Question] | None, seed: int
) -> Any:
    import openai  # 1.2 s of import: only when there is something to ask

    if settings.provider == "simulated":
        if truth is None or questions is None:
            raise InputError("the simulated annotators need the atlas's truth and the questions that the prompts ask")
        transport = SimulatedTransport(Pool(settings.pool, truth, questions, seed))
        http_client: Any = httpx.Client(transport=transport)  # openai's types name its own httpx2, it takes either
        return openai.OpenAI(api_key="none", base_url=SIMULATED_URL, max_retries=0, http_client=http_client)
    return openai.OpenAI(
        api_key=os.environ.get(settings.api_key_env) or "none",
        base_url=settings.base_url,
        max_retries=settings.max_retries,  # with the client's exponential back-off, honouring Retry-After
        timeout=settings.timeout_s,
    )


def _call_all(
    client: Any, bodies: dict[int, dict[str, Any]], settings: AnnotatorSettings
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(index, reply as a dict or an error text), as they arrive."""
    if settings.provider == "simulated" or settings.concurrency == 1:
        for index, body in bodies.items():
            yield index, _call(client, body, settings)
        return
    with ThreadPoolExecutor(settings.concurrency) as executor:
        futures = {executor.submit(_call, client, body, settings): index for index, body in bodies.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def _call(client: Any, body: dict[str, Any], settings: AnnotatorSettings) -> dict[str, Any] | str:
    import openai

    try:
        reply = client.chat.completions.with_raw_response.create(**body)
        content = reply.http_response.json()
    except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
        # Every other call would fail the same way.
        raise InputError(
            f"judge {settings.base_url} refuses calls ({error.status_code}): check `model`, `base_url` and the "
            f"key in ${settings.api_key_env}"
        ) from None
    except openai.OpenAIError as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    except ValueError:
        return "the reply is no JSON"
    if not isinstance(content, dict) or not content.get("choices"):
        return f"the reply is no chat completion: {str(content)[:80]}"  # some gateways report errors with status 200
    return content


def _check_cost(bodies: dict[int, dict[str, Any]], settings: AnnotatorSettings, cached: int) -> None:
    tokens_in = sum(len(body["messages"][0]["content"]) for body in bodies.values()) / CHARACTERS_PER_TOKEN
    tokens_out = len(bodies) * (settings.max_tokens or 1)
    cost = (tokens_in * settings.usd_per_million_input + tokens_out * settings.usd_per_million_output) / 1e6
    print(
        f"judge: {len(bodies)} calls to {settings.model} ({cached} more are cached), about {tokens_in:,.0f} tokens in, "
        f"estimated ${cost:.4f}",
        file=sys.stderr,
    )
    if cost > settings.max_cost_usd:
        raise ParamError(
            f"the estimated cost ${cost:.4f} is above `max_cost_usd` = {settings.max_cost_usd}; raise it or judge less"
        )


def _bill(reply: dict[str, Any], settings: AnnotatorSettings) -> float:
    usage = reply.get("usage") or {}
    return (
        (usage.get("prompt_tokens") or 0) * settings.usd_per_million_input
        + (usage.get("completion_tokens") or 0) * settings.usd_per_million_output
    ) / 1e6


def _preference(pair: Pair, swap: bool, reply: dict[str, Any] | str | None) -> Preference:
    if reply is None:
        return Preference(pair.id, 1.5, "identical", "")
    if isinstance(reply, str):
        return Preference(pair.id, float("nan"), "", reply)
    annotator = str(reply.get("model") or "")
    try:
        second = second_preferred(reply)
    except UnparsableReply as error:
        return Preference(pair.id, float("nan"), annotator, str(error))
    return Preference(pair.id, 1 + (1 - second if swap else second), annotator, "")
