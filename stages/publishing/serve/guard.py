"""Who may ask: hosts against DNS rebinding, origins against other sites' pages, a token beyond loopback, sizes.

A page of any site can send requests to a server on this machine. Browsers say where a request is from (`Origin`) and
what name it was sent to (`Host`): a name that isn't this machine's own has been bound to its address by someone else.
"""

import hmac
import ipaddress
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stages.publishing.serve.protocol import ApiError

MOST_BYTES = 4 << 20  # of a body
COOKIE = "trainyard_token"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` is reached from this machine only. Of names `localhost` alone: any other may be
    bound to a loopback address by whoever owns it.
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware. token: what everybody must show, as a bearer or once as `?token=…`, which sets a cookie; None
    for a server on loopback, which instead is asked by its own names only.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    out[name] = value
                if "cache-control" not in out:
                    out["cache-control"] = "no-store"
            await send(message)

        refused = self._refused(scope, headers)
        if refused is not None:
            await JSONResponse(refused.body, refused.status)(scope, receive, sealed)
            return
        shown = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if self.token is not None and shown and scope["method"] == "GET":
            home = RedirectResponse(scope["path"] if not scope["path"].startswith("//") else "/", 303)
            home.set_cookie(COOKIE, shown, httponly=True, samesite="strict")
            await home(scope, receive, sealed)
            return
        await self.app(scope, _bounded(receive), sealed)

    def _refused(self, scope: Scope, headers: Headers) -> ApiError | None:
        host = headers.get("host", "")
        if self.token is None and not is_loopback(_name(host)):
            return ApiError(f"this server is asked as localhost, not as {host[:100]!r}", status=403, code="host")
        origin = headers.get("origin")
        if origin is not None and origin != f"{scope['scheme']}://{host}":
            return ApiError("pages of other sites may not ask this server", status=403, code="origin")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            return _too_large()
        if self.token is not None and not self._shows_token(scope, headers):
            return ApiError("give the server's token as a bearer, or open /?token=…", status=401, code="token")
        return None

    def _shows_token(self, scope: Scope, headers: Headers) -> bool:
        bearer = headers.get("authorization", "")
        cookies = dict(part.strip().partition("=")[::2] for part in headers.get("cookie", "").split(";"))
        query = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])
        given = [bearer.removeprefix("Bearer ").strip(), cookies.get(COOKIE, ""), query[0]]
        wanted = (self.token or "").encode()
        return any([hmac.compare_digest(one.encode(), wanted) for one in given])


def _name(host: str) -> str:
    """Of a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _too_large() -> ApiError:
    return ApiError(f"the body is larger than {MOST_BYTES:,} bytes", status=413, code="too_large")


def _bounded(receive: Receive) -> Receive:
    """A body without a length is counted as it comes."""
    read = 0

    async def counted() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > MOST_BYTES:
            raise _too_large()
        return message

    return counted
