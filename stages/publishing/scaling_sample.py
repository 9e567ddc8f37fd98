"""Which runs a chart draws of a table with too many to see, or for a browser to carry."""

import random
from collections import Counter
from collections.abc import Sequence

from stages.publishing.quantity import count

LIMIT = 2000  # marks of a chart


def drawn(groups: Sequence[str], limit: int = LIMIT) -> list[int]:
    """Places of at most `limit` runs, in order, at random but always the same; large groups give up theirs first."""
    if len(groups) <= limit:
        return list(range(len(groups)))
    places = list(range(len(groups)))
    random.Random(0).shuffle(places)
    seen: Counter[str] = Counter()
    ranked = []
    for place in places:
        ranked.append((seen[groups[place]], place))
        seen[groups[place]] += 1
    return sorted(place for _, place in sorted(ranked)[:limit])


def drawn_words(runs: int, limit: int = LIMIT) -> str:
    """For a caption: nothing where all are drawn."""
    return f" {count(limit)} of {count(runs)} runs are drawn, picked at random." if runs > limit else ""
