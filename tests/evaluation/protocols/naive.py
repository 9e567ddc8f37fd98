"""One full forward pass a sequence, nothing shared or batched: what engines are checked against."""

from collections.abc import Sequence

import torch

from stages.evaluation.scoring.requests import Choices, Generate, Generated, Likelihood, Rolling, Truncation
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer


class NaiveEngine:
    def __init__(self, model: LanguageModel, tokenizer: ChatTokenizer) -> None:
        self.name, self.model, self.tokenizer = "naive", model, tokenizer
        self.limit = model.config.max_seq_len
        self.before = [tokenizer.bos_id] if tokenizer.tokenizer.encode("a").ids[0] == tokenizer.bos_id else []

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        whole = self.tokenizer.encode(context + continuation)
        own = self.tokenizer.encode(context)
        return [*self.before, *own], whole[len(own) :]

    def of_tokens(self, context: list[int], continuation: list[int]) -> float:
        return self._likelihood(context, continuation).nats

    def _likelihood(self, context: list[int], continuation: list[int]) -> Likelihood:
        context = context[-(self.limit + 1 - len(continuation)) :]
        ids = context + continuation
        with torch.no_grad():
            logprobs = torch.log_softmax(self.model(torch.tensor([ids[:-1]]))[0].double(), -1)
        nats = sum(logprobs[t - 1, ids[t]].item() for t in range(len(context), len(ids)))
        greedy = all(int(logprobs[t - 1].argmax()) == ids[t] for t in range(len(context), len(ids)))
        return Likelihood(nats, len(continuation), greedy)

    def nats(self, context: str, continuation: str) -> float:
        return self.of_tokens(*self._pair(context, continuation))

    def length(self, request: Choices | Generate) -> int:
        if isinstance(request, Generate):
            return len(self.before) + len(self.tokenizer.encode(request.context)) + request.max_tokens
        pairs = [self._pair(request.contexts[0], continuation) for continuation in request.continuations]
        return max(len(context) + len(continuation) - 1 for context, continuation in pairs)

    def likelihoods(self, requests: Sequence[Choices], truncation: Truncation) -> list[list[Likelihood]]:
        found = []
        for request in requests:
            contexts = request.contexts * (len(request.continuations) // len(request.contexts))
            pairs = zip(contexts, request.continuations, strict=True)
            found.append([self._likelihood(*self._pair(context, text)) for context, text in pairs])
        return found

    def generate(self, requests: Sequence[Generate], truncation: Truncation) -> list[Generated]:
        raise NotImplementedError

    def rolling(self, texts: Sequence[str], stride: int) -> list[Rolling]:
        raise NotImplementedError

    def sent(self, request: Choices | Generate) -> str:
        raise NotImplementedError
