"""What speaks against using a document: every signal is recorded, those that the params honour drop it."""

import pickle

import pyarrow as pa
import pytest

from stages.base.errors import ParamError
from stages.base.params import parse
from stages.corpus.screening.address_lists import Addresses
from stages.corpus.screening.legality import Legality, LegalityParams, honours
from stages.corpus.screening.robots_table import RobotsTable
from stages.corpus.sources.robots import ROBOTS
from tests.corpus.documents import settings

PARAMS = parse(
    "corpus.screen.legality",
    settings(
        """
        denied_licences: [CC-BY-NC, proprietary]
        unknown_licence: keep
        opt_out: drop
        honoured_signals: [opt-out-list, meta:noai, x-robots-tag, robots.txt:gptbot, content-signal]
        robots_agents: [GPTBot, CCBot]
        """
    ),
    LegalityParams,
)
FILES = {
    "open.example": "User-agent: *\nAllow: /",
    "walled.example": "User-agent: GPTBot\nDisallow: /\n\nUser-agent: CCBot\nDisallow: /private/",
    "walled.example:8080": "User-agent: *\nDisallow:",
    "signal.example": "User-agent: *\nContent-Signal: ai-train=no\nAllow: /",
}


def robots_table(agents: list[str], files: dict[str, str] = FILES) -> RobotsTable:
    rows = [{"host": host, "text": text} for host, text in sorted(files.items())]
    return RobotsTable([pa.Table.from_pylist([row], schema=ROBOTS) for row in rows], agents)


def legality(**changes: object) -> Legality:
    params = PARAMS.model_copy(update=changes)
    denied = tuple(entry.lower() for entry in params.denied_licences)
    reserved = Addresses(["reserved.example"], ["https://open.example/mine"])
    return Legality(params, denied, reserved, robots_table(params.robots_agents))


@pytest.mark.parametrize(
    ("url", "licence", "opt_out", "rule", "reason", "signals", "robots"),
    [
        ("https://open.example/x", "MIT", "", "", "", [], "allowed"),
        ("https://other.example/x", "", "", "", "", [], "unknown"),
        ("https://open.example/mine", "MIT", "", "opt_out", "opt-out-list", ["opt-out-list"], "allowed"),
        ("https://a.reserved.example/", "MIT", "", "opt_out", "opt-out-list", ["opt-out-list"], "unknown"),
        ("https://walled.example/", "", "", "opt_out", "robots.txt:gptbot", ["robots.txt:gptbot"], "disallowed"),
        ("https://walled.example:8080/", "", "", "", "", [], "allowed"),
        ("https://signal.example/", "", "", "opt_out", "content-signal", ["content-signal"], "allowed"),
        ("https://x.example/", "", "meta:noai meta:noindex", "opt_out", "meta:noai", ["meta:noai", "meta:noindex"],
         "unknown"),
        ("https://x.example/", "", "meta:noindex", "", "", ["meta:noindex"], "unknown"),
        ("https://x.example/", "", "x-robots-tag:noai", "opt_out", "x-robots-tag", ["x-robots-tag:noai"], "unknown"),
        ("https://x.example/", "cc-by-nc-sa-4.0", "", "licence", "denied_licence", [], "unknown"),
        ("https://x.example/", " Proprietary ", "", "licence", "denied_licence", [], "unknown"),
        ("https://x.example/", "CC BY-NC 4.0", "", "licence", "denied_licence", [], "unknown"),
        ("https://x.example/", "MIT AND (CC_BY_NC_4.0)", "", "licence", "denied_licence", [], "unknown"),
        ("https://x.example/", "CC-BY-4.0", "", "", "", [], "unknown"),
        ("https://walled.example./", "", "", "opt_out", "robots.txt:gptbot", ["robots.txt:gptbot"], "disallowed"),
        ("https://x.example/", "CC-BY-NC-4.0", "meta:noai", "opt_out", "meta:noai", ["meta:noai"], "unknown"),
    ],
)  # fmt: skip
def test_the_record_of_a_document(
    url: str, licence: str, opt_out: str, rule: str, reason: str, signals: list[str], robots: str
) -> None:
    found = legality().standing(url, licence, opt_out)
    assert (found.rule, found.reason) == (rule, reason)
    assert found.signals == signals
    assert found.robots == robots
    assert found.licence == (licence.strip() or "unknown")


def test_signals_are_recorded_where_nothing_is_dropped_for_them() -> None:
    found = legality(opt_out="keep").standing("https://walled.example/private/x", "MIT", "meta:noai")
    assert found.rule == ""
    assert found.signals == ["meta:noai", "robots.txt:ccbot", "robots.txt:gptbot"]
    assert found.honoured == ["meta:noai", "robots.txt:gptbot"]


def test_an_unknown_licence_can_be_dropped() -> None:
    assert legality(unknown_licence="drop").standing("https://x.example/", " ", "").reason == "unknown_licence"


def test_honoured_entries_mean_a_signal_or_a_kind() -> None:
    assert honours("robots.txt", "robots.txt:gptbot") and honours("robots.txt:gptbot", "robots.txt:gptbot")
    assert not honours("robots.txt:gptbot", "robots.txt:ccbot") and not honours("meta", "meta-like:x")


def test_sites_that_share_their_rules_share_the_memory() -> None:
    """A thousand hosts with one file weigh 12 bytes each, also on the way to a worker."""
    hosts = {f"h{number}.example": FILES["walled.example"] for number in range(1000)}
    table = robots_table(["GPTBot", "CCBot"], hosts)
    assert len(pickle.dumps(table)) < 1000 * 12 + 2000
    assert table.signals("https://h7.example/private/") == ["robots.txt:gptbot", "robots.txt:ccbot"]
    assert table.signals("https://H7.example:443/") == ["robots.txt:gptbot"]


def test_a_signal_that_none_is_called_by_is_refused() -> None:
    with pytest.raises(ParamError, match="honoured_signals"):
        parse("corpus.screen.legality", PARAMS.model_dump() | {"honoured_signals": ["No AI please"]}, LegalityParams)


@pytest.mark.parametrize(
    ("signal", "meant"),
    [("robot.txt", "robots.txt"), ("meta:no-ai", "noai"), ("x-robot-tag:noai", "x-robots-tag"), ("tdm", "no signal")],
)
def test_a_misspelt_signal_protects_nobody_and_is_refused(signal: str, meant: str) -> None:
    with pytest.raises(ParamError, match=meant):
        parse("corpus.screen.legality", PARAMS.model_dump() | {"honoured_signals": [signal]}, LegalityParams)
