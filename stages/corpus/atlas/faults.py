"""A planted page with what is wrong with it."""

from typing import NamedTuple

from stages.corpus.atlas.pages import Page


class Fault(NamedTuple):
    """One page and its rows of PLANTED."""

    page: Page
    cases: tuple[tuple[str, str], ...]  # (kind, payload)
    of_url: str = ""
