"""Downloads: to a fresh temporary name, checked, then renamed; a finished file is never fetched again."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from stages.base.errors import InputError
from stages.base.files import atomic_path, sha256_file

FOLDER = Path(".trainyard/downloads")  # outside DVC's outputs: a rerun of the stage keeps what was fetched
CHUNK = 8 * 2**20
PARALLEL_FROM = 64 * 2**20  # bytes; smaller files aren't worth eight connections


def is_url(path: str) -> bool:
    return urlsplit(path).scheme in ("http", "https")


def fetch(url: str, sha256: str | None = None, folder: Path = FOLDER) -> Path:
    """Fetch `url` once, in parallel ranges where the server allows them. Raises InputError naming the URL."""
    name = Path(urlsplit(url).path).name or "download"
    target = folder / hashlib.sha256(url.encode()).hexdigest()[:16] / name
    if not target.exists():
        with atomic_path(target) as temporary:
            if not (_serves_ranges(url) and _ranges(url, temporary)):
                temporary.unlink(missing_ok=True)
                _stream(url, temporary)
            _check(url, temporary, sha256)
    else:
        _check(url, target, sha256)
    return target


def _serves_ranges(url: str) -> bool:
    """Whether the server says that it serves byte ranges, and the file is large enough to ask for them."""
    try:
        reply = httpx.head(url, follow_redirects=True, timeout=30)
    except httpx.HTTPError:
        return False
    large = int(reply.headers.get("content-length", 0)) >= PARALLEL_FROM
    return reply.is_success and large and reply.headers.get("accept-ranges") == "bytes"


def _ranges(url: str, target: Path) -> bool:
    """Fetch over parallel connections; False if that doesn't work, whatever the reason."""
    import hf_transfer

    try:
        hf_transfer.download(url, str(target), max_files=8, chunk_size=CHUNK, parallel_failures=3, max_retries=5)
    except Exception:  # it has no other error
        return False
    return True


def _stream(url: str, target: Path) -> None:
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=60) as reply, target.open("wb") as handle:
            reply.raise_for_status()
            for block in reply.iter_bytes(CHUNK):
                handle.write(block)
    except httpx.HTTPError as error:
        raise InputError(f"{url}: can't be downloaded: {error}; check the address and the network") from None


def _check(url: str, path: Path, sha256: str | None) -> None:
    if sha256 is not None and (found := sha256_file(path)) != sha256:
        raise InputError(
            f"{url}: its sha256 is {found}, expected {sha256}; the file changed or the download is damaged"
        )
