"""Examples before a question, chosen as the LM Evaluation Harness chooses them."""

from collections.abc import Sequence

from stages.evaluation.tasks.declaration import TaskFile
from stages.evaluation.tasks.item import Item

SEED = 1234
"""lm-eval's own (`fewshot_random_seed`)."""


def choose_shots(task: TaskFile, items: Sequence[Item], item: Item, n: int, seed: int = SEED) -> list[Item]:
    """`n` examples for one of `items` (all that `load` gave). Raises InputError where there aren't as many."""
    raise NotImplementedError
