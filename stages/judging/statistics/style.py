"""Markdown features of an answer that judges like beside its content: what style control holds equal."""

import re
from collections.abc import Iterable

import numpy as np

# As AlpacaEval's list test and Chatbot Arena's style control count; unlike the first a marker needs a space behind it,
# so that a line that begins in **bold**, or with 3.14, is no item.
_LIST = re.compile(r"^[ \t]*(?:[*•-]|\d+[.)]|[a-zA-Z][.)])[ \t]+[^\w\n]*\w", re.MULTILINE)
_HEADER = re.compile(r"^ {0,3}#{1,6}[ \t]+\S", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)  # markup in a program is no style

FEATURES = ("lists", "headers", "bold")


def counts(text: str) -> dict[str, int]:
    """List items, headers and bold spans outside fenced code; keys are FEATURES."""
    prose = _FENCE.sub("", text)
    return {
        "lists": len(_LIST.findall(prose)),
        "headers": len(_HEADER.findall(prose)),
        "bold": len(_BOLD.findall(prose)),
    }


def counted(texts: Iterable[str], side: str) -> dict[str, np.ndarray]:
    """Columns `<feature>_<side>`, as `length_control.fit` (sides output, baseline) and `arena` (a, b) take them."""
    found = [counts(text) for text in texts]
    return {f"{name}_{side}": np.array([one[name] for one in found], dtype=np.float64) for name in FEATURES}
