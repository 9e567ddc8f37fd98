"""The import closure of a stage: the project files whose edit can change what the stage computes.

Found from the syntax tree, lazy imports included, without importing anything. `stages.check` writes the closure's
digests to a file that the stage depends on; a record and a checkpoint carry one digest of it.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = "stages"
ROOT = Path(__file__).resolve().parents[2]


def module_file(module: str, root: Path = ROOT) -> Path | None:
    """Path, relative to the root, of a project module; a package stands for its `__init__.py`."""
    base = Path(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if (root / candidate).is_file():
            return candidate
    return None


def entry_file(module: str, root: Path = ROOT) -> Path:
    """The file that `python -m module` runs."""
    main = Path(*module.split(".")) / "__main__.py"
    path = main if (root / main).is_file() else module_file(module, root)
    if path is None:
        raise FileNotFoundError(f"no module {module} below {root}")
    return path


def _package_files(module: str, root: Path) -> list[Path]:
    """`__init__.py` of every package on the way to a module, which importing it runs too."""
    parts = module.split(".")
    candidates = [Path(*parts[:depth]) / "__init__.py" for depth in range(1, len(parts) + 1)]
    return [path for path in candidates if (root / path).is_file()]


@cache
def imports(path: Path, root: Path = ROOT) -> tuple[str, ...]:
    """Dotted names of the project modules that a file imports anywhere in it, sorted."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((root / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            if node.level:
                raise SyntaxError(f"{path}:{node.lineno}: relative imports are not used here")
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if module_file(inner, root) else node.module)
    return tuple(sorted(found))


@cache
def closure(module: str, root: Path = ROOT) -> list[Path]:
    """Every project file that running `module` loads, sorted; empty `__init__.py` files are left out."""
    entry = entry_file(module, root)
    pending = [entry, *_package_files(module, root)]
    seen = set(pending)
    while pending:
        for name in imports(pending.pop(), root):
            for path in [*_package_files(name, root), module_file(name, root)]:
                if path is not None and path not in seen:
                    seen.add(path)
                    pending.append(path)
    return sorted(path for path in seen if (root / path).stat().st_size > 0)


def code_files(module: str, root: Path = ROOT) -> dict[str, str]:
    """Path → digest of each file of the closure: what a stage's result may depend on, and nothing else."""
    return {path.as_posix(): _tree_digest(path, root) for path in closure(module, root)}


def code_digest(module: str, root: Path = ROOT) -> str:
    """One sha256 over the closure."""
    return digest_of(code_files(module, root))


def digest_of(files: dict[str, str]) -> str:
    """One sha256 over what `code_files` says."""
    digest = hashlib.sha256()
    for path, tree in sorted(files.items()):
        digest.update(f"{path}\0{tree}\n".encode())
    return digest.hexdigest()


@cache
def _tree_digest(path: Path, root: Path) -> str:
    tree = ast.parse((root / path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_docstring(statement)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_docstring(statement: ast.stmt) -> bool:
    """A string that stands alone: of a module, a class, a function or the field before it."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
