"""How the members of an archive are compressed: gzip (WARC 1.1, annex D) or Zstandard (IIPC's WARC-Zstandard 1.0).

A Zstandard archive may begin with a dictionary, which all of its frames are read with: a skippable frame that holds it,
compressed itself or not. Other skippable frames are passed over, as the specification has it.
"""

import re
import zlib
from typing import Any, BinaryIO, Protocol

from stages.base.errors import InputError

GZIP = b"\x1f\x8b\x08"
FRAME, DICTIONARY_FRAME = b"\x28\xb5\x2f\xfd", b"\x5d\x2a\x4d\x18"
SKIPPABLE = rb"[\x50-\x5f]\x2a\x4d\x18"
DICTIONARY = b"\x37\xa4\x30\xec"
LARGEST_DICTIONARY = 8 << 20  # bytes; what the specification asks a reader to take
WINDOW = 1 << 27  # bytes; the most that `zstd` itself takes without being asked
FED = 1024  # bytes that are inflated at a time: a block of four makes 128 KiB
BLOCK = (1 << 17) + 64  # bytes: a whole block of Zstandard and the headers before it


class Inflater(Protocol):
    """One member being inflated, as zlib's objects do it."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class Packing(Protocol):
    """member: how one begins. peeked: bytes of it that are enough to see whether a record begins it."""

    name: str
    member: re.Pattern[bytes]
    peeked: int
    errors: tuple[type[Exception], ...]

    def open(self) -> Inflater:
        """Of a new member. Its `decompress` raises one of `errors` for damage."""


class Gzip:
    name, member, peeked = "gzip", re.compile(re.escape(GZIP)), 4096
    errors: tuple[type[Exception], ...] = (zlib.error,)

    def open(self) -> Inflater:
        return zlib.decompressobj(zlib.MAX_WBITS | 16)


class Zstd:
    name, member, peeked = "zstd", re.compile(re.escape(FRAME) + b"|" + SKIPPABLE), BLOCK

    def __init__(self, dictionary: bytes = b"") -> None:
        import zstandard  # few archives need it

        self.errors: tuple[type[Exception], ...] = (zstandard.ZstdError,)
        given = zstandard.ZstdCompressionDict(dictionary, zstandard.DICT_TYPE_FULLDICT) if dictionary else None
        self._decompressor = zstandard.ZstdDecompressor(dict_data=given, max_window_size=WINDOW)

    def open(self) -> Inflater:
        return _Frame(self._decompressor.decompressobj())


class _Frame:
    """A frame; a few bytes go in at a time, as the library gives all that comes of them at once."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.unconsumed_tail = b""

    @property
    def eof(self) -> bool:
        return bool(self._frame.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._frame.unused_data) + self.unconsumed_tail

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """`max_length` isn't kept to: what FED bytes make comes, usually some KiB."""
        inflated = b"" if self.eof else bytes(self._frame.decompress(data[:FED]))
        self.unconsumed_tail = data[FED:]
        return inflated


def packing_of(handle: BinaryIO, path: str) -> Packing | None:
    """By an archive's first bytes, else by the ending of its name; None for a plain one. Raises InputError for a
    dictionary that can't be read."""
    first = handle.read(len(FRAME))
    if first.startswith(GZIP):
        return Gzip()
    if first == DICTIONARY_FRAME:
        return Zstd(_dictionary(handle, path))
    if first == FRAME or path.endswith(".zst"):
        return Zstd()
    return Gzip() if path.endswith(".gz") else None


def _dictionary(handle: BinaryIO, path: str) -> bytes:
    """The content of the skippable frame whose first four bytes have been read."""
    size = int.from_bytes(handle.read(4), "little")
    content = handle.read(min(size, LARGEST_DICTIONARY + 1))
    if content.startswith(FRAME):
        packing, found = Zstd(), b""
        inflater = packing.open()
        try:
            while not inflater.eof and content and len(found) <= LARGEST_DICTIONARY:
                found += inflater.decompress(content, LARGEST_DICTIONARY)
                content = inflater.unconsumed_tail
        except packing.errors as error:
            raise InputError(f"{path}: its zstd dictionary can't be read: {error}; fetch it again") from None
        size, content = len(found), found
    if max(size, len(content)) > LARGEST_DICTIONARY:
        raise InputError(f"{path}: its zstd dictionary is larger than {LARGEST_DICTIONARY >> 20} MiB, which isn't read")
    if not content.startswith(DICTIONARY) or len(content) < size:
        raise InputError(f"{path}: its zstd dictionary can't be read: it is cut off or of another form; fetch it again")
    return content
