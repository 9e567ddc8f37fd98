"""The evaluation section: held-out text and multiple choice of every checkpoint, and the change from its base."""

from collections.abc import Mapping
from typing import Any

from stages.publishing.html.numbers import count, number, value

Metrics = Mapping[str, Mapping[str, Any]]  # checkpoint → its metrics.json, in the order of params.yaml
_WORDS = {1: "one", 2: "two", 3: "three"}
PROTOCOLS = {"original": "letters (MMLU)", "cloze": "cloze", "chat": "chat"}


def _sources(metrics: Metrics) -> list[str]:
    names = {
        name
        for row in metrics.values()
        for name in row
        if name.startswith("bpb_") and not name.startswith("bpb_domain_")
    }
    return sorted(names)


def bits_table(metrics: Metrics, base: str) -> dict[str, Any]:
    """Bits per byte by source; for every other checkpoint the change from `base` in brackets."""
    columns = ["bpb", *_sources(metrics)]
    head = ["Checkpoint", "all text", *(name.removeprefix("bpb_").replace("_", " ") for name in columns[1:])]
    rows = []
    for checkpoint, row in metrics.items():
        cells = [checkpoint]
        for column in columns:
            here, before = number(row.get(column)), number(metrics[base].get(column))
            if here is None:
                cells.append("–")
            elif checkpoint == base or before is None:
                cells.append(f"{here:.3f}")
            else:
                cells.append(f"{here:.3f} ({here - before:+.3f})".replace("-", "−"))
        rows.append(cells)
    return {"head": head, "rows": rows, "numeric": list(range(1, len(head)))}


def choice_table(metrics: Metrics) -> dict[str, Any] | None:
    """Accuracy with its interval, a column a protocol; chance and constant answer as rows of their own."""
    found = {
        name.split("_")[1]
        for row in metrics.values()
        for name in row
        if name.startswith("mc_") and name.endswith("_acc")
    }
    protocols = [name for name in PROTOCOLS if name in found]
    if not protocols:
        return None
    rows = []
    for checkpoint, row in metrics.items():
        cells = [checkpoint]
        for protocol in protocols:
            name = f"mc_{protocol}_acc"
            shown = value(row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high"), factor=100)
            cells.append("–" if shown is None else f"{shown.text} ({shown.range})" if shown.range else shown.text)
        rows.append(cells)
    first = next(iter(metrics.values()))
    for label, name in (("chance (control)", "mc_chance_acc"), ("always the same letter (control)", "mc_constant_acc")):
        share = value(first.get(name), factor=100)
        if share is not None:
            rows.append([label, *([share.text] * len(protocols))])
    head = ["Checkpoint", *(f"{PROTOCOLS[name]}, % right" for name in protocols)]
    return {
        "head": head,
        "rows": rows,
        "numeric": list(range(1, len(head))),
        "protocols": _WORDS.get(len(protocols), str(len(protocols))),
    }


def evaluation_view(metrics: Metrics, base: str) -> dict[str, Any]:
    first = metrics[base]
    worst = max(
        ((number(row.get("bpb")) or 0.0) - (number(first.get("bpb")) or 0.0), name) for name, row in metrics.items()
    )
    told = (
        f"{worst[1]} pays most: +{worst[0]:.3f} bits per byte over {base}."
        if worst[0] > 0
        else f"No checkpoint is worse than {base}."
    )
    questions = number(first.get("mc_questions"))
    return {
        "intro": (
            f"Every checkpoint reads the same {count(first.get('bytes') or 0)} bytes of text that no training saw, "
            "and answers "
            f"the same {count(questions or 0)} multiple-choice questions. In brackets: the change from {base}. {told}"
        ),
        "bits": bits_table(metrics, base),
        "choice": choice_table(metrics),
        "choice_note": (
            "The same questions under different protocols are different tests: letters asks for “A” to “D” after "
            "worked "
            "examples, cloze scores the answers' own words, chat scores them as an assistant's reply. In brackets: "
            "95 % intervals."
        ),
    }
