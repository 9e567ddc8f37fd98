"""Charsets by the labels of the WHATWG Encoding Standard: what a browser knows, and nothing else.

Python's own list is no list for hostile input: it has `punycode` (quadratic time), `unicode_escape` and `utf-7`.
"""

import codecs

from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def decode_as(body: bytes, label: str) -> str | None:
    """The text of bytes in the charset that a header or a page declares; None if it isn't one, or they aren't in it."""
    name = map_encoding_to_html5(label, False)
    if name is None:
        return None
    try:
        return body.decode(name)
    except (UnicodeError, LookupError):
        return None


def is_utf8(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def seven_bit(body: bytes, label: str) -> str | None:
    """The text of a page in ISO-2022-JP, which is made of ASCII bytes and would pass for UTF-8; None for all others."""
    if b"\x1b" in body and map_encoding_to_html5(label, False) == "iso2022_jp":
        return decode_as(body, label)
    return None


def to_utf8(body: bytes, label: str = "") -> tuple[bytes, bool]:
    """(The body, whether it is known to be UTF-8 now). `label` is the charset of the HTTP header, which is lost here.

    Valid UTF-8 is UTF-8, whatever the header says, but for the escapes of ISO-2022-JP; then a byte order mark counts,
    then the header. What is none of these is handed on as it is, for extraction to look into the page or guess.
    """
    if (text := seven_bit(body, label)) is not None:
        return text.encode("utf-8", "replace"), True
    mark = next((name for prefix, name in MARKS if body.startswith(prefix)), "")
    if mark.startswith("utf-16"):
        return body.decode(mark, "replace").removeprefix("\ufeff").encode("utf-8", "replace"), True
    if is_utf8(body):
        return body, True
    text = decode_as(body, label) if label else None
    return (body, False) if text is None else (text.encode("utf-8", "replace"), True)


def guess(body: bytes) -> str:
    """Text by what the bytes look like; never fails."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return bytes_to_str(body, detect_encoding(body) or "utf-8", errors="replace")
