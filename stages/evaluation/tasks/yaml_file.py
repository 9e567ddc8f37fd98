"""A task's YAML: read, with what it includes, and found by name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from stages.base.artifacts import TASKS
from stages.base.errors import InputError
from stages.base.files import read_json
from stages.base.params import PARAMS_FILE, nearest, read_params
from stages.base.plain_yaml import read_nodes, values_of
from stages.evaluation.tasks.declaration import TaskFile
from stages.evaluation.tasks.groups import Group

LIBRARY = Path(__file__).parent / "library"
CODE = {
    "class": "a task that is a Python class",
    "custom_dataset": "documents that Python code makes",
    "process_docs": "documents that Python code changes; say it in the templates",
    "process_results": "scores that Python code computes",
    "unsafe_code": "answers that are run as code",
    "use_prompt": "a prompt of promptsource",
    "doc_to_image": "images",
    "doc_to_audio": "sounds",
    "recipe": "a recipe of unitxt",
}
"""Keys of lm-eval's files that are code, or other things than text."""
PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}
"""Tags of values that are data; `!function` and all others are code to someone."""
MOST_INCLUDED, MOST_MEMBERS = 100, 10_000  # files of one task; members of the groups that are asked for


class Place(NamedTuple):
    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def read_task_file(path: Path, data: str | None = None) -> TaskFile:
    """Of a YAML, or a folder that holds one. `data`: a folder or file with the documents, in place of the source that
    the file names.

    Raises InputError naming file and line of an unknown key (with the nearest known one), of a value that can't be, and
    of what is code.
    """
    path = _only_yaml(path)
    values, places = _merged(path)
    if _is_group(values):
        raise InputError(f"{path}: `{values['group']}` is a group of tasks, not a task")
    return _checked(path, values, places, {} if data is None else {"data_dir": data})


def _only_yaml(path: Path) -> Path:
    """The YAML at a path, or the only one in that folder."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.yaml"))
    if len(found) != 1:
        raise InputError(f"{path}: {len(found)} YAML files; a folder holds one task's")
    return found[0]


def read_group_file(path: Path) -> Group:
    """A file that names tasks, or groups, and how their scores become one."""
    values, places = _merged(path)
    try:
        return Group.model_validate({**values, "file": str(path)})
    except ValidationError as error:
        raise InputError(_explained(path, error, places, Group)) from None


def _checked(path: Path, values: dict[str, Any], places: dict[str, Place], over: dict[str, Any]) -> TaskFile:
    for key, what in CODE.items():
        if key in values:
            raise InputError(f"{places[key]}: `{key}`: {what}; a task here is data alone")
    known = [name for name in TaskFile.model_fields if name not in ("file", "built")]
    for key in values:
        if key not in known:
            raise InputError(f"{places[key]}: unknown key `{key}`{nearest(key, known)}")
    given = {key: value for key, value in values.items() if value is not None}
    if isinstance(given.get("data_dir"), str) and not Path(given["data_dir"]).is_absolute():
        given["data_dir"] = (path.parent / given["data_dir"]).as_posix()
    shown = path.relative_to(LIBRARY.parent) if path.is_relative_to(LIBRARY) else path
    try:
        return TaskFile.model_validate({"task": path.stem, **given, **over, "file": shown.as_posix()})
    except ValidationError as error:
        raise InputError(_explained(path, error, places, TaskFile)) from None


def _explained(path: Path, error: ValidationError, places: Mapping[str, Place], model: Any) -> str:
    problem = error.errors()[0]
    keys = [str(part) for part in problem["loc"]]
    where = places.get(keys[0]) if keys else None
    name = ".".join(keys) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"{where or path}: unknown key `{name}`{nearest(keys[-1], list(model.model_fields))}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where or path}: `{name}`: {message[0].lower()}{message[1:]}"


def _merged(
    path: Path, seen: tuple[Path, ...] = (), read: list[Path] | None = None
) -> tuple[dict[str, Any], dict[str, Place]]:
    """A file's values over those of the files that it includes, and where each stands. seen: the files that include
    it; read: all that were read so far."""
    read = [] if read is None else read
    read.append(path)
    if path.resolve() in seen:
        raise InputError(f"{path}: includes itself")
    if len(read) > MOST_INCLUDED:
        raise InputError(f"{read[0]}: includes more than {MOST_INCLUDED} files, those within each other counted")
    own, own_places = _read(path)
    values: dict[str, Any] = {}
    places: dict[str, Place] = {}
    included = own.pop("include", None) or ()
    for name in included if isinstance(included, list | tuple) else [included]:
        if not isinstance(name, str) or "\0" in name or not (path.parent / name).is_file():
            raise InputError(f"{own_places['include']}: `include` names files; {str(name)[:60]!r} is none")
        more, more_places = _merged(path.parent / name, (*seen, path.resolve()), read)
        more.pop("task_list", None)
        values |= more
        places |= more_places
    return values | own, places | own_places


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Place]]:
    node = read_nodes(path)
    if node is None:
        return {}, {}
    places = {str(key.value): Place(path, key.start_mark.line + 1) for key, _ in node.value}
    for key, value in node.value:
        for inner in _nodes(value):
            if inner.tag not in PLAIN:
                said = f"{inner.tag} {inner.value if isinstance(inner.value, str) else ''}".strip()
                raise InputError(
                    f"{path}:{inner.start_mark.line + 1}: `{key.value}` is code ({said}); a task here is data alone: "
                    "say it as a template, or write the documents to a file first"
                )
        if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            raise InputError(f"{places[str(key.value)]}: unknown key `{key.value}`: a key is a text")
    return values_of(node, path), places


def _nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    yield node
    if isinstance(node, yaml.SequenceNode):
        for one in node.value:
            yield from _nodes(one)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _nodes(key)
            yield from _nodes(value)


class Entry(NamedTuple):
    """A file of a folder, by its kind."""

    path: Path
    is_group: bool
    tags: tuple[str, ...]
    other: Path | None = None  # another file of the same name


@cache
def entries(folder: Path) -> dict[str, Entry]:
    """Tasks and groups of a folder and the folders in it, by name; those that can't be read are left out."""
    found: dict[str, Entry] = {}
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("[!.]*/*.yaml")]):
        try:
            values, _ = _merged(path)
        except InputError:
            continue
        is_group = _is_group(values)
        tags = values.get("tag") or ()
        name = str(values["group"] if is_group else values.get("task", path.stem))
        if name in found:
            found[name] = found[name]._replace(other=path)
            continue
        found[name] = Entry(path, is_group, (tags,) if isinstance(tags, str) else tuple(tags))
    return found


def _is_group(values: Mapping[str, Any]) -> bool:
    return "group" in values and not isinstance(values.get("task"), str)


def find_task(name: str, data: str | None = None) -> TaskFile:
    """By its key in evaluation.tasks, as the path of its file, or in the shipped library, in this order.

    `data`: a folder or file with the documents, in place of the task's own source. Raises InputError with the nearest
    names, and for the name of a group.
    """
    tasks, groups = find_tasks([name], data)
    if groups or len(tasks) != 1:
        raise InputError(f"{name}: a group of {len(tasks)} tasks, not a task")
    return tasks[0]


def find_tasks(names: list[str], data: str | None = None) -> tuple[list[TaskFile], list[Group]]:
    """Tasks, with the members of those names that are groups or tags, and the groups with all their tasks.

    With `data`, a member of a group is looked for in the folder of its name there, where it has one.
    """
    found = _Found()
    for name in names:
        _find(name, data, LIBRARY, {}, found)
    return list(found.tasks.values()), list(found.groups.values())


@dataclass
class _Found:
    tasks: dict[str, TaskFile] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    within: list[Path] = field(default_factory=list)  # files of the groups that are being read
    members: int = 0  # of all groups, those within each other counted


def _find(name: str, data: str | None, folder: Path, over: Mapping[str, Any], found: _Found) -> list[str]:
    """The names of the tasks that `name` is or stands for, put into `found`; `folder`: where names are looked up."""
    declared = _declared(name, data) if folder == LIBRARY and not over else None
    if declared is not None:
        return [_add(declared, over, found)]
    path = folder / name if folder != LIBRARY and (folder / name).exists() else Path(name)
    if path.suffix in (".yaml", ".yml") or (path.is_dir() and any(path.glob("*.yaml"))):
        path = _only_yaml(path)
        if _is_group(_merged(path)[0]):
            return _find_group(path, data, path.parent, over, found)
        return [_add(read_task_file(path, data), over, found)]
    known = entries(folder)
    if name in known and known[name].other is not None:
        raise InputError(f"{known[name].path} and {known[name].other}: both are named `{name}`; rename one")
    if name in known and known[name].is_group:
        return _find_group(known[name].path, data, folder, over, found)
    if name in known:
        return [_add(read_task_file(known[name].path, data), over, found)]
    if tagged := [one for one, entry in known.items() if name in entry.tags]:
        return [each for one in tagged for each in _find(one, data, folder, over, found)]
    if folder != LIBRARY:
        return _find(name, data, LIBRARY, over, found)
    raise InputError(f"no task `{name}`{nearest(name, sorted({*known, *_params_tasks()}))}")


def _find_group(path: Path, data: str | None, folder: Path, over: Mapping[str, Any], found: _Found) -> list[str]:
    if path.resolve() in found.within:
        raise InputError(f"{path}: the group is a member of itself")
    group = read_group_file(path)
    found.members += len(group.task)
    if found.members > MOST_MEMBERS:
        raise InputError(f"{path}: more than {MOST_MEMBERS:,} members, those of groups within groups counted")
    found.within.append(path.resolve())
    members, names = [], []
    for member in group.task:
        own = Path(data, member.task) if data is not None else None
        place = own.as_posix() if own is not None and own.exists() else data
        for name in _find(member.task, place, folder, {**over, **member.over}, found):
            names.append(name)
            members.append(member.model_copy(update={"task": name}))
    found.within.pop()
    found.groups[group.group] = group.model_copy(update={"task": tuple(members)})
    return names


def _add(task: TaskFile, over: Mapping[str, Any], found: _Found) -> str:
    if over:
        try:
            task = TaskFile.model_validate({**task.model_dump(), **over, "task": task.task})
        except ValidationError as error:
            raise InputError(_explained(Path(task.file), error, {}, TaskFile)) from None
    if found.tasks.setdefault(task.task, task) != task:
        raise InputError(f"the task `{task.task}` is asked for twice, in two ways ({task.file}); ask for one at a time")
    return task.task


def _params_tasks() -> dict[str, Any]:
    if not PARAMS_FILE.exists():
        return {}
    tasks = (read_params().get("evaluation") or {}).get("tasks")
    return tasks if isinstance(tasks, dict) else {}


def _declared(name: str, data: str | None) -> TaskFile | None:
    """A key of evaluation.tasks: as the stage `task` left it, or of its own file where that is what it names."""
    params = _params_tasks().get(name)
    if params is None:
        return None
    if params["kind"] == "file":
        return read_task_file(Path(params["path"]), data).model_copy(update={"task": name})
    if params["kind"] == "library":
        return find_in_library(params["task"], data or params["path"]).model_copy(update={"task": name})
    if data is not None:
        raise InputError(f"evaluation.tasks.{name}: a task of kind {params['kind']} takes no other data")
    try:
        return TaskFile.model_validate(read_json(Path(TASKS, name, "task.json")))
    except InputError:
        raise InputError(f"evaluation.tasks.{name}: not built yet; run `dvc repro task@{name}`") from None


def find_in_library(name: str, data: str | None = None) -> TaskFile:
    """A shipped task by name."""
    known = {one: entry for one, entry in entries(LIBRARY).items() if not entry.is_group}
    if name not in known:
        raise InputError(f"no shipped task `{name}`{nearest(name, sorted(known))}")
    return read_task_file(known[name].path, data)
