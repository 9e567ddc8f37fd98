"""Ids of pages: the same page of the same source has the same id on every machine."""

import hashlib


def document_id(source: str, url: str, occurrence: int) -> str:
    """First 16 hex of sha256(source, url, occurrence); `occurrence` counts earlier pages of the source at this URL."""
    return hashlib.sha256(f"{source}\x1f{url}\x1f{occurrence}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
