"""HTTP responses as archives store them: headers taken off, transfer and content encodings undone, within bounds."""

import re
import zlib
from collections.abc import Callable
from typing import NamedTuple

from stages.corpus.sources.charset import is_utf8
from stages.corpus.sources.media_type import MediaType, extract_type

MAX_HEADERS = 256 * 1024  # bytes
GZIP = b"\x1f\x8b"
MAX_ENCODINGS = 3  # layers of content encoding
TAG = re.compile(rb"<[!/?]?[a-zA-Z]{3}")
PLAIN = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*<|\xef\xbb\xbf")  # how a body begins that isn't encoded
CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # no text has them
MAX_MEMBERS = 256  # of a gzip body; each costs a copy of the rest
# A line ends with LF and any number of CR before it; an empty line ends the header (RFC 9112, sections 2.2 and 4).
HEADER_END, LINE_END = re.compile(rb"\n\r*\n"), re.compile(r"\r*\n")
CHUNK_END = re.compile(rb"\r?\n")
ZSTD_WINDOW = 2**23  # bytes: what browsers allow (RFC 9659)
ZSTD_PIECE = 64  # bytes that are inflated at a time: a block of four makes 128 KiB


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

    @property
    def type(self) -> MediaType | None:
        """What the Content-Type headers come to; None where they name no type."""
        return extract_type([value for key, value in self.fields if key == "content-type"])

    @property
    def sniffs(self) -> bool:
        """Whether a body without a type may be taken for HTML by its first bytes."""
        return self.get("x-content-type-options").partition(",")[0].strip().lower() != "nosniff"


def parse_response(block: bytes) -> tuple[Headers, int] | None:
    """(Headers, place where the body begins) of an HTTP response; None if it is none."""
    start = re.match(rb"[\r\n]{0,16}", block).end()  # type: ignore[union-attr]  # some servers send an empty line first
    found = HEADER_END.search(block, start, MAX_HEADERS)
    end, body = (found.start(), found.end()) if found else (len(block), len(block))
    if end > MAX_HEADERS:
        return None
    # Not `splitlines`: in Latin-1 that also cuts at bytes that are parts of UTF-8 characters.
    lines = LINE_END.split(block[start:end].decode("latin-1"))
    lines[-1] = lines[-1].rstrip("\r")
    words = lines[0].split(maxsplit=2) if lines else []
    if len(words) < 2 or not words[0].upper().startswith("HTTP/") or not words[1].isdecimal() or len(words[1]) > 3:
        return None
    fields: list[tuple[str, str]] = []
    for line in lines[1:]:
        if line[:1] in (" ", "\t") and fields:  # folded: obsolete, and still met
            fields[-1] = (fields[-1][0], f"{fields[-1][1]} {line.strip()}")
        elif ":" in line:
            name, _, value = line.partition(":")
            fields.append((name.strip().lower(), value.strip()))
    return Headers(int(words[1]), fields), body


def dechunk(body: bytes, cut: bool = False) -> bytes:
    """A chunked body without its framing; as it is where a crawler has undone that and kept the header.

    Raises EncodingError for framing that breaks off, also within the first chunk; `cut` (the crawler says that it cut
    the body off) keeps what is there.
    """
    parts: list[bytes] = []
    place = 0
    while True:
        end = body.find(b"\n", place, place + 1024)
        size = body[place:end].partition(b";")[0].strip() if end >= 0 else b""
        try:
            length = int(size, 16) if size.isalnum() else -1
        except ValueError:
            length = -1
        if length == 0:
            return b"".join(parts)
        after = CHUNK_END.match(body, end + 1 + length) if length > 0 else None
        if after is None:
            if not parts and (length < 0 or length <= len(body) - end - 1):
                return body
            if cut:
                return b"".join([*parts, body[end + 1 : end + 1 + length] if length > 0 else b""])
            raise EncodingError("chunked framing is broken")
        parts.append(body[end + 1 : end + 1 + length])
        place = after.end()


def decode_content(body: bytes, encodings: str, limit: int, cut: bool = False) -> bytes:
    """Undo a Content-Encoding header. Raises TooLargeError above `limit` bytes, EncodingError for what can't be undone.

    A body that is text isn't encoded, whatever the header says: crawlers decode and keep the header, and servers name a
    charset there. One that begins as gzip is no page yet: it is inflated once more, named or not. `cut` (the crawler
    says that it cut the body off) keeps what can be decoded.
    """
    names = [name.strip().lower() for name in encodings.split(",")]
    names = [name for name in names if name not in ("", "identity", "none", "utf-8")]
    if len(names) > MAX_ENCODINGS:
        raise EncodingError(f"{len(names)} layers of content encoding")
    for name in reversed(names):
        if PLAIN.match(body) or not body:
            return body
        try:
            body = _DECODERS.get(name, _unknown)(body, limit, cut)
        except EncodingError:
            if not is_text(body):
                raise
            return body
    return _gzip(body, limit, cut) if body.startswith(GZIP) else body


def is_text(body: bytes) -> bool:
    """Whether a body can be text as it is: UTF-16 by its mark; UTF-8, or tags near the beginning, and there no control
    characters, of which compressed bytes are full.
    """
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    return not CONTROLS.search(body, 0, 1024) and (bool(TAG.search(body, 0, 1024)) or is_utf8(body))


def _unknown(body: bytes, limit: int, cut: bool) -> bytes:
    raise EncodingError("unknown content encoding")


def _gzip(body: bytes, limit: int, cut: bool) -> bytes:
    if not body.startswith(GZIP):
        raise EncodingError("gzip: neither a gzip member nor text")
    return _inflate(body, zlib.MAX_WBITS | 16, limit, cut)


def _deflate(body: bytes, limit: int, cut: bool) -> bytes:
    try:
        return _inflate(body, zlib.MAX_WBITS, limit, cut)
    except EncodingError:
        return _inflate(body, -zlib.MAX_WBITS, limit, cut)  # without zlib's header, as some servers send it


def _inflate(body: bytes, window: int, limit: int, cut: bool) -> bytes:
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
            if cut:
                return b"".join(out)
            raise EncodingError("gzip or deflate: cut off")
        left -= len(out[-1])
        body = inflater.unused_data
        if not body.startswith(GZIP):
            return b"".join(out)
    raise EncodingError(f"gzip: more than {MAX_MEMBERS} members")


def _brotli(body: bytes, limit: int, cut: bool) -> bytes:
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
    if not decoder.is_finished() and not cut:
        raise EncodingError("brotli: cut off")
    return b"".join(out)


def _zstd(body: bytes, limit: int, cut: bool) -> bytes:
    import zstandard  # few archives need it

    out: list[bytes] = []
    size = 0
    decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj(read_across_frames=False)
    try:
        for start in range(0, len(body), ZSTD_PIECE):
            out.append(decoder.decompress(body[start : start + ZSTD_PIECE]))
            size += len(out[-1])
            if size > limit:
                raise TooLargeError
            if decoder.eof:
                return b"".join(out)
    except zstandard.ZstdError as error:
        raise EncodingError(f"zstd: {error}") from None
    if not cut:
        raise EncodingError("zstd: cut off")
    return b"".join(out)


_DECODERS: dict[str, Callable[[bytes, int, bool], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
