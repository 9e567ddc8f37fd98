"""Keep the code deps of dvc.yaml equal to the import closures: `trainyard deps [--write]`.

Only the lines `- stages/….py` below a stage's `deps:` are touched; everything else in the file stays as it is.
"""

import re
from pathlib import Path

from stages.base.closure import closure
from stages.base.errors import ParamError

DVC_FILE = Path("dvc.yaml")
_STAGE = re.compile(r"^  (\w+):\s*$")
_COMMAND = re.compile(r"^\s+cmd: python -m stages\.([\w.]+)")
_DEPS = re.compile(r"^(\s+)deps:\s*$")
_CODE = re.compile(r"^\s+- stages/\S+\.py\s*$")


def with_code_deps(text: str, root: Path) -> str:
    """The text of dvc.yaml with every stage's code deps rewritten. Raises ParamError for a stage without a cmd."""
    lines: list[str] = []
    stage, module, pending = "", "", None
    for line in text.splitlines():
        if match := _STAGE.match(line):
            stage, module = match.group(1), ""
        if match := _COMMAND.match(line):
            module = match.group(1)
        if _CODE.match(line):
            continue
        if pending is not None and not line.startswith(f"{pending}  - "):
            lines += _code_lines(module, pending, root)
            pending = None
        lines.append(line)
        if match := _DEPS.match(line):
            if not module:
                raise ParamError(f"dvc.yaml: stage `{stage}`: `cmd: python -m stages.…` must come before `deps:`")
            pending = match.group(1)
    if pending is not None:
        lines += _code_lines(module, pending, root)
    return "\n".join(lines) + "\n"


def _code_lines(module: str, indent: str, root: Path) -> list[str]:
    if module == "check":  # it imports every stage module, so it depends on the folder
        return []
    return [f"{indent}  - {path.as_posix()}" for path in closure(f"stages.{module}", root)]


def update(write: bool, root: Path = Path(".")) -> bool:
    """True if dvc.yaml was already right; rewrites it if `write`."""
    path = root / DVC_FILE
    text = path.read_text(encoding="utf-8")
    wanted = with_code_deps(text, root)
    if write and wanted != text:
        path.write_text(wanted, encoding="utf-8")
    return wanted == text
