"""`trainyard explain`: what a parameter is, what it may be and what it is now."""

import argparse
import json
from typing import Any

from stages.base.terminal import shown_json

EXAMPLE = """\
examples:
  trainyard explain corpus.dedup.jaccard
  trainyard explain alignment.dpo --json
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser("explain", help="what a parameter of params.yaml means and may be", epilog=EXAMPLE)
    command.add_argument(
        "name", nargs="?", default="", help="corpus.dedup.jaccard, a section, or nothing for all phases"
    )
    command.add_argument("--json", action="store_true", help="its JSON Schema and value, as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from stages.base.params import read_params
    from stages.base.reference import describe, find, params_schema
    from stages.check import declared_sections

    schema, value = find(params_schema(declared_sections()), options.name, read_params())
    if options.json:
        print(shown_json({"name": options.name, "schema": schema, "value": value}))
        return 0
    inside = _inside(schema, value)
    if inside is None:
        print(f"{options.name}: {_short(value)}\n  {describe(schema)}")
    elif options.name:
        print(options.name)
    if text := schema.get("description"):
        print(f"  {text}")
    for key, one in (inside or {}).items():
        now = value.get(key) if isinstance(value, dict) else None
        shown = "" if isinstance(now, dict) else f": {_short(now)}"
        print(f"  {key}{shown}" + (f"  # {one['description']}" if "description" in one else ""))
    return 0


def _inside(schema: dict[str, Any], value: Any) -> dict[str, dict[str, Any]] | None:
    """What a section or a mapping of items holds; None for a single value."""
    from stages.base.reference import items_of, members

    found: dict[str, dict[str, Any]] = {}
    for one in members(schema, value):
        found |= one.get("properties", {})
        if items := items_of(one):
            found |= {key: items for key in value or {} if key not in found}
        elif one.get("type") != "object":
            return None
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
