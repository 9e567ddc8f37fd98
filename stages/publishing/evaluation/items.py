"""Items to browse: the prompt exactly as it was sent, and what each model answered."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import exp
from typing import Any, NamedTuple

from stages.base.contracts.evaluation import Sample, Samples
from stages.base.seeds import derive
from stages.publishing.evaluation.tasks import named, protocol_name
from stages.publishing.html.quoted import quoted, verbatim

MOST, BUDGET = 60, 120_000  # items; characters of the section
LONGEST_PROMPT, LONGEST_ANSWER, LONGEST_CHOICE = 6000, 500, 90
MARKS = 200  # characters of markup around an answer


class Place(NamedTuple):
    task: str
    protocol: str
    id: str


def items_view(samples: Mapping[str, Samples]) -> dict[str, Any] | None:
    """A bounded choice of items, in turn from each task and protocol, by a seed that sees no answer; None without any.

    samples: model → its items. Names become numbers in class names, so that no text of a model or file is part of a
    style sheet.
    """
    found: dict[Place, dict[str, Sample]] = defaultdict(dict)
    for model, one in samples.items():
        for sample in one.samples:
            found[Place(sample.task, sample.protocol, sample.id)][model] = sample
    chosen = sorted(_choose(found))
    if not chosen:
        return None
    tasks = [*dict.fromkeys(place.task for place in chosen)]
    protocols = [*dict.fromkeys(place.protocol for place in chosen)]
    models = [model for model in samples if any(model in found[place] for place in chosen)]
    return {
        "tasks": [named(task) for task in tasks],
        "protocols": [protocol_name(protocol) for protocol in protocols],
        "models": models,
        "asked": [_item(place, found[place], tasks, protocols, models) for place in chosen],
        "total": len(found),
    }


def _choose(found: Mapping[Place, Mapping[str, Sample]]) -> Iterator[Place]:
    """Until the page is full: one of each task and protocol in turn; the same questions under every protocol."""
    queues: dict[tuple[str, str], list[Place]] = defaultdict(list)
    for place in sorted(found, key=lambda place: (derive(0, "items", place.id), place)):
        queues[place.task, place.protocol].append(place)
    spent = number = turn = 0
    while any(turn < len(queue) for queue in queues.values()):
        for queue in queues.values():
            if turn >= len(queue):
                continue
            size = _size(found[queue[turn]])
            if number and (number >= MOST or spent + size > BUDGET):
                return
            spent, number = spent + size, number + 1
            yield queue[turn]
        turn += 1


def _size(asked: Mapping[str, Sample]) -> int:
    """Characters that an item takes on the page, about: its prompts, and the answers of all models in their marks."""
    answers = sum(
        MARKS + len(one.text) + sum(min(len(choice), LONGEST_CHOICE) + MARKS // 4 for choice in one.choices)
        for one in asked.values()
    )
    return answers + sum(min(len(prompt), LONGEST_PROMPT) for prompt in _prompts(asked))


def _prompts(asked: Mapping[str, Sample]) -> dict[str, list[str]]:
    """Prompt → models that were sent it."""
    by_prompt: dict[str, list[str]] = defaultdict(list)
    for model, sample in asked.items():
        by_prompt[sample.prompt].append(model)
    return by_prompt


def _item(
    place: Place,
    asked: Mapping[str, Sample],
    tasks: Sequence[str],
    protocols: Sequence[str],
    models: Sequence[str],
) -> dict[str, Any]:
    right = {model: sample.right for model, sample in asked.items()}
    said = {(sample.choice, sample.text) for sample in asked.values()}
    classes = [f"t{tasks.index(place.task)}", f"p{protocols.index(place.protocol)}"]
    classes += ["some-right"] if any(right.values()) else []
    classes += ["some-wrong"] if not all(right.values()) else []
    classes += ["differ"] if len(set(right.values())) > 1 or len(said) > 1 else []
    classes += [f"m{models.index(model)}{'r' if ok else 'w'}" for model, ok in right.items()]
    first = next(iter(asked.values()))
    return {
        "classes": " ".join(classes),
        "about": f"{named(place.task)}, {protocol_name(place.protocol)}",
        "subject": quoted(first.subject, 60),
        "id": quoted(place.id, 40),
        "question": quoted(first.question, LONGEST_ANSWER),
        "target": quoted(first.target, LONGEST_ANSWER),
        "prompts": [
            {"models": names if len(names) < len(asked) else [], "text": verbatim(prompt, LONGEST_PROMPT)}
            for prompt, names in _prompts(asked).items()
        ],
        "answers": [
            {"model": model, "number": models.index(model), "right": one.right, **_answer(one)}
            for model, one in asked.items()
        ],
    }


def _answer(sample: Sample) -> dict[str, Any]:
    """What was chosen, and the probabilities among the choices where they are known."""
    if not sample.choices:
        return {"text": quoted(sample.text, LONGEST_ANSWER, lines=True), "shares": []}
    chosen = sample.choices[sample.choice] if 0 <= sample.choice < len(sample.choices) else sample.text
    shares: list[dict[str, Any]] = []
    if len(sample.logprobs) == len(sample.choices) and sample.logprobs:
        top = max(sample.logprobs)
        weights = [exp(one - top) for one in sample.logprobs]
        shares = [
            {
                "text": quoted(choice, LONGEST_CHOICE),
                "percent": f"{100 * weight / sum(weights):.0f}",
                "answer": index == sample.answer,
                "chosen": index == sample.choice,
            }
            for index, (choice, weight) in enumerate(zip(sample.choices, weights, strict=True))
        ]
    return {"text": quoted(chosen, LONGEST_ANSWER), "shares": shares}
