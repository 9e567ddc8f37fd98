"""Scales: complete sets of params, composed of `scales/laptop.yaml`, an overlay beside it and single `key=value`s.

An overlay holds what differs. Mappings merge, but one of another `kind` replaces; `null` removes an item of a mapping
of items, and is a value like any other elsewhere. `base.reference` knows which is which, and which names there are.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.base.errors import ParamError
from stages.base.params import PARAMS_FILE, nearest, read_params
from stages.base.plain_yaml import parse_yaml
from stages.base.reference import Schema, child, items_of, members

SCALES = Path("scales")
COMPLETE = SCALES / "laptop.yaml"
Values = dict[str, Any]


def scale_file(name: str) -> Path:
    """Raises ParamError naming the nearest scale."""
    path, known = SCALES / f"{name}.yaml", sorted(one.stem for one in SCALES.glob("*.yaml"))
    if name not in known:
        raise ParamError(f"{path}: no such scale{nearest(name, known)}")
    return path


def compose(names: list[str], settings: list[str], schema: Schema) -> tuple[Path, Values]:
    """The file whose comments and order hold, and the values: scales laid over the complete one in turn (without any,
    params.yaml as it is), `key=value` settings on top. Raises ParamError naming the file or the setting."""
    base = COMPLETE if names else PARAMS_FILE
    values = read_scale(base)
    for path in map(scale_file, names):
        if path != base:
            values = lay(values, read_scale(path), schema, str(path))
    for setting in settings:
        values = lay(values, _setting(setting), schema, setting)
    return base, values


def read_scale(path: Path) -> Values:
    """Raises ParamError for a file that isn't YAML or has a key twice."""
    return read_params(path)


def _setting(text: str) -> Values:
    key, sign, value = text.partition("=")
    if not sign or not all(key.split(".")):
        raise ParamError(f"{text}: must be key=value, as in corpus.dedup.jaccard=0.8")
    values: Any = parse_yaml(value, text, ParamError)
    for part in reversed(key.split(".")):
        values = {part: values}
    return values


def lay(base: Values, over: Values, schema: Schema, source: str, path: str = "") -> Values:
    """`over` laid over `base`, both of the mapping that stands at `path`. Raises ParamError for an unknown name."""
    merged = dict(base)
    kind = {"kind": over.get("kind", base.get("kind"))}
    for key, value in over.items():
        here = f"{path}.{key}" if path else str(key)
        try:
            inner = child(schema, str(key), kind, path)
        except ParamError as error:
            raise ParamError(str(error).replace(PARAMS_FILE.name, source, 1)) from None
        if value is None and any(items_of(one) for one in members(schema, kind)):
            if key not in base:
                raise ParamError(f"{source}: `{here}` is not there to be removed{nearest(str(key), list(base))}")
            del merged[key]
        elif isinstance(value, dict):
            old = base.get(key)
            same = isinstance(old, dict) and value.get("kind", old.get("kind")) == old.get("kind")
            merged[key] = lay(old if same and isinstance(old, dict) else {}, value, inner, source, here)
        else:
            merged[key] = value
    return merged


def leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of each leaf, in order; an empty mapping is one."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, values


def changes(old: Values, new: Values) -> list[str]:
    """One line a leaf that differs: `key: old → new`, `key: new, was not there`, `key: gone`."""
    before, after = dict(leaves(old)), dict(leaves(new))
    lines = []
    for key in dict.fromkeys([*before, *after]):
        if key not in after:
            lines.append(f"- {key}: {before[key]!r}")
        elif key not in before:
            lines.append(f"+ {key}: {after[key]!r}")
        elif before[key] != after[key] or type(before[key]) is not type(after[key]):
            lines.append(f"  {key}: {before[key]!r} → {after[key]!r}")
    return lines


def render(base: Path, values: Values) -> str:
    """`values` as text with the order and comments of `base`, in the form in which DVC writes params.yaml.

    `dvc exp run --set-param` parses the file, changes a value and writes all of it again, lists in block style: a file
    in that form changes by that value's line only.
    """
    from ruamel.yaml import YAML

    form = YAML()
    form.default_flow_style = False
    document = form.load(base.read_text(encoding="utf-8"))
    _set(document, values)
    _unfold(document)
    text = io.StringIO()
    form.dump(document, text)
    if parse_yaml(text.getvalue(), base, ParamError) != values:
        raise ParamError(f"{base}: not in a form that can be written back; keep anchors and merge keys out of it")
    return text.getvalue()


def _set(document: Any, values: Mapping[str, Any]) -> None:
    for key in [key for key in document if key not in values]:
        del document[key]
    for key, value in values.items():
        old = document.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and value:
            _set(old, value)
        elif key not in document or old != value or isinstance(old, bool) != isinstance(value, bool):
            document[key] = value


def _unfold(document: Any) -> None:
    """Plain lists in place of those in brackets, each with its comment beside the key."""
    for key, value in document.items():
        if isinstance(value, list):
            document[key] = list(value)
            comment = document.ca.items.get(key) if hasattr(document, "ca") else None
            if comment and comment[2]:
                comment[2].start_mark.column = 0
        elif isinstance(value, dict):
            _unfold(value)
