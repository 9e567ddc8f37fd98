"""What goes to a tracker, as plain values: names it accepts, params flattened, metrics, and which records are current.

No tracker is imported here: `client` sends what this module prepares.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from stages.base import closure
from stages.base.errors import TrainyardError
from stages.base.files import read_json
from stages.base.params import lookup, read_params
from stages.publishing.lineage.records import Graph, LineageError, Record, read_records

NAME = re.compile(r"[^A-Za-z0-9_\-./: ]")  # what MLflow 3.17 accepts in a key; `@`, `(` and `%` are refused
KEY_LIMIT, VALUE_LIMIT, BATCH = 250, 6000, 1000  # MLflow's own limits
IGNORED = {  # provider of an annotator → params that it doesn't read (`annotators.client`)
    "simulated": (
        "api_key_env", "base_url", "concurrency", "logprobs", "max_cost_usd", "max_retries", "max_tokens", "model",
        "prompt", "temperature", "timeout_s", "usd_per_million_input", "usd_per_million_output",
    ),
    "openai": ("pool",),
}  # fmt: skip
# Below stages/: what may be edited without a change of any result. By path, as other rooms have files of these names.
UNTRACKED = (Path("commands"), Path("publishing/tracking"), Path("cli.py"))


def key(name: str) -> str:
    """A tracker key for any name."""
    return NAME.sub("_", name)[:KEY_LIMIT]


def digest(value: Any) -> str:
    """sha256 of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested dicts by dotted name; a list is a leaf."""
    if isinstance(value, dict):
        for name in sorted(value, key=str):
            yield from flatten(value[name], f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, value


def params_of(record: Record) -> dict[str, str]:
    """The stage's params that count, as short strings; names are relative to the sections' own."""
    found = dict(flatten(_counting(dict(record.params))))
    if record.seed is not None:
        found["seed"] = record.seed
    return {key(name): short(value) for name, value in found.items()}


def _counting(value: Any) -> Any:
    """Without what another provider would read: a simulated annotator asks no model at any address."""
    if not isinstance(value, dict):
        return value
    ignored = IGNORED.get(value.get("provider", ""), ()) if isinstance(value.get("provider"), str) else ()
    return {name: _counting(inner) for name, inner in value.items() if name not in ignored}


def short(value: Any) -> str:
    """A value as text within MLflow's limit."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return text if len(text) <= VALUE_LIMIT else text[: VALUE_LIMIT - 1] + "…"


def numbers(value: Any) -> dict[str, float]:
    """The finite numeric leaves of a nested value."""
    return {
        key(name): float(leaf)
        for name, leaf in flatten(value)
        if isinstance(leaf, int | float) and not isinstance(leaf, bool) and abs(float(leaf)) < float("inf")
    }


def metrics_of(record: Record) -> dict[str, float]:
    """`metrics.json`, row counts and drop reasons of a finished stage."""
    found: dict[str, float] = {}
    path = record.path.with_name("metrics.json")
    if path.exists():
        found |= numbers(read_json(path))
    if record.rows:
        found |= numbers({"rows": record.rows})
    return found


def current_records(code: Path) -> list[Record]:
    """Records that stand for params.yaml and the code as they are, in path order.

    A record is left out if its params or code have changed since (or its item is gone), or if anything it read was
    written by such a record: while a pipeline reruns, what lies downstream is still the old run's.
    """
    values, records = read_params(), read_records()
    graph, verdicts = Graph(records), dict[str, bool]()

    def current(record: Record) -> bool:
        if record.label not in verdicts:
            verdicts[record.label] = _own_state_holds(record, values, code.parent) and all(
                _writers_current(path, digest) for path, digest in record.inputs.items()
            )
        return verdicts[record.label]

    def _writers_current(path: str, digest: str) -> bool:
        try:
            return all(current(writer) for writer in graph.producers(path, digest))
        except LineageError:
            return False

    return [record for record in records if current(record)]


def _own_state_holds(record: Record, values: dict[str, Any], root: Path) -> bool:
    try:
        same = all(lookup(values, section) == found for section, found in record.params.items())
        return same and _code_now(record.stage, root) == record.code
    except (TrainyardError, FileNotFoundError):
        return False


@cache
def _code_now(stage: str, root: Path) -> str:
    """Digest of a stage's code. What `check` wrote since the last edit saves seconds of reading it."""
    checked = Path("data", "check", "code", f"{stage}.json")
    if checked.is_file() and checked.stat().st_mtime > _edited(root):
        return closure.digest_of(read_json(checked))
    return closure.code_digest(f"stages.{stage}", root)


@cache
def _edited(root: Path) -> float:
    return max(path.stat().st_mtime for path in (root / closure.PACKAGE).rglob("*.py"))


def forget_code() -> None:
    """Read the code anew: digests are kept for the life of a process, and a follower outlives an edit."""
    _code_now.cache_clear()
    _edited.cache_clear()
    closure.imports.cache_clear()
    closure._tree_digest.cache_clear()


def pipeline_fingerprint(code: Path) -> str:
    """sha256 of all params and of the code that can change a result: one parent run each."""
    digest = hashlib.sha256(json.dumps(read_params(), sort_keys=True).encode())
    for path in sorted(code.rglob("*.py")):
        name = path.relative_to(code)
        if not any(name.is_relative_to(untracked) for untracked in UNTRACKED):
            digest.update(f"{name.as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()
