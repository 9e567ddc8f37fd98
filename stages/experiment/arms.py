"""The params of a claim's runs: the scale, what all arms share, what one arm changes, its seeds, in this order."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.base import scales
from stages.base.errors import ParamError
from stages.base.params import PARAMS_FILE
from stages.base.plain_yaml import parse_yaml
from stages.base.reference import Schema, items_of, members
from stages.base.scales import SCALES, Values
from stages.experiment.declaration import Declaration, nested

_KEPT: dict[tuple[Any, ...], Values] = {}


def compose(declaration: Declaration, arm: str, seed: Mapping[str, int], schema: Schema) -> Values:
    """All params of one run, for the project in the working folder; not to be changed by the caller.

    `seed` is one of `declaration.seed_values()`, `schema` what `base.reference.params_schema` makes of all sections.
    An arm of another revision has the project's values, without params that the revision's params.yaml doesn't have
    and with those that it alone has. Raises ParamError naming the declaration and the key.
    """
    file = str(declaration.path or declaration.name)
    chosen = declaration.arm[arm]
    try:
        values = _base(tuple(declaration.scale), schema)
        if chosen.revision is not None:
            theirs = _params_at(chosen.revision)
            schema, values = _with_names(schema, theirs), _as_known_to(theirs, values, schema)
    except ParamError as error:
        raise ParamError(f"{file}: {error}") from None
    values = scales.lay(values, nested(declaration.set, "set"), schema, f"{file}: `set`")
    values = scales.lay(values, chosen.overlay, schema, f"{file}: `arms.{arm}`")
    for axis, value in seed.items():
        over: Any = value
        for part in reversed(axis.split(".")):
            over = {part: over}
        values = scales.lay(values, over, schema, f"{file}: `seeds`")
    return values


def differences(declaration: Declaration, schema: Schema) -> dict[str, dict[str, Any]]:
    """Arm → the params in which any two arms differ, as dotted names; None where an arm has no such param."""
    seed = declaration.seed_values()[0]
    flat = {arm: dict(scales.leaves(compose(declaration, arm, seed, schema))) for arm in declaration.arms}
    names = dict.fromkeys(name for values in flat.values() for name in values)
    found: dict[str, dict[str, Any]] = {arm: {} for arm in flat}
    for name in names:
        here = [values.get(name) for values in flat.values()]
        if any(value != here[0] or type(value) is not type(here[0]) for value in here):
            for arm, value in zip(flat, here, strict=True):
                found[arm][name] = value
    return found


def _base(names: tuple[str, ...], schema: Schema) -> Values:
    files = [str(SCALES / f"{name}.yaml") for name in ("laptop", *names)] if names else [str(PARAMS_FILE)]
    here = os.getcwd()
    stamp = (here, *((one, os.stat(one).st_mtime_ns if os.path.exists(one) else 0) for one in files))
    if stamp not in _KEPT:
        _KEPT[stamp] = scales.compose(list(names), [], schema)[1]
    return _KEPT[stamp]


def _params_at(revision: str) -> Values:
    """params.yaml of a git revision."""
    key = (str(Path.cwd()), revision)
    if key not in _KEPT:
        done = subprocess.run(
            ["git", "show", f"{revision}:./{PARAMS_FILE}"], capture_output=True, text=True, check=False, timeout=30
        )
        if done.returncode:
            told = " ".join(done.stderr.split()).removeprefix("fatal: ") or "git finds no params.yaml there"
            raise ParamError(f"revision `{revision}`: {told}; `git log` shows the revisions there are")
        _KEPT[key] = parse_yaml(done.stdout, f"{revision}:{PARAMS_FILE}", ParamError)
    return _KEPT[key]


def _as_known_to(theirs: Values, values: Values, schema: Schema) -> Values:
    """`values` without the params that `theirs` doesn't have, and with those that only it has. Items are the user's
    and stay as they are in `values`."""
    if any(items_of(one) for one in members(schema, values)):
        return values
    known = {key: value for key, value in values.items() if key in theirs}
    for key, value in theirs.items():
        if key not in known:
            known[key] = value
        elif isinstance(value, dict) and isinstance(known[key], dict):
            known[key] = _as_known_to(value, known[key], schema.get("properties", {}).get(key, {}))
    return known


def _with_names(schema: Schema, theirs: Any) -> Schema:
    """`schema` with the names of `theirs` that it doesn't know, of any type."""
    if not isinstance(theirs, dict) or any(items_of(one) for one in members(schema, theirs)):
        return schema
    properties = dict(schema.get("properties", {}))
    for key, value in theirs.items():
        properties[key] = _with_names(properties.get(key, {}), value)
    return {**schema, "properties": properties}
