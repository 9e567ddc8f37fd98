"""WARC archives (ISO 28500), plain, gzip or zstd: HTML of successful responses and of resources, plain text of WET
files, robots.txt.

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
from stages.corpus.sources.archive_bytes import START, ArchiveBytes, DamageError, next_record
from stages.corpus.sources.archive_packing import packing_of
from stages.corpus.sources.charset import guess, is_utf8, to_utf8
from stages.corpus.sources.http_body import (
    MAX_HEADERS,
    EncodingError,
    Headers,
    TooLargeError,
    dechunk,
    decode_content,
    parse_response,
)
from stages.corpus.sources.media_type import HTML, PLAIN_TEXT, UNKNOWN, MediaType, parse_type, sniff
from stages.corpus.sources.raw import Raw, remarks, wrap
from stages.corpus.sources.robots import MAX_BYTES, Robots, host_of, is_robots

FIELD = re.compile(rb"[!-9;-~]+[ \t]*:|[ \t]")  # or a line that goes on with the one above
# Digests as headers label them: `sha1:` and base32, as Common Crawl writes them, or hex.
SIZES = {"sha1": 20, "sha256": 32, "sha512": 64, "md5": 16}  # bytes
READ_TYPES = ("response", "resource", "conversion")  # the others describe these, or repeat them


class Record(NamedTuple):
    headers: dict[str, str]  # names in lower case
    block: bytes  # its first bytes, where it is larger than may be kept
    length: int  # of the whole block
    where: str  # file@offset

    @property
    def kind(self) -> str:
        return self.headers.get("warc-type", "").lower()

    @property
    def url(self) -> str:
        return self.headers.get("warc-target-uri", "").strip("<>")

    @property
    def type(self) -> MediaType | None:
        return parse_type(self.headers.get("content-type", ""))

    @property
    def identified(self) -> str:
        """The type of the payload by its bytes, as the crawler found it; "" if it didn't look."""
        found = parse_type(self.headers.get("warc-identified-payload-type", ""))
        return found.essence if found else ""

    @property
    def cut(self) -> bool:
        """Whether the crawler cut the block off on purpose, or wrote it in segments, of which this is the first."""
        return bool({"warc-truncated", "warc-segment-number"} & self.headers.keys())

    def drop(self, problem: str, detail: str) -> Raw:
        return Raw(self.url, b"", problem=problem, where=self.where, detail=detail)

    def page(self, html: bytes, known: bool, opt_out: str = "") -> Raw:
        """`known`: its charset is what it should be."""
        told = remarks(html, known) + ("truncated",) * self.cut
        return Raw(self.url, html, opt_out=opt_out, where=self.where, remarks=told)


def read_warc(path: Path, name: str, max_page_bytes: int) -> Iterator[Raw | Robots]:
    """Every HTTP response, resource and converted text of an archive, in file order. `name` stands for it in places.

    Problems: `damaged` (cut off, a failed checksum, lengths that don't fit), `bad_digest`, `bad_encoding`, `too_large`,
    `http_status`, `not_html`. Memory holds one page and a piece of the archive. Raises InputError if no record begins
    in it, and for a WAT file, which has no text.
    """
    found = read = described = False
    damage = ""
    try:
        with path.open("rb") as handle:
            packing = packing_of(handle, str(path))
            offset: int | None = 0
            while offset is not None:
                archive = ArchiveBytes(handle, offset, packing)
                try:
                    while archive.at_record():
                        if not archive.line(MAX_HEADERS).startswith(START):
                            raise DamageError("no WARC record begins here")
                        found = True
                        record = _read_record(archive, max_page_bytes + MAX_HEADERS, name)
                        read |= record.kind in READ_TYPES
                        described |= record.kind == "metadata" and record.type == ("application/json", "")
                        if record.kind in READ_TYPES and (page := _page(record, max_page_bytes)) is not None:
                            yield page
                    break
                except DamageError as error:
                    where, damage = f"{name}@{archive.record_offset}", f" ({error})"
                    offset = next_record(handle, archive.record_offset, packing)
                    if found or offset is not None:
                        yield Raw(where, b"", problem="damaged", where=where, detail=str(error))
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error}") from None
    if not found:
        raise InputError(f"{path}: no WARC record can be read from it{damage}; is it a WARC file, plain, gzip or zstd?")
    if described and not read:
        raise InputError(f"{path}: a WAT file, metadata of pages without their text; take the WARC or WET file instead")


def _read_record(archive: ArchiveBytes, keep: int, name: str) -> Record:
    """The record at hand, whose first line is read, with up to `keep` bytes of its block; none of a type that isn't
    read.
    """
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
    return Record(headers, b"".join(block), int(declared), where)


def _page(record: Record, limit: int) -> Raw | Robots | None:
    whole = len(record.block) == record.length
    if whole and not has_digest(record.headers.get("warc-block-digest", ""), record.block):
        return record.drop("bad_digest", "of the block")
    if record.kind == "conversion":
        return _converted(record, limit)
    response = parse_response(record.block) if record.kind == "response" else None
    if response is not None:
        headers, start = response
        return _response(record, headers, record.block[start:], whole, limit)
    if record.kind == "response" and (record.type is None or record.type.essence == "application/http"):
        return record.drop("not_html", "no HTTP response")
    return _resource(record, whole, limit)


def _converted(record: Record, limit: int) -> Raw:
    kind = record.type.essence if record.type else ""
    if kind != PLAIN_TEXT:
        return record.drop("not_html", f"a conversion to `{kind[:100]}`, text/plain is read")
    if record.length > limit:
        return record.drop("too_large", f"{record.length:,} bytes")
    return record.page(wrap(record.block.decode("utf-8", "replace")), is_utf8(record.block))


def _resource(record: Record, whole: bool, limit: int) -> Raw | Robots:
    """A file as it is, without HTTP headers: its type and charset stand in the record's own."""
    robots = is_robots(record.url)
    kind = record.type.essence if record.type else record.identified or sniff(record.block)
    if not robots and kind not in (*HTML, PLAIN_TEXT):
        return record.drop("not_html", kind[:100])
    if not whole or record.length > limit:
        return record.drop("too_large", f"{record.length:,} bytes")
    if not record.cut and not has_digest(record.headers.get("warc-payload-digest", ""), record.block):
        return record.drop("bad_digest", "of the payload")
    if robots:
        return Robots(host_of(record.url), record.block[:MAX_BYTES].decode("utf-8", "replace"))
    charset = record.type.charset if record.type else ""
    page, known = to_utf8(record.block, charset)
    if kind in HTML:
        return record.page(page, charset == "" or known)
    return record.page(wrap(guess(page)), known)


def _response(record: Record, headers: Headers, stored: bytes, whole: bool, limit: int) -> Raw | Robots | None:
    robots = is_robots(record.url)
    success = 200 <= headers.status < 300
    if robots and not success:
        return None
    if not success:
        return record.drop("http_status", str(headers.status))
    kind = headers.type.essence if headers.type and headers.type.essence not in UNKNOWN else ""
    if not robots and kind and kind not in HTML:
        return record.drop("not_html", kind[:100])
    if not whole:
        return record.drop("too_large", f"{record.length:,} bytes")
    try:
        transfer = headers.get("transfer-encoding").lower()
        sent = dechunk(stored, record.cut) if "chunked" in transfer else stored
        codings = [headers.get("content-encoding"), *(one for one in transfer.split(",") if one.strip() != "chunked")]
        body = decode_content(sent, ",".join(codings), limit, record.cut)
    except TooLargeError:
        return record.drop("too_large", f"inflates to more than {limit:,} bytes")
    except EncodingError as error:
        return record.drop("bad_encoding", str(error))
    # Of the body without transfer encoding, says the standard; many writers mean the bytes as stored, some the page,
    # ClueWeb09 and Webrecorder the block. Of a body that the crawler cut off, some mean the whole.
    candidates = (sent, stored, body, record.block)
    if not record.cut and not has_digest(record.headers.get("warc-payload-digest", ""), *candidates):
        return record.drop("bad_digest", "of the payload")
    if robots:
        return Robots(host_of(record.url), body[:MAX_BYTES].decode("utf-8", "replace"))
    if len(body) > limit:
        return record.drop("too_large", f"{len(body):,} bytes")
    kind = kind or record.identified or (sniff(body) if headers.sniffs else PLAIN_TEXT)
    if kind not in HTML and body.strip():
        return record.drop("not_html", f"{kind[:100]}, as it has no type of its own")
    charset = headers.type.charset if headers.type else ""
    page, known = to_utf8(body, charset)
    return record.page(page, charset == "" or known, signals.join(signals.of_headers(headers.fields)))


def has_digest(labelled: str, *candidates: bytes) -> bool:
    """Whether one of the candidates has the digest; True for an algorithm that isn't known here."""
    algorithm, _, value = labelled.strip().partition(":")
    algorithm = algorithm.lower().replace("-", "")
    if algorithm not in SIZES:
        return True
    expected = _digest_bytes(value.strip(), SIZES[algorithm])
    return any(hashlib.new(algorithm, one, usedforsecurity=False).digest() == expected for one in candidates)


def _digest_bytes(value: str, size: int) -> bytes | None:
    """The digest's bytes, from hex, base32 or base64; None if that is no digest of its algorithm."""
    value = value.rstrip("=")
    try:
        if len(value) == 2 * size:
            return bytes.fromhex(value)
        if len(value) == -(-size * 4 // 3):
            return base64.b64decode(value.translate(str.maketrans("-_", "+/")) + "=" * (-len(value) % 4), validate=True)
        return base64.b32decode(value.upper() + "=" * (-len(value) % 8))
    except (ValueError, binascii.Error):
        return None
