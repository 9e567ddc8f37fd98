"""A card: Hugging Face's README.md, YAML metadata above Markdown, and the same as a page.

The metadata's names are those of the Hub's specifications of model and dataset cards
(https://huggingface.co/docs/hub/model-cards, …/datasets-cards).
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stages.base.errors import TrainyardError
from stages.base.files import read_json
from stages.base.terminal import one_line
from stages.publishing.lineage.project import Project

LONGEST = 2000  # characters of a text that stands in a card
_MARKUP = re.compile(r"[\\`*_{}\[\]<>#|~]")


@dataclass(frozen=True)
class Table:
    head: list[str]
    rows: list[list[str]]
    numeric: list[int] = field(default_factory=list)
    """Columns set to the right."""


@dataclass(frozen=True)
class Part:
    """A section of a card; what it lacks is left out. Every text is plain: no markup of others is obeyed."""

    title: str
    text: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    table: Table | None = None
    code: str = ""


@dataclass(frozen=True)
class Card:
    key: str
    kind: str
    """model or data."""
    title: str
    lead: str
    metadata: dict[str, Any]
    parts: list[Part]

    @property
    def name(self) -> str:
        """Of its files below cards/, without the ending."""
        return f"{self.kind}-{self.key}"


def markdown(card: Card) -> str:
    """README.md of a repository on the Hub."""
    front = yaml.safe_dump(card.metadata, sort_keys=False, allow_unicode=True, width=100)
    lines = ["---", front.rstrip(), "---", "", f"# {marked(card.title)}", "", marked(card.lead), ""]
    for part in card.parts:
        lines += [f"## {marked(part.title)}", ""]
        for text in part.text:
            lines += [marked(text), ""]
        lines += [f"- {marked(name)}: {marked(said)}" for name, said in part.facts] + [""] * bool(part.facts)
        if part.table:
            lines += [*_table(part.table), ""]
        if part.code:
            lines += ["```python", part.code.rstrip(), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def marked(text: str) -> str:
    """A text as Markdown that shows it as it is: what would be markup is only text."""
    return _MARKUP.sub(r"\\\g<0>", one_line(text, LONGEST))


def _table(table: Table) -> Iterator[str]:
    yield f"| {' | '.join(marked(cell) for cell in table.head)} |"
    yield "|" + "".join("--:|" if place in table.numeric else "---|" for place in range(len(table.head)))
    for row in table.rows:
        yield f"| {' | '.join(marked(cell) for cell in row)} |"


def view(card: Card) -> dict[str, Any]:
    """Plain values for the template card.html."""
    return {
        "card": {"kind": card.kind, "key": one_line(card.key), "title": one_line(card.title), "name": card.name},
        "lead": one_line(card.lead, LONGEST),
        "metadata": _said(card.metadata),
        "parts_of_card": [
            {
                "id": f"part-{place}",
                "title": one_line(part.title),
                "text": [one_line(text, LONGEST) for text in part.text],
                "facts": [(one_line(name), one_line(said, LONGEST)) for name, said in part.facts],
                "table": None if part.table is None else _shown(part.table),
                "code": part.code,
            }
            for place, part in enumerate(card.parts)
        ],
    }


def _said(metadata: dict[str, Any]) -> list[tuple[str, str]]:
    """The short entries; tables of results and features stand in sections of their own."""
    plain = {name: value for name, value in metadata.items() if isinstance(value, str | list)}
    return [
        (name, one_line(value if isinstance(value, str) else ", ".join(map(str, value)), LONGEST))
        for name, value in plain.items()
        if isinstance(value, str) or all(isinstance(one, str) for one in value)
    ]


def _shown(table: Table) -> dict[str, Any]:
    rows = [[one_line(cell, LONGEST) for cell in row] for row in table.rows]
    return {"head": table.head, "rows": rows, "numeric": table.numeric}


def known(project: Project, path: str) -> Any:
    """A JSON file of the project, in place or in DVC's cache; None where there is none."""
    place = project.files.place(path)
    try:
        return None if place is None else read_json(place)
    except TrainyardError:
        return None


def table_place(project: Project, path: str) -> Path | None:
    """Where a file lies; None where it doesn't."""
    place = project.files.place(path)
    return place if place is not None and place.is_file() else None


def value_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def listed(names: Sequence[str], most: int = 12) -> str:
    """`a, b, c and 4 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
