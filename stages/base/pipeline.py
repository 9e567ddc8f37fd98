"""The pipeline as declared: `dvc.yaml` with its foreach items expanded from `params.yaml`, in order."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stages.base.errors import ParamError
from stages.base.params import lookup, read_params

_REFERENCE = re.compile(r"\$\{([^}]+)\}")
ITEM_KEY = re.compile(r"^[a-z][a-z0-9_]*$")


@dataclass(frozen=True)
class Declared:
    """One stage instance: `name` is `<phase>.<stage>` of its module, `item` the foreach key."""

    label: str  # as DVC prints it: `respond@sft`
    name: str
    item: str | None
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return Path("data").joinpath(*self.name.split("."), *([self.item] if self.item else []))


def read_pipeline(root: Path = Path(".")) -> list[Declared]:
    """Every stage instance of `root/dvc.yaml`. Raises ParamError for a bad item key."""
    values = read_params(root / "params.yaml")
    text = (root / "dvc.yaml").read_text(encoding="utf-8")
    declared = []
    for label, body in yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"].items():
        if "foreach" not in body:
            declared.append(_declare(label, None, body, {}, values))
            continue
        items = lookup(values, _REFERENCE.fullmatch(body["foreach"]).group(1))  # type: ignore[union-attr]
        for key, item in items.items():
            if not ITEM_KEY.match(key):
                raise ParamError(f"params.yaml: item key `{key}` must match {ITEM_KEY.pattern}")
            declared.append(_declare(f"{label}@{key}", key, body["do"], {"key": key, "item": item}, values))
    return declared


def _declare(label: str, key: str | None, body: dict[str, Any], scope: dict[str, Any], values: dict) -> Declared:
    def fill(text: str) -> str:
        return _REFERENCE.sub(lambda match: str(lookup({**values, **scope}, match.group(1))), text)

    module = re.search(r"-m\s+stages\.([\w.]+)", body["cmd"])
    if module is None:
        raise ParamError(f"dvc.yaml: stage `{label}` must run `python -m stages.<phase>.<stage>`")
    return Declared(
        label=label,
        name=module.group(1),
        item=key,
        deps=tuple(fill(dep) for dep in body.get("deps", [])),
        params=tuple(fill(param) for param in body.get("params", [])),
        outs=tuple(fill(out if isinstance(out, str) else next(iter(out))) for out in body.get("outs", [])),
    )
