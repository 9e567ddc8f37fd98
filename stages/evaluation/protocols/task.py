"""The task's own template, scored as the LM Evaluation Harness 0.4.13 runs the same file.

What a file says is read from `Setting.options`, as `tasks.declaration.setting` lays it out: `output_type`, `metrics`
and `filters`. The text before an item is the description, then each example with its answer (`target_delimiter` before,
`fewshot_delimiter` behind it), then the item's own `prompt`. A context that is too long loses its beginning.
One rule differs from the harness': of options that read the same any one is right, and such items are counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stages.base.errors import ParamError
from stages.evaluation.protocols.choices import flags_of
from stages.evaluation.protocols.filters import Steps, exact_match, fallbacks, filtered
from stages.evaluation.protocols.protocol import Answer, Overflow, Setting
from stages.evaluation.scoring.requests import Choices, Generate, Generated, Likelihood
from stages.evaluation.tasks.item import Item

ASKED = ("multiple_choice", "loglikelihood", "generate_until")
PLAIN_FILTER: tuple[tuple[str, Steps], ...] = (("none", (("take_first", {}),)),)


@dataclass(frozen=True)
class TaskTemplate:
    """As its file says, but for `changes` of the setting: how prompt variants are made."""

    name: str
    version: int
    changes: tuple[tuple[str, Any], ...] = ()
    overflow: Overflow = "left"

    def why_not(self, item: Item) -> str:
        if not item.choices and not item.targets:
            return "it has neither choices nor targets"
        if item.choices and not item.right:
            return f"answer {item.answer} is none of its {len(item.choices)} choices"
        return ""

    def render(self, item: Item, shots: Sequence[Item], setting: Setting) -> Choices | Generate:
        changes = dict(self.changes)
        description = changes.get("description", item.description or setting.description)
        setting = replace(setting, **changes)
        kind = output_type(setting)
        before = description + "".join(_shown(shot, setting) for shot in shots)
        if kind == "generate_until":
            return Generate(before + item.prompt, setting.stop, setting.max_tokens)
        if kind == "loglikelihood":
            return Choices((before + item.prompt,), (item.target,))
        if item.contexts:
            continuation = setting.target_delimiter + item.target
            return Choices(tuple(before + one for one in item.contexts), (continuation,) * len(item.contexts))
        answers = tuple(setting.target_delimiter + text for text in item.continuations)
        if "acc_mutual_info" in setting.metrics:
            return Choices((before + item.prompt,) * len(answers) + ("",) * len(answers), answers * 2)
        return Choices((before + item.prompt,), answers)

    def read(self, item: Item, setting: Setting, found: Sequence[Likelihood] | Generated) -> Answer:
        """A `perplexity` is the item's nats: over a task it is exp(−mean)."""
        if isinstance(found, Generated):
            return _read_text(item, setting, found)
        if output_type(setting) == "loglikelihood":
            values = {"perplexity": found[0].nats, "acc": float(found[0].greedy)}
            return Answer(-1, "", {metric: values[metric] for metric in setting.metrics})
        return _read_choice(item, setting, found)


def output_type(setting: Setting) -> str:
    """ParamError where the task has no template that is asked item by item: only those that are files have one."""
    kind = dict(setting.options).get("output_type")
    if kind not in ASKED:
        has = f"output_type {kind}" if kind else "no file"
        raise ParamError(f"the protocol `task` asks as a task's file says ({', '.join(ASKED)}); this task has {has}")
    return str(kind)


def _shown(shot: Item, setting: Setting) -> str:
    if not shot.shown:
        return shot.prompt
    delimiter = dict(setting.options).get("shots_target_delimiter", setting.target_delimiter)
    return shot.prompt + delimiter + shot.shown + setting.fewshot_delimiter


def _read_choice(item: Item, setting: Setting, found: Sequence[Likelihood]) -> Answer:
    count = len(item.choices)
    nats = np.array([likelihood.nats for likelihood in found[:count]])
    with np.errstate(divide="ignore", invalid="ignore"):
        ranked = {
            "acc": nats,
            "acc_norm": nats / [len(text) for text in item.continuations],
            "acc_bytes": nats / [len(text.encode()) for text in item.continuations],
        }
    if len(found) > count:
        ranked["acc_mutual_info"] = nats - [likelihood.nats for likelihood in found[count:]]
    choices = {name: int(np.argmax(values)) for name, values in ranked.items()}
    right = list(item.right)
    shares = np.exp(nats - nats.max())
    shares /= shares.sum()
    scores: dict[str, float] = {name: float(index in right) for name, index in choices.items()} | {
        "exact_match": float(any(found[index].greedy for index in right)),
        "brier_score": float(((shares - np.eye(count)[item.answer]) ** 2).sum()),
        "mc2": float(shares[right].sum()),
    }
    return Answer(
        choices["acc"],
        "",
        {metric: scores[metric] for metric in setting.metrics},
        choices["acc_norm"],
        flags_of(item),
    )


def _read_text(item: Item, setting: Setting, found: Generated) -> Answer:
    targets = [item.choices[item.answer]] if item.choices else item.targets
    options: Mapping[str, Any] = dict(setting.options)
    filters = options.get("filters") or PLAIN_FILTER
    scores: dict[str, float] = {}
    answered = False
    for name, steps in filters:
        text = filtered(found.text, steps)
        answered = answered or text.strip() not in fallbacks(steps)
        for metric, matching in options.get("metrics") or (("exact_match", {}),):
            scores[metric if len(filters) == 1 else f"{metric},{name}"] = exact_match(text, targets, **matching)
    return Answer(-1, found.text, scores, flags=() if answered else ("no_answer",))


TASK = TaskTemplate("task", 1)
