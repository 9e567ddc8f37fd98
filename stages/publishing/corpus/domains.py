"""What the text is about: each domain's share of the filtered crawl, and of what training reads after the mixture."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.base.contracts.pack import Pack
from stages.base.errors import InputError
from stages.publishing.corpus.steps import label
from stages.publishing.html.numbers import count, number, percent

Sizes = Mapping[str, Mapping[str, float]]  # domain → documents, bytes and, of the mixture, bytes_read


def sizes(value: Any, path: str, *units: str) -> Sizes:
    """The `domains` of a histograms.json. Raises InputError where there is none, or one lacks a unit."""
    try:
        found = {str(name): {unit: float(row[unit]) for unit in units} for name, row in value["domains"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}: `domains` must map names to {', '.join(f'`{unit}`' for unit in units)}; rerun the stage that "
            "writes it (`dvc repro`)"
        ) from None
    if not found:
        raise InputError(f"{path}: no domain; rerun the stage that writes it (`dvc repro`)")
    return found


def domains_view(before: Sizes, after: Sizes, metrics: Mapping[str, Any], mix: Mapping[str, Any]) -> dict[str, Any]:
    """Paired bars, largest domain of the crawl first, on one scale.

    Parameters: `metrics`: of the domain classifier; `mix`: of the mixture, with `share_<domain>_target` where one was
    asked for.
    """
    whole = sum(row["bytes"] for row in before.values())
    read = sum(row["bytes_read"] for row in after.values())
    shares = {
        name: (_part(before, name, "bytes", whole), _part(after, name, "bytes_read", read))
        for name in {*before, *after}
    }
    widest = max((max(pair) for pair in shares.values()), default=0.0) or 1.0
    rows = []
    for name in sorted(shares, key=lambda name: (-shares[name][0], name)):
        first, second = shares[name]
        target = number(mix.get(f"share_{name}_target"))
        rows.append(
            {
                "name": label(name),
                "before": percent(first, 1),
                "after": percent(second, 1),
                "before_width": f"{100 * first / widest:.2f}",
                "after_width": f"{100 * second / widest:.2f}",
                "factor": f"× {second / first:.2f}" if first else "–",
                "documents": count(before.get(name, {}).get("documents", 0)),
                "bytes": count(before.get(name, {}).get("bytes", 0)),
                "read": count(after.get(name, {}).get("bytes_read", 0)),
                "asked": "–" if target is None else percent(target, 1),
            }
        )
    return {"rows": rows, "notes": _trust(metrics), "read": count(read), "whole": count(whole)}


def _part(table: Sizes, name: str, unit: str, whole: float) -> float:
    return table[name][unit] / whole if name in table and whole else 0.0


def _trust(metrics: Mapping[str, Any]) -> Sequence[str]:
    labelled, classified = metrics.get("labelled"), metrics.get("classified")
    if labelled is None or classified is None:
        return []
    notes = [f"{count(labelled)} documents have their domain from their address, {count(classified)} from their words."]
    accuracy, majority = metrics.get("accuracy"), metrics.get("majority_accuracy")
    if accuracy is not None and majority is not None:
        notes.append(
            f"On labelled documents that it was not trained on, the classifier is right in {percent(accuracy, 1)}; "
            f"always naming the largest domain would be in {percent(majority, 1)}."
        )
    return notes


def mixture_view(pack: Pack) -> dict[str, Any]:
    """Unique tokens, tokens with repeats and epochs of each source."""
    rows = []
    for source in sorted({*pack.train.sources, *pack.anneal.sources}):
        train, anneal = pack.train.sources.get(source), pack.anneal.sources.get(source)
        unique, seen = (train.unique_tokens, train.tokens) if train else (0, 0)
        epochs = f"{seen / unique:.2f}" if unique else "–"
        rows.append([label(source), count(unique), count(seen), epochs, count(anneal.tokens if anneal else 0)])
    head = ["Source", "Unique tokens", "Tokens in training", "Epochs", "Tokens in the anneal"]
    return {"head": head, "rows": rows, "numeric": [1, 2, 3, 4]}
