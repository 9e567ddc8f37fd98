"""What the run of a pipeline says of it: scale, params that differ, headline metrics, data sets, what it changed."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.base import artifacts
from stages.base.errors import TrainyardError
from stages.base.files import folder_digest, read_json
from stages.base.params import read_params
from stages.base.scales import COMPLETE, SCALES, leaves
from stages.publishing.lineage.records import Record

METRICS = Path("reports/metrics.json")
KNOBS = (  # asked for so often that every pipeline says them, default or not
    "run.seed",
    "corpus.seed",
    "corpus.dedup.jaccard",
    "tokens.tokenizer.vocab_size",
    "recipe.lr",
    "alignment.base",
    "alignment.sft.lr",
    "alignment.dpo.betas",
    "alignment.dpo.lr",
    "alignment.ppo.kl",
)
SHOWN = (  # columns of the saved view, those of them that the pipelines have
    "pretrain/loss",
    "pretrain/bpb",
    "sft/right",
    "dpo/right",
    "dpo/lc",
    "dpo/lc_low",
    "dpo/lc_high",
    "ppo/right",
    "ppo/lc",
    "grpo/right",
    "grpo/lc",
)
DATASETS = {  # file that the pipeline made → what it is used for
    artifacts.TRAIN: "training",
    artifacts.VALIDATION: "validation",
    artifacts.INSTRUCTIONS: "instructions",
    artifacts.PREFERENCES: "preferences",
    artifacts.TASKS: "tests",
}
FIGURE = re.compile(r"<svg\b.*?</svg>", re.DOTALL)


@dataclass(frozen=True)
class Scale:
    """The scale that params.yaml is nearest to. changed: dotted name → (its value there, the value here)."""

    name: str
    changed: dict[str, tuple[Any, Any]]


def nearest_scale(values: Mapping[str, Any]) -> Scale:
    """The file of scales/ whose values differ least from these; of equals, the complete one, then by name."""
    here = dict(leaves(values))
    found = []
    for path in sorted(SCALES.glob("*.yaml"), key=lambda path: (path != COMPLETE, path.name)):
        try:
            complete = read_params(COMPLETE)
            there = dict(leaves(complete if path == COMPLETE else _laid(complete, read_params(path))))
        except TrainyardError:
            continue
        names = sorted({*here, *there})
        found.append(
            Scale(path.stem, {n: (there.get(n), here.get(n)) for n in names if here.get(n, n) != there.get(n, n)})
        )
    return min(found, key=lambda scale: len(scale.changed), default=Scale("", {}))


def _laid(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """As `base.scales.lay`, where there is no schema to say which mappings are items: null removes any mapping."""
    merged = dict(base)
    for key, value in over.items():
        old = base.get(key)
        if value is None and isinstance(old, dict):
            del merged[key]
        elif isinstance(value, dict):
            same = isinstance(old, dict) and value.get("kind", old.get("kind")) == old.get("kind")
            merged[key] = _laid(old if same and isinstance(old, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def name_of(scale: Scale, fingerprint: str) -> str:
    """What tells a run apart in a list: `laptop dpo.betas=[0.5] 3f2a`."""
    changed = [f"{'.'.join(key.split('.')[-2:])}={new}" for key, (_, new) in scale.changed.items()]
    told = changed if len(changed) <= 2 else [changed[0], f"{len(changed) - 1} more"]
    return " ".join(_short(part) for part in (scale.name or "pipeline", *told, fingerprint[:4]))


def headline_of(records: Iterable[Record]) -> tuple[dict[str, float], float]:
    """The metrics that pipelines are compared by and when they were written; of the pages that there are."""
    writers = [record for record in records if record.stage.startswith("publishing.")]
    metrics: dict[str, float] = {}
    written = 0.0
    for record in writers:
        path = record.path.with_name("summary.json")
        if METRICS.as_posix() in record.outputs and METRICS.exists():
            return read_json(METRICS), METRICS.stat().st_mtime
        if path.exists():
            metrics |= read_json(path)["metrics"]
            written = max(written, path.stat().st_mtime)
    return metrics, written


def digests_of(records: Sequence[Record]) -> dict[str, str]:
    """Path of each data set → sha256 of the file; of a folder, of what it holds."""
    written = {path: digest for record in records for path, digest in record.outputs.items()}
    found = {}
    for path in DATASETS:
        inside = {out: digest for out, digest in written.items() if out.startswith(f"{path}/")}
        if path in written:
            found[path] = written[path]
        elif inside:
            found[path] = folder_digest(path, inside)
    return found


def note(scale: Scale, metrics: Mapping[str, float], baseline: Mapping[str, float], name: str) -> str:
    """Markdown: what differs from the scale, and the headline beside the baseline's (`name` of its run)."""
    lines = [f"Scale `{scale.name}`, nothing changed."]
    if scale.changed:
        lines = [f"Scale `{scale.name}` but for", ""]
        lines += [f"- `{key}`: {_short(old)} → {_short(new)}" for key, (old, new) in scale.changed.items()]
    shared = [key for key in metrics if key in baseline and metrics[key] != baseline[key]]
    if shared := [key for key in shared if not key.endswith(("_low", "_high"))]:
        lines += ["", f"| | {name} | here | difference |", "|---|---|---|---|"]
        lines += [
            f"| {key} | {baseline[key]:.4g} | {metrics[key]:.4g} | {metrics[key] - baseline[key]:+.3g} |"
            for key in shared
        ]
        lines += ["", "One training run each: differences of a rerun's size mean nothing (`trainyard experiment`)."]
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = "not there" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def figures(pages: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """(name, SVG) of every chart of the pages, each with its page's colours."""
    for page in pages:
        text = page.read_text(encoding="utf-8")
        style = "".join(re.findall(r"<style>.*?</style>", text, re.DOTALL))
        for number, svg in enumerate(FIGURE.findall(text), 1):
            label = re.search(r'aria-label="([^"]*)"', svg)
            name = re.sub(r"\W+", "_", label.group(1) if label else "").strip("_")[:60]
            start = svg.index(">")
            space = "" if "xmlns=" in svg[:start] else ' xmlns="http://www.w3.org/2000/svg"'
            yield f"{page.stem}_{number:02d}_{name}.svg", f"{svg[:start]}{space}>{style}{svg[start + 1 :]}"
