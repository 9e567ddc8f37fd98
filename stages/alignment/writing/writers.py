"""Who continues the prompts of Self-Instruct: the base model itself, or a model on a server, as Alpaca's was (Taori et
al. 2023)."""

from collections.abc import Sequence
from typing import Protocol

from stages.alignment.answering.answers import Sampling
from stages.alignment.answering.kept_answers import KeptAnswers
from stages.alignment.writing.few_shot import FewShot
from stages.annotators.calls import ask
from stages.annotators.reply import read_answer
from stages.annotators.server import ServerSettings
from stages.base.errors import InputError
from stages.base.seeds import derive
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.generate import generate
from stages.lm.scoring import sequence_logprobs


class Teacher(ServerSettings):
    """A model on a server."""

    prompt: str
    """Template file with `examples` in braces: where the text to continue stands."""


class Writer(Protocol):
    name: str

    def __call__(self, prompts: Sequence[FewShot], stream: str) -> list[str]:
        """A continuation of each prompt, "" where there is none; `stream` names the draw."""

    def sureness(self, prompts: Sequence[FewShot], texts: Sequence[str]) -> list[float | None]:
        """Mean log-probability of a token of each text behind its prompt, in nats; None where it isn't known."""


class BaseWriter:
    """Samples from a base model. keep: where what is decoded is found by a run that starts again after a kill."""

    name = "base model"

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: ChatTokenizer,
        sampling: Sampling,
        seed: int,
        keep: KeptAnswers | None = None,
    ) -> None:
        self.model, self.tokenizer, self.sampling, self.seed, self.keep = model, tokenizer, sampling, seed, keep
        self.room = model.config.max_seq_len - sampling.max_new_tokens

    def __call__(self, prompts: Sequence[FewShot], stream: str) -> list[str]:
        work = [
            (self._encode(prompt, self.room), derive(self.seed, "write", stream, number))
            for number, prompt in enumerate(prompts)
        ]
        label, how = f"writing instructions, {stream}", self.sampling

        def decode(numbers: Sequence[int]) -> list[list[int]]:
            return generate(
                self.model,
                [work[number][0] for number in numbers],
                max_new_tokens=how.max_new_tokens,
                temperature=how.temperature,
                top_p=how.top_p,
                seed=self.seed,
                seeds=[work[number][1] for number in numbers],
                stop_ids=self.tokenizer.stop_ids,
                label=label,
            )

        if self.keep is None:
            written = decode(range(len(work)))
        else:
            facts = [how.temperature, how.top_p, how.max_new_tokens, *self.tokenizer.stop_ids]
            written = self.keep.complete(self.model, work, facts, decode, label)
        return [self.tokenizer.decode(ids) for ids in written]

    def sureness(self, prompts: Sequence[FewShot], texts: Sequence[str]) -> list[float | None]:
        scored = []
        for prompt, text in zip(prompts, texts, strict=True):
            tail = self.tokenizer.encode(f" {text}")[: self.sampling.max_new_tokens]
            before = self._encode(prompt, self.room)
            scored.append((before + tail, len(before)))
        sums = sequence_logprobs(self.model, scored)
        return [total / max(1, len(ids) - start) for total, (ids, start) in zip(sums, scored, strict=True)]

    def _encode(self, prompt: FewShot, room: int) -> list[int]:
        """Raises InputError for a prompt that doesn't fit without any example either."""
        for skip in range(len(prompt.examples) + 1):
            ids = [self.tokenizer.prefix_id, *self.tokenizer.encode(prompt.text(skip))]
            if len(ids) <= room:
                return ids
        return ids[: max(1, room)]


class TeacherWriter:
    """Asks a server. What it may cost is said before the first call of each round, and bounded over all of them."""

    def __init__(self, teacher: Teacher, template: str) -> None:
        if template.count("{examples}") != 1:
            raise InputError(
                f"{teacher.prompt}: no template of one `{{examples}}`; see `alignment.self_instruct.teacher`"
            )
        self.name, self.teacher, self.template, self.spent = teacher.model, teacher, template, 0.0

    def __call__(self, prompts: Sequence[FewShot], stream: str) -> list[str]:
        """A call that fails, or is answered otherwise, is an empty text."""
        left = self.teacher.model_copy(update={"max_cost_usd": max(0.0, self.teacher.max_cost_usd - self.spent)})
        bodies = [left.body(self.template.replace("{examples}", prompt.text())) for prompt in prompts]
        answers = ask(bodies, left, f"writing instructions, {stream}")
        self.spent += sum(given.usd for given in answers)
        texts = [read_answer(given.reply) if given.reply is not None else "" for given in answers]
        cues = [prompt.cue.rpartition("\n")[2] for prompt in prompts]  # which chat models like to repeat
        return [text.strip().removeprefix(cue) for text, cue in zip(texts, cues, strict=True)]

    def sureness(self, prompts: Sequence[FewShot], texts: Sequence[str]) -> list[float | None]:
        return [None] * len(texts)
