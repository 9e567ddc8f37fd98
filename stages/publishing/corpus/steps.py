"""The steps of the corpus as their files tell them: rows in and out, drops by reason and source, bytes and tokens.

Every total is taken twice, from the record and from the drops themselves, and each step's input is the output of the
one before it: a page that adds up, or an error that names the file.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa

from stages.base.errors import InputError
from stages.publishing.html.numbers import count, percent

CORPUS = "data/corpus"
STEPS = ("ingest", "extract", "screen", "dedup", "heuristics", "quality", "domains", "decontaminate", "mix")
REASONS_SHOWN = 4
FIRST_TEXT = "extract"  # before it there are pages, not texts

Reason = tuple[str, str]  # rule, reason


@dataclass(frozen=True)
class Step:
    """One step of the corpus."""

    name: str
    rows_in: int
    rows_out: int
    dropped: Mapping[Reason, Mapping[str, int]]  # by source
    bytes_out: int | None  # UTF-8 of the texts that left it; None before extraction
    metrics: Mapping[str, Any]
    notes: Mapping[str, Any]

    @property
    def lost(self) -> int:
        return sum(self.by_reason.values())

    @property
    def by_reason(self) -> dict[Reason, int]:
        return {reason: sum(sources.values()) for reason, sources in self.dropped.items()}


def need(values: Mapping[str, Any], key: str, path: str) -> Any:
    """A value that a stage must have written. Raises InputError."""
    if not isinstance(values, Mapping) or key not in values:
        raise InputError(f"{path}: no `{key}`; it is of another version: rerun the stage that writes it (`dvc repro`)")
    return values[key]


def tally(batches: Iterable[pa.Table]) -> dict[Reason, Counter[str]]:
    """Drops by (rule, reason) and source. Parameters: `batches`: of DROP, at least `rule`, `reason` and `source`."""
    found: dict[Reason, Counter[str]] = {}
    for batch in batches:
        columns = (batch[name].to_pylist() for name in ("rule", "reason", "source"))
        for rule, reason, source in zip(*columns, strict=True):
            found.setdefault((rule, reason), Counter())[source] += 1
    return found


def make_step(
    name: str, record: Mapping[str, Any], metrics: Mapping[str, Any], dropped: Mapping[Reason, Mapping[str, int]]
) -> Step:
    """A step of its record.json, metrics.json and counted drops. Raises InputError where they don't fit together."""
    path = f"{CORPUS}/{name}/record.json"
    rows = need(record, "rows", path)
    rows_in, rows_out = int(need(rows, "in", path)), int(need(rows, "out", path))
    size = None
    if STEPS.index(name) >= STEPS.index(FIRST_TEXT):
        size = int(need(metrics, "bytes_out", f"{CORPUS}/{name}/metrics.json"))
    step = Step(name, rows_in, rows_out, dropped, size, metrics, need(record, "notes", path))
    if rows_in - rows_out != step.lost:
        raise InputError(
            f"{CORPUS}/{name}/drops.parquet holds {step.lost} rows, but {path} says that {rows_in - rows_out} of "
            f"{rows_in} were dropped; rerun corpus.{name} (`dvc repro`)"
        )
    return step


def check_chain(steps: Sequence[Step]) -> None:
    """Raises InputError where a step took in other rows than the step before it gave out."""
    for before, after in pairwise(steps):
        if before.rows_out != after.rows_in:
            raise InputError(
                f"{CORPUS}/{after.name}/record.json: {after.rows_in} rows in, but corpus.{before.name} gave out "
                f"{before.rows_out}; the pipeline was not rerun to the end: `dvc repro`"
            )


def tokens(size: float, bytes_per_token: float) -> str:
    """`≈ 1 230 000`, an estimate to three digits, as it is one."""
    exact = size / bytes_per_token
    digits = len(str(int(abs(exact))))
    return f"≈\u00a0{count(round(exact, 3 - digits) if digits > 3 else round(exact))}"


def documents_fall(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Bars of `parts.fall`: documents kept and dropped, in percent of what came in."""
    view = []
    for one in steps:
        named: Counter[str] = Counter()
        for (rule, reason), lost in one.by_reason.items():
            named[label(reason or rule)] += lost
        ranked = sorted(named.items(), key=lambda item: (-item[1], item[0]))
        reasons = [{"name": name, "count": count(lost)} for name, lost in ranked[:REASONS_SHOWN]]
        rest = sum(lost for _, lost in ranked[REASONS_SHOWN:])
        if rest:
            reasons.append({"name": f"for {len(ranked) - REASONS_SHOWN} other reasons", "count": count(rest)})
        view.append(_bar(one.name, one.rows_out, one.lost, steps[0].rows_in, count, reasons))
    return view


def tokens_fall(steps: Sequence[Step], bytes_per_token: float) -> list[dict[str, Any]]:
    """Bars of `parts.fall`: tokens (an estimate) that left each step, and those that the step took away.

    What a step takes away is dropped documents and text removed from those that stay.
    """
    texts = [(one.name, one.bytes_out) for one in steps if one.bytes_out is not None]
    start = texts[0][1] if texts else 0
    view, before = [], start
    for name, size in texts:
        change = size - before
        reasons = []
        if change:
            word = "less" if change < 0 else "more: texts rewritten"
            reasons = [
                {"count": tokens(abs(change), bytes_per_token), "name": f"{word} ({percent(abs(change), before)})"}
            ]
        view.append(_bar(name, size, max(0, -change), start, lambda part: tokens(part, bytes_per_token), reasons))
        before = size
    return view


def _bar(
    name: str, kept: float, lost: float, start: float, shown: Callable[[float], str], reasons: list[dict[str, str]]
) -> dict[str, Any]:
    return {
        "name": name,
        "kept": shown(kept),
        "lost": shown(lost),
        "kept_percent": f"{100 * kept / start:.2f}" if start else "0",
        "lost_percent": f"{100 * lost / start:.2f}" if start else "0",
        "reasons": reasons,
    }


def steps_table(steps: Sequence[Step], bytes_per_token: float | None) -> dict[str, Any]:
    """Both waterfalls as numbers; without tokens where nothing says how long one is."""
    rows = []
    for one in steps:
        size = one.bytes_out
        rows.append(
            [
                one.name,
                count(one.rows_in),
                count(one.lost),
                percent(one.lost, one.rows_in),
                count(one.rows_out),
                "–" if size is None else count(size),
                "–" if size is None or bytes_per_token is None else tokens(size, bytes_per_token),
            ]
        )
    head = ["Step", "In", "Dropped", "Share", "Out", "Bytes of text", "Tokens"]
    return {"head": head, "rows": rows, "numeric": [1, 2, 3, 4, 5, 6]}


def reasons_view(steps: Sequence[Step], colours: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every reason of every step, most frequent first, as bars stacked by source on one scale.

    Parameters: `colours`: source → colour of the page. A bar of any documents at all is at least a hair wide (CSS).
    """
    most = max((n for one in steps for n in one.by_reason.values()), default=0)
    view = []
    for one in steps:
        rows = []
        for (rule, reason), total in sorted(one.by_reason.items(), key=lambda item: (-item[1], item[0])):
            sources = one.dropped[rule, reason]
            rows.append(
                {
                    "rule": label(rule),
                    "reason": label(reason),
                    "count": count(total),
                    "share": percent(total, one.rows_in, 2),
                    "parts": [
                        {"width": f"{100 * sources[name] / most:.2f}", "colour": colours[name]}
                        for name in colours
                        if sources.get(name)
                    ],
                    "words": ", ".join(f"{name} {count(sources[name])}" for name in colours if sources.get(name)),
                }
            )
        if rows:
            view.append({"name": one.name, "count": count(one.lost), "rows": rows})
    return view


def colours_of(steps: Sequence[Step], histograms: Sequence[str] = ()) -> dict[str, str]:
    """A colour for each source that shows up anywhere; past five they share the grey one."""
    names = {name for one in steps for sources in one.dropped.values() for name in sources} | set(histograms)
    palette = ("c2", "c1", "c3", "c4", "c5")
    return {name: palette[i] if i < len(palette) else "c0" for i, name in enumerate(sorted(names))}


def label(name: str) -> str:
    """`gopher_short_doc` as words."""
    return name.replace("_", " ")[:80]
