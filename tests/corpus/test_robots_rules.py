"""RFC 9309: its own examples, a naive matcher as the oracle, and the standard library where the two standards agree."""

import re
from urllib.robotparser import RobotFileParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.corpus.screening.robots_rules import matches, path_of, read_rules

RFC = """User-Agent: *
Disallow: *.gif$
Disallow: /example/
Allow: /publications/

User-Agent: foobot
Disallow:/
Allow:/example/page.html
Allow:/example/allowed.gif

User-Agent: barbot
User-Agent: bazbot
Disallow: /example/page.html

User-Agent: quxbot

EOF
"""


def allowed(text: str, agent: str, path: str) -> bool:
    return read_rules(text, [agent])[0].allows(path_of(f"https://example.com{path}"))


@pytest.mark.parametrize(
    ("agent", "path", "expected"),
    [
        ("otherbot", "/example/", False),
        ("otherbot", "/a.gif", False),
        ("otherbot", "/a.gif?size=1", True),
        ("otherbot", "/publications/", True),
        ("foobot", "/example/page.html", True),
        ("foobot", "/example/allowed.gif", True),
        ("foobot", "/publications/", False),
        ("FooBot", "/robots.txt", True),
        ("barbot", "/example/page.html", False),
        ("bazbot", "/example/page.html", False),
        ("BAZBOT", "/a.gif", True),
        ("quxbot", "/example/", True),
    ],
)
def test_the_example_of_the_standard(agent: str, path: str, expected: bool) -> None:
    assert allowed(RFC, agent, path) == expected


@pytest.mark.parametrize(
    ("rules", "path", "expected"),
    [
        ("Allow: /p\nDisallow: /", "/page", True),  # the longer rule, wherever it stands
        ("Disallow: /\nAllow: /p", "/page", True),
        ("Allow: /folder\nDisallow: /folder", "/folder/page", True),  # allow wins a tie
        ("Allow: /page\nDisallow: /*.htm", "/page.htm", False),
        ("Allow: /$\nDisallow: /", "/", True),
        ("Allow: /$\nDisallow: /", "/page.htm", False),
        ("Disallow: /fish*.php", "/fishheads/catfish.php?parameters", False),
        ("Disallow: /*.php$", "/folder/filename.php", False),
        ("Disallow: /*.php$", "/filename.php?parameters", True),
        ("Disallow: /a$b", "/a$b", False),  # a dollar inside means itself
        ("Disallow: /a%2a", "/a*", False),
        ("Disallow: /foo/bar/ツ", "/foo/bar/%E3%83%84", False),  # one spelling of escapes
        ("Disallow: /foo/bar/%E3%83%84", "/foo/bar/ツ", False),
        ("Disallow: /foo/bar/%62%61%7A", "/foo/bar/baz", False),
        ("Disallow: /~me", "/%7Eme/x", False),
        ("Disallow:", "/x", True),
        ("disallow : /x # comment", "/x", False),
        ("Disallow /x", "/x", True),  # no colon, no rule
        ("Disallow: /X", "/x", True),  # case counts in paths
        ("Crawl-delay: 5\nSitemap: https://example.com/map\nDisallow: /x", "/x", False),
    ],
)
def test_rules(rules: str, path: str, expected: bool) -> None:
    assert allowed(f"User-agent: bot\n{rules}", "bot", path) == expected


def test_groups_of_one_crawler_are_merged_and_its_version_does_not_count() -> None:
    text = (
        "\ufeffUser-agent: bot/2.1\r\nDisallow: /a\r\n\rUser-agent: *\nDisallow: /\n\nUser-agent: Bot\nDisallow: /b\n"
    )
    assert [allowed(text, "bot", path) for path in ("/a", "/b", "/c")] == [False, False, True]
    assert not allowed(text, "another", "/c")


def test_reserved_training_is_told_apart_from_fetching() -> None:
    text = "User-agent: *\nContent-Signal: search=yes, ai-train=no\nAllow: /\n\nUser-agent: nice\nAllow: /"
    everybody, nice = read_rules(text, ["gptbot", "nice"])
    assert everybody.allows("/x") and not everybody.training
    assert nice.training
    assert read_rules("User-agent: *\nContent-Signal: ai-train=yes", ["gptbot"])[0].training


def naive(pattern: str, path: str) -> bool:
    end = pattern.endswith("$")
    body = ".*".join(re.escape(part) for part in (pattern[:-1] if end else pattern).split("*"))
    return re.match(body + ("$" if end else ""), path) is not None


@given(st.text("/ab*", max_size=8), st.booleans(), st.text("/ab", max_size=10))
def test_patterns_match_as_regular_expressions_do(pattern: str, end: bool, path: str) -> None:
    assert matches(pattern + "$" * end, path) == naive(pattern + "$" * end, path)


@given(
    st.lists(st.tuples(st.booleans(), st.text("/ab*$", min_size=1, max_size=5)), max_size=6), st.text("/ab", max_size=6)
)
def test_the_longest_rule_decides(rules: list[tuple[bool, str]], path: str) -> None:
    lines = "\n".join(f"{'Allow' if allow else 'Disallow'}: /{pattern}" for allow, pattern in rules)
    found = []
    for allow, pattern in rules:
        spelt = "/" + pattern[:-1].replace("$", "%24") + pattern[-1]
        if naive(spelt, f"/{path}"):
            found.append((len(spelt), allow))
    assert allowed(f"User-agent: *\n{lines}", "bot", f"/{path}") == (max(found)[1] if found else True)


@given(st.sets(st.text("abc", min_size=1, max_size=3), max_size=4), st.text("abc", max_size=4))
def test_plain_disallow_lines_are_read_as_the_standard_library_reads_them(prefixes: set[str], path: str) -> None:
    text = "User-agent: *\n" + "\n".join(f"Disallow: /{prefix}" for prefix in sorted(prefixes))
    parser = RobotFileParser()
    parser.parse(text.splitlines())
    assert allowed(text, "bot", f"/{path}") == parser.can_fetch("bot", f"https://example.com/{path}")


@given(st.text(max_size=200), st.text(max_size=30))
def test_any_text_is_read(text: str, path: str) -> None:
    assert allowed(text, "bot", path) in (True, False)
    assert allowed(f"User-agent: *\nDisallow: {text}", "bot", f"/{path}") in (True, False)
