"""The simulated pool behind the OpenAI wire format: an httpx transport that answers without a network."""

import json
import math
import re
from typing import Any

import httpx

from stages.annotators.pool import Pool, PromptError, Verdict

POOL_MODEL = "simulated-pool"
_MODEL = re.compile(r"simulated-(pool|\d+)")


def annotator_model(annotator: int) -> str:
    """The model name under which one annotator of the pool answers."""
    return f"simulated-{annotator}"


class SimulatedTransport(httpx.AsyncBaseTransport):
    """Answers POST /v1/chat/completions in-process; anything else is 404, an unreadable request 400.

    Model `simulated-pool` draws an annotator per call, `simulated-<k>` is annotator k. The reply's `model` names
    the annotator that answered.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "POST" or not request.url.path.endswith("/chat/completions"):
            return _failure(404, f"{request.method} {request.url.path} isn't simulated")
        try:
            body = json.loads(await request.aread())
            model = _MODEL.fullmatch(body["model"])
            if model is None:
                raise PromptError(f"no simulated model `{body['model']}`")
            chosen = None if model[1] == "pool" else int(model[1])
            verdict = self._pool.judge(body["messages"], chosen)
        except (PromptError, ValueError, KeyError, TypeError) as error:
            return _failure(400, str(error))
        return httpx.Response(200, json=_completion(verdict, bool(body.get("logprobs"))))


def _completion(verdict: Verdict, with_logprobs: bool) -> dict[str, Any]:
    second = math.log(verdict.second_better)
    first = math.log1p(-verdict.second_better)
    ranked = sorted([("2", second), ("1", first)], key=lambda item: -item[1])
    tokens = [{"token": token, "logprob": logprob, "bytes": None} for token, logprob in ranked]
    return {
        "id": "chatcmpl-simulated",
        "object": "chat.completion",
        "created": 0,
        "model": annotator_model(verdict.annotator),
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": ranked[0][0], "refusal": None},
                "logprobs": {"content": [{**tokens[0], "top_logprobs": tokens}], "refusal": None}
                if with_logprobs
                else None,
            }
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


def _failure(status: int, message: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "type": "invalid_request_error"}})
