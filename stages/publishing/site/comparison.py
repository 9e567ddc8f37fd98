"""What two runs differ in, as a page and as Markdown for a pull request: of what `trainyard compare` computes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.publishing.cards.card import marked
from stages.publishing.claims.figures import side_by_side
from stages.publishing.html.numbers import Scale, value
from stages.publishing.html.page import render

MOST_PARAMS = 20  # in Markdown; the page has all
LONGEST = 120  # characters of a param's value
ALONE = "Intervals: B − A, paired by item, not over seeds: another seed may move them by more."
OVER_SEEDS = "Intervals: B − A, paired by item, over seeds and items."
Tiers = Mapping[str, tuple[str, str]]
"""Model → its tier in A and in B; "" where it has none."""


def comparison_page(compared: Mapping[str, Any], title: str) -> str:
    """One HTML page. `compared`: what `trainyard compare --json` prints."""
    stages = compared["stages"]
    differing = stages["differing"]
    params = [[name, _param(pair, "a"), _param(pair, "b")] for name, pair in compared["params"].items()]
    numbers = [_shown(row) for row in _both(compared)]
    told = {
        "title": title,
        "pages": [],
        "page": "",
        "sections": [("numbers", "Numbers"), ("params", "Params"), ("stages", "Stages")],
        "a": _side(compared["a"]),
        "b": _side(compared["b"]),
        "lead": _lead(compared),
        "covers": _covers(compared),
        "numbers": numbers,
        "told": _rest(compared),
        "params": params,
        "stages_line": f"{len(differing)} of {stages['all']} differ." if stages["all"] else "Unknown.",
        "stages": [[label, ", ".join(reasons)] for label, reasons in differing.items()],
        "notes": compared["notes"],
    }
    return render(told, "comparison.html")


def summary_markdown(compared: Mapping[str, Any], tiers: Tiers) -> str:
    """For a comment on a pull request: numbers with intervals, tiers, params, stages."""
    lines = [
        f"### {marked(_side(compared['b'])['name'])} against {marked(_side(compared['a'])['name'])}",
        "",
        _lead(compared),
        "",
    ]
    rows = [_shown(row) for row in _both(compared)]
    if rows:
        lines += ["| Number | A | B | B − A | 95 % interval | over |", "|---|--:|--:|--:|--:|---|"]
        for row in rows:
            cells = [marked(row["name"]), row["a"], row["b"], row["difference"], row["interval"], marked(row["over"])]
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", _covers(compared), ""]
    lines += [f"{marked(line)}  " for line in _rest(compared)]
    moved = {model: pair for model, pair in tiers.items() if pair[0] != pair[1]}
    if moved:
        told = [f"{marked(model)} {old or 'absent'} → {new or 'absent'}" for model, (old, new) in moved.items()]
        lines += ["", f"Tiers: {', '.join(told)}"]
    elif tiers:
        lines += ["", "Tiers: the same"]
    params = list(compared["params"].items())
    if params:
        lines += ["", "| Param | A | B |", "|---|---|---|"]
        for name, pair in params[:MOST_PARAMS]:
            lines.append(f"| {marked(name)} | {marked(_param(pair, 'a'))} | {marked(_param(pair, 'b'))} |")
        if len(params) > MOST_PARAMS:
            lines += ["", f"and {len(params) - MOST_PARAMS} more params"]
    differing = compared["stages"]["differing"]
    lines += ["", f"Stages: {len(differing)} of {compared['stages']['all']} differ"]
    lines += [f"- {marked(note)}" for note in compared["notes"]]
    return "\n".join(lines).rstrip() + "\n"


def _both(compared: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Numbers that both sides have and that differ."""
    return [row for row in compared["metrics"] if not row["same"] and row["a"] is not None and row["b"] is not None]


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A number of both sides as texts, its interval drawn on a scale of its own that has 0 in the middle."""
    cells = side_by_side(row)
    reach = 1.1 * max(abs(row["low"]), abs(row["high"])) if row["low"] is not None else 0.0
    return {
        "name": row["name"],
        "unit": row["unit"],
        "a": cells.a,
        "b": cells.b,
        "difference": cells.difference,
        "interval": cells.interval,
        "over": cells.over,
        "value": value(row["difference"], row["low"], row["high"], digits=cells.decimals) if reach else None,
        "scale": Scale(-reach, reach),
    }


def _side(side: Mapping[str, str]) -> dict[str, str]:
    """Name and kind of a side; where a folder lies on this machine is nobody else's business."""
    folder = side["about"].startswith("folder ")
    name = Path(side["name"]).name or "this folder" if folder else side["name"]
    return {"name": name, "about": "a folder" if folder else side["about"]}


def _lead(compared: Mapping[str, Any]) -> str:
    rows = _both(compared)
    clear = [row for row in rows if row["low"] is not None and (row["low"] > 0 or row["high"] < 0)]
    measured = [row for row in rows if row["low"] is not None]
    params = len(compared["params"])
    said = f"{params} param{'s' * (params != 1)} differ{'s' * (params == 1)}. "
    if not rows:
        return said + "No number that both have differs."
    return said + (
        f"{len(rows)} numbers differ; of {len(measured)} with an interval, {len(clear)} "
        f"{'has' if len(clear) == 1 else 'have'} one that leaves out 0."
    )


def _covers(compared: Mapping[str, Any]) -> str:
    rows = _both(compared)
    if not any(row["low"] is not None for row in rows):
        return "No number could be paired item by item." if rows else "None differs."
    return OVER_SEEDS if any(row["seeds"] for row in rows) else ALONE


def _rest(compared: Mapping[str, Any]) -> list[str]:
    """Numbers that are the same, or of one side only."""
    rows = compared["metrics"]
    groups: Sequence[tuple[str, list[str]]] = (
        ("The same", [row["name"] for row in rows if row["same"]]),
        ("Only A", [row["name"] for row in rows if row["b"] is None]),
        ("Only B", [row["name"] for row in rows if row["a"] is None]),
    )
    return [f"{words}: {', '.join(names)}." for words, names in groups if names]


def _param(pair: Mapping[str, Any], side: str) -> str:
    """The value of one side; a dash where it has none."""
    if side not in pair:
        return "–"
    text = json.dumps(pair[side], ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
