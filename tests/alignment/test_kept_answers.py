"""Answers that are kept while a stage samples: what is found again is what would have been decoded."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from stages.alignment.answering import answers as answers_module
from stages.alignment.answering import kept_answers
from stages.alignment.answering.answers import Sampling, answer
from stages.alignment.answering.kept_answers import KeptAnswers
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer

PROMPTS = [f"{'x' * (k % 7)}{k}?" for k in range(45)]
SAMPLING = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=5)


class Killed(BaseException):
    """As a signal would: no code of the stage sees it."""


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_killed_run_goes_on_from_the_last_answers(
    workers: str,
    calls: int,
    tokenizer: ChatTokenizer,
    make_model: Callable[..., LanguageModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRAINYARD_WORKERS", workers)
    monkeypatch.setattr(kept_answers, "SECONDS", 0.0)  # no chunk grows
    model, kept = make_model(), KeptAnswers(Path("kept"))
    plain = answer(model, tokenizer, PROMPTS, SAMPLING, seed=3, samples=3)
    decoded: list[int] = []
    generate = answers_module.generate

    def dying(model: LanguageModel, prompts: Sequence[list[int]], **how: object) -> list[list[int]]:
        if len(decoded) == calls:
            raise Killed
        decoded.append(len(prompts))
        return generate(model, prompts, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(answers_module, "generate", dying)
    with pytest.raises(Killed):
        answer(model, tokenizer, PROMPTS, SAMPLING, seed=3, samples=3, keep=kept)
    for file in Path("kept").iterdir():  # the line that was being written when it was killed
        with file.open("a") as log:
            log.write('\n0123456789abcdef {"0":[1,2')
    before, decoded[:] = sum(decoded), []
    monkeypatch.setattr(answers_module, "generate", lambda *a, **k: decoded.append(len(a[1])) or generate(*a, **k))
    assert answer(model, tokenizer, PROMPTS, SAMPLING, seed=3, samples=3, keep=kept) == plain
    assert sum(decoded) == len(PROMPTS) * 3 - before
    decoded.clear()
    assert answer(model, tokenizer, PROMPTS, SAMPLING, seed=3, samples=3, keep=kept) == plain and not decoded
    kept.discard()
    assert not Path("kept").exists()


def test_another_model_or_question_finds_nothing(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]
) -> None:
    kept = KeptAnswers(Path("kept"))
    hot = SAMPLING.model_copy(update={"temperature": 1.5})
    for model, prompts, sampling, seed in (
        (make_model(), PROMPTS, SAMPLING, 3),
        (make_model(seed=1), PROMPTS, SAMPLING, 3),
        (make_model(), PROMPTS[1:], SAMPLING, 3),
        (make_model(), PROMPTS, SAMPLING, 4),
        (make_model(), PROMPTS, hot, 3),
    ):
        expected = answer(model, tokenizer, prompts, sampling, seed=seed)
        assert answer(model, tokenizer, prompts, sampling, seed=seed, keep=kept) == expected
    assert len(list(Path("kept").iterdir())) == 5


def test_a_damaged_line_is_decoded_again(tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]) -> None:
    model, kept = make_model(), KeptAnswers(Path("kept"))
    first = answer(model, tokenizer, PROMPTS, SAMPLING, seed=3, keep=kept)
    (path,) = Path("kept").iterdir()
    path.write_text(path.read_text().replace("[", "[7,", 1))
    assert answer(model, tokenizer, PROMPTS, SAMPLING, seed=3, keep=kept) == first
