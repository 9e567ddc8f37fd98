"""Answers of a model to instructions, and how they stand on the validation split: where alignment makes its choices."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated

from pydantic import Field

from stages.alignment.answering.kept_answers import BATCH, KeptAnswers
from stages.alignment.data.records import Instruction, of_split
from stages.alignment.learning.batches import Exchange, encode_turns
from stages.annotators.truth import Score, Truth, score
from stages.base.conversation import Asked, messages_of, text_of
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.seeds import derive
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.generate import generate
from stages.lm.scoring import sequence_logprobs, token_logprobs

Measured = dict[str, float | None]  # None: unknown, as an exact score without truth


@dataclass(frozen=True)
class Answer:
    """A decoded answer with the ids behind it. `ended`: the answer's end came within the bound on new tokens."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    text: str
    ended: bool

    def exchange(self, end: int) -> Exchange:
        """Prompt, answer and, if the model wrote it, its end; an answer that was cut off doesn't get one."""
        tail = (end,) if self.ended else ()
        return Exchange(self.prompt_ids + self.ids + tail, len(self.prompt_ids))


class Sampling(Section):
    """How answers are drawn."""

    temperature: Annotated[float, Field(ge=0)]
    """0 is greedy, 1 the model's own distribution."""
    top_p: Annotated[float, Field(gt=0, le=1)]
    """Mass of the most likely tokens that are drawn from; 1 for all."""
    max_new_tokens: Annotated[int, Field(ge=1)]
    """Longest answer."""


def answer(
    model: LanguageModel,
    tokenizer: ChatTokenizer,
    prompts: Sequence[Asked],
    sampling: Sampling,
    *,
    seed: int = 0,
    samples: int = 1,
    label: str = "answering",
    keep: KeptAnswers | None = None,
) -> list[list[Answer]]:
    """`samples` answers of each prompt; the stream of sample k of a prompt depends on (seed, k, prompt) only.

    A prompt that stands several times goes on counting k, so that no two of its answers share a stream. An answer ends
    at the end of the model's context too. keep: where what is decoded goes as it comes, and is found by a run that
    starts again after a kill. Raises InputError for a prompt that fills the context.
    """
    limit = model.config.max_seq_len
    asked: Counter[str] = Counter()
    work: list[tuple[list[int], int]] = []
    for asked_of in prompts:
        ids, prompt = tokenizer.encode_prompt(asked_of), text_of(messages_of(asked_of))
        if len(ids) >= limit:
            raise InputError(
                f"the prompt {prompt[:60]!r} is {len(ids)} tokens long, which leaves no room for an answer in the "
                f"model's context of {limit}"
            )
        work += [(ids, derive(seed, asked[prompt] + k, prompt)) for k in range(samples)]
        asked[prompt] += samples

    def decode(numbers: Sequence[int]) -> list[list[int]]:
        return generate(
            model,
            [work[number][0] for number in numbers],
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=seed,
            seeds=[work[number][1] for number in numbers],
            stop_ids=[tokenizer.end_id],
            batch_size=BATCH,
            label=label,
        )

    if keep is None:
        decoded = decode(range(len(work)))
    else:
        how = [sampling.temperature, sampling.top_p, sampling.max_new_tokens, tokenizer.end_id]
        decoded = keep.complete(model, work, how, decode, label)
    answers = []
    for (start, _), new in zip(work, decoded, strict=True):
        ended = len(new) < min(sampling.max_new_tokens, limit - len(start))
        answers.append(Answer(tuple(start), tuple(new), tokenizer.decode(new).strip(), ended))
    return [answers[at : at + samples] for at in range(0, len(answers), samples)]


def exact(truth: Truth, rows: Sequence[Instruction], texts: Sequence[str]) -> list[Score | None]:
    """Exact score of each text as an answer to its instruction; None where nothing is known of what it asks about."""
    return [
        score(truth, row.entity, row.attributes, text) if row.entity in truth else None
        for row, text in zip(rows, texts, strict=True)
    ]


def summarise(truth: Truth, rows: Sequence[Instruction], answers: Sequence[Answer]) -> Measured:
    """Means over the answers: `exact_right`, `exact_score` (of what is known), `characters`, `tokens`, `ended`."""
    scores = [found for found in exact(truth, rows, [given.text for given in answers]) if found is not None]
    return {
        "exact_right": fmean(found.right for found in scores) if scores else None,
        "exact_score": fmean(found.score for found in scores) if scores else None,
        "characters": fmean(len(given.text) for given in answers),
        "tokens": fmean(len(given.ids) for given in answers),
        "ended": fmean(given.ended for given in answers),
    }


class Validation:
    """The validation split: answered greedily, its own responses' loss, and the distance from a reference model.

    limit: the model's context, in tokens; `too_long` counts the rows that are left out as longer. keep: of `answer`.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        truth: Truth,
        instructions: Sequence[Instruction],
        max_new_tokens: int,
        limit: int,
        keep: KeptAnswers | None = None,
    ) -> None:
        rows = of_split(instructions, "validation")
        self.rows = [row for row in rows if len(tokenizer.encode_example(row.asked, row.response)[0]) <= limit]
        self.too_long = len(rows) - len(self.rows)
        if not self.rows:
            raise InputError(f"all {len(rows)} validation rows are longer than the model's context of {limit} tokens")
        self.tokenizer, self.truth, self.max_new_tokens, self.keep = tokenizer, truth, max_new_tokens, keep
        self.knows_truth = any(row.entity in truth for row in self.rows)

    def answers(self, model: LanguageModel, temperature: float = 0.0, seed: int = 0) -> list[Answer]:
        """One of each prompt."""
        prompts = [row.asked for row in self.rows]
        sampling = Sampling(temperature=temperature, top_p=1.0, max_new_tokens=self.max_new_tokens)
        groups = answer(model, self.tokenizer, prompts, sampling, seed=seed, label="validation", keep=self.keep)
        return [first for (first,) in groups]

    def summary(self, answers: Sequence[Answer]) -> Measured:
        return summarise(self.truth, self.rows, answers)

    def loss(self, model: LanguageModel) -> float:
        """Mean negative log-likelihood of the responses' tokens, their ends included, in nats: of all that SFT learns,
        the earlier responses of a conversation too."""
        exchanges = [encode_turns(self.tokenizer, row.asked, row.response) for row in self.rows]
        spans = [(*exchange.earlier, (exchange.start, len(exchange))) for exchange in exchanges]
        first = [own[0][0] for own in spans]
        read = [(list(exchange.ids), start) for exchange, start in zip(exchanges, first, strict=True)]
        total = sum(
            math.fsum(value for start, end in own for value in values[start - before : end - before])
            for own, before, values in zip(spans, first, token_logprobs(model, read), strict=True)
        )
        return -total / sum(exchange.learned_length for exchange in exchanges)

    def divergence(self, model: LanguageModel, reference: LanguageModel, seed: int) -> float:
        """KL(model || reference) per answer in nats, by the plain estimator.

        That is the mean of log p - log p_ref over one answer a prompt, sampled from `model` at temperature 1; being
        unbiased, it may come out slightly negative where the models are close.
        """
        exchanges = [given.exchange(self.tokenizer.end_id) for given in self.answers(model, 1.0, seed)]
        scored = [exchange.scored for exchange in exchanges if exchange.answer_length]
        own, other = sequence_logprobs(model, scored), sequence_logprobs(reference, scored)
        return fmean(a - b for a, b in zip(own, other, strict=True))
