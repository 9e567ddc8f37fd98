"""Files of object stores and hubs (`s3://`, `gs://`, `hf://`, …) through fsspec: found by glob, copied, checked."""

import os
from pathlib import Path
from typing import Any

from stages.base.errors import InputError
from stages.base.files import sha256_file
from stages.base.progress import Progress
from stages.corpus.sources import download
from stages.corpus.sources.download import is_url, place_of

COMMON_CRAWL = ("s3://commoncrawl/", "https://data.commoncrawl.org/")  # the same files; the second needs no account


def expand(address: str) -> list[str]:
    """The files that an address stands for, sorted: itself, or what matches its glob (`*`, `?`, `[…]`, `**`).

    Files of the Hugging Face hub become https addresses. Raises InputError naming the address: a store that isn't
    known, no such file, no answer.
    """
    bucket, mirror = COMMON_CRAWL
    if address.startswith(bucket) and not _is_glob(address):
        return [address.replace(bucket, mirror, 1)]
    if is_url(address):
        return [address]
    store, path = _open(address)
    scheme = address.partition("://")[0]
    try:
        found = sorted(store.glob(path)) if _is_glob(address) else [path]
        files = [one for one in found if store.isfile(one)]
        if not files:
            raise InputError(f"{address}: matches no file; check it")
        return [
            store.url(one) if scheme == "hf" else f"{scheme}://{one.lstrip('/') if scheme != 'file' else one}"
            for one in files
        ]
    except InputError:
        raise
    except Exception as error:  # every store has errors of its own
        raise InputError(f"{address}: can't be listed: {_told(error)}") from None


def copy(address: str, sha256: str | None = None) -> Path:
    """A file of any address of `expand`, here: downloaded once, or copied once out of its store, its length checked.

    Raises InputError naming the address.
    """
    if is_url(address):
        return download.fetch(address, sha256)
    store, path = _open(address)
    if address.startswith("file://"):
        return _checked(Path(path), address, sha256)
    target = place_of(address)
    if target.exists():
        return _checked(target, address, sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        size = store.info(path).get("size")
        with (
            store.open(path, "rb") as source,
            partial.open("wb") as handle,
            Progress(size, f"copying {target.name}", unit="bytes") as bar,
        ):
            while block := source.read(download.CHUNK):
                handle.write(block)
                bar.advance(len(block))
            handle.flush()
            os.fsync(handle.fileno())
    except Exception as error:  # every store has errors of its own
        partial.unlink(missing_ok=True)
        raise InputError(f"{address}: can't be copied: {_told(error)}") from None
    try:
        if size is not None and partial.stat().st_size != size:
            raise InputError(f"{address}: {partial.stat().st_size:,} bytes came, the store says {size:,}; rerun")
        _checked(partial, address, sha256).replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _open(address: str) -> tuple[Any, str]:
    import fsspec

    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise InputError(f"{address}: {_told(error)}: `pip install` it, or give an https address") from None
    except Exception as error:  # an unknown scheme; settings of a store that don't fit
        raise InputError(f"{address}: can't be opened: {_told(error)}; check the address") from None


def _checked(file: Path, address: str, sha256: str | None) -> Path:
    if sha256 is not None and (found := sha256_file(file)) != sha256:
        raise InputError(f"{address}: its sha256 is {found}, expected {sha256}; the file changed")
    return file


def _is_glob(address: str) -> bool:
    return any(character in address for character in "*?[")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
