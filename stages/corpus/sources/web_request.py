"""One request to the web that can't be led where its user didn't point.

The user's own address may be of any host, also a mirror on the own network. Where a server leads from there is the
server's choice: to public addresses only, so that nothing of this machine or its network is fetched on a stranger's
word (server-side request forgery; https://owasp.org/Top10/A10_2021-Server-Side_Request_Forgery_(SSRF)/).
"""

import ipaddress
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx

from stages.base.errors import InputError

MOST_REDIRECTS = 10


@contextmanager
def opened(method: str, url: str, headers: Mapping[str, str], timeout: float) -> Iterator[httpx.Response]:
    """The reply at the end of all redirects, its body unread. `timeout`: seconds without a byte.

    Raises InputError for a redirect that leads to no public address, from https to another protocol, or on for ever;
    httpx.HTTPError where the connection fails.
    """
    here = url
    with httpx.Client(timeout=timeout) as client:
        for _ in range(MOST_REDIRECTS + 1):
            with client.stream(method, here, headers=headers) as reply:
                if here != url:
                    _check_peer(reply, url, here)
                if reply.next_request is None:
                    yield reply
                    return
                here = _led_to(url, reply.next_request.url)
    raise InputError(f"{url}: more than {MOST_REDIRECTS} redirects; check the address")


def _led_to(asked: str, target: httpx.URL) -> str:
    """The address of a redirect. Raises InputError for one that isn't to be followed."""
    begun = urlsplit(asked)
    if target.scheme not in ("http", "https") or (begun.scheme.lower() == "https" and target.scheme != "https"):
        raise InputError(
            f"{asked}: leads to {_named(target)}, no https address; check it, and name the new one yourself"
        )
    if target.host == (begun.hostname or "").lower():
        return str(target)
    try:
        found = socket.getaddrinfo(target.host, target.port or target.scheme, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # behind a proxy, which asks for itself; else the request fails
        return str(target)
    for place in found:
        _check_public(asked, target, str(place[4][0]))
    return str(target)


def _check_peer(reply: httpx.Response, asked: str, here: str) -> None:
    """A name may have led elsewhere when it was resolved again."""
    stream = reply.extensions.get("network_stream")
    address = stream.get_extra_info("server_addr") if stream is not None and not getproxies() else None
    if address and urlsplit(here).hostname != (urlsplit(asked).hostname or "").lower():
        _check_public(asked, httpx.URL(here), str(address[0]))


def _check_public(asked: str, target: httpx.URL, address: str) -> None:
    found = ipaddress.ip_address(address.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    if not found.is_global or found.is_multicast:
        raise InputError(
            f"{asked}: leads to {_named(target)}, no public address ({found}); if it is meant, name it yourself"
        )


def _named(target: httpx.URL) -> str:
    """Without a path: what stands there may be a secret of the server's."""
    return f"{target.scheme}://{target.host}" + (f":{target.port}" if target.port else "")
