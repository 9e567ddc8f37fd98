"""HTTP responses as archives store them: headers taken off, transfer and content encodings undone, within bounds."""

import re
import zlib
from collections.abc import Callable
from typing import NamedTuple

from stages.corpus.sources.charset import is_utf8

MAX_HEADERS = 256 * 1024  # bytes
MAX_ENCODINGS = 3  # layers of content encoding
TAG = re.compile(rb"<[!/?]?[a-zA-Z]{3}")  # longer than what noise has by chance
MAX_MEMBERS = 256  # of a gzip body; each costs a copy of the rest


class TooLargeError(Exception):
    """The body decodes to more bytes than are allowed."""


class EncodingError(Exception):
    """The body isn't in the encoding that its header names, or is cut off in it."""


class Headers(NamedTuple):
    status: int
    fields: list[tuple[str, str]]  # names in lower case, in order

    def get(self, name: str) -> str:
        """The values of a header, joined by commas; "" if there is none."""
        return ", ".join(value for key, value in self.fields if key == name)

    def last(self, name: str) -> str:
        """The last value of a header that may stand once only."""
        return next((value for key, value in reversed(self.fields) if key == name), "")

    @property
    def media_type(self) -> str:
        return self.last("content-type").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        for part in self.last("content-type").split(";")[1:]:
            name, _, value = part.partition("=")
            if name.strip().lower() == "charset":
                return value.strip().strip("\"'").lower()
        return ""


def parse_response(block: bytes) -> tuple[Headers, int] | None:
    """(Headers, place where the body begins) of an HTTP response; None if it is none."""
    blanks = (b"\r\n\r\n", b"\n\n")
    ends = [(block.find(blank, 0, MAX_HEADERS), len(blank)) for blank in blanks]
    end, skipped = min((one for one in ends if one[0] >= 0), default=(len(block), 0))
    if end > MAX_HEADERS:
        return None
    # Not `splitlines`: in Latin-1 that also cuts at bytes that are parts of UTF-8 characters.
    lines = block[:end].decode("latin-1").replace("\r\n", "\n").split("\n")
    words = lines[0].split(maxsplit=2) if lines else []
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdecimal() or len(words[1]) > 3:
        return None
    fields: list[tuple[str, str]] = []
    for line in lines[1:]:
        if line[:1] in (" ", "\t") and fields:  # folded: obsolete, and still met
            fields[-1] = (fields[-1][0], f"{fields[-1][1]} {line.strip()}")
        elif ":" in line:
            name, _, value = line.partition(":")
            fields.append((name.strip().lower(), value.strip()))
    return Headers(int(words[1]), fields), end + skipped


def dechunk(body: bytes) -> bytes:
    """A chunked body without its framing; as it is where a crawler has undone that and kept the header.

    Raises EncodingError for framing that breaks off, also within the first chunk.
    """
    parts: list[bytes] = []
    place = 0
    while True:
        end = body.find(b"\r\n", place, place + 1024)
        size = body[place:end].partition(b";")[0].strip() if end >= 0 else b""
        try:
            length = int(size, 16) if size.isalnum() else -1
        except ValueError:
            length = -1
        if length == 0:
            return b"".join(parts)
        if length < 0 or body[end + 2 + length : end + 4 + length] != b"\r\n":
            if parts or length > len(body) - end - 2:
                raise EncodingError("chunked framing is broken")
            return body
        parts.append(body[end + 2 : end + 2 + length])
        place = end + 4 + length


def decode_content(body: bytes, encodings: str, limit: int) -> bytes:
    """Undo a Content-Encoding header. Raises TooLargeError above `limit` bytes, EncodingError for what can't be undone.

    A body that begins with `<` isn't encoded, whatever the header says: crawlers decode and keep the header.
    """
    names = [name.strip().lower() for name in encodings.split(",")]
    names = [name for name in names if name not in ("", "identity", "none", "utf-8")]
    if len(names) > MAX_ENCODINGS:
        raise EncodingError(f"{len(names)} layers of content encoding")
    for name in reversed(names):
        if body.lstrip(b" \t\r\n")[:1] == b"<" or not body:
            return body
        body = _DECODERS.get(name, _unknown)(body, limit)
    return body


def _unknown(body: bytes, limit: int) -> bytes:
    raise EncodingError("unknown content encoding")


def _gzip(body: bytes, limit: int) -> bytes:
    if not body.startswith(b"\x1f\x8b"):
        if not (is_utf8(body) or TAG.search(body, 0, 1024)):
            raise EncodingError("gzip: neither a gzip member nor text")
        return body  # decoded by the crawler
    return _inflate(body, zlib.MAX_WBITS | 16, limit)


def _deflate(body: bytes, limit: int) -> bytes:
    try:
        return _inflate(body, zlib.MAX_WBITS, limit)
    except EncodingError:
        return _inflate(body, -zlib.MAX_WBITS, limit)  # without zlib's header, as some servers send it


def _inflate(body: bytes, window: int, limit: int) -> bytes:
    out: list[bytes] = []
    left = limit
    for _ in range(MAX_MEMBERS):
        inflater = zlib.decompressobj(window)
        try:
            out.append(inflater.decompress(body, left + 1))
        except zlib.error as error:
            raise EncodingError(f"gzip or deflate: {error}") from None
        if len(out[-1]) > left:
            raise TooLargeError
        if not inflater.eof:
            raise EncodingError("gzip or deflate: cut off")
        left -= len(out[-1])
        body = inflater.unused_data
        if not body.startswith(b"\x1f\x8b"):
            return b"".join(out)
    raise EncodingError(f"gzip: more than {MAX_MEMBERS} members")


def _brotli(body: bytes, limit: int) -> bytes:
    import brotli  # few archives need it

    decoder = brotli.Decompressor()
    out: list[bytes] = []
    size = 0
    try:
        piece = decoder.process(body, output_buffer_limit=limit + 1)
        while True:
            out.append(piece)
            size += len(piece)
            if size > limit:
                raise TooLargeError
            if decoder.can_accept_more_data():
                break
            piece = decoder.process(b"", output_buffer_limit=limit + 1)
    except brotli.error as error:
        raise EncodingError(f"brotli: {error}") from None
    if not decoder.is_finished():
        raise EncodingError("brotli: cut off")
    return b"".join(out)


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
}
