"""Plain text in a table of HTML pages: marked by its first line, so that extraction hands it on as it is."""

MARK = b"<!doctype text>\n"


def wrap(text: str) -> bytes:
    return MARK + text.encode("utf-8", "replace")


def unwrap(page: bytes) -> str | None:
    """The text of a wrapped page, or None for HTML."""
    return page[len(MARK) :].decode("utf-8", "replace") if page.startswith(MARK) else None
