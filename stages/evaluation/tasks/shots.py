"""Examples before a question, chosen as the LM Evaluation Harness chooses them: the same ones, item by item."""

from collections.abc import Sequence
from random import Random

from stages.base.errors import InputError
from stages.evaluation.tasks.declaration import TaskFile
from stages.evaluation.tasks.item import Item

SEED = 1234
"""lm-eval's own (`fewshot_random_seed`)."""


class Examples:
    """What examples are drawn from, by subject where a task names one, and the draws already made."""

    def __init__(self, task: TaskFile, items: Sequence[Item]) -> None:
        self.task = task
        self.items = items
        self._pools: dict[str, list[Item]] = {}
        self._places: dict[str, int] = {}
        self._asked: dict[tuple[str, str], list[Item]] = {}
        self._streams: dict[tuple[str, str, int, int], _Stream] = {}
        others = any(item.split == "development" for item in items)
        for item in items:
            group = self._group(item)
            if item.split == ("development" if others else "test"):
                self._pools.setdefault(group, []).append(item)
            # lm-eval draws one after another, so which draw an item gets is its place among those that are asked.
            asked = self._asked.setdefault((item.split, group), [])
            self._places[item.id] = len(asked)
            asked.append(item)

    def choose(self, item: Item, n: int, seed: int = SEED) -> list[Item]:
        """`n` examples for one of the items, never itself. Raises InputError where there aren't as many."""
        if n == 0:
            return []
        group = self._group(item)
        pool = self._pools.get(group, [])
        # lm-eval takes the item itself out where its examples' split is the tests' (or neither is named).
        own_split = self.task.fewshot_config.split or self.task.fewshot_split
        excluding = own_split == self.task.test_split or (bool(pool) and pool[0].split != "development")
        if len(pool) < n + excluding and not (self.task.fewshot_config.sampler == "first_n" and len(pool) >= n):
            of = f" of the subject `{group}`" if group else ""
            raise InputError(f"{self.task.file}: {n} examples asked for, {len(pool)} items{of} to choose from")
        if self.task.fewshot_config.sampler == "first_n":
            others = pool if not excluding else [one for one in pool if not _same(one, item)]
            return others[:n]
        stream = self._streams.setdefault((item.split, group, n, seed), _Stream(pool, n, seed, excluding))
        return stream.draw(self._places[item.id], self._asked[item.split, group])

    def _group(self, item: Item) -> str:
        return item.subject if self.task.subject else ""


class _Stream:
    """Draws for the items of a split, in their order, from one generator."""

    def __init__(self, pool: list[Item], n: int, seed: int, excluding: bool) -> None:
        self._pool, self._n, self._random, self._excluding = pool, n, Random(seed), excluding
        self._draws: list[list[Item]] = []

    def draw(self, place: int, asked: Sequence[Item]) -> list[Item]:
        while len(self._draws) <= place:
            self._draws.append(self._next(asked[len(self._draws)]))
        return self._draws[place]

    def _next(self, item: Item) -> list[Item]:
        if not self._excluding:
            return self._random.sample(self._pool, self._n)
        drawn = [one for one in self._random.sample(self._pool, self._n + 1) if not _same(one, item)][: self._n]
        if len(drawn) < self._n:  # the item stands in the pool more than once
            drawn = self._random.sample([one for one in self._pool if not _same(one, item)], self._n)
        return drawn


def _same(one: Item, other: Item) -> bool:
    """Whether two items say the same, whatever split they are in."""
    return (one.prompt, one.choices, one.target) == (other.prompt, other.choices, other.target)


_remembered: list[Examples] = []


def choose_shots(task: TaskFile, items: Sequence[Item], item: Item, n: int, seed: int = SEED) -> list[Item]:
    """`n` examples for one of `items` (all that `load` gave). Raises InputError where there aren't as many."""
    if not _remembered or _remembered[0].task is not task or _remembered[0].items is not items:
        _remembered[:] = [Examples(task, items)]
    return _remembered[0].choose(item, n, seed)
