"""The bytes of an archive, plain, gzip or zstd, a piece at a time, with the offset where each record stands.

Written here because three things are needed at once that readers of whole records don't give: memory bounded by a piece
whatever a member inflates to, the file offset of damage, and a way on from there. A record lies within one member (a
gzip member, a frame of zstd), as WARC 1.1 (annex D) recommends and all crawlers do; a record over several members
(bgzip) and a file compressed as one member are read too. Zero bytes at the end are padding, as for gzip(1).
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

from stages.corpus.sources.archive_packing import Inflater, Packing

PIECE = 64 * 1024
WINDOW = 2**20  # of a search for the next record
START = b"WARC/"
RECORD = re.compile(rb"WARC/\d{1,2}\.\d{1,2}\r?\n")
OVERLAP = 16  # bytes; more than these match
LINE_ENDS = re.compile(rb"[\r\n]*")


class DamageError(Exception):
    """The bytes don't go on as the format says; the text says how."""


class ArchiveBytes:
    """Sequential reads from `offset` on. `record_offset` is where the record at hand begins in the file."""

    def __init__(self, handle: BinaryIO, offset: int, packing: Packing | None) -> None:
        handle.seek(offset)
        self._packing = packing
        self._handle = handle
        self._buffer, self._place = b"", 0  # inflated, and how much of it is read
        self._raw, self._raw_end = b"", offset  # not inflated yet; file offset of its end
        self._inflater: Inflater | None = None
        self._line_feeds = 0  # since the end of the last block
        self._within = False  # a record, which may go on in the next member
        self.record_offset = offset

    def at_record(self) -> bool:
        """Go on to the next record's first byte; False at the end of the file."""
        self._within = False
        while not self._skip_blank():
            if not self._more() and not (self._packing and self._open_member(self._packing)):
                return False
        if not self._packing:
            self.record_offset = self._raw_end - (len(self._buffer) - self._place)
            if not self._buffer[self._place] and self._only_zeros():
                return False
        self._within = True
        return True

    def line(self, limit: int) -> bytes:
        """The next line, its end included. Raises DamageError if it is cut off or longer than `limit`."""
        while (end := self._buffer.find(b"\n", self._place)) < 0:
            if len(self._buffer) - self._place > limit:
                raise DamageError(f"a header line is longer than {limit:,} bytes")
            if not self._more():
                raise DamageError("ends within a header")
        line = self._buffer[self._place : end + 1]
        self._place = end + 1
        return line

    def pieces(self, length: int) -> Iterator[bytes]:
        """The next `length` bytes. Raises DamageError if there are fewer."""
        left = length
        while left:
            if self._place == len(self._buffer) and not self._more():
                raise DamageError(f"ends after {length - left:,} of {length:,} bytes")
            piece = self._buffer[self._place : self._place + left]
            self._place += len(piece)
            left -= len(piece)
            yield piece

    def end_record(self) -> None:
        """The blank lines after a block, up to the next record or the end of the member, whose checksum that checks.

        Raises DamageError if the block goes on. What follows an empty line is no part of it: that is left for
        `at_record`, whatever it is.
        """
        self._line_feeds, self._within = 0, False
        while not self._skip_blank():
            if not self._more():
                return
        while len(self._buffer) - self._place < len(START) and self._more():
            pass
        if not self._buffer.startswith(START, self._place) and self._line_feeds < 2:
            raise DamageError("goes on after its declared length")

    def _skip_blank(self) -> bool:
        """Whether something other than line ends is left in the buffer."""
        start = self._place
        self._place = LINE_ENDS.match(self._buffer, start).end()  # type: ignore[union-attr]
        self._line_feeds += self._buffer.count(b"\n", start, self._place)
        return self._place < len(self._buffer)

    def _more(self) -> bool:
        """Put more bytes of this record's members (or of a plain file) into the buffer; False at their end."""
        packing = self._packing
        piece = self._inflate(packing) if packing else self._read()
        while packing and not piece and self._within and self._goes_on(packing):
            self._inflater = packing.open()
            piece = self._inflate(packing)
        self._buffer, self._place = self._buffer[self._place :] + piece, 0
        return bool(piece)

    def _read(self) -> bytes:
        piece = self._handle.read(PIECE)
        self._raw_end += len(piece)
        return piece

    def _inflate(self, packing: Packing) -> bytes:
        while self._inflater is not None:
            self._raw = self._raw or self._read()
            try:
                # Of no bytes too: output may wait in the inflater.
                piece = self._inflater.decompress(self._raw, PIECE)
            except packing.errors as error:
                raise DamageError(f"{packing.name}: {error}") from None
            if self._inflater.eof:
                self._raw, self._inflater = self._inflater.unused_data, None
            elif not piece and not self._raw:
                raise DamageError(f"the {packing.name} member is cut off")
            else:
                self._raw = self._inflater.unconsumed_tail
            if piece:
                return piece
        return b""

    def _goes_on(self, packing: Packing) -> bool:
        """Whether a member follows that no record begins."""
        while len(self._raw) < packing.peeked and (piece := self._read()):
            self._raw += piece
        return bool(packing.member.match(self._raw)) and _first_bytes(self._raw, packing) not in (START, None)

    def _open_member(self, packing: Packing) -> bool:
        if len(self._raw) < OVERLAP:
            self._raw += self._read()
        if not self._raw:
            return False
        self.record_offset = self._raw_end - len(self._raw)
        if not self._raw[0] and self._only_zeros():
            return False
        if not packing.member.match(self._raw):
            raise DamageError(f"no {packing.name} member begins here")
        self._inflater = packing.open()
        return True

    def _only_zeros(self) -> bool:
        """Whether nothing but zero bytes is left of the file. Where it is read on: only if so."""
        if (self._raw if self._packing else self._buffer[self._place :]).strip(b"\0"):
            return False
        here = self._handle.tell()
        while piece := self._handle.read(PIECE):
            if piece.strip(b"\0"):
                self._handle.seek(here)
                return False
        return True


def next_record(handle: BinaryIO, offset: int, packing: Packing | None) -> int | None:
    """File offset of the first record after `offset`, found by its first bytes; None if there is none."""
    start, kept = offset + 1, b""  # file offset of the window; the end of the one before it
    while True:
        handle.seek(start + len(kept))
        window = kept + handle.read(WINDOW)
        if len(window) == len(kept):
            return None
        for match in (packing.member if packing else RECORD).finditer(window):
            if not packing or _begins_record(handle, start + match.start(), packing):
                return start + match.start()
        kept = window[-OVERLAP:]
        start += len(window) - len(kept)


def _begins_record(handle: BinaryIO, offset: int, packing: Packing) -> bool:
    handle.seek(offset)
    return _first_bytes(handle.read(packing.peeked), packing) == START


def _first_bytes(member: bytes, packing: Packing) -> bytes | None:
    """What the first bytes of a member inflate to; None if it is none."""
    inflater, left, found = packing.open(), member[: packing.peeked], b""
    try:
        while left and len(found) < len(START) and not inflater.eof:
            found += inflater.decompress(left, len(START))
            left = inflater.unconsumed_tail
    except packing.errors:
        return None
    return found[: len(START)]
