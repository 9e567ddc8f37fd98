"""What the page says of law, personal data, planted truth and bad input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.base.errors import InputError
from stages.publishing.corpus.steps import CORPUS, Step, label, need
from stages.publishing.html.numbers import count, number, percent
from stages.publishing.html.quoted import quoted

NAME_CHARACTERS, PLACE_CHARACTERS, LISTED = 90, 200, 50
SECTIONS = {
    "licences": "Licence",
    "signals": "Signal against training use",
    "robots": "robots.txt",
}


def legality_view(value: Any, path: str) -> list[dict[str, Any]]:
    """Tables of licences, opt-out signals and robots.txt: documents, and those of them that were dropped for it.

    Raises InputError where a section is missing or isn't {name: {documents, dropped}}.
    """
    view = []
    for section, title in SECTIONS.items():
        try:
            found = [(str(name), int(row["documents"]), int(row["dropped"])) for name, row in value[section].items()]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InputError(
                f"{path}: `{section}` must map names to `documents` and `dropped`; rerun corpus.screen (`dvc repro`)"
            ) from None
        found.sort(key=lambda row: (-row[1], row[0]))
        rest = found[LISTED:]
        rows = [[quoted(name, NAME_CHARACTERS) or "unknown", count(n), count(gone)] for name, n, gone in found[:LISTED]]
        if rest:
            documents, gone = sum(row[1] for row in rest), sum(row[2] for row in rest)
            rows.append([f"{count(len(rest))} others", count(documents), count(gone)])
        view.append({"title": title, "head": ["Name", "Documents", "Dropped"], "rows": rows})
    return view


def personal_view(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Personal data replaced, by kind, of `screen/metrics.json`."""
    kinds = sorted(
        key.removeprefix("pii_").removesuffix("_replaced")
        for key in metrics
        if key.startswith("pii_") and key.endswith("_replaced")
    )
    rows = [
        [
            label(kind),
            count(metrics[f"pii_{kind}_replaced"]),
            *(_share(metrics.get(f"pii_{kind}_{measure}")) for measure in ("recall", "precision")),
        ]
        for kind in kinds
    ]
    total = sum(metrics[f"pii_{kind}_replaced"] for kind in kinds)
    head = ["Kind", "Replaced", "Recall of planted ones", "Precision on their sources"]
    return {"head": head, "rows": rows, "total": count(total), "numeric": [1, 2, 3]}


@dataclass(frozen=True)
class Measured:
    """A share that a step measured against the planted truth."""

    step: str
    what: str
    measure: str
    cases: int | None  # planted ones that came in; None where the step doesn't say
    share: float | None  # None where there was no case


def measured(steps: Sequence[Step]) -> list[Measured]:
    """Recall of every kind of planted case, and precision where a step measures it, from the steps' metrics."""
    found = []
    for step in steps:
        for key in sorted(step.metrics):
            kind, _, what = key.rpartition("_")
            if what == "planted":
                kept = number(step.metrics.get(f"{kind}_kept"))
                share = number(step.metrics.get(f"{kind}_recall")) if kept is None else kept
                measure = "recall" if kept is None else "kept, as it should be"
                found.append(Measured(step.name, label(kind), measure, int(number(step.metrics[key]) or 0), share))
            elif what == "precision" or (what == "recall" and f"{kind}_planted" not in step.metrics):
                found.append(Measured(step.name, label(kind), what, None, number(step.metrics[key])))
    return [row for row in found if row.cases or row.share is not None]


def worst(rows: Sequence[Measured]) -> Measured | None:
    """The lowest share of planted cases dealt with, the first of equals; None where nothing was planted."""
    known = [row for row in rows if row.cases and row.share is not None]
    return min(known, key=lambda row: row.share or 0.0, default=None)


def planted_view(rows: Sequence[Measured]) -> list[dict[str, str]]:
    return [
        {
            "step": row.step,
            "what": row.what,
            "measure": row.measure,
            "cases": "–" if row.cases is None else count(row.cases),
            "share": _share(row.share),
            "percent": "0" if row.share is None else f"{100 * row.share:.1f}",
        }
        for row in rows
    ]


def problems_view(ingest: Step | None, extract: Step | None) -> list[dict[str, Any]]:
    """What was wrong with the input: ingest's `problems` by source and kind, with the first places as file@offset; and
    extract's `wall_clock_drops`, apart, as they alone need not happen again. A step that isn't there has none.

    Raises InputError where a record lacks its note or it has another shape.
    """
    view = []
    if ingest:
        path = f"{CORPUS}/{ingest.name}/record.json"
        try:
            for source, kinds in sorted(need(ingest.notes, "problems", path).items()):
                for kind, told in sorted(kinds.items()):
                    view.append(_problem(kind, f"{ingest.name}, {source}", int(told["count"]), told["first"]))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InputError(f"{path}: `problems` must map sources and kinds to `count` and `first`") from None
    if extract:
        stopped = need(extract.notes, "wall_clock_drops", f"{CORPUS}/{extract.name}/record.json")
        view.append(_problem("stopped by the clock", extract.name, len(stopped), stopped))
    return view


def _problem(what: str, where: str, total: int, places: Sequence[str]) -> dict[str, Any]:
    shown = [quoted(place, PLACE_CHARACTERS) for place in places[:LISTED]]
    more = total - len(shown)
    return {
        "what": label(what),
        "where": label(where),
        "count": count(total),
        "places": shown,
        "more": count(more) if more else "",
    }


def classifier_rows(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Held-out AUC and calibration error of each source's quality classifier, of `quality/metrics.json`."""
    rows = []
    for key in sorted(metrics):
        if key.endswith("_auc"):
            source = key.removesuffix("_auc")
            area, error = number(metrics[key]), number(metrics.get(f"{source}_calibration_error"))
            rows.append(
                [
                    label(source),
                    *(count(metrics.get(f"{source}_{side}", 0)) for side in ("positives", "negatives")),
                    "–" if area is None else f"{area:.3f}",
                    "–" if error is None else f"{error:.3f}",
                ]
            )
    head = ["Source", "Linked by a trusted page", "Others", "Held-out AUC", "Calibration error"]
    return {"head": head, "rows": rows, "numeric": [1, 2, 3, 4]}


def _share(value: Any) -> str:
    share = number(value)
    return "unknown" if share is None else percent(share, 1)
