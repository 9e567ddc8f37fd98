"""URL canonicalisation: one spelling for the URLs under which a server sends the same page (RFC 3986, section 6)."""

import re
from functools import lru_cache
from urllib.parse import parse_qsl, quote, unquote, unquote_to_bytes, urlencode, urlsplit

# Query keys that name a visit, never a page. Not `sid`, `sessionid` and `ref`: on some sites they name the page (a
# story, a talk, a branch), and where they don't, the copies are found by their text.
TRACKING = re.compile(r"utm_\w+|gclid|dclid|fbclid|msclkid|yclid|igshid|mc_[ce]id|_ga|phpsessid|jsessionid|ref_src")
INDEX = re.compile(r"/(?:index|default)\.(?:html?|php|aspx?)$")
PORTS = {"http": 80, "https": 443}


@lru_cache(maxsize=1 << 16)
def canonical(url: str) -> str:
    """`host/path?query`: no scheme, `www.`, default port, fragment, tracking keys, index file or final slash; the host
    in ASCII and without a final dot.

    http and https count as one, the query's pairs are sorted, escapes are normalised and dot segments resolved. A
    fragment that begins with `!` stays: it names a page that a script loads. What can't be parsed comes back stripped:
    it then equals itself only.
    """
    try:
        parts = urlsplit(url.strip().encode("utf-8", "replace").decode())
        port = parts.port
        host = ascii_host(parts.hostname or "").removeprefix("www.")
    except ValueError:
        return url.strip()
    if port is not None and port != PORTS.get(parts.scheme):
        host = f"{host}:{port}"
    path = _resolve(_escaped(parts.path))
    path = re.sub(r";jsessionid=[^/]*", "", path, flags=re.IGNORECASE)
    path = INDEX.sub("/", path).rstrip("/")
    query = parse_qsl(parts.query, keep_blank_values=True, errors="surrogateescape")
    pairs = sorted(pair for pair in query if not TRACKING.fullmatch(pair[0].lower()))
    asked = f"?{urlencode(pairs, errors='surrogateescape')}" if pairs else ""
    loaded = f"#{_escaped(parts.fragment)}" if parts.fragment.startswith("!") else ""
    return f"{host}{path}{asked}{loaded}"


def _escaped(part: str) -> str:
    """One spelling of the escapes, which may be of any charset."""
    return quote(unquote_to_bytes(part), safe="/~:@!$&'()*+,;=-._")


def _resolve(path: str) -> str:
    """Remove dot segments and empty segments."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if kept:
                kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    return "/" + "/".join(kept) + ("/" if path.endswith("/") else "")


def host(url: str) -> str:
    """Host name in lower case and ASCII, without a final dot; "" where there is none."""
    try:
        return ascii_host(urlsplit(url.strip()).hostname or "")
    except ValueError:
        return ""


def ascii_host(name: str) -> str:
    """Lower case, no final dot, international names in their ASCII form (`xn--…`) as browsers make it (UTS 46, of no
    transitional kind: `ß` stays itself).
    """
    name = unquote(name).lower().rstrip(".") if "%" in name else name.lower().rstrip(".")
    if name.isascii():
        return name
    import idna  # few hosts need it

    try:
        mapped = idna.uts46_remap(name, std3_rules=False, transitional=False)
        labels = mapped.rstrip(".").split(".")
        return ".".join(one if one.isascii() else f"xn--{one.encode('punycode').decode()}" for one in labels)
    except UnicodeError:
        return name
