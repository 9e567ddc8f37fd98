"""The file of a bundle: an uncompressed tar archive of one possible form.

Members are plain files in a fixed order with fixed owners, modes and times, so that the same contents are the same
bytes, and a reader can refuse every other form: each header must be the one that the writer makes for its name and
size, padding must be zeros, and nothing may follow the end. So no byte is without a check, and links, devices, sparse
files, paths that lead out and files that grow when they are unpacked can't occur.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stages.base.errors import InputError
from stages.base.files import atomic_path, sha256_file
from stages.base.terminal import one_line

VERSION = 1
FIRST, CHECKSUMS, STATEMENT, KEY = "bundle.json", "checksums.txt", "statement.sigstore.json", "key.pub"
PROJECT = "project/"
_BLOCK, _RECORD, _CHUNK = 512, 10240, 1 << 20
_MOST = 100_000  # members
_SMALL = 64 << 20  # bytes of a member that is read into memory


class BundleError(InputError):
    """A file that is no bundle, or one that was changed since it was written."""


@dataclass(frozen=True)
class Member:
    name: str
    size: int
    offset: int  # of its content in the file


def is_bundle(path: Path) -> bool:
    """Whether a file begins as a bundle does; it may be damaged further on."""
    with path.open("rb") as handle:
        start = handle.read(_BLOCK)
    return start.startswith(FIRST.encode() + b"\0") or start[257:262] == b"ustar"


def write_archive(path: Path, row: str, parts: Mapping[str, bytes | Path]) -> None:
    """All or nothing. `parts`: name → content, or the file that holds it; the order is that of names, `bundle.json`
    first. Raises InputError for a name that a bundle can't hold."""
    first = json.dumps({"format": "trainyard bundle", "row": row, "version": VERSION}).encode() + b"\n"
    whole = {**parts, CHECKSUMS: checksums({**parts, FIRST: first})}
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        for name, content in [(FIRST, first), *sorted(whole.items())]:
            if not _is_plain(name):
                raise InputError(
                    f"{name}: a bundle's paths are relative, without control characters or backslashes; rename it"
                )
            if isinstance(content, bytes):
                handle.write(_header(name, len(content)) + content)
                handle.write(b"\0" * (-len(content) % _BLOCK))
                continue
            size = content.stat().st_size
            handle.write(_header(name, size))
            with content.open("rb") as source:
                while chunk := source.read(_CHUNK):
                    handle.write(chunk)
            if handle.tell() % _BLOCK != size % _BLOCK:
                raise InputError(f"{content}: changed while it was read; try again")
            handle.write(b"\0" * (-size % _BLOCK))
        end = handle.tell() + 2 * _BLOCK
        handle.write(b"\0" * (2 * _BLOCK + -end % _RECORD))


def read_members(path: Path) -> dict[str, Member]:
    """Name → member. Raises BundleError for any other form than the writer's, and for another version by its number."""
    members: dict[str, Member] = {}
    last = ""
    with path.open("rb") as handle:
        for member in _members(path, handle):
            if not members:
                _check_version(path, member, handle)
            elif member.name <= last or member.name == FIRST:
                raise BundleError(f"{path}: `{member.name}` stands twice or out of order; get the bundle again")
            members[member.name] = member
            last = "" if member.name == FIRST else member.name
            if len(members) > _MOST:
                raise BundleError(f"{path}: more than {_MOST:,} members; this is no bundle of Trainyard")
    for name in (CHECKSUMS, STATEMENT):
        if name not in members:
            raise BundleError(f"{path}: without `{name}`; get the bundle again")
    return members


def _members(path: Path, handle: BinaryIO) -> Iterator[Member]:
    size = path.stat().st_size
    while True:
        start = handle.tell()
        block = handle.read(_BLOCK)
        if block == b"\0" * _BLOCK:
            break
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError):
            raise BundleError(f"{path}: cut short, or damaged at byte {start:,}; get the bundle again") from None
        if info.size < 0 or start + _BLOCK + info.size > size:
            raise BundleError(f"{path}: cut short at byte {start:,}: a member is longer than the file; get it again")
        if not _is_plain(info.name) or block != _header(info.name, info.size):
            raise BundleError(
                f"{path}: `{one_line(info.name, 80)}` is no plain file of a bundle (byte {start:,}); don't trust it"
            )
        yield Member(info.name, info.size, start + _BLOCK)
        handle.seek(start + _BLOCK + info.size)
        padding = handle.read(-info.size % _BLOCK)
        if padding.strip(b"\0"):
            raise BundleError(f"{path}: damaged after `{info.name}`; get the bundle again")
    end = start + 2 * _BLOCK
    end += -end % _RECORD
    if size != end or handle.read().strip(b"\0"):
        raise BundleError(f"{path}: damaged, cut short or longer than its contents; get the bundle again")


def _check_version(path: Path, member: Member, handle: BinaryIO) -> None:
    problem = f"{path}: not a bundle of Trainyard; `trainyard bundle ROW -o FILE` writes one"
    if member.name != FIRST or member.size > _BLOCK:
        raise BundleError(problem)
    place = handle.tell()
    handle.seek(member.offset)
    try:
        facts = json.loads(handle.read(member.size))
        kind, version = facts["format"], facts["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleError(problem) from None
    if kind != "trainyard bundle":
        raise BundleError(problem)
    if version != VERSION or isinstance(version, bool):
        raise BundleError(
            f"{path}: a bundle of version {str(version)[:20]}, and this Trainyard reads version {VERSION}; "
            "use the Trainyard that wrote it"
        )
    handle.seek(place)


def content(path: Path, member: Member) -> bytes:
    """Raises BundleError for one that is too large to be what it should be."""
    if member.size > _SMALL:
        raise BundleError(f"{path}: `{member.name}` is larger than {_SMALL >> 20} MiB; this is no bundle of Trainyard")
    with path.open("rb") as handle:
        handle.seek(member.offset)
        return handle.read(member.size)


def member_digest(path: Path, member: Member) -> str:
    """sha256 of a member, read in chunks."""
    digest = hashlib.sha256()
    for chunk in _chunks(path, member):
        digest.update(chunk)
    return digest.hexdigest()


def extract(path: Path, members: Mapping[str, Member], folder: Path) -> None:
    """Write the members of the project below a new folder. Their names were checked when they were read."""
    for name, member in members.items():
        if name.startswith(PROJECT):
            target = folder / name.removeprefix(PROJECT)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as handle:
                for chunk in _chunks(path, member):
                    handle.write(chunk)


def _chunks(path: Path, member: Member) -> Iterator[bytes]:
    with path.open("rb") as handle:
        handle.seek(member.offset)
        left = member.size
        while left and (chunk := handle.read(min(left, _CHUNK))):
            left -= len(chunk)
            yield chunk


def _is_plain(name: str) -> bool:
    """A relative path that means the same everywhere and shows as it is."""
    parts = name.split("/")
    return "\\" not in name and one_line(name) == name and all(part not in ("", ".", "..") for part in parts)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    try:
        return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except ValueError:
        raise InputError(f"{name}: too long for a bundle; shorten the path") from None


def checksums(parts: Mapping[str, bytes | Path]) -> bytes:
    """What `sha256sum` prints of the parts, sorted."""
    lines = []
    for name, content in sorted(parts.items()):
        digest = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256_file(content)
        lines.append(f"{digest}  {name}\n")
    return "".join(lines).encode()
