"""Parameters: `params.yaml`, read section by section and checked against a typed model before any work.

A section is addressed as `<phase>.<stage>`; DVC hashes exactly the sections that a stage loads here.
"""

import difflib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, overload

from pydantic import BaseModel, ConfigDict, RootModel, TypeAdapter, ValidationError

from stages.base.errors import ParamError
from stages.base.plain_yaml import read_yaml

PARAMS_FILE = Path("params.yaml")
LARGEST = 1e30  # of any number: FLOPs of a budget are at most some 1e28


class Section(BaseModel):
    """Base of all params models: strict types, unknown keys refused, frozen, no defaults by house rule.

    The string below a field says what it is; `base.reference` reads it for `trainyard explain` (pydantic would at every
    import, 3 ms a class).
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


T = TypeVar("T")


def read_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """The whole of params.yaml as plain values. Raises ParamError for a missing or unparsable file, or a key twice."""
    try:
        values = read_yaml(path, ParamError)
    except FileNotFoundError:
        raise ParamError(f"{path}: not found; run from the project's root") from None
    if not isinstance(values, dict):
        raise ParamError(f"{path}: must be a mapping of phases to stages")
    return values


def lookup(values: dict[str, Any], section: str) -> Any:
    """The value at a dotted path. Raises ParamError naming the nearest existing key."""
    here: Any = values
    for depth, part in enumerate(section.split(".")):
        if not isinstance(here, dict) or part not in here:
            known = list(here) if isinstance(here, dict) else []
            parent = ".".join(section.split(".")[:depth]) or PARAMS_FILE.name
            raise ParamError(f"params.yaml: `{section}` is missing: no `{part}` in `{parent}`{nearest(part, known)}")
        here = here[part]
    return here


@overload
def parse(section: str, value: Any, model: type[T]) -> T: ...
@overload
def parse(section: str, value: Any, model: Any) -> Any: ...
def parse(section: str, value: Any, model: Any) -> Any:
    """Check one section's value against its type: a Section, a union of Sections by `kind`, a plain type.

    Raises ParamError with one line a problem, joined by `; `.
    """
    for place, number in _numbers(section, value):
        if abs(number) > LARGEST:
            raise ParamError(f"params.yaml: `{place}`: no parameter is as large as that; use at most {LARGEST:.0e}")
    try:
        return _adapter(model).validate_python({} if value is None and sections_of(model) else value, strict=True)
    except ValidationError as error:
        raise ParamError("; ".join(_explain(section, problem, value, model) for problem in error.errors())) from None


def _numbers(place: str, value: Any) -> Iterator[tuple[str, int | float]]:
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in inner:
            yield from _numbers(f"{place}.{key}", one)
    elif isinstance(value, int | float):
        yield place, value


@cache
def _adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def load(section: str, model: type[T], path: Path = PARAMS_FILE) -> T:
    """Read and check one section of params.yaml."""
    return parse(section, lookup(read_params(path), section), model)


def _explain(section: str, problem: Any, value: Any, model: Any) -> str:
    where = ".".join([section, *_keys(problem["loc"], value)])
    match problem["type"]:
        case "extra_forbidden":
            known = _fields_at(model, problem["loc"][:-1])
            return f"params.yaml: unknown parameter `{where}`{nearest(str(problem['loc'][-1]), known)}"
        case "missing":
            return f"params.yaml: `{where}` is missing"
        case "union_tag_not_found":
            return f"params.yaml: `{where}.{problem['ctx']['discriminator'].strip(chr(39))}` is missing"
        case "union_tag_invalid":
            tag, known = problem["ctx"]["tag"], re.findall(r"'([^']*)'", problem["ctx"]["expected_tags"])
            field = problem["ctx"]["discriminator"].strip("'")
            return f"params.yaml: `{where}.{field}`: unknown {field} `{tag}`{nearest(tag, known)}"
    return f"params.yaml: `{where}`: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {problem['input']!r:.200}"


def _keys(loc: tuple[int | str, ...], value: Any) -> Iterator[str]:
    """Of a problem's place the keys that stand in the file: pydantic names the members of unions too."""
    for depth, part in enumerate(loc, 1):
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            if depth < len(loc) or not isinstance(value, dict):
                continue
        yield str(part)


def _fields_at(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that were allowed where an unknown one was met."""
    models = sections_of(model)
    for part in loc:
        tagged = [one for one in models if any(part in get_args(f.annotation) for f in one.model_fields.values())]
        fields = [one.model_fields[str(part)] for one in models if str(part) in one.model_fields]
        inner = [found for field in fields for found in sections_of(field.annotation)]
        models = inner or (tagged if len(models) > 1 and tagged else models)  # a part of loc may be a union's tag
    return sorted({name for one in models for name in one.model_fields})


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type is, or is made of."""
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        return sections_of(annotation.model_fields["root"].annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in sections_of(argument)]


def nearest(name: str, known: list[str]) -> str:
    """The remedy part of a message about an unknown name."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else f"; known here: {', '.join(known)}" if known else ""
