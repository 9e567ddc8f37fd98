"""What params.yaml may hold, remembered between commands: to ask all stage modules takes seconds, and one edit of
params concerns few of them.

The file in the project's store is of one state of the code; another state has its own.
"""

import hashlib
import importlib
import json
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from stages.base.errors import ParamError
from stages.base.files import atomic_path
from stages.base.params import parse
from stages.base.pipeline import Declared
from stages.base.reference import Schema, params_schema
from stages.base.store import project_store

STATES = 4  # of the code that are remembered


class Sections:
    """The sections of params.yaml. `save` keeps what was learned."""

    def __init__(self) -> None:
        self._file = project_store() / "sections" / f"{_code()}.json"
        try:
            self._kept: dict[str, Any] = json.loads(self._file.read_bytes())
        except (FileNotFoundError, ValueError):
            self._kept = _read_all()
        self._known: dict[str, str] = self._kept["known"]
        self._seen: dict[tuple[str, int], tuple[Any, str]] = {}
        self._saved = len(self._known) if self._file.exists() else -1

    @cached_property
    def schema(self) -> Schema:
        """Of the whole file, as `base.reference.params_schema` makes it."""
        return self._kept["schema"]

    def check(self, values: dict[str, Any]) -> list[Declared]:
        """The pipeline that these params make. Raises ParamError with every problem, as `check` would."""
        from stages.check import check_items, instances, unknown_sections

        problems = []
        for section, module in self._kept["modules"].items():
            try:
                found = list(instances(values, section.split(".")))
            except ParamError as error:
                problems.append(str(error))
                continue
            problems += [problem for name, value in found if (problem := self._problem(section, module, name, value))]
        problems += unknown_sections(values, {tuple(section.split(".")) for section in self._kept["modules"]}, ())
        if problems:
            raise ParamError("; ".join(dict.fromkeys(problems)))
        return check_items(values)

    def _problem(self, section: str, module: str, name: str, value: Any) -> str:
        # Arms share most of their params as the very same objects, which are kept so that an address means one of them.
        if (seen := self._seen.get((name, id(value)))) is not None:
            return seen[1]
        key = hashlib.sha256(json.dumps([name, value], ensure_ascii=False).encode()).hexdigest()[:24]
        if key not in self._known:
            try:
                parse(name, value, importlib.import_module(module).PARAMS[section])
                self._known[key] = ""
            except ParamError as error:
                self._known[key] = str(error)
        self._seen[name, id(value)] = value, self._known[key]
        return self._known[key]

    def save(self) -> None:
        if len(self._known) == self._saved:
            return
        with atomic_path(self._file) as temporary:
            temporary.write_text(
                json.dumps({**self._kept, "known": dict(sorted(self._known.items()))}), encoding="utf-8"
            )
        for old in sorted(self._file.parent.glob("*.json"), key=lambda path: -path.stat().st_mtime)[STATES:]:
            old.unlink(missing_ok=True)


def _read_all() -> dict[str, Any]:
    from stages.check import declared_sections

    return {"schema": params_schema(declared_sections()), "modules": dict(_modules()), "known": {}}


def _modules() -> Iterator[tuple[str, str]]:
    """Each section with the module that declares it; the last one's word holds, as for `check`."""
    from stages.base.pipeline import modules
    from stages.check import PARAMS

    yield from ((section, "stages.check") for section in PARAMS)
    for name in modules():
        module = f"stages.{name}"
        yield from ((section, module) for section in importlib.import_module(module).PARAMS)


def _code() -> str:
    """Digest of all that can change a section: code, dvc.yaml, Python and pydantic."""
    import pydantic

    digest = hashlib.sha256(f"{sys.version} {pydantic.VERSION}".encode())
    for path in [Path("dvc.yaml"), *sorted(Path("stages").rglob("*.py"))]:
        if path.is_file():
            digest.update(f"{path}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]
