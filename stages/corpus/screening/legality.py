"""Whether a document may be used: its licence, and what speaks against training on it.

Signals come from the page and its headers (`corpus.signals`), from robots.txt, and from lists of owners who opted out.
Every signal of a document goes into its `opt_out` column; params say which ones are honoured.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple

import pyarrow as pa
from pydantic import Field, StringConstraints, field_validator

from stages.base.params import Section, nearest
from stages.corpus.pages.signals import DIRECTIVES
from stages.corpus.screening.address_lists import Addresses
from stages.corpus.screening.robots_table import DISALLOWED, TRAINING, RobotsTable

LISTED = "opt-out-list"
# Kinds of signals, and what may stand after the colon; any crawler's name after `robots.txt`.
KINDS = dict.fromkeys(("meta", "x-robots-tag"), DIRECTIVES) | dict.fromkeys(
    ("tdm-reservation", DISALLOWED, TRAINING, LISTED), frozenset()
)
Agent = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]
Signal = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+(:[a-z0-9_-]+)?$")]


class LegalityParams(Section):
    """Which documents may be used."""

    denied_licences: list[Annotated[str, Field(min_length=1)]]
    """Without case; each stands for its family: CC-BY-NC for CC-BY-NC-SA-4.0 too."""
    unknown_licence: Literal["keep", "drop"]
    """What becomes of a document without a licence."""
    opt_out: Literal["keep", "drop"]
    """What becomes of a document with an honoured signal."""
    honoured_signals: list[Signal]
    """`meta:noai`, `x-robots-tag:noai`, `tdm-reservation`, `robots.txt:gptbot`, `content-signal`, `opt-out-list`;
    without what stands after the colon, all of a kind."""
    robots_agents: list[Agent]
    """Crawlers whose part of robots.txt is read."""

    @field_validator("honoured_signals")
    @classmethod
    def _known(cls, entries: list[str]) -> list[str]:
        """A misspelt signal would be honoured nowhere, and nobody told."""
        for entry in entries:
            kind, _, directive = entry.partition(":")
            if kind not in KINDS or (directive and KINDS[kind] and directive not in KINDS[kind]):
                known = KINDS.get(kind) or KINDS
                raise ValueError(f"no signal `{entry}`{nearest(directive if kind in KINDS else kind, list(known))}")
        return entries


class Standing(NamedTuple):
    """The legal record of one document."""

    licence: str  # "unknown" if none is known
    signals: list[str]  # sorted
    honoured: list[str]  # those of them that the params honour, whatever becomes of the document
    robots: Literal["allowed", "disallowed", "unknown"]  # to the crawlers of the params; unknown without a robots.txt
    rule: str  # "licence", "opt_out" or "" where it may be used
    reason: str


class Legality(NamedTuple):
    """What judges documents."""

    params: LegalityParams
    denied: tuple[str, ...]
    opted_out: Addresses
    robots: RobotsTable

    def standing(self, url: str, licence: str, opt_out: str) -> Standing:
        """The record of a document by its columns."""
        licence = licence.strip()
        found = set(opt_out.split())
        if self.opted_out.covers(url):
            found.add(LISTED)
        from_robots = self.robots.signals(url)
        found.update(from_robots or ())
        robots: Literal["allowed", "disallowed", "unknown"] = "unknown"
        if from_robots is not None:
            robots = "disallowed" if any(s.startswith(f"{DISALLOWED}:") for s in from_robots) else "allowed"
        rule, reason = "", ""
        entries = [entry for entry in self.params.honoured_signals if any(honours(entry, s) for s in found)]
        honoured = [signal for signal in sorted(found) if any(honours(entry, signal) for entry in entries)]
        names = licence_names(licence)
        if entries and self.params.opt_out == "drop":
            rule, reason = "opt_out", entries[0]
        elif any(name == entry or name.startswith(f"{entry}-") for name in names for entry in self.denied):
            rule, reason = "licence", "denied_licence"
        elif not licence and self.params.unknown_licence == "drop":
            rule, reason = "licence", "unknown_licence"
        return Standing(licence or "unknown", sorted(found), honoured, robots, rule, reason)


def licence_names(expression: str) -> list[str]:
    """Lower-case names of an SPDX expression, words joined by hyphens. One that is denied denies all, `OR` or not:
    which alternative a text stands under can't be told.
    """
    parts = re.split(r"\s+(?:and|or|with)\s+", expression.strip().lower())
    return [re.sub(r"[\s_]+", "-", part.strip(" ()")) for part in parts]


def honours(entry: str, signal: str) -> bool:
    """Whether an entry of `honoured_signals` means a signal: itself, or the kind before the colon."""
    return signal == entry or signal.partition(":")[0] == entry


def legality(params: LegalityParams, opted_out: Addresses, robots: Iterable[pa.Table]) -> Legality:
    """What judges documents; `robots`: batches of ROBOTS."""
    denied = tuple(name for entry in params.denied_licences for name in licence_names(entry))
    return Legality(params, denied, opted_out, RobotsTable(robots, params.robots_agents))
