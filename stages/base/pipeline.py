"""The pipeline as declared: `dvc.yaml` with its foreach items expanded from `params.yaml`, in order."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from stages.base.errors import ParamError
from stages.base.params import lookup, read_params
from stages.base.plain_yaml import parse_yaml

_REFERENCE = re.compile(r"\$\{([^}]+)\}")
_MODULE = re.compile(r"-m\s+stages\.([\w.]+)")
ITEM_KEY = re.compile(r"^[a-z][a-z0-9_]*$")


@dataclass(frozen=True)
class Declared:
    """One stage instance: `name` is `<phase>.<stage>` of its module, `item` the foreach key."""

    label: str  # as DVC prints it: `respond@sft`
    name: str
    item: str | None
    cmd: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]
    uncached: tuple[str, ...] = ()  # outs that DVC hashes and does not keep
    section: str | None = None  # of params: the item itself, `models.import.mine`

    @property
    def folder(self) -> Path:
        return folder_of(self.name).joinpath(*([self.item] if self.item else []))


def folder_of(name: str) -> Path:
    """Where a stage module writes, and below which its items stand if it has some."""
    return Path("data").joinpath(*name.split("."))


def read_pipeline(root: Path = Path("."), values: dict[str, Any] | None = None) -> list[Declared]:
    """Every stage instance of `root/dvc.yaml`, for its params.yaml or for other values.

    Raises ParamError for a bad item key and for a value that the file refers to and doesn't find.
    """
    values = read_params(root / "params.yaml") if values is None else values
    text = _text(root)
    try:  # many sets of params make one pipeline: of their values it depends on those alone that the file refers to
        key = (text, repr([lookup(values, reference) for reference in _references(text)]))
    except ParamError:
        return _declared(text, values)
    if key not in _READ:
        _READ[key] = _declared(text, values)
    return list(_READ[key])


_READ: dict[tuple[str, str], list[Declared]] = {}


def _declared(text: str, values: dict[str, Any]) -> list[Declared]:
    declared = []
    for label, body in _parsed(text).items():
        if "foreach" not in body:
            declared.append(_declare(label, None, body, {}, values))
            continue
        for key, item in (lookup(values, _items(body)) or {}).items():
            if not ITEM_KEY.match(str(key)):
                raise ParamError(f"params.yaml: item key `{_items(body)}.{key}` must match {ITEM_KEY.pattern}")
            declared.append(
                _declare(f"{label}@{key}", key, body["do"], {"key": key, "item": item}, values, _items(body))
            )
    return declared


def modules(root: Path = Path(".")) -> dict[str, list[str]]:
    """The stage modules of `root/dvc.yaml` (`<phase>.<stage>`), each with the mappings that its items come from."""
    found: dict[str, list[str]] = {}
    for label, body in _parsed(_text(root)).items():
        items = found.setdefault(_module(label, body.get("do", body)), [])
        items += [_items(body)] if "foreach" in body else []
    return found


def _text(root: Path) -> str:
    try:
        return (root / "dvc.yaml").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParamError("dvc.yaml: not found; run from the project's root") from None


@lru_cache(maxsize=8)
def _parsed(text: str) -> dict[str, Any]:
    values = parse_yaml(text, "dvc.yaml", ParamError)
    if not isinstance(values, dict) or not isinstance(values.get("stages"), dict):
        raise ParamError("dvc.yaml: must be a mapping with the key `stages`; restore it from git")
    return values["stages"]


@lru_cache(maxsize=8)
def _references(text: str) -> list[str]:
    """Params that the file refers to, those of foreach items within the mappings that they come from."""
    found = dict.fromkeys(_REFERENCE.findall(text))
    return [name for name in found if name.partition(".")[0] not in ("key", "item")]


def _items(body: dict[str, Any]) -> str:
    return _REFERENCE.fullmatch(body["foreach"]).group(1)  # type: ignore[union-attr]


def _module(label: str, body: dict[str, Any]) -> str:
    module = _MODULE.search(body["cmd"])
    if module is None:
        raise ParamError(f"dvc.yaml: stage `{label}` must run `python -m stages.<phase>.<stage>`")
    return module.group(1)


def _flags(out: str | dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {} if isinstance(out, str) else next(iter(out.values()))


def _declare(
    label: str, key: str | None, body: dict[str, Any], scope: dict[str, Any], values: dict, items: str = ""
) -> Declared:
    def fill(text: str) -> str:
        if "${" not in text:
            return text
        return _REFERENCE.sub(lambda match: str(lookup({**values, **scope}, match.group(1))), text)

    outs = {fill(out if isinstance(out, str) else next(iter(out))): out for out in body.get("outs", [])}
    return Declared(
        label=label,
        name=_module(label, body),
        item=key,
        cmd=fill(body["cmd"]),
        deps=tuple(fill(dep) for dep in body.get("deps", [])),
        params=tuple(fill(param) for param in body.get("params", [])),
        outs=tuple(outs),
        uncached=tuple(path for path, out in outs.items() if _flags(out).get("cache") is False),
        section=f"{items}.{key}" if key else None,
    )
