"""WARC archives: the HTML of successful responses, HTTP headers stripped, damaged tails counted."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from stages.base.errors import InputError

HTML_TYPES = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True)
class Response:
    """A response record. `problem` names why its body is of no use: http_status, not_html, truncated; "" if it is."""

    url: str
    body: bytes
    problem: str
    offset: int


def read_warc(path: Path) -> Iterator[Response]:
    """Every HTTP response of a (gzip, lz4 or plain) WARC file, in file order.

    A record whose body is shorter than its declared length, or at which the stream breaks off, comes back as
    `truncated` with its offset; what follows a broken stream is lost. Raises InputError if there is no record at all.
    """
    found = False
    offset = 0
    try:
        with path.open("rb") as handle:
            for record in ArchiveIterator(handle, record_types=WarcRecordType.response, parse_http=True):
                found = True
                offset = record.stream_pos
                yield _response(record, offset)
    except (EOFError, OSError, ValueError, RuntimeError) as error:
        if not found and isinstance(error, OSError):
            raise InputError(f"{path}: can't be read: {error}") from None
        yield Response(path.name, b"", "truncated", offset)
        return
    if not found:
        raise InputError(f"{path}: holds no WARC response record; is it a WARC file?")


def _response(record: WarcRecord, offset: int) -> Response:
    url = record.headers.get("WARC-Target-URI") or ""
    headers = record.http_headers
    if headers is None or headers.status_code is None:
        whole = "Content-Length" in record.headers and len(record.reader.read()) >= record.content_length
        return Response(url, b"", "not_html" if whole and not record.is_http else "truncated", offset)
    if not 200 <= headers.status_code < 300:
        return Response(url, b"", "http_status", offset)
    if (record.http_content_type or HTML_TYPES[0]) not in HTML_TYPES:
        return Response(url, b"", "not_html", offset)
    declared = record.content_length  # of the body: the HTTP headers are parsed and taken off
    body = record.reader.read()
    if len(body) < declared:
        return Response(url, body, "truncated", offset)
    return Response(url, _utf8(body, record.http_charset), "", offset)


def _utf8(body: bytes, charset: str | None) -> bytes:
    """The charset of the HTTP header is lost with the header, so a body that isn't UTF-8 is converted by it here."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        if charset:
            try:
                return body.decode(charset).encode("utf-8")
            except (UnicodeError, LookupError):
                return body
    return body
