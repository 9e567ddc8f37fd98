"""Lists of hosts, words and pages: the formats in which people share them, and a set of strings as the oracle."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base.errors import InputError
from stages.corpus.screening.address_lists import (
    Addresses,
    Blocklist,
    Digests,
    Hosts,
    read_hosts,
    read_lists,
    read_pages,
    read_words,
)

HOSTS_FILE = """# Title: a hosts file
127.0.0.1 localhost
127.0.0.1 localhost.localdomain
::1 ip6-localhost ip6-loopback
fe80::1%lo0 localhost
255.255.255.255 broadcasthost
0.0.0.0 0.0.0.0
0.0.0.0 Ads.Example.COM tracker.example.com # two at once
0.0.0.0\tunder_score.example

plain.example
*.wild.example
.dotted.example.
bücher.example
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "list.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_hosts_files_and_plain_lists_are_read(tmp_path: Path) -> None:
    assert list(read_hosts(write(tmp_path, HOSTS_FILE))) == [
        "localhost.localdomain", "ads.example.com", "tracker.example.com", "under_score.example", "plain.example",
        "wild.example", "dotted.example", "xn--bcher-kva.example",
    ]  # fmt: skip


@pytest.mark.parametrize("line", ["https://bad.example/", "a.example b.example", "||ads.example^", "a..example", "*"])
def test_a_line_that_is_no_host_is_named(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, f"good.example\n\n{line}\n")
    with pytest.raises(InputError, match=rf"{path}:3: "):
        list(read_hosts(path))


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"list\.txt:2: not UTF-8"):
        list(read_hosts(write(tmp_path, b"good.example\nb\xfcd.example\n")))


def test_words_and_pages(tmp_path: Path) -> None:
    assert list(read_words(write(tmp_path, "Casino # games\nxxx\n"))) == ["casino", "xxx"]
    with pytest.raises(InputError, match=r"list\.txt:1: not one word"):
        list(read_words(write(tmp_path, "two words")))
    assert list(read_pages(write(tmp_path, "# reserved\nhttps://a.example/x#y\n"))) == ["https://a.example/x#y"]
    with pytest.raises(InputError, match=r"list\.txt:2: not a URL"):
        list(read_pages(write(tmp_path, "https://a.example/\na.example/x\n")))


NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join)


@given(st.sets(NAMES, max_size=8), NAMES)
def test_a_host_is_covered_by_itself_and_by_what_stands_above_it(listed: set[str], name: str) -> None:
    expected = any(name == entry or name.endswith(f".{entry}") for entry in listed)
    assert Hosts(listed).covers(name) == expected
    assert Hosts(entry.upper() for entry in listed).covers(f"{name}.") == expected


@given(st.sets(st.text(max_size=5)), st.text(max_size=5))
def test_digests_are_a_set(entries: set[str], other: str) -> None:
    digests = Digests(entries)
    assert len(digests) == len(entries)
    assert all(entry in digests for entry in entries)
    assert (other in digests) == (other in entries)


def test_pages_are_covered_in_any_spelling() -> None:
    reserved = Addresses(["walled.example"], ["http://www.open.example/a/?utm_source=x"])
    assert reserved.covers("https://open.example/a#top")
    assert not reserved.covers("https://open.example/b")
    assert reserved.covers("https://deep.walled.example/anything")
    assert not reserved.covers("not a url")


def test_blocklist_matches_whole_hosts_and_words() -> None:
    blocklist = Blocklist(Hosts(["bad.invalid"]), frozenset({"casino"}))
    assert blocklist.reason("https://www.bad.invalid/x") == "blocked_host"
    assert blocklist.reason("https://notbad.invalid/x") == ""
    assert blocklist.reason("https://good.invalid/best-casino/now") == "blocked_url_word"
    assert blocklist.reason("https://good.invalid/casinos") == ""


def test_a_folder_lists_by_the_names_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "blocked_hosts.txt").write_text("a.example\n")
    (tmp_path / "blocked_hosts_more").write_text("0.0.0.0 b.example\n")
    (tmp_path / "blocked_url_words.txt").write_text("Casino\n")
    (tmp_path / "opt_out_hosts.txt").write_text("c.example\n")
    (tmp_path / "opt_out_pages.txt").write_text("https://d.example/mine\n")
    (tmp_path / "README.md").write_text("What these are.\n")
    blocked, opted_out = read_lists(tmp_path)
    reasons = [blocked.reason(f"https://{name}") for name in ("a.example/", "b.example/", "e.example/casino")]
    assert reasons == ["blocked_host", "blocked_host", "blocked_url_word"]
    covered = [opted_out.covers(f"https://{name}") for name in ("c.example/x", "d.example/mine", "d.example/")]
    assert covered == [True, True, False]
    (tmp_path / "blokced_hosts.txt").write_text("a.example\n")
    with pytest.raises(InputError, match=r"blokced_hosts\.txt.*blocked_hosts"):
        read_lists(tmp_path)
