"""Reading a task's YAML, and finding one by name."""

from pathlib import Path

from stages.evaluation.tasks.declaration import TaskFile
from stages.evaluation.tasks.groups import Group


def read_task_file(path: Path, data: str | None = None) -> TaskFile:
    """`data`: a folder or file with the documents, in place of the source that the file names.

    Raises InputError naming file and line of an unknown key (with the nearest known one) and of code.
    """
    raise NotImplementedError


def find_task(name: str, data: str | None = None) -> TaskFile:
    """By its key in evaluation.tasks, as the path of its file, or in the shipped library, in this order.

    Raises InputError with the nearest names.
    """
    raise NotImplementedError


def find_tasks(names: list[str], data: str | None = None) -> tuple[list[TaskFile], list[Group]]:
    """Tasks, with the members of those names that are groups or tags, and the groups met."""
    raise NotImplementedError
