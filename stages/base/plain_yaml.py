"""A stranger's YAML file: bounded in depth and in what its aliases stand for before anything is made of it.

A few lines of aliases can stand for billions of values, and libyaml's composer overflows the stack on deep nesting.
Neither shows in the stream of events, which needs no recursion.
"""

from pathlib import Path
from typing import Any, ClassVar

import yaml

from stages.base.errors import InputError
from stages.base.params import Loader

DEEPEST = 64  # levels of lists and mappings
MOST = 200_000  # values, each alias counted as all that it stands for


class _Loader(Loader):
    """Values as params has them; what a value can't be is told with its line."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = Loader.yaml_implicit_resolvers

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # of `!!int x`, and of 5,000 digits
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None


def read_nodes(path: Path) -> yaml.MappingNode | None:
    """The mapping that a file is, not yet made values; None for an empty file. Keys are plain texts or numbers.

    Raises InputError naming file and line for what is no YAML, too deep, too much, or refers to itself.
    """
    try:
        text = path.read_text(encoding="utf-8")
        _bound(path, text)
        node = yaml.compose(text, Loader=_Loader)
    except FileNotFoundError:
        raise InputError(f"{path}: not found") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{_place(path, error)}: not a readable YAML file: {_line(error)}") from None
    if node is None:
        return None
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{path}: must be a mapping of keys")
    pending: list[yaml.Node] = [node]
    while pending:
        here = pending.pop()
        if isinstance(here, yaml.SequenceNode):
            pending += here.value
        elif isinstance(here, yaml.MappingNode):
            for key, value in here.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise InputError(f"{path}:{key.start_mark.line + 1}: a key must be a text, not a list or mapping")
                pending.append(value)
    return node


def values_of(node: yaml.Node, path: Path) -> Any:
    """The plain values of a file's nodes. Raises InputError naming file and line of one that can't be what it says."""
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise InputError(f"{_place(path, error)}: not a readable YAML file: {_line(error)}") from None
    finally:
        loader.dispose()


def _bound(path: Path, text: str) -> None:
    sizes: dict[str | None, int | None] = {}  # by anchor: the values it stands for; None while it is open
    opened: list[tuple[str | None, int]] = []  # (anchor, values before it)
    total = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark is not None else 0
        where = f"{path}:{line}"
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 0)  # an unknown one is the composer's to tell
            if size is None:
                raise InputError(f"{where}: `*{event.anchor}` stands within `&{event.anchor}`: it would never end")
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
            raise InputError(f"{where}: more than {DEEPEST} lists and mappings within each other")
        if total > MOST:
            raise InputError(f"{where}: more than {MOST:,} values, with all that its aliases (`*name`) stand for")


def _place(path: Path, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{path}:{mark.line + 1}" if mark is not None else str(path)


def _line(error: Exception) -> str:
    return " ".join((getattr(error, "problem", None) or str(error)).split())[:200]
