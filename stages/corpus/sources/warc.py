"""WARC archives (ISO 28500), gzip or plain: HTML of successful responses, plain text of WET files, robots.txt.

Damage costs the record at which it stands, and reading goes on at the next one that can be found.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stages.base.errors import InputError
from stages.corpus.pages import signals
from stages.corpus.sources.archive_bytes import MAGIC, START, ArchiveBytes, DamageError, next_record
from stages.corpus.sources.charset import is_utf8, to_utf8
from stages.corpus.sources.http_body import (
    MAX_HEADERS,
    EncodingError,
    Headers,
    TooLargeError,
    dechunk,
    decode_content,
    parse_response,
)
from stages.corpus.sources.raw import Raw, remarks, wrap
from stages.corpus.sources.robots import MAX_BYTES, Robots, host_of, is_robots

HTML_TYPES = ("text/html", "application/xhtml+xml", "")  # a server that names no type means a page
FIELD = re.compile(rb"[!-9;-~]+[ \t]*:|[ \t]")  # or a line that goes on with the one above
# Digests as headers label them: `sha1:` and base32, as Common Crawl writes them, or hex.
SIZES = {"sha1": 20, "sha256": 32, "sha512": 64, "md5": 16}  # bytes
READ_TYPES = ("response", "conversion")  # the others describe these, or repeat them


class Record(NamedTuple):
    headers: dict[str, str]  # names in lower case
    block: bytes  # its first bytes, where it is larger than may be kept
    length: int  # of the whole block
    where: str  # file@offset

    @property
    def url(self) -> str:
        return self.headers.get("warc-target-uri", "").strip("<>")

    def raw(self, body: bytes = b"", problem: str = "", detail: str = "") -> Raw:
        return Raw(self.url, body, problem=problem, where=self.where, detail=detail)


def read_warc(path: Path, name: str, max_page_bytes: int) -> Iterator[Raw | Robots]:
    """Every HTTP response and every converted text of an archive, in file order. `name` stands for it in places.

    Problems: `damaged` (cut off, a failed checksum, lengths that don't fit), `bad_digest`, `bad_encoding`, `too_large`,
    `http_status`, `not_html`. Memory holds one page and a piece of the archive. Raises InputError if there is no record
    at all.
    """
    found = False
    try:
        with path.open("rb") as handle:
            gzip = handle.read(len(MAGIC)) == MAGIC or path.suffix == ".gz"
            offset: int | None = 0
            while offset is not None:
                archive = ArchiveBytes(handle, offset, gzip)
                try:
                    while archive.at_record():
                        record = _read_record(archive, max_page_bytes + MAX_HEADERS, name)
                        found = True
                        if record is not None and (page := _page(record, max_page_bytes)) is not None:
                            yield page
                    break
                except DamageError as error:
                    where = f"{name}@{archive.record_offset}"
                    offset = next_record(handle, archive.record_offset, gzip)
                    if found or offset is not None:
                        yield Raw(where, b"", problem="damaged", where=where, detail=str(error))
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error}") from None
    if not found:
        raise InputError(f"{path}: no WARC record can be read from it; is it a WARC file, plain or gzip?")


def _read_record(archive: ArchiveBytes, keep: int, name: str) -> Record | None:
    """The record at hand with up to `keep` bytes of its block; None for one of a type that isn't read."""
    if not archive.line(MAX_HEADERS).startswith(START):
        raise DamageError("no WARC record begins here")
    headers: dict[str, str] = {}
    size = 0
    while line := archive.line(MAX_HEADERS).rstrip(b"\r\n"):
        if not FIELD.match(line):  # else the header of a record that is lost would go on in the next one's
            raise DamageError("a header line isn't of the form `name: value`")
        key, _, value = line.decode("utf-8", "replace").partition(":")
        headers[key.strip().lower()] = value.strip()
        size += len(line)
        if size > MAX_HEADERS:
            raise DamageError(f"the record's header is longer than {MAX_HEADERS:,} bytes")
    declared = headers.get("content-length", "")
    if not (declared.isascii() and declared.isdecimal() and len(declared) < 19):
        raise DamageError(f"Content-Length is {declared[:20]!r}")
    where = f"{name}@{archive.record_offset}"
    wanted = headers.get("warc-type", "").lower() in READ_TYPES
    block: list[bytes] = []
    kept = 0
    for piece in archive.pieces(int(declared)):
        if wanted and kept < keep:
            block.append(piece[: keep - kept])
            kept += len(block[-1])
    archive.end_record()
    return Record(headers, b"".join(block), int(declared), where) if wanted else None


def _page(record: Record, limit: int) -> Raw | Robots | None:
    whole = len(record.block) == record.length
    if whole and not has_digest(record.headers.get("warc-block-digest", ""), record.block):
        return record.raw(problem="bad_digest", detail="of the block")
    if record.headers["warc-type"].lower() == "conversion":
        return _converted(record, limit)
    response = parse_response(record.block)
    if response is None:
        return record.raw(problem="not_html", detail="no HTTP response")
    headers, start = response
    return _response(record, headers, record.block[start:], whole, limit)


def _converted(record: Record, limit: int) -> Raw:
    media_type = record.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "text/plain":
        return record.raw(problem="not_html", detail=f"a conversion to `{media_type[:100]}`, text/plain is read")
    if record.length > limit:
        return record.raw(problem="too_large", detail=f"{record.length:,} bytes")
    page = wrap(record.block.decode("utf-8", "replace"))
    return Raw(record.url, page, where=record.where, remarks=remarks(page, is_utf8(record.block)))


def _response(record: Record, headers: Headers, stored: bytes, whole: bool, limit: int) -> Raw | Robots | None:
    robots = is_robots(record.url)
    success = 200 <= headers.status < 300
    if robots and not success:
        return None
    if not success:
        return record.raw(problem="http_status", detail=str(headers.status))
    if not robots and headers.media_type not in HTML_TYPES:
        return record.raw(problem="not_html", detail=headers.media_type[:100])
    if not whole:
        return record.raw(problem="too_large", detail=f"{record.length:,} bytes")
    try:
        sent = dechunk(stored) if "chunked" in headers.get("transfer-encoding").lower() else stored
        body = decode_content(sent, headers.get("content-encoding"), limit)
    except TooLargeError:
        return record.raw(problem="too_large", detail=f"inflates to more than {limit:,} bytes")
    except EncodingError as error:
        return record.raw(problem="bad_encoding", detail=str(error))
    # Of the body without transfer encoding, says the standard; many writers mean the bytes as stored, some the page.
    if not has_digest(record.headers.get("warc-payload-digest", ""), sent, stored, body):
        return record.raw(problem="bad_digest", detail="of the payload")
    if robots:
        return Robots(host_of(record.url), body[:MAX_BYTES].decode("utf-8", "replace"))
    if len(body) > limit:
        return record.raw(problem="too_large", detail=f"{len(body):,} bytes")
    page, known = to_utf8(body, headers.charset)
    opt_out = signals.join(signals.of_headers(headers.fields))
    remarked = remarks(page, headers.charset == "" or known)
    return Raw(record.url, page, opt_out=opt_out, where=record.where, remarks=remarked)


def has_digest(labelled: str, *candidates: bytes) -> bool:
    """Whether one of the candidates has the digest; True for an algorithm that isn't known here."""
    algorithm, _, value = labelled.strip().partition(":")
    algorithm = algorithm.lower().replace("-", "")
    if algorithm not in SIZES:
        return True
    expected = _digest_bytes(value.strip(), SIZES[algorithm])
    return any(hashlib.new(algorithm, one, usedforsecurity=False).digest() == expected for one in candidates)


def _digest_bytes(value: str, size: int) -> bytes | None:
    """The digest's bytes; None if that is no digest of its algorithm."""
    try:
        value = value.rstrip("=")
        if len(value) == 2 * size:
            return bytes.fromhex(value)
        return base64.b32decode(value.upper() + "=" * (-len(value) % 8))
    except (ValueError, binascii.Error):
        return None
