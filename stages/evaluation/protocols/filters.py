"""Filters and exact match over generated answers, as a task's file configures them for the LM Evaluation Harness.

Each follows the harness' 0.4.13 to the letter, as numbers are compared with its own.
"""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

INVALID = "[invalid]"
Steps = Sequence[tuple[str, Mapping[str, Any]]]  # (function, its arguments), in order


def filtered(text: str, steps: Steps) -> str:
    """The text after all steps of one filter."""
    for function, arguments in steps:
        text = FILTERS[function](text, **arguments)
    return text


def fallbacks(steps: Steps) -> set[str]:
    """What the steps give where they find no answer."""
    return {"", *(arguments.get("fallback", INVALID) for function, arguments in steps if function == "regex")}


def regex(
    text: str, regex_pattern: str = r"#### (\-?[0-9\.\,]+)", group_select: int = 0, fallback: str = INVALID
) -> str:
    """The match of index `group_select`; of several groups the first that isn't empty."""
    found = re.findall(regex_pattern, text)
    if not found:
        return fallback
    match = found[group_select]
    if isinstance(match, tuple):
        match = next((group for group in match if group), fallback)
    return match.strip()


def mapped(text: str, mapping_dict: Mapping[str, str], default_value: str = "") -> str:
    return mapping_dict.get(text, default_value)


FILTERS: dict[str, Callable[..., str]] = {
    "regex": regex,
    "take_first": lambda text: text,  # one answer is generated
    "remove_whitespace": str.strip,
    "lowercase": str.lower,
    "uppercase": str.upper,
    "map": mapped,
}


def exact_match(
    text: str,
    targets: Sequence[str],
    regexes_to_ignore: Sequence[str] = (),
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_numbers: bool = False,
) -> float:
    """1 where the text equals one of the targets, both without what is ignored."""

    def bare(value: str) -> str:
        for pattern in regexes_to_ignore:
            value = re.sub(pattern, "", value)
        if ignore_case:
            value = value.lower()
        without = string.punctuation * ignore_punctuation + string.digits * ignore_numbers
        return value.translate(str.maketrans("", "", without))

    return float(bare(text) in {bare(target) for target in targets})
