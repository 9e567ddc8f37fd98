"""What held-out text costs every model, beside what knows nothing of language."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from stages.base.contracts.evaluation import Controls, Position, TextLoss
from stages.publishing.evaluation.answers import BITS
from stages.publishing.evaluation.comparisons import Asked, Comparisons, Paired
from stages.publishing.evaluation.tasks import Evaluations, named
from stages.publishing.html.charts import Axis, Plot
from stages.publishing.html.numbers import count

STYLES = ("c2", "c1", "c3", "c4", "c5", "c0")  # of models, in the order of params.yaml
CONTROLS = {
    "uniform": "every byte alike",
    "unigram": "frequencies of bytes",
    "ngram": "runs of bytes",
    "gzip": "gzip",
    "lzma": "lzma",
}


def style(index: int) -> str:
    return STYLES[index % len(STYLES)] + (" dashed" if index >= len(STYLES) else "")


def key_of(evaluations: Evaluations) -> list[dict[str, str]]:
    """The legend of the models' lines."""
    return [
        {"mark": "dash" if index >= len(STYLES) else "ln", "colour": STYLES[index % len(STYLES)], "label": model}
        for index, model in enumerate(evaluations)
    ]


def text_view(
    evaluations: Evaluations, text: str, base: str, compared: Comparisons, controls: Controls | None
) -> dict[str, Any]:
    """One text: bits per byte of every model and control; perplexities; by source, domain and position."""
    found = {model: one.texts[text] for model, one in evaluations.items() if text in one.texts}
    first = found.get(base) or next(iter(found.values()))
    foreign = {model for model in found if evaluations[model].tokenizer != evaluations[base].tokenizer}
    return {
        "name": named(text),
        "size": f"{count(first.bytes)} bytes of {count(first.documents)} documents",
        "table": _bits(
            found,
            {model: compared.between(Asked(text, BITS), model, base) for model in found},
            foreign,
            base,
            _controls(found, controls),
        ),
        "reading": _reading(first, base, sorted(foreign)),
        "groups": [table for column in ("sources", "domains") if (table := _grouped(found, base, column))],
        "positions": _positions(evaluations, text, foreign),
        "warnings": [f"{model}: {warning}" for model, one in found.items() for warning in one.warnings],
    }


def _bits(
    found: Mapping[str, TextLoss],
    changes: Mapping[str, Paired | None],
    foreign: Collection[str],
    base: str,
    controls: Mapping[str, float],
) -> dict[str, Any]:
    """changes: of each model from the base model, on the same documents. foreign: models with another tokenizer, whose
    numbers a token are left out: nobody is to compare them."""
    before = found[base].bpb if base in found else None
    words = any(one.word_perplexity is not None for one in found.values())
    entropy = any(one.entropy is not None for one in found.values())
    head = ["Model", "Bits per byte", f"Change from {base}"]
    head += ["Perplexity a word", "a byte"] if words else []
    head += ["a token"] if words else ["Perplexity a token"]
    head += ["Entropy, nats a token"] if entropy else []
    rows = []
    for model, one in found.items():
        row = [model, _interval(one.bpb, one.bpb_low, one.bpb_high)]
        change = "–" if before is None or model == base else _signed(one.bpb - before)
        pair = changes[model]
        row.append(f"{change} ({_signed(pair.low)} – {_signed(pair.high)})" if pair and change != "–" else change)
        row += [_number(one.word_perplexity, 1), _number(one.byte_perplexity, 3)] if words else []
        row.append("–" if model in foreign else f"{one.perplexity:.1f}")
        row += [_number(None if model in foreign else one.entropy, 2)] if entropy else []
        rows.append(row)
    for name, bits in controls.items():
        rows.append([f"{name} (control)", f"{bits:.3f}", *[""] * (len(head) - 2)])
    return {"head": head, "rows": rows, "numeric": list(range(1, len(head))), "controls": len(controls)}


def _controls(found: Mapping[str, TextLoss], controls: Controls | None) -> dict[str, float]:
    """What knows no language, by name: of bytes, and of each model's tokens all alike (one row where they agree)."""
    named_bits = dict(controls.bpb) if controls else {}
    rows = {
        CONTROLS.get(name, named(name)): named_bits[name] for name in (*CONTROLS, *named_bits) if name in named_bits
    }
    if controls and "runs of bytes" in rows:
        rows = {f"runs of {controls.order} bytes" if name == "runs of bytes" else name: x for name, x in rows.items()}
    alike = {model: one.controls["uniform_tokens"] for model, one in found.items() if "uniform_tokens" in one.controls}
    for model, bits in alike.items():
        whose = f" of {model}" if len({f"{x:.3f}" for x in alike.values()}) > 1 else ""
        rows[f"every token{whose} alike"] = bits
    return rows


def _signed(number: float) -> str:
    return f"{number:+.3f}".replace("-", "−")


def _number(number: float | None, digits: int) -> str:
    if number is None:
        return "–"
    return count(number) if number >= 1000 else f"{number:.{digits}f}"


def _interval(number: float, low: float | None, high: float | None) -> str:
    return f"{number:.3f}" if low is None or high is None else f"{number:.3f} ({low:.3f} – {high:.3f})"


def _reading(text: TextLoss, base: str, foreign: Sequence[str]) -> str:
    said = (
        "In brackets: 95 % intervals over documents, of changes on the same ones. " if text.bpb_low is not None else ""
    )
    if text.window and text.stride:
        said += (
            f"Read {count(text.window)} tokens at a time, of which {count(text.stride)} are scored and the rest is "
            "context. "
        )
    if foreign:
        said += (
            f"Other tokens than {base}'s: {', '.join(foreign)}. Perplexities and entropies a token of different "
            "tokenizers can't be compared; bits per byte can."
        )
    else:
        said += "Perplexities a token may be compared between these models, as they share a tokenizer."
    return said


def _grouped(found: Mapping[str, TextLoss], base: str, column: str) -> dict[str, Any] | None:
    """A row each source (or domain), a column each model; the change from `base` in brackets."""
    by_model: dict[str, dict[str, float]] = {model: getattr(one, column) for model, one in found.items()}
    names = sorted({name for groups in by_model.values() for name in groups})
    if len(names) < 2:
        return None
    rows = [
        [named(name), *(_changed(by_model, model, base, name) for model in by_model)]
        for name in names
    ]  # fmt: skip
    head = [{"sources": "Source", "domains": "Domain"}[column], *by_model]
    return {"name": column, "head": head, "rows": rows, "numeric": list(range(1, len(head)))}


def _changed(by_model: Mapping[str, Mapping[str, float]], model: str, base: str, name: str) -> str:
    here = by_model[model].get(name)
    before = by_model.get(base, {}).get(name)
    if here is None:
        return "–"
    change = "" if before is None or model == base else f" ({here - before:+.3f})".replace("-", "−")
    return f"{here:.3f}{change}"


def _positions(evaluations: Evaluations, text: str, foreign: Collection[str]) -> dict[str, Any] | None:
    """Loss by the number of tokens read before, as a chart and as the table behind it, of models of one tokenizer."""
    found = {
        model: _cut(one.texts[text])
        for model, one in evaluations.items()
        if text in one.texts and model not in foreign
    }  # fmt: skip
    if not any(len(positions) > 1 for positions in found.values()):
        return None
    plot = Plot(
        Axis("tokens of context (0 drawn at ½)", log=True),
        Axis("nats a token"),
        f"loss on {named(text)} by the number of tokens of context",
        height=300,
    )
    for index, model in enumerate(evaluations):
        if not (positions := found.get(model)):
            continue
        xs = [max(0.5, (one.begin + one.end - 1) / 2) for one in positions]
        ys = [one.nats_per_token for one in positions]
        plot.line(xs, ys, style(index), model)
        notes = [f"{model}, {_span(one.begin, one.end)}: {one.nats_per_token:.3f}" for one in positions]
        plot.points(xs, ys, style(index).split()[0], notes=notes, radius=3)
    spans = sorted({(one.begin, one.end) for positions in found.values() for one in positions})
    by_span = {model: {(one.begin, one.end): one for one in positions} for model, positions in found.items()}
    rows = []
    for span in spans:
        tokens = max((own[span].tokens for own in by_span.values() if span in own), default=0)
        cells = [_number(own[span].nats_per_token if span in own else None, 3) for own in by_span.values()]
        rows.append([_span(*span), count(tokens), *cells])
    head = ["Tokens of context", "Tokens scored", *found]
    return {
        "chart": plot.svg(),
        "key": [one for one in key_of(evaluations) if one["label"] in found],
        "table": {"head": head, "rows": rows, "numeric": list(range(1, len(head)))},
    }


def _cut(text: TextLoss) -> list[Position]:
    """No token has more context than the model reads at a time."""
    most = text.window + 1 if text.window else max((one.end for one in text.positions), default=0)
    return [one.model_copy(update={"end": min(one.end, most)}) for one in text.positions]


def _span(begin: int, end: int) -> str:
    return str(begin) if end == begin + 1 else f"{begin} – {end - 1}"


def cost_of_tuning(evaluations: Evaluations, text: str, base: str) -> str:
    """One sentence: which model lost most of the base model's grasp of a text."""
    before = evaluations[base].texts[text].bpb
    change, model = max((one.texts[text].bpb - before, model) for model, one in evaluations.items())
    if change > 0:
        return f"tuning cost {model} most: {change:+.3f} bits per byte beside {base}"
    return f"no model is worse at text than {base}"
