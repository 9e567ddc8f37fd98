"""A light stage run once more, beside what it wrote: its outputs are compared, nothing of the project is touched."""

import contextlib
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel

from stages.base.closure import code_digest
from stages.base.errors import InputError, TrainyardError
from stages.base.record import StageRun
from stages.publishing.lineage.audit import Audit
from stages.publishing.lineage.chain import Finding
from stages.publishing.lineage.project import Project
from stages.publishing.lineage.records import Record

OTHER_CODE = "this Trainyard's code isn't the run's (check out its revision)"
BROKEN = (LookupError, ArithmeticError, RuntimeError, AssertionError)  # what code makes of a stranger's tables
TOLERANCE = 1e-9  # relative: the last bits of a float depend on the machine's linear algebra


class Rerun(StageRun[Any]):
    """A stage's run in the working folder whose texts are kept and not published."""

    def __init__(self, name: str, model: type[BaseModel], seed: str | None, staging: Path, sealed: bool) -> None:
        self.texts: dict[str, str] = {}
        self.sealed = sealed
        super().__init__(name, None, model, seed, staging)

    def input(self, path: str | Path) -> Path:
        """Raises InputError where a stranger's params or lists lead out of the folder."""
        if self.sealed and (Path(path).is_absolute() or ".." in Path(path).parts):
            raise InputError(f"{path}: leads out of the bundle")
        return super().input(path)

    def publish(self, path: str | Path, text: str) -> None:
        self.texts[Path(path).as_posix()] = text


def recompute(
    record: Record,
    model: type[BaseModel],
    seed: str | None,
    compute: Callable[[StageRun[Any]], None],
    project: Project,
    audit: Audit,
) -> int:
    """Run a stage without items again and compare each output with what stands in the project: bytes, or where these
    differ the numbers of a JSON. Returns how many agree; contradictions go to the audit."""
    needed = [path for path in record.inputs if project.files.place(path) is None]
    if needed:
        audit.unchecked.append(Finding(needed[0], f"needed to recompute {record.label}; not here"))
        return 0
    if any(not (project.root / path).exists() for path in record.inputs):
        audit.unchecked.append(
            Finding(record.label, "not recomputed: its inputs are only in DVC's cache (`dvc checkout`)")
        )
        return 0
    same_code = code_digest(f"stages.{record.stage}") == record.code
    agreed = 0
    with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        staging = Path(scratch).resolve()
        try:
            if project.params is None:
                raise InputError("params.yaml: not here")
            with contextlib.chdir(project.root):
                run = Rerun(record.stage, model, seed, staging, project.sealed)
                compute(run)
        except (TrainyardError, OSError, ValueError, TypeError, AttributeError, *BROKEN) as error:
            problem = f"can't be recomputed from what stands here: {error}"
            if same_code:
                audit.add([Finding(record.label, problem)])
            else:
                audit.unchecked.append(Finding(record.label, f"{problem}; {OTHER_CODE}"))
            return 0
        folder = record.path.parent.relative_to(project.root)
        made = {(folder / file.relative_to(staging)).as_posix(): file.read_bytes() for file in staging.rglob("*.json")}
        made |= {path: text.encode() for path, text in run.texts.items()}
    for path, content in sorted(made.items()):
        place = project.files.place(path)
        if place is None:
            audit.unchecked.append(Finding(path, f"recomputed by {record.label}; not here to be compared"))
            continue
        found = list(_differences(place.read_bytes(), content, same_code))
        agreed += not found
        if found and not same_code and PurePosixPath(path).suffix != ".json":
            audit.unchecked.append(Finding(path, f"its text wasn't compared: {OTHER_CODE}"))
        else:
            remark = "" if same_code else f"; {OTHER_CODE}"
            audit.add(Finding(path, f"{what}{remark}") for what in found[:20])
    return agreed


def _differences(stands: bytes, made: bytes, same_code: bool) -> Iterator[str]:
    if stands == made:
        return
    try:
        pair = json.loads(stands), json.loads(made)
    except (ValueError, RecursionError):
        yield "is not what its stage makes of the tables that stand here; `dvc repro` makes it anew"
        return
    yield from _unequal(*pair, "", same_code)


def _unequal(stands: Any, made: Any, name: str, same_code: bool) -> Iterator[str]:
    """Places of two JSON values whose numbers differ by more than rounding, or that differ otherwise. Other code may
    know other columns: then those of both are compared."""
    if isinstance(stands, dict) and isinstance(made, dict):
        for key in sorted({*stands, *made} if same_code else {*stands} & {*made}):
            yield from _unequal(stands.get(key), made.get(key), f"{name}.{key}" if name else key, same_code)
    elif isinstance(stands, list) and isinstance(made, list) and len(stands) == len(made):
        for place, pair in enumerate(zip(stands, made, strict=True)):
            yield from _unequal(*pair, f"{name}[{_row_name(pair[1], place)}]", same_code)
    elif not _close(stands, made):
        yield f"`{name}` is {str(stands)[:80]}, recomputed {str(made)[:80]}"


def _row_name(row: Any, place: int) -> str:
    return str(row["model"]) if isinstance(row, dict) and "model" in row else str(place)


def _close(stands: Any, made: Any) -> bool:
    if isinstance(stands, float) or isinstance(made, float):
        numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (stands, made))
        return numbers and math.isclose(stands, made, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(stands) is type(made) and stands == made
