"""Anyone's corpus, a few megabytes at a time: JSON Lines, Parquet and plain text, packed (.gz, .zst) or not.

Memory holds one batch, whatever the size of a file or of a document: long documents come in pieces that are cut between
words, and an index lets runs of words go on from one to the next.
"""

import glob
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from stages.base.errors import InputError
from stages.evaluation.overlap.index import CORPUS

BATCH_BYTES = 4 << 20
PIECE = 2 << 20  # characters of a document in one row
LINES, PLAIN, PARQUET = (".jsonl", ".ndjson", ".json"), (".txt", ".md", ".text"), (".parquet",)
PACKED = (".gz", ".zst")
IDS, URLS, SOURCES = ("id", "doc_id", "uuid"), ("url", "source_url", "link"), ("source",)
_GAP = re.compile(r"\s\S*\Z")

Row: TypeAlias = tuple[str, str, str, str]  # id, source, url, text
Told: TypeAlias = Callable[[int], None]  # of so many more bytes that were read


class CorpusFile(NamedTuple):
    path: Path
    kind: str  # its suffix without the packing
    bytes: int


def corpus_files(names: Sequence[str]) -> list[CorpusFile]:
    """Files of the given names, folders (with all below) and patterns, each once, in order. Raises InputError for one
    that isn't there or of a kind that isn't read."""
    found: dict[Path, CorpusFile] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and _kind(file))
        else:
            files = [path] if path.exists() else sorted(Path(match) for match in glob.glob(name, recursive=True))
        if not files:
            raise InputError(f"{name}: no such file, and no file of a corpus below it or of this pattern")
        for file in files:
            kind = _kind(file)
            if file.is_file() and not kind:
                raise InputError(
                    f"{file}: not a corpus by its name; known are {', '.join((*LINES, *PLAIN, *PARQUET))}, the first "
                    f"packed as {' or '.join(PACKED)} too"
                )
            if file.is_file():
                found[file] = CorpusFile(file, kind, file.stat().st_size)
    return list(found.values())


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED and len(suffixes) > 1 and suffixes[-2] not in PARQUET:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in (*LINES, *PLAIN, *PARQUET) else ""


def read_corpus(files: Iterable[CorpusFile], field: str, told: Told) -> Iterator[pa.Table]:
    """Tables of schema CORPUS; `field` holds the text of JSON Lines and Parquet, `told` hears of the bytes read.

    Raises InputError naming file and line (or row) of what can't be read.
    """
    return batches_of(row for file in files for row in _rows(file, field, told))


def _rows(file: CorpusFile, field: str, told: Told) -> Iterator[Row | tuple[str, str, str, str, int]]:
    if file.kind in PARQUET:
        yield from _parquet_rows(file.path, field, told)
        return
    try:
        with _opened(file.path, told) as stream:
            yield from _line_rows(file.path, stream, field) if file.kind in LINES else _plain_rows(file.path, stream)
    except UnicodeDecodeError as error:
        raise InputError(f"{file.path}: not UTF-8 ({error.reason}); save it as UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file.path}: can't be read: {getattr(error, 'strerror', None) or error}") from None


class _Counted(io.RawIOBase):
    """A file that tells of what is read of it."""

    def __init__(self, path: Path, told: Told) -> None:
        self._file, self._told = path.open("rb"), told

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._told(count)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _opened(path: Path, told: Told) -> IO[bytes]:
    raw = io.BufferedReader(_Counted(path, told), 1 << 20)
    if path.suffix.lower() == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw), 1 << 20)  # type: ignore[arg-type]
    if path.suffix.lower() == ".zst":
        import zstandard

        # Its errors are no OSErrors: a damaged file would end with a trace.
        return io.BufferedReader(
            _Unpacked(zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)), 1 << 20
        )
    return raw


class _Unpacked(io.RawIOBase):
    """What zstandard gives, with OSError for a damaged file."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        import zstandard

        try:
            return self._reader.readinto(buffer)
        except zstandard.ZstdError as error:
            raise OSError(str(error)) from None


def _line_rows(path: Path, stream: IO[bytes], field: str) -> Iterator[Row]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError:
            raise InputError(f"{path}:{number}: not UTF-8; save it as UTF-8") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not valid JSON: {error}; a corpus has one object a line") from None
        if isinstance(row, dict) and field in row and row[field] is None:
            continue  # a document without a text, as a Parquet file's null is
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            has = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            raise InputError(f"{path}:{number}: no text in `{field}` (there is: {has[:200]}); name it with --field")
        id, source = _first(row, IDS) or f"{path.name}:{number}", _first(row, SOURCES) or path.name
        yield id, source, _first(row, URLS), row[field]


def _first(row: dict[str, Any], names: Sequence[str]) -> str:
    values = [row, row["metadata"]] if isinstance(row.get("metadata"), dict) else [row]
    return next((str(value[name]) for value in values for name in names if isinstance(value.get(name), str | int)), "")


def _parquet_rows(path: Path, field: str, told: Told) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            names = file.schema_arrow.names
            if field not in names:
                raise InputError(f"{path}: no column `{field}` (there is: {', '.join(names)}); name it with --field")
            if not pa.types.is_string(kind := file.schema_arrow.field(field).type) and not pa.types.is_large_string(
                kind
            ):
                raise InputError(f"{path}: column `{field}` is {kind}, no text; name another with --field")
            extra = [next((name for name in group if name in names), None) for group in (IDS, SOURCES, URLS)]
            wanted = [field, *(name for name in extra if name)]
            size, seen = path.stat().st_size, 0
            share = size / max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=256, columns=wanted):
                columns = {name: batch.column(name).to_pylist() for name in wanted}
                for i, text in enumerate(columns[field]):
                    if text is None:
                        continue
                    id, source, url = (str(columns[name][i]) if name else "" for name in extra)
                    yield id or f"{path.name}:{seen + i}", source or path.name, url, text
                told(int((seen + batch.num_rows) * share) - int(seen * share))
                seen += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a readable parquet file: {error}") from None


def _plain_rows(path: Path, stream: IO[bytes]) -> Iterator[tuple[str, str, str, str, int]]:
    """A file is a document, read a piece at a time."""
    offset, rest = 0, ""
    reader = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    while part := reader.read(PIECE):
        rest += part
        if len(rest) >= PIECE:
            cut = _cut(rest, 0, len(rest))
            yield path.name, path.name, "", rest[:cut], offset
            offset += len(rest[:cut].encode("utf-8", "replace"))
            rest = rest[cut:]
    if rest or not offset:
        yield path.name, path.name, "", rest, offset


def _cut(text: str, start: int, end: int) -> int:
    """Where a piece from `start` on may end, at `end` or before: at white space if there is any near, so that no word
    is parted."""
    found = _GAP.search(text, max(start + 1, end - 4096), end)
    return found.start() if found else end


def batches_of(rows: Iterable[Row | tuple[str, str, str, str, int]]) -> Iterator[pa.Table]:
    """Rows (id, source, url, text, bytes before it) in tables of about BATCH_BYTES, long texts cut into pieces."""
    waiting: list[tuple[str, str, str, int, str]] = []
    size = 0
    for id, source, url, text, *before in rows:
        offset = int(before[0]) if before else 0
        start = 0
        while True:
            end = len(text) if len(text) - start <= PIECE else _cut(text, start, start + PIECE)
            piece = text[start:end] if start or end < len(text) else text
            waiting.append((id, source, url, offset, piece))
            size += len(piece)
            if size >= BATCH_BYTES:
                yield _table(waiting)
                waiting, size = [], 0
            if end == len(text):
                break
            offset += len(piece.encode("utf-8", "replace"))
            start = end
    if waiting:
        yield _table(waiting)


def _table(rows: Sequence[tuple[str, str, str, int, str]]) -> pa.Table:
    columns = list(zip(*rows, strict=True))
    try:
        texts = pa.array(columns[4], pa.large_string())
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell
        texts = pa.array([text.encode("utf-8", "replace").decode() for text in columns[4]], pa.large_string())
    names = [[value.encode("utf-8", "replace").decode() for value in column] for column in columns[:3]]
    arrays = [*(pa.array(column, pa.string()) for column in names), pa.array(columns[3], pa.int64()), texts]
    return pa.Table.from_arrays(arrays, schema=CORPUS)
