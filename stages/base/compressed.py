"""Plain, gzip, bzip2, xz and zstd files, by the name's ending: whole, in lines or blocks, a bounded part at a time."""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from stages.base.errors import InputError

BLOCK = 1 << 20
ENDINGS = (".gz", ".bz2", ".xz", ".zst")
ZSTD_PIECE = 1024  # bytes that are inflated at a time: a block of four makes 128 KiB


def bare_suffix(name: str) -> str:
    """What a file is without its compression, in lower case: `.jsonl` of `a.jsonl.gz`."""
    path = Path(name.lower())
    return (Path(path.stem) if path.suffix in ENDINGS else path).suffix


@contextmanager
def open_compressed(path: Path) -> Iterator[BinaryIO]:
    """The uncompressed bytes. Raises InputError, at the place that was reached, for a damaged or truncated file."""
    with path.open("rb") as raw:
        try:
            match path.suffix.lower():
                case ".gz":
                    yield cast(BinaryIO, gzip.GzipFile(fileobj=raw))
                case ".bz2":
                    yield cast(BinaryIO, bz2.BZ2File(raw))
                case ".xz":
                    yield cast(BinaryIO, lzma.LZMAFile(raw))  # noqa: SIM115  # `raw` is what has to be closed
                case ".zst":
                    yield inflated_zstd(raw)
                case _:
                    yield raw
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise InputError(f"{path}: damaged near byte {raw.tell()} of the file: {error}; fetch it again") from None


def inflated_zstd(raw: BinaryIO) -> BinaryIO:
    """Its content. Reading raises OSError for damage, EOFError where it is cut off."""
    return cast(BinaryIO, io.BufferedReader(_Zstd(raw), BLOCK))


class _Zstd(io.RawIOBase):
    """Frames one behind the other. The library's own reader takes a file that is cut off for a whole one."""

    def __init__(self, raw: BinaryIO) -> None:
        import zstandard  # few files need it

        self._raw, self._library = raw, zstandard
        self._frame: Any = None
        self._left, self._inflated = b"", b""  # of the file, of the frame

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._inflated:
            piece = self._left or self._raw.read(ZSTD_PIECE)
            if not piece:
                if self._frame is not None:
                    raise EOFError("the zstd frame is cut off")
                return 0
            if self._frame is None:
                self._frame = self._library.ZstdDecompressor().decompressobj()
            try:
                self._inflated, self._left = self._frame.decompress(piece), b""
            except self._library.ZstdError as error:
                raise OSError(str(error)) from None
            if self._frame.eof:
                self._frame, self._left = None, self._frame.unused_data
        size = min(len(target), len(self._inflated))
        target[:size], self._inflated = self._inflated[:size], self._inflated[size:]
        return size


def read_whole(path: Path) -> bytes:
    """The uncompressed bytes, without a byte order mark of UTF-8. Raises InputError for a file that can't be read."""
    try:
        with open_compressed(path) as handle:
            return handle.read().removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError:
        raise InputError(f"{path}: not found") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from None


def read_blocks(path: Path) -> Iterator[bytes]:
    with open_compressed(path) as handle:
        while block := handle.read(BLOCK):
            yield block


def read_lines(path: Path, limit: int) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end). Raises InputError for a line of more than `limit` bytes."""
    with open_compressed(path) as handle:
        number = 0
        while line := handle.readline(limit + 1):
            number += 1
            if len(line) > limit:
                raise InputError(f"{path}:{number}: the line is longer than {limit} bytes; is it the right file?")
            yield number, line.rstrip(b"\r\n")
