"""URL canonicalisation: one spelling for the URLs under which a server sends the same page (RFC 3986, section 6)."""

import re
from functools import lru_cache
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode, urlsplit

# Query keys that name a visit, not a page.
TRACKING = re.compile(
    r"utm_\w+|gclid|dclid|fbclid|msclkid|yclid|igshid|mc_[ce]id|_ga|phpsessid|jsessionid|sessionid|sid|ref|ref_src"
)
INDEX = re.compile(r"/(?:index|default)\.(?:html?|php|aspx?)$")
PORTS = {"http": 80, "https": 443}


@lru_cache(maxsize=1 << 16)
def canonical(url: str) -> str:
    """`host/path?query`: no scheme, `www.`, default port, fragment, tracking keys, index file or final slash.

    http and https count as one, the query's pairs are sorted, escapes are normalised and dot segments resolved. What
    can't be parsed comes back stripped: it then equals itself only.
    """
    try:
        parts = urlsplit(url.strip().encode("utf-8", "replace").decode())
        port = parts.port
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return url.strip()
    if port is not None and port != PORTS.get(parts.scheme):
        host = f"{host}:{port}"
    path = _resolve(quote(unquote_to_bytes(parts.path), safe="/~:@!$&'()*+,;=-._"))  # escapes may be of any charset
    path = re.sub(r";jsessionid=[^/]*", "", path, flags=re.IGNORECASE)
    path = INDEX.sub("/", path).rstrip("/")
    query = parse_qsl(parts.query, keep_blank_values=True, errors="surrogateescape")
    pairs = sorted(pair for pair in query if not TRACKING.fullmatch(pair[0].lower()))
    return f"{host}{path}" + (f"?{urlencode(pairs, errors='surrogateescape')}" if pairs else "")


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
    """Lower-case host name, "" where there is none."""
    try:
        return urlsplit(url.strip()).hostname or ""
    except ValueError:
        return ""


def ascii_host(name: str) -> str:
    """Lower case, no final dot, international names in their ASCII form (`xn--…`)."""
    name = name.lower().rstrip(".")
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return name
