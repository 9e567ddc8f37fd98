"""Hand-made WARC records for tests."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import zstandard

from stages.corpus.sources.warc import read_warc

LIMIT = 1_000_000


def record(url: str, block: bytes, *headers: str, kind: str = "response", media: str = "application/http") -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:1>\r\nContent-Type: {media}\r\nContent-Length: {len(block)}\r\n"
    )
    return (head + "".join(f"{header}\r\n" for header in headers) + "\r\n").encode() + block + b"\r\n\r\n"


def http(body: bytes, *headers: str, status: str = "200 OK", media: str = "text/html") -> bytes:
    lines = (f"HTTP/1.1 {status}", *([f"Content-Type: {media}"] if media else []), *headers)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def page(url: str, body: bytes, *headers: str, **http_options: str) -> bytes:
    return record(url, http(body, *headers, **http_options))


def sha1(content: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(content).digest()).decode()


def noise(number: int, size: int = 3000) -> bytes:
    """Text that compresses badly, so that places in an archive are spread out."""
    blocks = (hashlib.sha512(f"{number} {place}".encode()).hexdigest() for place in range(size // 128 + 1))
    return "".join(blocks)[:size].encode()


def zstd(content: bytes, **options: Any) -> bytes:
    """A frame as IIPC's specification has it."""
    return zstandard.ZstdCompressor(write_checksum=True, **options).compress(content)


def pages(count: int, size: int = 3000) -> list[bytes]:
    return [page(f"http://a/{n}", b"<p>" + noise(n, size)) for n in range(count)]


def read(folder: Path, *parts: bytes, limit: int = LIMIT) -> list[Any]:
    """What is read of an archive of these parts."""
    path = folder / "a.warc"
    path.write_bytes(b"".join(parts))
    return list(read_warc(path, path.name, limit))
