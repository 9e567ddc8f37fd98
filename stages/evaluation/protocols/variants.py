"""Other wordings of the same protocol: how much of a score is the prompt's, as a spread and not one number.

Each variant changes one thing (instruction, names of question and answer, style or order of the letters, delimiter),
and reads the answer in the same style. A change here is a new version of the protocol.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stages.evaluation.protocols.chat import Chat
from stages.evaluation.protocols.choices import MostLikely
from stages.evaluation.protocols.generate import Written
from stages.evaluation.protocols.helm import OneToken
from stages.evaluation.protocols.protocol import EvaluationProtocol
from stages.evaluation.protocols.task import TaskTemplate

Changes = Mapping[str, Mapping[str, Any]]
ANY: Changes = {
    "bare": {"instruction": ""},
    "exam": {"instruction": "Below are questions of an exam in {subject}, with the right answers.\n\n"},
    "q_a": {"question": "Q: {question}", "cue": "A:"},
    "rule": {"between": "\n\n---\n\n"},
    "newline": {"delimiter": "\n"},
}
ROTATED: Changes = {f"rotated_{places}": {"rotation": places} for places in (1, 2, 3)}
LETTERED: Changes = {
    **ANY,
    "parentheses": {"option": "({letter}) {choice}", "answer": "({letter})"},
    "half_parentheses": {"option": "{letter}) {choice}"},
    **ROTATED,
}
BY_PROTOCOL: dict[str, Changes] = {
    "original": LETTERED,
    # The one token must be the letter: neither parenthesis nor newline may come first.
    "helm": {
        **{name: changes for name, changes in LETTERED.items() if name != "newline"},
        "parentheses": {"option": "({letter}) {choice}"},
    },
    "harness": {
        "text": {"answer": "{choice}"},
        **{name: LETTERED[name] for name in ("exam", "q_a", "rule", "newline")},
        "parentheses": {"option": "({letter}) {choice}", "answer": "({letter}) {choice}"},
        **ROTATED,
    },
    "cloze": {**ANY, "question_only": {"question": "{question}", "cue": ""}},
    "generate": {**LETTERED, "parentheses": {"option": "({letter}) {choice}"}},
    "chat_generate": {
        "q_a": {"question": "Question: {question}", "cue": "Answer:"},
        "exam": {"question": "This is a question of an exam. Answer it.\n\n{question}"},
        "please": {"question": "Please answer: {question}"},
        "steps": {"cue": "Think step by step, then give the answer."},
        "short": {"cue": "Answer in a few words."},
        "parentheses": {"option": "({letter}) {choice}"},
        **ROTATED,
    },
}
LETTERS_ALONE = frozenset({"parentheses", "half_parentheses", *ROTATED})
"""Variants that change nothing where no choices are shown."""
CHAT_CHANGES: dict[str, dict[str, str]] = {
    "exam": {"question": "This is a question of an exam. Answer it.\n\n{question}"},
    "short": {"question": "{question}\n\nAnswer in a few words."},
    "question": {"question": "Question: {question}"},
    "full_stop": {"reply": "{choice}."},
    "declared": {"reply": "The answer is: {choice}"},
}
TASK_CHANGES: dict[str, dict[str, str]] = {
    "bare": {"description": ""},
    "examples": {"description": "Here are some examples.\n\n"},
    "careful": {"description": "Read each text with care.\n\n"},
    "rule": {"fewshot_delimiter": "\n\n---\n\n"},
    "newline": {"target_delimiter": "\n"},
}


def variants(protocol: EvaluationProtocol) -> dict[str, EvaluationProtocol]:
    """Name of the variant: the protocol so worded; "" is the protocol itself, and five more at least.

    One that is a variant already (`harness-text`) is varied further.
    """
    return {"": protocol} | {name: _varied(protocol, name, changes) for name, changes in changes_of(protocol).items()}


def changes_of(protocol: EvaluationProtocol) -> Changes:
    if isinstance(protocol, TaskTemplate):
        return TASK_CHANGES
    return CHAT_CHANGES if isinstance(protocol, Chat) else BY_PROTOCOL[protocol.name.split("-")[0]]


def _varied(protocol: EvaluationProtocol, name: str, changes: Mapping[str, Any]) -> EvaluationProtocol:
    if isinstance(protocol, MostLikely | OneToken):
        return replace(protocol, wording=replace(protocol.wording, **changes))
    if isinstance(protocol, Written):
        return replace(
            protocol,
            wording=replace(protocol.wording, **changes),
            open_instruction=changes.get("instruction", protocol.open_instruction),
            letters_alone=name in LETTERS_ALONE,
        )
    if isinstance(protocol, TaskTemplate):
        return replace(protocol, changes=tuple(changes.items()))
    assert isinstance(protocol, Chat)
    return replace(protocol, **changes)
