"""What a source file documents, read from its syntax tree: docstrings, signatures, and docstrings of C objects."""

import ast
import re
import warnings
from dataclasses import dataclass, field, replace
from inspect import cleandoc
from pathlib import Path
from typing import NamedTuple

ADDERS = frozenset({"add_newdoc", "add_docstr", "_add_docstr", "add_docstr_all"})
ADDERS_BYTES = [name.encode() for name in sorted(ADDERS)]
PLACEHOLDER_LINE = re.compile(r"^\s*\{\w+\}\s*$", re.MULTILINE)
PLACEHOLDER = re.compile(r"(?<!\{)\{(\w+)\}(?!\})")


@dataclass(frozen=True)
class Entry:
    """A documented object."""

    name: str  # dotted below the module: `Generator.normal`
    kind: str  # function, class, method, data
    signature: str
    doc: str
    members: tuple["Entry", ...] = ()

    @property
    def chars(self) -> int:
        return len(self.doc) + sum(member.chars for member in self.members)


@dataclass(frozen=True)
class Module:
    name: str  # the public name under which it is documented
    source: str  # the dotted name of the file
    doc: str
    entries: tuple[Entry, ...] = field(default=())


def public_prefix(module: str) -> str:
    """`numpy._core.fromnumeric` → `numpy`: the part of a dotted name before its first private component."""
    parts = module.split(".")
    private = next((i for i, part in enumerate(parts) if part.startswith("_")), len(parts))
    return ".".join(parts[:private])


class File(NamedTuple):
    """A source file."""

    tree: ast.Module
    attaches: bool  # whether it may attach docstrings to C objects: walking a tree takes as long as parsing it


def parse(path: Path) -> File | None:
    """The file, or None if it isn't Python that this interpreter can parse."""
    try:
        source = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escape sequences in others' docstrings
            return File(ast.parse(source), any(name in source for name in ADDERS_BYTES))
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
        return None


def exported(tree: ast.Module) -> set[str] | None:
    """Names in a literal `__all__`, or None if there is none."""
    names: set[str] | None = None
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AugAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            constants = [inner.value for inner in ast.walk(node.value) if isinstance(inner, ast.Constant)]
            names = (names or set()) | {value for value in constants if isinstance(value, str)}
    return names


def imported_names(tree: ast.Module) -> set[str]:
    """Names that a package's `__init__` imports one by one, which makes them public there."""
    return {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name != "*"
    }


def read_module(module: str, file: File, package_exports: set[str]) -> Module:
    """The documented public objects of a module.

    A private module (`numpy._core.fromnumeric`) is documented under its public prefix, with the objects that its own
    `__all__` or a package above it makes public; C objects come from the calls that attach their docstrings.
    """
    public, tree = public_prefix(module), file.tree
    names = exported(tree)
    private = public != module
    entries = []
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if private and node.name not in (names or set()) | package_exports:
            continue
        entry = _entry(node, "")
        if entry.chars:
            entries.append(entry)
    prefix = f"{public.split('.')[-1]}_"  # torch attaches `linalg_cond` in torch.linalg
    if file.attaches:
        entries += [replace(entry, name=entry.name.removeprefix(prefix)) for entry in _attached(tree)]
    return Module(public, module, "" if private else _docstring(tree), tuple(entries))


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return _text(ast.get_docstring(node, clean=True) or "")


def _text(doc: str) -> str:
    """Only what UTF-8 can hold: docstrings may have lone surrogates and control characters."""
    kept = doc
    if not doc.replace("\n", "").replace("\t", "").isprintable():
        kept = "".join(c for c in doc if c in "\n\t" or c.isprintable())
    return kept.encode("utf-8", "ignore").decode("utf-8").expandtabs(4)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> str:
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{name}({ast.unparse(node.args)}){result}"


def _entry(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, owner: str) -> Entry:
    name = f"{owner}.{node.name}" if owner else node.name
    if not isinstance(node, ast.ClassDef):
        return Entry(name, "method" if owner else "function", _signature(node, name), _docstring(node))
    members = [
        _entry(inner, name)
        for inner in node.body
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and not inner.name.startswith("_")
    ]
    inits = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    arguments = re.sub(r"^self(, )?(/, )?", "", ast.unparse(inits[0].args)) if inits else ""
    distinct = {member.name: member for member in members if member.doc}  # overloads and setters share a name
    return Entry(name, "class", f"class {name}({arguments})", _docstring(node), tuple(distinct.values()))


def _attached(tree: ast.Module) -> list[Entry]:
    """Docstrings that a call attaches to a C object: numpy's `add_newdoc`, torch's `add_docstr`."""
    found: dict[str, Entry] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or len(node.args) < 2:
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called not in ADDERS:
            continue
        for name, doc in _targets(called, node.args):
            lines = cleandoc(doc).split("\n\n", 1)
            signed = len(lines) == 2 and re.fullmatch(r"[\w.]+\(.*\)(\s*->.*)?", lines[0].strip(), re.DOTALL)
            text = _text(lines[1] if signed else "\n\n".join(lines)).strip()
            if name and text and not name.split(".")[-1].startswith("_"):
                found.setdefault(name, Entry(name, "function", _text(lines[0]) if signed else name, text))
    return [found[name] for name in sorted(found)]


def _targets(called: str, args: list[ast.expr]) -> list[tuple[str, str]]:
    """(object name, docstring) pairs of one attaching call."""
    if called == "add_newdoc":
        if len(args) < 3:
            return []
        owner, last = _literal(args[1]), args[2]
        pairs = last.elts if isinstance(last, ast.List) else [last]
        found = []
        for pair in pairs:
            if isinstance(pair, ast.Tuple) and len(pair.elts) == 2:
                found.append((f"{owner}.{_literal(pair.elts[0])}", _literal(pair.elts[1])))
            else:
                found.append((owner, _literal(pair)))
        return found
    if called == "add_docstr_all":
        return [(f"Tensor.{_literal(args[0])}", _literal(args[1]))]
    parts = ast.unparse(args[0]).split(".")
    return [(".".join(parts[1:] if len(parts) > 1 else parts), _literal(args[1]))]


def _literal(node: ast.expr) -> str:
    """The constant text of an expression: a string, strings added up, or a string with `.format(...)` called on it."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _literal(node.left) + _literal(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        inner = _literal(node.func.value)
        return _fill(inner) if node.func.attr == "format" else inner
    return ""


def _fill(doc: str) -> str:
    """Template slots that nothing fills here: whole lines go, the others lose their braces."""
    return PLACEHOLDER.sub(r"\1", PLACEHOLDER_LINE.sub("", doc)).replace("{{", "{").replace("}}", "}")
