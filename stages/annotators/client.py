"""Pairwise comparisons by a judge that speaks the OpenAI protocol.

`provider: openai` is any compatible server (OpenAI, vLLM, Ollama, llama.cpp) at `base_url`; `provider: simulated` is
the pool in this process, which takes the same requests and gives the same replies.
"""

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Any, Literal

from stages.annotators.calls import Answer, ask
from stages.annotators.grades import Grader
from stages.annotators.pool import POOL_MODEL, Pool, PoolSettings, PromptError
from stages.annotators.reply import read_choice, version
from stages.annotators.server import ServerSettings
from stages.base.closure import ROOT
from stages.base.errors import InputError
from stages.base.seeds import derive

NAN = float("nan")


class AnnotatorSettings(ServerSettings):
    """Who judges, and how it is called."""

    provider: Literal["simulated", "openai"]
    """openai: any compatible server at base_url."""
    prompt: str
    """Template file with instruction, output_1 and output_2."""
    logprobs: bool
    """Ask for log-probabilities; off for servers that give none."""
    order: Literal["random", "both"]
    """In which the two outputs are shown: one order, drawn by id, or each pair twice, its mean counts."""
    pool: PoolSettings


@dataclass(frozen=True)
class Pair:
    id: str
    prompt: str
    output_a: str
    output_b: str


@dataclass(frozen=True)
class Preference:
    """What the judge said of one pair. Preferences are 1 (output_a wins) .. 2 (output_b wins); NaN if there is none."""

    id: str
    preference: float  # the mean of the orders that were asked for
    annotator: str  # model and version named in the reply, "" if there was none, "identical" for equal outputs
    error: str  # "" or why there is no preference
    a_first: float = NAN  # when output_a was shown first; NaN if that order wasn't asked for, or has no answer
    b_first: float = NAN
    weighted: bool = False  # from log-probabilities, in all orders
    usd: float = 0.0  # what its calls cost altogether, by the server's token counts; of equal calls the first pays
    seconds: float = NAN  # that the replies took when they were bought; NaN for a simulated judge


def compare(
    pairs: Sequence[Pair],
    settings: AnnotatorSettings,
    *,
    seed: int,
    grader: Grader | None = None,
    models: Sequence[str] | None = None,
) -> list[Preference]:
    """One preference a pair, in the order of the pairs.

    The order in which the two outputs are shown is drawn per pair id from `seed`, or both are. Equal outputs are a draw
    (1.5) without a call, as in AlpacaEval; one that says nothing loses to any other without a call. A failed or
    unparsable call is a NaN row with its error, never left out.
    `grader` is what the simulated pool goes by. `models` names who judges each pair, another model of the server or
    `annotator_model(k)` of the pool; by default `settings.model`, or whom the pool draws.
    Raises ParamError if the cost is above `max_cost_usd`, InputError if the server refuses every call alike.
    """
    template = load_template(settings.prompt)
    simulated = settings.provider == "simulated"
    judges = models or [POOL_MODEL if simulated else settings.model] * len(pairs)
    asked = [
        (index, swap)
        for index, pair in enumerate(pairs)
        if pair.output_a != pair.output_b and pair.output_a.strip() and pair.output_b.strip()
        for swap in ((False, True) if settings.order == "both" else (shows_b_first(seed, pair.id),))
    ]
    bodies = [_body(template, pairs[index], swap, settings) | {"model": judges[index]} for index, swap in asked]
    if not simulated:
        answers = ask(bodies, settings, "judge", read_choice)
        _tell_of_change(bodies, answers, settings)
    elif grader is None:
        raise InputError("the simulated annotators need a grader: the instructions, and what is known of their answers")
    else:
        pool = Pool(settings.pool, grader, seed)
        answers = [_simulated(pool, body) for body in bodies]
    given: dict[int, dict[bool, Answer]] = {}
    for (index, swap), answer in zip(asked, answers, strict=True):
        given.setdefault(index, {})[swap] = answer
    return [_preference(pair, given.get(index), settings) for index, pair in enumerate(pairs)]


def _simulated(pool: Pool, body: Mapping[str, Any]) -> Answer:
    try:
        return Answer(pool.complete(body), "", NAN)
    except PromptError as error:
        return Answer(None, str(error), NAN)


def _tell_of_change(
    bodies: Sequence[Mapping[str, Any]], answers: Sequence[Answer], settings: AnnotatorSettings
) -> None:
    """One line where the server has changed a model between the first reply and the last, cached ones too."""
    named: dict[str, Counter[str]] = {}
    for body, answer in zip(bodies, answers, strict=True):
        if answer.reply is not None:
            named.setdefault(body["model"], Counter())[version(answer.reply)] += 1
    for versions in named.values():
        if len(versions) > 1:
            told = ", ".join(f"{name or 'no name'} ({count})" for name, count in versions.most_common(5))
            print(f"judge: {settings.server} answered as {len(versions)} models: {told}", file=sys.stderr)


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


def _body(template: str, pair: Pair, swap: bool, settings: AnnotatorSettings) -> dict[str, Any]:
    first, second = (pair.output_b, pair.output_a) if swap else (pair.output_a, pair.output_b)
    # As JSON strings, so that no output can pose as the end of its own field.
    values = {"instruction": pair.prompt, "output_1": first, "output_2": second}
    body = settings.body(template % {name: dumps(value, ensure_ascii=False) for name, value in values.items()})
    return body | ({"logprobs": True, "top_logprobs": 5} if settings.logprobs else {})


def _preference(pair: Pair, answers: Mapping[bool, Answer] | None, settings: AnnotatorSettings) -> Preference:
    if answers is None:
        said_a, said_b = bool(pair.output_a.strip()), bool(pair.output_b.strip())
        if said_a != said_b:
            return Preference(pair.id, 1.0 if said_a else 2.0, "", "")
        return Preference(pair.id, 1.5, "identical", "")
    said = {False: NAN, True: NAN}
    errors, names, weighted = [], [], True
    for swap, answer in answers.items():
        if answer.reply is None:
            errors.append(answer.error)
            continue
        names.append(version(answer.reply))
        choice = read_choice(answer.reply)
        weighted &= choice.weighted
        said[swap] = 1 + (1 - choice.second if swap else choice.second)
    known = [value for value in said.values() if not math.isnan(value)]
    simulated = settings.provider == "simulated"
    replies = [answer for answer in answers.values() if answer.reply is not None]
    return Preference(
        pair.id,
        sum(known) / len(known) if not errors else NAN,
        names[0] if names else "",
        "; ".join(errors),
        a_first=said[False],
        b_first=said[True],
        weighted=weighted and not errors,
        usd=sum(answer.usd for answer in answers.values()),
        seconds=NAN if simulated or not replies else sum(answer.seconds for answer in replies),
    )
