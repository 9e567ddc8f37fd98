"""Inputs from public reports of faults in tools that read archives, addresses and files; each with its right value.

The inputs lie beside the reference data (`cases/corpus`): a test is skipped where its input is absent.
"""

import os
from pathlib import Path

import pytest

from stages.corpus.links.url import canonical
from stages.corpus.sources.raw import Raw
from stages.corpus.sources.warc import read_warc

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = Path(os.environ.get("TRAINYARD_REFERENCE", ROOT.parent / "shared" / "reference"))
CASES = REFERENCE.parent / "cases" / "corpus"
PAGE = b"<!doctype html><html><body><p>The harbour was quiet that morning.</p></body></html>"
MARKED = b"\xef\xbb\xbf" + PAGE


def read(name: str) -> list[Raw]:
    path = CASES / f"{name}.warc"
    if not path.is_file():
        pytest.skip(f"no case {name}: set TRAINYARD_REFERENCE to the folder of reference data beside `cases`")
    return list(read_warc(path, path.name, 5_000_000))


@pytest.mark.parametrize(
    ("name", "bodies"),
    [
        ("M4", [PAGE]),  # the payload's digest is that of the block
        ("W13", [PAGE, PAGE]),  # a resource record
        ("W15g", [MARKED]),  # a charset as content encoding
        ("W16a", [MARKED]),  # already decoded, behind a byte order mark
        ("W17e", [PAGE]),  # a comma for a semicolon
        ("W17f", [PAGE]),  # a doubled type
        ("W6b", [PAGE]),  # LF, LF, CR LF
    ],
)
def test_pages_are_read(name: str, bodies: list[bytes]) -> None:
    assert [(raw.problem, raw.html) for raw in read(name)] == [("", body) for body in bodies]


def test_what_the_crawler_cut_off_is_kept_up_to_the_cut_and_counted() -> None:
    [raw] = read("W14")
    assert raw.problem == "" and raw.remarks == ("truncated",)
    assert raw.html.startswith(PAGE[:60])


def test_junk_between_records_of_an_early_version_costs_none() -> None:
    found = read("W5b")
    assert [raw.html for raw in found if not raw.problem] == [PAGE] * 3
    assert [raw.problem for raw in found if raw.problem] == ["damaged"]


def test_international_hosts_have_one_spelling() -> None:
    assert canonical("http://bücher.example/a") == canonical("http://xn--bcher-kva.example/a")
