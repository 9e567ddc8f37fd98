"""Archives of a crawl that any machine can make: installed HTML documentation as gzip WARCs, faults at known rates.

Pages are the HTML files below the folders given (the documentation of Rust, Java, C libraries, …) and, where those are
fewer than asked for, the docstrings of the installed packages. Which page gets which fault is drawn by its address.
"""

import base64
import gzip
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import brotli
import zstandard

ROOTS = ("~/.rustup/toolchains", "/usr/share/doc", "/usr/share/javadoc", "/usr/share/gtk-doc/html")
LEAST, MOST = 2_000, 4_000_000  # bytes; shorter pages are redirects, longer ones more than `max_page_bytes` takes
RATE = 0.01  # of the pages, for each kind of fault
HTML = "text/html; charset=utf-8"


class Page(NamedTuple):
    url: str
    html: bytes


class Fault(NamedTuple):
    """How a page is written, and what has to become of it."""

    write: Callable[[Page], bytes]  # gzip members
    reason: str = ""  # of its drop; "": it is read
    remark: str = ""  # that is counted beside


def sha1(content: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()


def record(page: Page, block: bytes, *headers: str, kind: str = "response", media: str = "application/http") -> bytes:
    lines = [
        "WARC/1.0", f"WARC-Type: {kind}", "WARC-Date: 2026-01-01T00:00:00Z", f"WARC-Target-URI: {page.url}",
        f"WARC-Record-ID: <urn:sha1:{sha1(page.url.encode())[5:]}>", f"WARC-Block-Digest: {sha1(block)}", *headers,
        f"Content-Type: {media}", f"Content-Length: {len(block)}",
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + block + b"\r\n\r\n"


def http(body: bytes, *headers: str, media: str = HTML, status: str = "200 OK", end: str = "\r\n") -> bytes:
    lines = [f"HTTP/1.1 {status}", "Date: Thu, 01 Jan 2026 00:00:00 GMT", "Server: nginx", *headers]
    return (end.join([*lines, *([f"Content-Type: {media}"] if media else [])]) + end + end).encode() + body


def response(page: Page, body: bytes | None = None, *headers: str, cut: str = "", **options: str) -> bytes:
    """A record with the page, or another body for it, and the digest of that body."""
    body = page.html if body is None else body
    told = [f"WARC-Payload-Digest: {sha1(body)}", *([f"WARC-Truncated: {cut}"] if cut else [])]
    return record(page, http(body, *headers, **options), *told)


def member(content: bytes) -> bytes:
    return gzip.compress(content, 6, mtime=0)


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _over_members(page: Page) -> bytes:
    whole = response(page)
    return b"".join(member(part) for part in (whole[:300], whole[300:999], whole[999:]))


def _flipped(page: Page) -> bytes:
    packed = bytearray(member(response(page)))
    place = len(packed) // 2
    packed[place : place + 8] = bytes(byte ^ 0xFF for byte in packed[place : place + 8])
    return bytes(packed)


def _wrong_digest(page: Page) -> bytes:
    return member(record(page, http(page.html), f"WARC-Payload-Digest: {sha1(b'other')}"))


FAULTS: dict[str, Fault] = {
    "gzip": Fault(lambda p: member(response(p, member(p.html), "Content-Encoding: gzip"))),
    "brotli": Fault(lambda p: member(response(p, brotli.compress(p.html, quality=4), "Content-Encoding: br"))),
    "zstd": Fault(lambda p: member(response(p, zstandard.compress(p.html), "Content-Encoding: zstd"))),
    "decoded": Fault(lambda p: member(response(p, None, "Content-Encoding: br", "Transfer-Encoding: chunked"))),
    "comma": Fault(lambda p: member(response(p, media="text/html, charset=utf-8"))),
    "untyped": Fault(lambda p: member(response(p, b"<!DOCTYPE html>\n" + p.html, media=""))),
    "line_feeds": Fault(lambda p: member(response(p, end="\n"))),
    "block_digest": Fault(
        lambda p: member(record(p, http(p.html), f"WARC-Payload-Digest: {sha1(http(p.html))}"))
    ),
    "members": Fault(_over_members),
    "resource": Fault(lambda p: member(record(p, p.html, kind="resource", media=HTML))),
    "bad_byte": Fault(lambda p: member(response(p, _half(p.html) + b"\xff" + p.html[len(p.html) // 2 :]))),
    "cut_by_crawler": Fault(
        lambda p: member(response(p, _half(member(p.html)), "Content-Encoding: gzip", cut="length")), "", "truncated"
    ),
    "cut_off": Fault(lambda p: member(response(p, _half(member(p.html)), "Content-Encoding: gzip")), "bad_encoding"),
    "flipped": Fault(_flipped, "damaged"),
    "junk": Fault(lambda p: b"junk between two members" + member(response(p)), "", "damaged"),
    "wrong_digest": Fault(_wrong_digest, "bad_digest"),
    "picture": Fault(lambda p: member(response(p, b"\x89PNG\r\n\x1a\n" + bytes(99), media="image/png")), "not_html"),
    "gone": Fault(lambda p: member(response(p, status="404 Not Found")), "http_status"),
    "blank": Fault(lambda p: member(response(p, b" \n")), "empty"),
    "bomb": Fault(
        lambda p: member(response(p, member(member(bytes(2**24))), "Content-Encoding: gzip, gzip")), "too_large"
    ),
}  # fmt: skip


def installed(roots: list[Path]) -> Iterator[Page]:
    """HTML files of `LEAST` to `MOST` bytes, each text once, in an order by the hash of their path."""
    found: dict[str, Path] = {}
    for root in roots:
        for path in root.expanduser().rglob("*.html"):
            if path.is_file() and LEAST <= path.stat().st_size <= MOST:
                found[hashlib.sha256(str(path).encode()).hexdigest()] = path
    seen = set()
    for key, path in sorted(found.items()):
        html = path.read_bytes()
        if (digest := hashlib.sha256(html).digest()) not in seen:
            seen.add(digest)
            yield Page(f"https://docs-{key[:2]}.invalid/{path.parent.name}/{key[2:12]}.html", html)


def rendered() -> Iterator[Page]:
    """The docstrings of the installed packages, as pages."""
    from bench.corpus.documents import package_pages

    yield from (Page(page.url, page.html) for page in package_pages(1200))


def write(folder: Path, pages: int, roots: list[Path], per_file: int = 5_000) -> dict[str, int]:
    """Write `pages` records into `*.warc.gz` in `folder`; how many of each fault. Raises ValueError where there are
    fewer pages.
    """
    folder.mkdir(parents=True)
    planted: Counter[str] = Counter()
    names = list(FAULTS)
    stream = islice(chain(installed(roots), rendered()), pages)
    written = 0
    while part := list(islice(stream, per_file)):
        with (folder / f"{written // per_file:05}.warc.gz").open("wb") as out:
            out.write(
                member(
                    record(Page("", b""), b"software: rehearsal\r\n", kind="warcinfo", media="application/warc-fields")
                )
            )
            for page in part:
                drawn = random.Random(page.url).random() / RATE
                name = names[int(drawn)] if drawn < len(names) else ""
                planted[name] += 1
                out.write(FAULTS[name].write(page) if name else member(response(page)))
            out.write(bytes(512))  # padding, which is no damage
        written += len(part)
    if written < pages:
        raise ValueError(f"only {written:,} pages of documentation are installed; ask for fewer, or name more --roots")
    return dict(sorted(planted.items()))
