"""Items of a task's documents."""

from stages.evaluation.tasks.declaration import TaskFile
from stages.evaluation.tasks.item import Item


def load(task: TaskFile, key: str, limit: int | None = None) -> list[Item]:
    """Items of the split that is asked (`test`, the first `limit`) and those that examples are drawn from.

    Raises InputError naming the file and the item that can't be asked.
    """
    raise NotImplementedError
