"""The robots.txt files that a crawl's archives hold: one row a host, for the screen to apply."""

from typing import NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa

from stages.corpus.links.url import ascii_host

ROBOTS = pa.schema(
    [
        ("host", pa.string()),  # of the URL, in lower case, with its port unless that is 80 or 443
        ("text", pa.string()),  # robots.txt, the last one met
    ]
)
MAX_BYTES = 500 * 1024  # RFC 9309, 2.5: a crawler reads at least this much


class Robots(NamedTuple):
    """One row of ROBOTS."""

    host: str
    text: str


def host_of(url: str) -> str:
    """Whose robots.txt speaks for a URL; "" for no URL of a host."""
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port
    except ValueError:  # `http://[bad` and its like
        return ""
    return ascii_host(name) + (f":{port}" if port not in (None, 80, 443) else "")


def is_robots(url: str) -> bool:
    try:
        return urlsplit(url).path == "/robots.txt"
    except ValueError:
        return False


def robots_table(texts: dict[str, str]) -> pa.Table:
    """ROBOTS of host → text, sorted by host."""
    return pa.table({"host": sorted(texts), "text": [texts[host] for host in sorted(texts)]}, schema=ROBOTS)
