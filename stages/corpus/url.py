"""URL canonicalisation: one spelling for the URLs under which a server sends the same page (RFC 3986, section 6)."""

import re
from functools import lru_cache
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

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
        parts = urlsplit(url.strip())
        port = parts.port
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return url.strip()
    if port is not None and port != PORTS.get(parts.scheme):
        host = f"{host}:{port}"
    path = _resolve(quote(unquote(parts.path, errors="surrogateescape"), safe="/~:@!$&'()*+,;=-._", errors="replace"))
    path = re.sub(r";jsessionid=[^/]*", "", path, flags=re.IGNORECASE)
    path = INDEX.sub("/", path).rstrip("/")
    pairs = sorted(p for p in parse_qsl(parts.query, keep_blank_values=True) if not TRACKING.fullmatch(p[0].lower()))
    return f"{host}{path}" + (f"?{urlencode(pairs)}" if pairs else "")


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
