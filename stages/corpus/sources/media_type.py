"""Media types as browsers read them: Content-Type headers (WHATWG Fetch), and bytes without one (MIME Sniffing)."""

import re
from collections.abc import Sequence
from typing import NamedTuple

HTML = frozenset(("text/html", "application/xhtml+xml"))
PLAIN_TEXT = "text/plain"
UNKNOWN = frozenset(("unknown/unknown", "application/unknown", "*/*"))  # stand for no type (MIME Sniffing, section 7)
TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
# A value ends at a comma, a parameter at a semicolon, unless quoted.
VALUES = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*(?:"|\Z))+', re.DOTALL)
PARAMETERS = re.compile(r'(?:[^";]|"(?:[^"\\]|\\.)*(?:"|\Z))+', re.DOTALL)
# What a page begins with, after white space, by section 7.1: a tag that ends with a blank or ">", or a comment.
PAGE = re.compile(
    rb"[\t\n\x0c\r ]*<"
    rb"(?:(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p)[ >]|!--)",
    re.IGNORECASE,
)
XML, PDF = re.compile(rb"[\t\n\x0c\r ]*<\?xml"), b"%PDF-"
BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
MARKS = (b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf")
HEADER = 1445  # bytes that are looked at


class MediaType(NamedTuple):
    essence: str  # type/subtype, in lower case
    charset: str  # its parameter, "" without one


def parse_type(value: str) -> MediaType | None:
    """A media type with its charset; None for what is none (MIME Sniffing, section 4.4)."""
    first, *parameters = PARAMETERS.findall(value) or [""]
    kind, slash, subtype = first.strip(" \t\r\n").partition("/")
    if not (slash and TOKEN.fullmatch(kind) and TOKEN.fullmatch(subtype)):
        return None
    charset = ""
    for parameter in parameters:
        name, equals, text = parameter.strip(" \t\r\n").partition("=")
        if name.lower() == "charset" and equals and not charset:
            charset = re.sub(r"\\(.)", r"\1", text.strip(" \t").strip("\"'")).strip().lower()
    return MediaType(f"{kind}/{subtype}".lower(), charset)


def extract_type(values: Sequence[str]) -> MediaType | None:
    """What the values of all Content-Type headers come to (Fetch, "extract a MIME type"): of those that are types, the
    last; the charset of an earlier one goes with it if both name the same type. None if there is none.
    """
    found: MediaType | None = None
    for value in VALUES.findall(", ".join(values)):
        one = parse_type(value)
        if one is None or one.essence == "*/*":
            continue
        same = found is not None and found.essence == one.essence
        found = MediaType(one.essence, one.charset or (found.charset if same and found else ""))
    return found


def sniff(body: bytes) -> str:
    """The type of a body without one: `text/html`, `text/xml`, `application/pdf`, `text/plain`, or
    `application/octet-stream` for any other (MIME Sniffing, section 7.1; pictures and sounds aren't told apart here).
    """
    head = body[:HEADER]
    if PAGE.match(head.removeprefix(MARKS[2])):  # the standard stops at the byte order mark: plain text
        return "text/html"
    if XML.match(head.removeprefix(MARKS[2])):
        return "text/xml"
    if head.startswith(PDF):
        return "application/pdf"
    return PLAIN_TEXT if head.startswith(MARKS) or not BINARY.search(head) else "application/octet-stream"
