"""`trainyard compare A B`: what two revisions, DVC experiments, arms of a claim or folders differ in, on one screen.

Params, headline numbers and stages come from params.yaml, dvc.lock and reports/metrics.json; per-item values from the
tables that stand in DVC's cache, found by their md5. Nothing is run or written.
"""

import argparse
import json
import re
import shutil
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.base.errors import TrainyardError

if TYPE_CHECKING:
    from stages.experiment.metrics import Metric
    from stages.experiment.sides import Side

CODE = "data/check/code/"
EXAMPLE = """\
examples:
  trainyard compare HEAD~1 .
  trainyard compare dedup:with dedup:without --json
"""
PARAMS_SHOWN, NAMES_SHOWN, MOST_MODELS, LEVEL = 12, 8, 5, 0.95
# Names of reports/metrics.json that are numbers of the catalogue, and what makes them so
TRANSLATED = (
    (re.compile(r"reached_loss"), "pretrain/loss", 1.0),
    (re.compile(r"bpb_(.+)"), r"\1/bpb", 1.0),
    (re.compile(r"right_(.+)"), r"\1/right", 1.0),
    (re.compile(r"lc_win_rate_(.+)"), r"\1/lc", 1.0),
    (re.compile(r"win_rate_(.+)"), r"\1/win_rate", 1.0),
    (re.compile(r"(.+)_acc_([^_]+)"), r"\2/\1", 100.0),
)


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "compare",
        help="what two revisions, experiments or arms differ in: params, numbers, stages",
        description="Each side is a git revision, a DVC experiment, CLAIM:ARM or CLAIM:ARM@SEED, or a project's folder "
        "(`.` is this one).",
        epilog=EXAMPLE,
    )
    command.add_argument("a", metavar="A")
    command.add_argument("b", metavar="B")
    command.add_argument("--json", action="store_true", help="everything, as JSON")
    command.add_argument("--page", type=Path, metavar="FILE", help="write it as an HTML page too")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from stages.experiment.sides import read_side
    from stages.sections import Sections

    def schema() -> dict[str, Any]:
        return Sections().schema

    compared = compare(read_side(options.a, schema), read_side(options.b, schema))
    if options.page is not None:
        from stages.base.files import atomic_path
        from stages.publishing.site.comparison import comparison_page

        with atomic_path(options.page) as temporary:
            temporary.write_text(comparison_page(compared, "Trainyard"), encoding="utf-8")
    if options.json:
        print(json.dumps(compared, indent=2, sort_keys=True, ensure_ascii=False))
    else:
        print("\n".join(screen(compared, shutil.get_terminal_size((100, 40)).columns)))
    return 0


# --------------------------------------------------------------------------------------------------- comparing


def compare(a: "Side", b: "Side") -> dict[str, Any]:
    """Everything that differs, as JSON has it."""
    notes = [*a.notes, *b.notes]
    return {
        "a": {"name": a.name, "about": a.about},
        "b": {"name": b.name, "about": b.about},
        "params": params(a, b),
        "metrics": metrics(a, b, notes),
        "stages": stages(a, b),
        "notes": notes,
    }


def params(a: "Side", b: "Side") -> dict[str, dict[str, Any]]:
    """Dotted name → the values of the leaves that differ, under `a` and `b`; a side that has none has no key."""
    from stages.base.scales import leaves

    old, new = dict(leaves(a.values)), dict(leaves(b.values))
    found = {}
    for name in dict.fromkeys([*old, *new]):
        pair = {side: values[name] for side, values in (("a", old), ("b", new)) if name in values}
        if len(pair) == 1 or pair["a"] != pair["b"]:
            found[name] = pair
    return found


def stages(a: "Side", b: "Side") -> dict[str, Any]:
    """`all`, the number of stage instances; `differing`, label → what differs: code, params, inputs, or outputs where
    all that it reads is equal; only A, only B."""
    found: dict[str, list[str]] = {}
    if a.stages and b.stages:
        for label in dict.fromkeys([*a.stages, *b.stages]):
            old, new = a.stages.get(label), b.stages.get(label)
            if old is None or new is None:
                found[label] = ["only A" if new is None else "only B"]
            else:
                found[label] = _differences(old, new)
    return {"all": len(found), "differing": {label: reasons for label, reasons in found.items() if reasons}}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    deps = {path for path in {**old["deps"], **new["deps"]} if old["deps"].get(path) != new["deps"].get(path)}
    code = {path for path in deps if path.startswith(CODE) or path == "stages"}
    reasons = ["code"] * bool(code or old["cmd"] != new["cmd"]) + ["params"] * (old["params"] != new["params"])
    reasons += ["inputs"] * bool(deps - code)
    return reasons or ["outputs"] * (old["outs"] != new["outs"])


@dataclass
class Reading:
    """A side's numbers of one metric: a table [seeds, items], with one column where a run is one number."""

    table: Any
    seeds: list[str]
    items: list[str]
    """Empty for one number a run."""
    clusters: list[str]

    @property
    def mean(self) -> float:
        return float(self.table.mean())


def headline(values: Mapping[str, Any]) -> dict[str, "Metric"]:
    """The numbers that are shown of a run with these params, those of the catalogue that people compare; none where
    the params are of a revision that the catalogue doesn't fit."""
    from stages.experiment.metrics import catalogue

    try:
        known, base = catalogue(values), values["alignment"]["base"]
        models = [*values["models"]["trained"], *values["models"]["import"]][:MOST_MODELS]
        tasks = list(values["evaluation"]["tasks"])
    except (KeyError, TypeError, AttributeError):
        return {}
    names = ["tokenizer/bytes_per_token", "pretrain/loss"]
    for model in models:
        names += [f"{model}/{name}" for name in ("bpb", *tasks)]
        names += [f"{model}/{name}" for name in ("right", "win_rate", "lc", "length")] if model != base else []
    return {name: known[name] for name in names if name in known}


def metrics(a: "Side", b: "Side", notes: list[str]) -> list[dict[str, Any]]:
    """A row a number: both values, and B − A with its interval where both sides have values of the same items."""
    from stages.experiment.runs.objects import MissingObject

    known = {**headline(a.values), **headline(b.values)}
    names = dict.fromkeys(known)
    for side in (a, b):
        names |= dict.fromkeys(row["metric"] for row in side.outcomes or ())
        names |= dict.fromkeys(translated(side.numbers))
    rows: list[dict[str, Any]] = []
    absent: dict[str, list[str]] = {a.name: [], b.name: []}
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            metric, found = known.get(name), []
            for side, place in ((a, "a"), (b, "b")):
                try:
                    found.append(read(side, name, metric, Path(scratch, place)))
                except MissingObject:
                    found.append(None)
                    absent[side.name].append(name)
            row = _row(name, metric, a, b, found)
            if row["a"] is not None or row["b"] is not None:
                rows.append(row)
    for name, missing in absent.items():
        differing = {row["name"] for row in rows if not row["same"] and None not in (row["a"], row["b"])}
        shown = [metric for metric in missing if metric in differing]
        if shown:
            notes.append(
                f"not compared item by item, as {name} has no table of it in DVC's cache (`dvc pull`, or `dvc repro` "
                f"there): {', '.join(shown[:NAMES_SHOWN])}{' …' * (len(shown) > NAMES_SHOWN)}"
            )
    return rows


def translated(numbers: Mapping[str, float]) -> dict[str, float]:
    """reports/metrics.json under the catalogue's names; ends of intervals left out."""
    found = {}
    for key, value in numbers.items():
        if key.endswith(("_low", "_high")):
            continue
        for pattern, name, scale in TRANSLATED:
            if match := pattern.fullmatch(key):
                found[match.expand(name)] = value * scale
                break
        else:
            found[key] = value
    return found


def read(side: "Side", name: str, metric: "Metric | None", scratch: Path) -> Reading | None:
    """None where the side has no values: from the outcomes of an arm's claim, else from the files of each run. Raises
    MissingObject where the files have gone from the cache."""
    import pandas as pd

    from stages.experiment.metrics import read_outcome
    from stages.experiment.sides import place_files

    frame = pd.DataFrame([row for row in side.outcomes or () if row["metric"] == name])
    if frame.empty and metric is not None:
        try:
            parts = [
                read_outcome(metric, scratch / run).assign(seed=run)
                for run in side.runs
                if place_files(side, run, metric.files, scratch / run)
            ]
        except TrainyardError:  # a revision of other columns
            return None
        frame = pd.concat(parts) if parts else frame
    if frame.empty:
        return None
    table = frame.pivot(index="seed", columns="item", values="value").dropna(axis=1)
    groups = frame.drop_duplicates("item").set_index("item")["cluster"]
    items = [str(item) for item in table.columns]
    clusters = [groups[item] for item in table.columns]
    return Reading(table.to_numpy(), list(table.index), items if items != [""] else [], clusters)


def _row(name: str, metric: "Metric | None", a: "Side", b: "Side", found: Sequence[Reading | None]) -> dict[str, Any]:
    old, new = (
        reading.mean if reading else translated(side.numbers).get(name)
        for side, reading in zip((a, b), found, strict=True)
    )
    row: dict[str, Any] = {"name": name, "unit": metric.unit if metric else "", "a": old, "b": new}
    row |= {"difference": None, "low": None, "high": None, "items": 0, "clusters": 0, "seeds": 0}
    row["item"] = metric.item if metric else "item"
    if old is not None and new is not None:
        row["difference"] = new - old
    row["same"] = old == new
    if found[0] is not None and found[1] is not None:
        row |= paired(found[0], found[1])
        tables = [one.table for one in found if one is not None]
        row["same"] = tables[0].shape == tables[1].shape and bool((tables[0] == tables[1]).all())
    return row


def paired(a: Reading, b: Reading) -> dict[str, Any]:
    """B − A over the items that both have, with its interval; {} where there is nothing to estimate one from.

    The interval covers seeds where both sides have several, paired where they are the same ones.
    """
    import numpy as np

    from stages.base.crossed import contrast

    shared = [item for item in a.items if item in set(b.items)]
    tables = [a.table, b.table]
    if a.items and b.items:
        tables = [
            one.table[:, [place[item] for item in shared]]
            for one in (a, b)
            for place in [{item: i for i, item in enumerate(one.items)}]
        ]
    if min(len(table) for table in tables) == 1:
        tables = [table.mean(0, keepdims=True) for table in tables]
    if tables[0].size == 0 or max(table.size for table in tables) == 1 or bool(a.items) != bool(b.items):
        return {}
    groups = None
    if shared and any(a.clusters):
        named = dict(zip(a.items, a.clusters, strict=True))
        groups = np.unique([named[item] or f"item {item}" for item in shared], return_inverse=True)[1]
    same_seeds = a.seeds == b.seeds or len(tables[0]) == 1
    try:
        found = contrast(tables, (-1, 1), pair_seeds=same_seeds, clusters=[groups, groups])
    except ValueError:
        return {}
    low, high = (float(end) for end in found.interval(LEVEL))
    return {
        "difference": float(found.effect), "low": low, "high": high, "items": len(shared),
        "clusters": int(found.n_clusters), "seeds": len(tables[0]) if len(tables[0]) > 1 else 0,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------ the screen


def screen(compared: Mapping[str, Any], width: int) -> list[str]:
    """The comparison in lines of at most `width` characters."""
    lines = [f"{key.upper()}  {compared[key]['name']}  ({compared[key]['about']})" for key in ("a", "b")]
    lines += ["", *_param_lines(compared["params"], width), "", *_metric_lines(compared["metrics"], width)]
    lines += ["", *_stage_lines(compared["stages"], width)]
    lines += [line for note in compared["notes"] for line in textwrap.wrap(note, width, subsequent_indent="  ")]
    return [cut(line, width) for line in lines]


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _param_lines(differing: Mapping[str, Mapping[str, Any]], width: int) -> list[str]:
    if not differing:
        return ["params: the same"]
    rows = [(name, f"{_plain(pair['a'])} → {_plain(pair['b'])}") for name, pair in differing.items() if len(pair) == 2]
    for side in ("a", "b"):
        alone = {name: pair[side] for name, pair in differing.items() if list(pair) == [side]}
        for section, names in _sections(list(alone)).items():
            told = _plain(alone[section]) if section in alone else f"{len(names)} values"
            rows.append((section, f"{told}, only {side.upper()}"))
    longest = min(max(len(name) for name, _ in rows[:PARAMS_SHOWN]), width // 2)
    lines = [f"  {cut(name, longest):{longest}}  {told}" for name, told in rows[:PARAMS_SHOWN]]
    more = [f"  and {len(rows) - PARAMS_SHOWN} more lines: --json has all"] * (len(rows) > PARAMS_SHOWN)
    return [f"params: {len(differing)} differ{'s' * (len(differing) == 1)}", *lines, *more]


def _sections(names: Sequence[str]) -> dict[str, list[str]]:
    """Params that one side lacks by their section, `a.b` of a.b.c and a.b.d; a single one by its own name."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(".".join(name.split(".")[:2]) if name.count(".") > 1 else name, []).append(name)
    return {section if len(below) > 1 else below[0]: below for section, below in found.items()}


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _metric_lines(rows: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    from stages.publishing.claims.figures import side_by_side

    differing = [row for row in rows if not row["same"]]
    table = [("", "A", "B", "B − A", "95 % interval", "")]
    for row in differing:
        if row["a"] is None or row["b"] is None:
            continue
        cells = side_by_side(row)
        table.append((row["name"], cells.a, cells.b, cells.difference, cells.interval, cells.over))
    widths = [max(len(row[i]) for row in table) for i in range(6)]
    lines = [
        f"  {row[0]:{widths[0]}}  "
        + "  ".join(f"{cell:>{size}}" for cell, size in zip(row[1:5], widths[1:5], strict=True))
        + f"  {row[5]}"
        for row in table
    ]
    told = []
    for words, names in (
        ("the same", [row["name"] for row in rows if row["same"]]),
        ("only A", [row["name"] for row in rows if row["b"] is None]),
        ("only B", [row["name"] for row in rows if row["a"] is None]),
    ):
        text = f"{words}: {', '.join(names)}"
        told += textwrap.wrap(text, width - 2, initial_indent="  ", subsequent_indent="  ") if names else []
    if len(table) == 1:
        return ["numbers: none differs" if not differing else "numbers: none that both have differs", *told]
    seeds = any(row["seeds"] for row in differing)
    covers = "Intervals: B − A paired by item" + (
        ", over seeds and items." if seeds else " alone, not over seeds: another seed may move them by more."
    )
    known = any(row["low"] is not None for row in differing)
    return ["numbers", *(line.rstrip() for line in lines), *told, *([f"  {covers}"] if known else [])]


def _stage_lines(stages: Mapping[str, Any], width: int) -> list[str]:
    every, differing = stages["all"], stages["differing"]
    if not every:
        return ["stages: unknown"]
    if not differing:
        return [f"stages: all {every} the same"]
    groups: dict[str, list[str]] = {}
    for label, reasons in differing.items():
        groups.setdefault(", ".join(reasons), []).append(label)
    longest = max(map(len, groups))
    lines = [f"stages: {len(differing)} of {every} differ"]
    for reasons, labels in groups.items():
        start = f"  {reasons:{longest}}  "
        found = textwrap.wrap(" ".join(labels), max(width - len(start), 20), break_on_hyphens=False)
        lines += [start + found[0], *(" " * len(start) + line for line in found[1:2])]
        if len(found) > 2:
            lines[-1] = cut(f"{lines[-1]} …", width)
    return lines
