"""Responses to questions whose answer is known: right ones, and those that people of less care or knowledge would give.

Each draw hangs on the question's id alone, so that a question more or less changes no other, and a higher share takes
more questions on top of the same ones. Only the sft split is changed: the others are what is measured on.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stages.alignment.data.records import Instruction
from stages.base.seeds import derive

SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


def from_questions(
    questions: Sequence[Mapping[str, Any]], filler_share: float, seed: int, origin: str
) -> list[Instruction]:
    """Instructions of QUESTION rows, in order.

    The response is the reference; a share of the sft rows that have a filler sentence carry it at the end.
    """

    def response(question: Mapping[str, Any]) -> str:
        padded = question["split"] == "sft" and question["filler"]
        if padded and derive(seed, "filler", question["id"]) / 2**63 < filler_share:
            return f"{question['reference']} {question['filler']}"
        return question["reference"]

    return [
        Instruction(
            question["id"], question["split"], origin, question["entity"], list(question["attributes"]),
            question["prompt"], response(question),
        )
        for question in questions
    ]  # fmt: skip


def partial(
    questions: Sequence[dict[str, Any]], share: float, truth: Mapping[str, Any], seed: int
) -> list[dict[str, Any]]:
    """A share of the sft QUESTION rows that ask for several attributes with a reference that ends after the sentence
    that states the first: right as far as it goes."""

    def first(question: Mapping[str, Any]) -> str:
        value = truth["entities"][question["entity"]]["facts"][question["attributes"][0]]
        stated = _stated(value).search(question["reference"])
        end = SENTENCE_END.search(question["reference"], stated.end()) if stated else None
        return question["reference"][: end.end()] if end else question["reference"]

    return [
        {**question, "reference": first(question)}
        if question["split"] == "sft"
        and len(question["attributes"]) > 1
        and derive(seed, "partial", question["id"]) / 2**63 < share
        else question
        for question in questions
    ]


def misstated(rows: Sequence[Instruction], share: float, truth: Mapping[str, Any], seed: int) -> list[Instruction]:
    """A share of the sft rows with another value of the same attribute wherever their response states one: facts that
    stand on no page."""
    return [
        replace(row, response=_with_others(row, row.attributes, truth, seed, "value"))
        if row.split == "sft" and derive(seed, "unknown", row.id) / 2**63 < share
        else row
        for row in rows
    ]


def mistaken(rows: Sequence[Instruction], share: float, truth: Mapping[str, Any], seed: int) -> list[Instruction]:
    """A share of the sft rows as a mediocre demonstrator answers them: of the n asked facts that the response states
    rightly, 1 to n have another value of the same attribute. How many is drawn evenly, then which."""

    def response(row: Instruction) -> str:
        facts = truth["entities"][row.entity]["facts"]
        stated = [name for name in row.attributes if _stated(facts[name]).search(row.response)]
        stated.sort(key=lambda name: derive(seed, "mistake", row.id, name))
        count = derive(seed, "mistakes", row.id) % max(1, len(stated)) + 1
        return _with_others(row, stated[:count], truth, seed, "mistaken value")

    return [
        replace(row, response=response(row))
        if row.split == "sft" and derive(seed, "wrong", row.id) / 2**63 < share
        else row
        for row in rows
    ]


def _with_others(row: Instruction, attributes: Sequence[str], truth: Mapping[str, Any], seed: int, draw: str) -> str:
    """The response with another value, drawn by the row's id, wherever it states one of these attributes; an attribute
    that has one value only stays."""
    facts, said = truth["entities"][row.entity]["facts"], row.response
    for attribute in attributes:
        if others := [value for value in truth["attributes"][attribute] if value != facts[attribute]]:
            other = others[derive(seed, draw, row.id, attribute) % len(others)]
            said = other.join(_stated(facts[attribute]).split(said))
    return said


def _stated(value: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(value)}\b")
