"""robots.txt by RFC 9309: what a file says to a crawler about a path.

The longest matching rule wins, `allow` beats `disallow` of the same length, `*` stands for anything and a final `$` for
the end. (`urllib.robotparser` takes the first rule that matches and knows no wildcards.) Beside the standard,
`Content-Signal: ai-train=no` (contentsignals.org) is read where it stands in the crawler's group.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes, urlsplit

MAX_BYTES = 500 * 1024  # the RFC's least limit; what stands after it is not read
PRODUCT = re.compile(r"[A-Za-z0-9_-]+|\*")
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class Rule(NamedTuple):
    """One line of a group."""

    pattern: str  # normalised, with `*` and `$`
    allow: bool


class Rules(NamedTuple):
    """What a file says to one crawler."""

    rules: tuple[Rule, ...] = ()
    training: bool = True  # False: `Content-Signal: ai-train=no`

    def allows(self, path: str) -> bool:
        """Whether the crawler may fetch a path (with its query, as `path_of` gives it)."""
        best = Rule("", allow=True)
        for rule in self.rules:
            longer = len(rule.pattern) > len(best.pattern) or (len(rule.pattern) == len(best.pattern) and rule.allow)
            if longer and matches(rule.pattern, path):
                best = rule
        return best.allow or path == "/robots.txt"


def read_rules(text: str, agents: Sequence[str]) -> tuple[Rules, ...]:
    """The rules for each crawler: of all groups that name it (case doesn't count), or else of the groups for `*`."""
    groups: dict[str, tuple[list[Rule], list[bool]]] = {}
    named: list[str] = []
    in_rules = True  # the next user-agent line starts a group
    for line in re.split(r"[\r\n]+", text[:MAX_BYTES].removeprefix("\ufeff")):
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon:
            continue
        if key == "user-agent":
            named = [] if in_rules else named
            in_rules = False
            product = PRODUCT.match(value)
            if product:
                named.append(product[0].lower())
                groups.setdefault(product[0].lower(), ([], []))
        elif key in ("allow", "disallow"):
            in_rules = True
            if value:
                for name in named:
                    groups[name][0].append(Rule(_normal(value, pattern=True), key == "allow"))
        elif key == "content-signal":
            in_rules = True
            signals = {pair.replace(" ", "").lower() for pair in value.split(",")}
            for name in named:
                groups[name][1].extend(signal != "ai-train=no" for signal in signals if signal.startswith("ai-train="))
    everybody = groups.get("*", ([], []))
    chosen = [groups.get(agent.lower(), everybody) for agent in agents]
    return tuple(Rules(tuple(dict.fromkeys(rules)), all(training)) for rules, training in chosen)


def path_of(url: str) -> str:
    """Path and query of a URL as rules see them."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return "/"
    return _normal((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), pattern=False)


def _normal(path: str, *, pattern: bool) -> str:
    """One spelling: escapes of unreserved characters undone, others in upper case, everything past ASCII escaped.

    A pattern's `*` and final `$` stay; the same characters of a path are escaped, as RFC 9309 asks of rules that mean
    them.
    """
    if pattern and path.endswith("$"):
        return _normal(path[:-1], pattern=True) + "$"
    safe = "/?#[]@!&'()+,;=:%" + ("*" if pattern else "")
    escaped = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", path)
    parts = re.split(r"(%[0-9A-Fa-f]{2})", quote(escaped, safe=safe + "~", errors="replace"))
    return "".join(_plain(part) if re.fullmatch(r"%[0-9A-Fa-f]{2}", part) else part for part in parts)


def _plain(escape: str) -> str:
    byte = unquote_to_bytes(escape)
    return byte.decode() if byte[0] in UNRESERVED else escape.upper()


def matches(pattern: str, path: str) -> bool:
    """Whether a normalised pattern matches a path from its start. The first place of each part is the best one: time
    is linear, whatever a hostile file holds.
    """
    anchored = pattern.endswith("$")
    first, *others = (pattern[:-1] if anchored else pattern).split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    last = others.pop() if anchored and others else ""
    for part in others:
        at = path.find(part, at)
        if at < 0:
            return False
        at += len(part)
    if not anchored:
        return True
    if "*" not in pattern:
        return at == len(path)
    return len(path) - len(last) >= at and path.endswith(last)
