"""Answers of a model to instructions, and how they stand on the validation split: where alignment makes its choices."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from stages.alignment.batches import Exchange
from stages.annotators.truth import Truth, score
from stages.base.errors import InputError
from stages.base.seeds import derive
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.generate import generate
from stages.lm.scoring import sequence_logprobs


@dataclass(frozen=True)
class Answer:
    """A decoded answer with the ids behind it. `ended`: `<|end|>` came within the bound on new tokens."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    text: str
    ended: bool

    def exchange(self, end: int) -> Exchange:
        """Prompt, answer and, if the model wrote it, `<|end|>`; an answer that was cut off doesn't get one."""
        tail = (end,) if self.ended else ()
        return Exchange(self.prompt_ids + self.ids + tail, len(self.prompt_ids))


def answer(
    model: LanguageModel,
    tokenizer: ChatTokenizer,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    samples: int = 1,
    label: str = "answering",
) -> list[list[Answer]]:
    """`samples` answers of each prompt; the stream of sample k of a prompt depends on (seed, k, prompt) only.

    A prompt that stands several times goes on counting k, so that no two of its answers share a stream.

    Raises InputError for a prompt that leaves no room for `max_new_tokens` in the model's context.
    """
    encoded = [tuple(tokenizer.encode_prompt(prompt)) for prompt in prompts]
    room = model.config.max_seq_len - max_new_tokens
    for prompt, ids in zip(prompts, encoded, strict=True):
        if len(ids) > room:
            raise InputError(
                f"the prompt {prompt[:60]!r} is {len(ids)} tokens long; {max_new_tokens} new ones leave room for {room}"
            )
    repeated = [list(ids) for ids in encoded for _ in range(samples)]
    asked: Counter[str] = Counter()
    seeds = []
    for prompt in prompts:
        seeds += [derive(seed, asked[prompt] + k, prompt) for k in range(samples)]
        asked[prompt] += samples
    generated = generate(
        model,
        repeated,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        seeds=seeds,
        stop_ids=[tokenizer.end_id],
        label=label,
    )
    answers = [
        Answer(tuple(start), tuple(ids), tokenizer.decode(ids).strip(), len(ids) < max_new_tokens)
        for start, ids in zip(repeated, generated, strict=True)
    ]
    return [answers[at : at + samples] for at in range(0, len(answers), samples)]


def exact_scores(truth: Truth, rows: Sequence[dict[str, Any]], texts: Sequence[str]) -> list[int | None]:
    """Exact score of each text as an answer to its INSTRUCTION row; None where the row names no entity."""
    return [
        score(truth, row["entity"], row["attributes"], text).score if row["entity"] else None
        for row, text in zip(rows, texts, strict=True)
    ]


def summarise(truth: Truth, rows: Sequence[dict[str, Any]], answers: Sequence[Answer]) -> dict[str, float]:
    """Means over the answers: `exact_right`, `exact_score` (rows with an entity), `characters`, `tokens`, `ended`."""
    known = [(row, given.text) for row, given in zip(rows, answers, strict=True) if row["entity"]]
    scores = [score(truth, row["entity"], row["attributes"], text) for row, text in known]
    return {
        "exact_right": fmean(result.right for result in scores) if scores else float("nan"),
        "exact_score": fmean(result.score for result in scores) if scores else float("nan"),
        "characters": fmean(len(given.text) for given in answers),
        "tokens": fmean(len(given.ids) for given in answers),
        "ended": fmean(given.ended for given in answers),
    }


class Validation:
    """The validation split, answered greedily; a seeded sample of it measures the distance from a reference model."""

    def __init__(
        self, tokenizer: ChatTokenizer, truth: Truth, instructions: Sequence[dict[str, Any]], max_new_tokens: int
    ) -> None:
        self.rows = [row for row in instructions if row["split"] == "validation"]
        if not self.rows:
            raise InputError("instructions.parquet: no row of the validation split; choices are made on it")
        self.tokenizer, self.truth, self.max_new_tokens = tokenizer, truth, max_new_tokens

    def greedy(self, model: LanguageModel) -> dict[str, float]:
        """`summarise` of the greedy answers."""
        training = model.training
        model.eval()
        given = answer(
            model,
            self.tokenizer,
            [row["prompt"] for row in self.rows],
            max_new_tokens=self.max_new_tokens,
            temperature=0.0,
            top_p=1.0,
            seed=0,
            label="validation",
        )
        model.train(training)
        return summarise(self.truth, self.rows, [first for (first,) in given])

    def divergence(self, model: LanguageModel, reference: LanguageModel, seed: int) -> float:
        """KL(model || reference) per answer in nats, by the plain estimator.

        That is the mean of log p - log p_ref over one answer a prompt, sampled from `model` at temperature 1; being
        unbiased, it may come out slightly negative where the models are close.
        """
        given = answer(
            model,
            self.tokenizer,
            [row["prompt"] for row in self.rows],
            max_new_tokens=self.max_new_tokens,
            temperature=1.0,
            top_p=1.0,
            seed=seed,
            label="divergence",
        )
        end = self.tokenizer.end_id
        pairs = [(list(exchange.ids), exchange.start) for exchange in (first.exchange(end) for (first,) in given)]
        pairs = [(ids, start) for ids, start in pairs if start < len(ids)]
        own, other = sequence_logprobs(model, pairs), sequence_logprobs(reference, pairs)
        return fmean(a - b for a, b in zip(own, other, strict=True))
