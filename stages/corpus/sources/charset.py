"""The charset of a page's bytes, as the HTML and Encoding Standards of WHATWG find it, and its text.

A byte order mark counts first, then what the HTTP header declares, then what the page declares (`prescan`); only
without all of these is it guessed from the bytes. There is one difference: bytes that prove to be UTF-8 are UTF-8 under
whatever label. Pages are saved again in UTF-8 and keep their old meta element; text in a legacy encoding that is well
formed in UTF-8 by chance is next to impossible.
"""

import codecs
import re
from html import unescape

from resiliparse.parse.encoding import detect_encoding

from stages.corpus.sources.web_encodings import ESCAPE, MULTI_BYTE, decode, encoding_of

PRESCAN = 1024  # bytes that browsers look through in any case
HEAD = 65536  # and further, to the end of the head
PROOF = 8  # characters of UTF-8 that overrule a multi-byte label: short texts can be well formed in both
LEAST_GUESSED = 24  # bytes beyond ASCII: what has fewer is Windows-1252, the standard's fallback
# Names of Python that uchardet gives and that are no labels.
GUESSED_NAMES = {"cp949": "euc-kr", "cp932": "shift_jis", "mac-cyrillic": "x-mac-cyrillic", "iso2022-jp": "iso-2022-jp"}

# Every alternative ends at the end of what is searched, so that none is tried twice: linear time on any bytes.
TAG = re.compile(
    rb"<!--(?:>|->|.*?-->|.*)"
    rb"|<meta[\s/](?P<meta>(?:[^>=]++|=\s*+(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z))?+)*+)(?:>|\Z)"
    rb"|<(?:script|style|title)\b.*?(?:</|\Z)|<body[\s>]|</head[\s>]",
    re.IGNORECASE | re.DOTALL,
)
ATTRIBUTE = re.compile(rb"""([^\s/=>"']+)\s*(?:=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]*)))?""")
CONTENT = re.compile(rb"""charset\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s;"']+))""", re.IGNORECASE)
XML_ENCODING = re.compile(rb"""<\?xml\s[^>]*?encoding\s*=\s*["']([\w.:-]+)["'][^>]*>""")


def prescan(page: bytes) -> str:
    """The encoding that a page declares in a meta element or its XML declaration, or "".

    UTF-16 means UTF-8 there, for the declaration itself could be read; x-user-defined means Windows-1252 (HTML
    Standard, 13.2.3.2).
    """
    head = True
    for found in TAG.finditer(page, 0, HEAD):
        if not head and found.start() >= PRESCAN:
            break
        if found["meta"] is None:
            head = head and found[0][:5].lower() not in (b"<body", b"</hea")
        elif encoding := _declared(found["meta"]):
            return {"utf-16le": "utf-8", "utf-16be": "utf-8", "x-user-defined": "windows-1252"}.get(encoding, encoding)
    xml = XML_ENCODING.match(page, 0, PRESCAN)
    encoding = encoding_of(xml[1].decode("ascii", "replace")) if xml else ""
    return "utf-8" if encoding.startswith("utf-16") else encoding


def _declared(attributes: bytes) -> str:
    """The encoding that the attributes of a meta element declare, or ""."""
    given: dict[bytes, bytes] = {}
    for name, double, single, bare in ATTRIBUTE.findall(attributes):
        given.setdefault(name.lower(), double or single or bare)
    label = given.get(b"charset", b"")
    if not label and given.get(b"http-equiv", b"").strip().lower() == b"content-type":
        content = CONTENT.search(unescape(given.get(b"content", b"").decode("latin-1")).encode("latin-1", "replace"))
        label = next(filter(None, content.groups()), b"") if content else b""
    return encoding_of(label.decode("latin-1"))


def is_utf8(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _utf8(body: bytes) -> tuple[str, int, int]:
    """(The text of bytes read as UTF-8, its characters beyond ASCII, the errors)."""
    text = body.decode("utf-8", "replace")
    if text.isascii():
        return text, 0, 0
    errors = text.count("\ufffd") - body.count(b"\xef\xbf\xbd")
    return text, len(text) - len(text.encode("ascii", "ignore")) - errors, errors


def _marked(body: bytes) -> str:
    """The encoding of a byte order mark, or ""."""
    if body.startswith(codecs.BOM_UTF8):
        return "utf-8"
    if body.startswith(codecs.BOM_UTF16_LE):
        return "utf-16le"
    return "utf-16be" if body.startswith(codecs.BOM_UTF16_BE) else ""


def _guessed(body: bytes) -> str:
    """The encoding by what the bytes look like."""
    if b"\0" in body[:PRESCAN]:  # markup in UTF-16 has them at every other place
        for encoding, start in (("utf-16le", 1), ("utf-16be", 0)):
            high = body[start:PRESCAN:2]
            if high.count(0) > 0.6 * len(high) and body[1 - start : PRESCAN : 2].count(0) < 0.1 * len(high):
                return encoding
    if body.isascii():
        return "iso-2022-jp" if ESCAPE.search(body) else "utf-8"
    beyond = len(body) - len(body.translate(None, _HIGH))
    found = (detect_encoding(body, html5_compatible=False) or "").lower() if beyond >= LEAST_GUESSED else ""
    found = found.replace("_", "-")
    encoding = GUESSED_NAMES.get(found) or encoding_of(found)
    return "windows-1252" if encoding in ("", "utf-8", "replacement") else encoding


_HIGH = bytes(range(0x80, 0x100))


def text_of(body: bytes, declared: str = "") -> str:
    """The text of bytes, of which an encoding is `declared` or none; never fails.

    Without a declaration, bytes are UTF-8 as long as more of their characters are well formed than not: a page has one
    broken character, not mojibake. Under the label of a single-byte encoding it is the same.
    """
    encoding = _marked(body) or declared
    if encoding == "utf-8":
        return decode(body, "utf-8")
    if encoding.startswith("utf-16"):
        if _marked(body) or b"\0" in body:
            return decode(body, encoding)
        encoding = ""  # no markup in UTF-16 is without zero bytes
    if (encoding == "iso-2022-jp" and b"\x1b" in body) or encoding == "replacement":
        return decode(body, encoding)
    text, characters, errors = _utf8(body)
    if not errors and not characters:  # ASCII
        guessed = "utf-8" if encoding else _guessed(body)
        return text if guessed == "utf-8" else decode(body, guessed)
    proved = characters > errors and (encoding not in MULTI_BYTE or characters >= max(PROOF, 10 * errors))
    return text if proved else decode(body, encoding or _guessed(body))


def decode_page(page: bytes) -> str:
    """The text of an HTML page that comes without an HTTP header."""
    return text_of(page, "" if _marked(page) else prescan(page))


def to_utf8(body: bytes, label: str = "") -> tuple[bytes, bool]:
    """(The body, whether it is known to be UTF-8 now, without errors). `label` is the charset of the HTTP header.

    The header is lost here: where it, or a byte order mark, decides the encoding, the body is rewritten in UTF-8, with
    a mark if the page itself declares otherwise. What has neither is handed on as it is, for extraction to look into
    the page or guess.
    """
    mark, declared = _marked(body), encoding_of(label)
    if not (mark or declared):
        return body, is_utf8(body)
    if mark == "utf-8" or (body.isascii() and declared not in ("iso-2022-jp", "replacement")):
        return body, is_utf8(body)
    text = text_of(body, declared)
    page = text.encode("utf-8", "replace")
    known = text.count("\ufffd") <= body.count(b"\xef\xbf\xbd")
    if page == body and text_of(page, prescan(page)) == text:
        return body, known
    return (page if prescan(page) in ("", "utf-8") else codecs.BOM_UTF8 + page), known


def guess(body: bytes) -> str:
    """The text of bytes that declare nothing; never fails."""
    return text_of(body)
