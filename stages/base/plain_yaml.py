"""The one reader of YAML: params.yaml, scales, overlays, claims, tasks, dvc.yaml and DVC's lock.

It reads YAML 1.2, as DVC does, at the speed of C. Every file may be a stranger's: a few lines of aliases can stand for
billions of values, libyaml's composer overflows the stack on deep nesting, and of a key that stands twice YAML keeps
the last in silence. So a file is bounded before anything is made of it, by its stream of events, which needs no
recursion, and what is wrong with it is one line with the file and the line.
"""

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from stages.base.errors import InputError, TrainyardError
from stages.base.terminal import one_line

DEEPEST = 64  # levels of lists and mappings
MOST = 200_000  # values, each alias counted as all that it stands for


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The plain values of YAML 1.2 as ruamel.yaml reads them for DVC: `010` is 10, `0o10` is 8, `1e-3` a number, `off`
    a text. Only dates are texts here, as in YAML 1.2's core schema. What a value can't be is told with its line."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # of `!!int x`, and of 5,000 digits
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node).replace("_", "")
        prefixed = text.lstrip("+-")[:2] in ("0b", "0o", "0x")
        return int(text, 0 if prefixed else 10)


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (
        "float",
        r"[-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.[0-9_]+([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("int", r"[-+]?0b[01_]+|[-+]?0o[0-7_]+|[-+]?0x[0-9a-fA-F_]+|[-+]?[0-9_]+", "-+0123456789"),
    ("merge", "<<", "<"),
):
    _whole = re.compile(rf"^(?:{_pattern})$")
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _whole, ["" if c == "\0" else c for c in _first])


def read_yaml(path: Path, error: type[TrainyardError] = InputError) -> Any:
    """The plain values of a file; None for an empty one. Raises `error` naming file, line and remedy, FileNotFoundError
    for one that isn't there."""
    return parse_yaml(_text(path, error), path, error)


def parse_yaml(text: str, where: str | Path, error: type[TrainyardError] = InputError) -> Any:
    """The plain values of a text; None for an empty one. Raises `error`, naming `where` and the line, for what is no
    YAML, too deep, too much, refers to itself, or has a key twice."""
    node = _compose(text, where, error)
    return None if node is None else values_of(node, where, error)


def read_nodes(path: Path) -> yaml.MappingNode | None:
    """The mapping that a file is, not yet made values; None for an empty file. Keys are plain texts or numbers.

    Raises InputError naming file and line for what `read_yaml` refuses, and for all but a mapping.
    """
    try:
        node = _compose(_text(path, InputError), path, InputError)
    except FileNotFoundError:
        raise InputError(f"{path}: not found") from None
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise InputError(f"{path}: must be a mapping of keys")
    return node


def values_of(node: yaml.Node, where: str | Path, error: type[TrainyardError] = InputError) -> Any:
    """The plain values of nodes. Raises `error` naming the line of one that can't be what it says."""
    loader = Loader("")
    try:
        return loader.construct_document(node)
    except yaml.YAMLError as found:
        raise error(_told(where, found)) from None
    finally:
        loader.dispose()


def _text(path: Path, error: type[TrainyardError]) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as found:
        raise error(f"{path}: can't be read: {getattr(found, 'strerror', None) or found}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as found:
        line, byte = data.count(b"\n", 0, found.start) + 1, data[found.start]
        raise error(f"{path}:{line}: not UTF-8 (byte {byte:#04x}, as in Latin-1); save it as UTF-8") from None


def _compose(text: str, where: str | Path, error: type[TrainyardError]) -> yaml.Node | None:
    try:
        _bound(text, where, error)
        node = yaml.compose(text, Loader=Loader)
    except (ValueError, yaml.YAMLError) as found:
        raise error(_told(where, found)) from None
    if twice := _check_keys(node, where, error):
        raise error(f"{where}: {'; '.join(twice)}")
    return node


def _check_keys(node: yaml.Node | None, where: str | Path, error: type[TrainyardError]) -> list[str]:
    """Keys that stand twice in one mapping, with both lines. Raises `error` for a key that is no plain value."""
    found = []
    seen: set[int] = set()
    pending: list[tuple[str, yaml.Node | None]] = [("", node)]
    while pending:
        path, here = pending.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        if isinstance(here, yaml.SequenceNode):
            pending += [(path, one) for one in here.value]
        elif isinstance(here, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in here.value:
                line = key.start_mark.line + 1
                if not isinstance(key, yaml.ScalarNode):
                    raise error(f"{where}:{line}: a key must be a text, not a list or mapping")
                name = f"{path}.{key.value}".lstrip(".")
                if key.value in lines:
                    found.append(f"`{one_line(name, 200)}` stands twice, on lines {lines[key.value]} and {line}")
                lines.setdefault(key.value, line)
                pending.append((name, value))
    return found


def _bound(text: str, where: str | Path, error: type[TrainyardError]) -> None:
    sizes: dict[str | None, int | None] = {}  # by anchor: the values it stands for; None while it is open
    opened: list[tuple[str | None, int]] = []  # (anchor, values before it)
    total = 0
    for event in yaml.parse(text, Loader=Loader):
        line = event.start_mark.line + 1 if event.start_mark is not None else 0
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 0)  # an unknown one is the composer's to tell
            if size is None:
                name = f"{event.anchor:.80}"
                raise error(f"{where}:{line}: `*{name}` stands within `&{name}`: it would never end")
            total += size
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.NodeEvent):
            total += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1 if isinstance(event, yaml.ScalarEvent) else None
            if isinstance(event, yaml.CollectionStartEvent):
                opened.append((event.anchor, total - 1))
        if len(opened) > DEEPEST:
            raise error(f"{where}:{line}: more than {DEEPEST} lists and mappings within each other")
        if total > MOST:
            raise error(f"{where}:{line}: more than {MOST:,} values, with all that its aliases (`*name`) stand for")


def _told(where: str | Path, found: Exception) -> str:
    mark = getattr(found, "problem_mark", None)
    line = f":{mark.line + 1}" if mark is not None else ""
    return f"{where}{line}: not valid YAML: {' '.join((getattr(found, 'problem', None) or str(found)).split())[:200]}"
