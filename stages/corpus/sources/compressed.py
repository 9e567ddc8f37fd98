"""Lines and blocks of plain, gzip and bzip2 files, by the name's ending, a bounded part of the file at a time."""

import bz2
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from stages.base.errors import InputError

BLOCK = 1 << 20


@contextmanager
def open_compressed(path: Path) -> Iterator[BinaryIO]:
    """The uncompressed bytes. Raises InputError, at the place that was reached, for a damaged or truncated file."""
    with path.open("rb") as raw:
        try:
            if path.suffix == ".gz":
                yield cast(BinaryIO, gzip.GzipFile(fileobj=raw))
            elif path.suffix == ".bz2":
                yield cast(BinaryIO, bz2.BZ2File(raw))
            else:
                yield raw
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(f"{path}: damaged near byte {raw.tell()} of the file: {error}; fetch it again") from None


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
