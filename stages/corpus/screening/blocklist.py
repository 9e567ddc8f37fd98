"""Addresses that the corpus must not have: hosts with everything below them, and whole words of the path."""

from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from stages.base.record import StageRun
from stages.corpus.links.url import canonical, host
from stages.corpus.screening.address_lists import Hosts, read_hosts, read_words


class Blocklist(NamedTuple):
    """What is blocked."""

    hosts: Hosts
    words: frozenset[str]  # lower case

    def reason(self, url: str) -> str:
        """Why a URL is blocked (`blocked_host`, `blocked_url_word`), "" if it isn't."""
        if self.hosts.covers(host(url)):
            return "blocked_host"
        path = unquote(canonical(url).partition("/")[2]).lower()
        tokens = "".join(c if c.isalnum() else " " for c in path).split()
        return "blocked_url_word" if self.words.intersection(tokens) else ""


def read_blocklist(
    run: StageRun[Any], hosts: list[str], words: list[str], hosts_files: list[str], words_files: list[str]
) -> Blocklist:
    """The entries of the params and of the files, which are inputs of the run. Raises InputError for a bad line."""
    names = [*hosts, *(name for path in hosts_files for name in read_hosts(run.input(Path(path))))]
    listed = [word for path in words_files for word in read_words(run.input(Path(path)))]
    return Blocklist(Hosts(names), frozenset(word.lower() for word in [*words, *listed]))
