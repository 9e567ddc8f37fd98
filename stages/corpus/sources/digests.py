"""Digests as WARC headers label them: `sha1:` and base32, as Common Crawl writes them, or hex; sha256, sha512, md5."""

import base64
import binascii
import hashlib

SIZES = {"sha1": 20, "sha256": 32, "sha512": 64, "md5": 16}  # bytes


def matches(labelled: str, *candidates: bytes) -> bool:
    """Whether one of the candidates has the digest; True for an algorithm that isn't known here."""
    algorithm, _, value = labelled.strip().partition(":")
    algorithm = algorithm.lower().replace("-", "")
    if algorithm not in SIZES:
        return True
    expected = _bytes(value.strip(), SIZES[algorithm])
    return any(hashlib.new(algorithm, one, usedforsecurity=False).digest() == expected for one in candidates)


def _bytes(value: str, size: int) -> bytes | None:
    """The digest's bytes; None if that is no digest of its algorithm."""
    try:
        value = value.rstrip("=")
        if len(value) == 2 * size:
            return bytes.fromhex(value)
        return base64.b32decode(value.upper() + "=" * (-len(value) % 8))
    except (ValueError, binascii.Error):
        return None
