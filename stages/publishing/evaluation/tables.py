"""What every model knows: bits per byte of held-out texts, and each task under its protocols."""

from collections.abc import Mapping
from typing import Any

from stages.base.contracts.evaluation import Evaluation
from stages.publishing.html.numbers import count, value

Evaluations = Mapping[str, Evaluation]  # model → its numbers, in the order of params.yaml
PROTOCOLS = {"original": "letters (MMLU)", "cloze": "cloze", "chat": "chat"}


def bits_table(evaluations: Evaluations, text: str, base: str) -> dict[str, Any]:
    """Bits per byte of one text by source; for every other model the change from `base` in brackets."""
    found = {model: evaluation.texts[text] for model, evaluation in evaluations.items()}
    sources = sorted({source for one in found.values() for source in one.sources})
    sources = sources if len(sources) > 1 else []
    rows = []
    for model, one in found.items():
        pairs: list[tuple[float | None, float | None]] = [(one.bpb, found[base].bpb)]
        pairs += [(one.sources.get(source), found[base].sources.get(source)) for source in sources]
        rows.append([model, *(_changed(here, None if model == base else before) for here, before in pairs)])
    first = found[base]
    return {
        "name": text.replace("_", " "),
        "head": ["Model", "all of it", *(source.replace("_", " ") for source in sources)],
        "rows": rows,
        "numeric": list(range(1, 2 + len(sources))),
        "size": f"{count(first.bytes)} bytes of {count(first.documents)} documents",
    }


def _changed(here: float | None, before: float | None) -> str:
    if here is None:
        return "–"
    change = "" if before is None else f" ({here - before:+.3f})".replace("-", "−")
    return f"{here:.3f}{change}"


def task_table(evaluations: Evaluations, task: str) -> dict[str, Any]:
    """Accuracy with its interval, a column a protocol; chance and constant answer as rows of their own."""
    found = {model: evaluation.tasks[task] for model, evaluation in evaluations.items()}
    protocols = [name for name in PROTOCOLS if any(name in one.protocols for one in found.values())]
    rows, left_out = [], []
    for model, one in found.items():
        cells = [model]
        for protocol in protocols:
            accuracy = one.protocols.get(protocol)
            shown = accuracy and value(accuracy.acc, accuracy.acc_low, accuracy.acc_high, factor=100)
            cells.append("–" if not shown else f"{shown.text} ({shown.range})" if shown.range else shown.text)
            if accuracy and accuracy.too_long:
                left_out.append(f"{count(accuracy.too_long)} for {model} under {PROTOCOLS[protocol]}")
        rows.append(cells)
    first = next(iter(found.values()))
    for label, share in (("chance (control)", first.chance_acc), ("one letter always (control)", first.constant_acc)):
        rows.append([label, *[f"{100 * share:.1f}"] * len(protocols)])
    return {
        "name": task.replace("_", " "),
        "head": ["Model", *(f"{PROTOCOLS[name]}, % right" for name in protocols)],
        "rows": rows,
        "numeric": list(range(1, 1 + len(protocols))),
        "size": f"{count(first.questions)} questions",
        "note": f"Left out, as a context had no room for them: {', '.join(left_out)}." if left_out else "",
    }


def cost_of_tuning(evaluations: Evaluations, text: str, base: str) -> str:
    """One sentence: which model lost most of the base model's grasp of a text."""
    before = evaluations[base].texts[text].bpb
    change, model = max((one.texts[text].bpb - before, model) for model, one in evaluations.items())
    if change > 0:
        return f"tuning cost {model} most: {change:+.3f} bits per byte beside {base}"
    return f"no model is worse at text than {base}"
