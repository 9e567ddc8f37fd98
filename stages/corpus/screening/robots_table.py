"""What the robots.txt files of a crawl say to some crawlers about its pages."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from stages.corpus.screening.address_lists import digest
from stages.corpus.screening.robots_rules import Rules, path_of, read_rules
from stages.corpus.sources.robots import host_of

TRAINING = "content-signal"  # robots.txt reserves training, whatever it lets be fetched
DISALLOWED = "robots.txt"  # …:<crawler>


class RobotsTable:
    """Rules by host. Memory holds 12 bytes a host and each distinct set of rules once: many sites share theirs."""

    def __init__(self, batches: Iterable[pa.Table], agents: Sequence[str]) -> None:
        """`batches`: of the ROBOTS table. `agents`: product tokens of crawlers."""
        self._agents = tuple(agents)
        self._sets: list[tuple[Rules, ...]] = []
        places: dict[tuple[Rules, ...], int] = {}
        hosts, chosen = [], []
        for batch in batches:
            for host, text in zip(batch["host"].to_pylist(), batch["text"].to_pylist(), strict=True):
                rules = read_rules(text, agents)
                if rules not in places:
                    places[rules] = len(self._sets)
                    self._sets.append(rules)
                hosts.append(digest(host))
                chosen.append(places[rules])
        order = np.argsort(np.array(hosts, np.uint64), kind="stable")
        self._hosts = np.array(hosts, np.uint64)[order]
        self._chosen = np.array(chosen, np.int32)[order]

    def __len__(self) -> int:
        return len(self._hosts)

    def signals(self, url: str) -> list[str] | None:
        """`robots.txt:<crawler>` for each crawler that may not fetch the page, and `content-signal` where the file
        reserves training; None where the host's robots.txt isn't known.
        """
        if not len(self._hosts):
            return None
        key = digest(host_of(url))
        place = int(np.searchsorted(self._hosts, key))
        if place == len(self._hosts) or self._hosts[place] != key:
            return None
        path = path_of(url)
        rules = self._sets[self._chosen[place]]
        pairs = zip(self._agents, rules, strict=True)
        found = [f"{DISALLOWED}:{agent.lower()}" for agent, rule in pairs if not rule.allows(path)]
        return found + ([] if all(rule.training for rule in rules) else [TRAINING])
