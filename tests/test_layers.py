"""Who may import whom (docs/architecture.md), read from the syntax tree of every module."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PHASES = {
    "corpus", "tokens", "scaling", "pretraining", "evaluation", "alignment", "judging", "experiment", "publishing",
}  # fmt: skip
MAY_IMPORT = {
    "base": {"base"},
    "lm": {"base", "lm"},
    "annotators": {"base", "annotators"},
    **{phase: {"base", "lm", "annotators", phase} for phase in PHASES},
}
BARE_BASE = {"conversation", "errors", "files", "progress", "seeds", "signals", "workers"}
FOR_TYPES = {"recipe", "contracts"}  # of base: sections and contracts that lm is handed, and never makes
MODULES = sorted((ROOT / "stages").rglob("*.py"))


def imported(path: Path, *, running: bool = False) -> list[str]:
    """running: what is imported for type checkers alone is left out."""
    names = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if running:
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def named(path: Path) -> set[str]:
    """Rooms that strings of a module name, as what is started with `-m` is; docstrings may tell of any."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in told]
    return {room for text in texts if isinstance(text, str) for room in re.findall(r"\bstages\.(\w+)\.\w", text)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_respect_the_layers(path: Path) -> None:
    relative = path.relative_to(ROOT / "stages")
    room = relative.parts[0] if len(relative.parts) > 1 else None
    names = imported(path)
    assert not [name for name in names if name.split(".")[0] == "dvc"], "nothing imports dvc"
    if relative.parts[:2] != ("publishing", "tracking"):
        assert not [name for name in names if name.split(".")[0] == "mlflow"], "only publishing/tracking imports mlflow"
    if room in (None, "commands"):
        return
    rooms = {name.split(".")[1] for name in names if name.startswith("stages.") and name.count(".")}
    rooms |= named(path)
    assert rooms <= MAY_IMPORT[room], f"{room} may not know {sorted(rooms - MAY_IMPORT[room])}"
    if room == "lm":
        outside = {name.split(".")[0] for name in names} & {"pandas", "pydantic", "yaml", "sklearn", "scipy", "openai"}
        assert not outside, "lm runs on a bare GPU machine: torch, numpy, tokenizers, safetensors, pyarrow"
        base, run = (
            {name.split(".")[2] for name in found if name.startswith("stages.base.")}
            for found in (names, imported(path, running=True))
        )
        assert run <= BARE_BASE and base <= BARE_BASE | FOR_TYPES, f"lm may use {sorted(BARE_BASE)} of base only"
    if room == "base":
        assert not {name.split(".")[0] for name in names} & {"torch", "mlflow", "pandas"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
