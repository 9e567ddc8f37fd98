"""Downloads: to a temporary name, checked, then renamed; a finished file is never fetched again.

Large files come through hf_transfer in parallel ranges, and start again if that is broken off. All others come as one
stream, which goes on from the bytes on disk (RFC 9110: Range with If-Range) if the file hasn't changed meanwhile.
"""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from stages.base.errors import InputError, ResourceError
from stages.base.files import read_json, sha256_file, write_json
from stages.base.progress import Progress
from stages.corpus.sources.web_request import opened

FOLDER = Path(".trainyard/downloads")  # outside DVC's outputs: a rerun of the stage keeps what was fetched
CHUNK = 8 * 2**20
PARALLEL_FROM = 64 * 2**20  # bytes; smaller files aren't worth eight connections
LONGEST_NAME = 100  # bytes, of a file; 255 are allowed, and temporary names are longer
TIMEOUT = 60.0  # seconds without a byte
WINDOW, SLOWEST = 300.0, 1024.0  # seconds, and bytes a second over them: what is slower would never end
LARGEST = 256 * 2**30  # bytes of a file: no archive or dump is larger
LEAST_FREE = 2**30  # bytes on the disk: a stream without an end stops before it is full
ATTEMPTS = 5  # in a row that bring no new byte
BACKOFF, LONGEST_WAIT = 1.0, 60.0  # seconds: before the second attempt, doubled each time; the most
BUSY = frozenset((408, 425, 429, 500, 502, 503, 504))  # statuses worth another attempt
PLAIN = {"Accept-Encoding": "identity"}  # the file itself: ranges and lengths of an encoded one would be another's


class Version(NamedTuple):
    """What tells one state of a remote file from another."""

    length: int | None
    etag: str
    modified: str

    @property
    def validator(self) -> str:
        """For If-Range, which takes no weak ETag; "" if there is none, and a broken-off stream starts again."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def continued_by(self, other: "Version") -> bool:
        """Whether a part may be of this file. A reply to If-Range may leave out what it repeats."""
        pairs = ((self.etag, other.etag), (self.modified, other.modified))
        return self.length == other.length and all(mine == its for mine, its in pairs if its)


class BrokenOffError(Exception):
    """An attempt failed in a way that another may not."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait  # seconds that the server asks for


def is_url(path: str) -> bool:
    """Whether a path is meant as an address; it may still be a senseless one."""
    return path.lower().startswith(("http://", "https://"))


def check_url(url: str) -> None:
    """Raises InputError for what no request can be made of."""
    try:
        url.encode()
        urlsplit(url)
        host = httpx.URL(url).host
    except (ValueError, httpx.InvalidURL) as error:
        raise InputError(f"{url!r}: not a web address: {error}; check it") from None
    if not host:
        raise InputError(f"{url!r}: not a web address: it names no host; check it")


def fetch(url: str, sha256: str | None = None, folder: Path = FOLDER) -> Path:
    """Fetch `url` once. Raises InputError naming the URL: no such file, another length or digest, a server that fails.

    A file that is there already is returned, unless it has another digest than the one asked for now.
    """
    check_url(url)
    target = place_of(url, folder)
    with _only_one(target.parent):
        if target.exists() and sha256 in (None, sha256_file(target)):
            return target
        partial = target.with_name(f".{target.name}.partial")
        found, there = _head(url)
        if partial.exists() or not _in_ranges(there, found, target.with_name(f".{target.name}.ranges"), partial):
            _as_stream(url, partial)
        _check(url, partial, sha256, (found[0].length or None) if found else None)
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        partial.replace(target)
        _notes(partial).unlink(missing_ok=True)
    return target


def place_of(url: str, folder: Path = FOLDER) -> Path:
    """Where the file of an address lies once it is here."""
    name = Path(urlsplit(url).path).name.encode()[-LONGEST_NAME:].decode("utf-8", "ignore")
    return folder / hashlib.sha256(url.encode()).hexdigest()[:16] / ("download" if name in ("", "..") else name)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Wait for another process that fetches the same URL."""
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the folder: in it, a file could have any name.
    with folder.with_name(f"{folder.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _version(reply: httpx.Response) -> Version:
    """Of the whole file, also where the reply is a part of it."""
    whole = reply.headers.get("content-length", "")
    if reply.status_code == 206:
        whole = reply.headers.get("content-range", "").rpartition("/")[2]
    length = int(whole) if whole.isdecimal() else None
    return Version(length, reply.headers.get("etag", ""), reply.headers.get("last-modified", ""))


def _head(url: str) -> tuple[tuple[Version, bool] | None, str]:
    """(Version, whether ranges are served), None where the server doesn't say; and the address behind all redirects."""
    try:
        with opened("HEAD", url, PLAIN, TIMEOUT) as reply:
            ranges = reply.headers.get("accept-ranges") == "bytes"
            return ((_version(reply), ranges) if reply.is_success else None), str(reply.url)
    except httpx.HTTPError:
        return None, url


def _in_ranges(url: str, found: tuple[Version, bool] | None, ranges: Path, partial: Path) -> bool:
    """Fetch a large file over parallel connections; False if that isn't possible, whatever the reason.

    A broken-off file has holes nobody knows, so it is never gone on with.
    """
    ranges.unlink(missing_ok=True)
    # Without a validator, ranges of two versions of a file can't be told apart.
    if found is None or not found[1] or (found[0].length or 0) < PARALLEL_FROM or not found[0].validator:
        return False
    import hf_transfer

    with Progress(found[0].length, f"downloading {ranges.name[1:].removesuffix('.ranges')}", unit="bytes") as bar:
        try:
            hf_transfer.download(
                url, str(ranges), 8, CHUNK, parallel_failures=3, max_retries=5, headers=PLAIN, callback=bar.advance
            )
        except Exception:  # it has no other error
            ranges.unlink(missing_ok=True)
            return False
    # Its requests carry no validator: a file that changed meanwhile would be a mixture.
    if _head(url)[0] != found or ranges.stat().st_size != found[0].length:
        ranges.unlink()
        return False
    ranges.replace(partial)
    return True


def _as_stream(url: str, partial: Path) -> None:
    """Fetch over one connection, with further attempts while the server is busy or breaks off."""
    failures, furthest = 0, _size(partial)
    while True:
        try:
            _attempt(url, partial)
            return
        except BrokenOffError as error:
            failures = 1 if _size(partial) > furthest else failures + 1
            furthest = max(furthest, _size(partial))
            if failures >= ATTEMPTS:
                raise InputError(
                    f"{url}: can't be downloaded: {error}; {failures} attempts in a row brought nothing new "
                    f"({furthest:,} bytes); check the address and the network, or rerun later"
                ) from None
            time.sleep(min(LONGEST_WAIT, max(error.wait, BACKOFF * 2 ** (failures - 1))))


def _attempt(url: str, partial: Path) -> None:
    """One request for what is missing. Raises BrokenOffError, or InputError where no attempt can succeed."""
    have, known = _size(partial), _known(partial)
    resume = have > 0 and known is not None and known.validator != ""
    asked = PLAIN | ({"Range": f"bytes={have}-", "If-Range": known.validator} if resume and known else {})
    try:
        with opened("GET", url, asked, TIMEOUT) as reply:
            if reply.status_code == 416:
                if resume and reply.headers.get("content-range", "") == f"bytes */{have}":
                    return  # all of it was here
                _restart(partial)
                raise BrokenOffError("status 416")
            if reply.status_code in BUSY:
                wait = reply.headers.get("retry-after", "")
                raise BrokenOffError(f"status {reply.status_code}", float(wait) if wait.isdecimal() else 0.0)
            if not reply.is_success:
                raise InputError(f"{url}: can't be downloaded: status {reply.status_code}; check the address")
            version = _version(reply)
            part = reply.status_code == 206
            begins = reply.headers.get("content-range", "").startswith(f"bytes {have}-")
            if part and not (resume and known and known.continued_by(version) and begins):
                _restart(partial)
                raise BrokenOffError("the server sent a part of another file")
            if not part:
                _restart(partial)  # first: notes of this version beside bytes of another would be gone on with
                write_json(_notes(partial), version._asdict())
            _store(url, reply, partial, have if part else 0, version.length)
    except httpx.HTTPError as error:
        raise BrokenOffError(str(error) or type(error).__name__) from None
    if version.length is not None and _size(partial) != version.length:
        raise BrokenOffError(f"{_size(partial):,} of {version.length:,} bytes came")


def _store(url: str, reply: httpx.Response, partial: Path, have: int, length: int | None) -> None:
    """Raises InputError for a file without an end, or that comes too slowly for one; ResourceError on a full disk."""
    _check_size(url, partial, max(have, length or 0), (length or have) - have)
    size, window = have, (time.monotonic(), have)
    name = partial.name[1:].removesuffix(".partial")
    with (
        partial.open("ab" if have else "wb") as handle,
        Progress(length, f"downloading {name}", unit="bytes") as bar,
    ):
        bar.start_at(have)
        for block in reply.iter_raw():  # as they come: what waits for more would be lost when the stream breaks off
            handle.write(block)
            bar.advance(len(block))
            if (size + len(block)) // CHUNK > size // CHUNK:
                _check_size(url, partial, size, len(block))
            size += len(block)
            if time.monotonic() > window[0] + WINDOW:
                if size - window[1] < WINDOW * SLOWEST:
                    raise InputError(
                        f"{url}: {size - window[1]:,} bytes came in {WINDOW:.0f} s; fetch it otherwise, or rerun later"
                    )
                window = (time.monotonic(), size)


def _check_size(url: str, partial: Path, size: int, more: int) -> None:
    if size > LARGEST:
        _restart(partial)
        raise InputError(f"{url}: more than {LARGEST >> 30} GiB, or without an end; fetch what you need of it yourself")
    if (free := shutil.disk_usage(partial.parent).free) < LEAST_FREE + more:
        raise ResourceError(
            f"{url}: {free >> 20} MiB are free for {more >> 20} MiB more and {LEAST_FREE >> 20} MiB of reserve; free "
            "some space and rerun: what has come is gone on with"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _notes(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _known(partial: Path) -> Version | None:
    """The version of the file whose beginning lies there."""
    try:
        return Version(**read_json(_notes(partial)))
    except (InputError, TypeError):
        return None


def _restart(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _notes(partial).unlink(missing_ok=True)


def _check(url: str, partial: Path, sha256: str | None, length: int | None) -> None:
    if length is not None and _size(partial) != length:
        size = _size(partial)
        _restart(partial)
        raise InputError(f"{url}: {size:,} bytes came, the server announced {length:,}; rerun, or give its sha256")
    if sha256 is not None and (found := sha256_file(partial)) != sha256:
        _restart(partial)
        raise InputError(
            f"{url}: its sha256 is {found}, expected {sha256}; the file changed or the download is damaged"
        )
