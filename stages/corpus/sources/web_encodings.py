"""The encodings of the WHATWG Encoding Standard (encoding.spec.whatwg.org): their labels, and decoders that never fail.

Python's own list is no list for hostile input: it has `punycode` (quadratic time), `unicode_escape` and `utf-7`. Its
codecs do the work, with what the standard's indexes have beyond them: a label means the superset that browsers read
(gb2312 is GB 18030, shift_jis Windows-31J, euc-kr Windows-949, big5 has HKSCS, iso-8859-1 is Windows-1252). Bytes that
an encoding doesn't have become U+FFFD, one for each error that the standard counts.
"""

import codecs
import re
from collections.abc import Callable, Mapping
from functools import cache

# Each encoding's other labels, section 4.2 of the standard.
LABELS = {
    "utf-8": "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf8 x-unicode20utf8",
    "ibm866": "866 cp866 csibm866",
    "iso-8859-2": "csisolatin2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2 latin2",
    "iso-8859-3": "csisolatin3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3 latin3",
    "iso-8859-4": "csisolatin4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4 latin4",
    "iso-8859-5": "csisolatincyrillic cyrillic iso-ir-144 iso8859-5 iso88595 iso_8859-5 iso_8859-5:1988",
    "iso-8859-6": "arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6-e iso-8859-6-i "
    "iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987",
    "iso-8859-7": "csisolatingreek ecma-118 elot_928 greek greek8 iso-ir-126 iso8859-7 iso88597 iso_8859-7 "
    "iso_8859-7:1987 sun_eu_greek",
    "iso-8859-8": "csiso88598e csisolatinhebrew hebrew iso-8859-8-e iso-ir-138 iso8859-8 iso88598 iso_8859-8 "
    "iso_8859-8:1988 visual",
    "iso-8859-8-i": "csiso88598i logical",
    "iso-8859-10": "csisolatin6 iso-ir-157 iso8859-10 iso885910 l6 latin6",
    "iso-8859-13": "iso8859-13 iso885913",
    "iso-8859-14": "iso8859-14 iso885914",
    "iso-8859-15": "csisolatin9 iso8859-15 iso885915 iso_8859-15 l9",
    "iso-8859-16": "",
    "koi8-r": "cskoi8r koi koi8 koi8_r",
    "koi8-u": "koi8-ru",
    "macintosh": "csmacintosh mac x-mac-roman",
    "windows-874": "dos-874 iso-8859-11 iso8859-11 iso885911 tis-620",
    "windows-1250": "cp1250 x-cp1250",
    "windows-1251": "cp1251 x-cp1251",
    "windows-1252": "ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 "
    "iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii x-cp1252",
    "windows-1253": "cp1253 x-cp1253",
    "windows-1254": "cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989 l5 latin5 "
    "x-cp1254",
    "windows-1255": "cp1255 x-cp1255",
    "windows-1256": "cp1256 x-cp1256",
    "windows-1257": "cp1257 x-cp1257",
    "windows-1258": "cp1258 x-cp1258",
    "x-mac-cyrillic": "x-mac-ukrainian",
    "gbk": "chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 iso-ir-58 x-gbk",
    "gb18030": "",
    "big5": "big5-hkscs cn-big5 csbig5 x-x-big5",
    "euc-jp": "cseucpkdfmtjapanese x-euc-jp",
    "iso-2022-jp": "csiso2022jp",
    "shift_jis": "csshiftjis ms932 ms_kanji shift-jis sjis windows-31j x-sjis",
    "euc-kr": "cseuckr csksc56011987 iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 windows-949",
    "replacement": "csiso2022kr hz-gb-2312 iso-2022-cn iso-2022-cn-ext iso-2022-kr",
    "utf-16be": "unicodefffe",
    "utf-16le": "csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16",
    "x-user-defined": "",
}
SINGLE_BYTE = {
    "ibm866": "cp866",
    "macintosh": "mac_roman",
    "x-mac-cyrillic": "mac_cyrillic",
    "windows-874": "cp874",
    "iso-8859-8-i": "iso8859_8",
    "koi8-r": "koi8_r",
    "koi8-u": "koi8_u",
    **{f"iso-8859-{part}": f"iso8859_{part}" for part in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)},
    **{f"windows-{page}": f"cp{page}" for page in range(1250, 1259)},
}
BEYOND_PYTHON = {"koi8-u": {0xAE: "\u045e", 0xBE: "\u040e"}, "windows-1255": {0xCA: "\u05ba"}}
# Pairs of bytes with the characters from there on: what Python's Big5-HKSCS of 2004 lacks of the standard's index.
BIG5_PAIRS = (
    "877a㡵𡵓𣚞𦀡㻬𥣞㫵竼龗𤅡𨤍𣇪𠪊𣉞䌊蒄龖鐯䤰蘓墖靊鈘秐稲晠権袝瑌篅枂稬剏遆㓦珄𥶹瓆鿇垳䤯呌䄱𣚎堘穲𧭥讏䚮𦺈䆁𥶙"
    "箮𢒼鿈𢓁𢓉𢓌鿉蔄𣖻䂴鿊䓡𪷿拁灮鿋 8e69箸 8e6f簆 8e7e糎 8eab緒 8eb4縝 8ecd者 8ed0耨 8f57菁 8f69蒨 8f6e萏 "
    "8fcb覦覩 8ffe起 906d都 907a銹 90dc靜 90f1響 91bf鼖 9244蔃 92af兙兛兝兞 92c8鍮 92d1瑹 9447浧 94ca禛 95d9邗 "
    "9644靝 96ed瀞 96fc嬨 9b76爁 9b78矗 9b7b纇 9bc6駖 9bde釔 9bec惞 9bf6澶 9c42輶 9c53侻 9c62營 9c68鄄 9c6b鷰 "
    "9c77菏 9cbc尐秣 9cd0婧 9d57輋 9d5a筑 9dc4拐 9ea9恢 9eef痹 9efd汊 9f60鬮 9f66鼗 9fcb僭 9fd8弌 a063蠏 a077拎 "
    "a0d5瑨 a0df煢 a0e4牐 c6cf廴 c6d3无 c6d5癶 c6d7隶 c6de〃仝 fa5f倩 fa66偽 fabd包 fac5卄 fad5卿 fb48嘅 fbb8婷 "
    "fbf3幵 fbf9廐 fc4f彘 fc6c悤 fcb9撐 fce2晴 fcf1杞 fdb7沜渝 fdbb港 fdf1煮 fe52猪 fe6f瑜 feaa瓩 fedd砉 "
)
# Characters that Python gives for pairs of bytes for which the standard has others.
BIG5_OTHERS: Mapping[int, int | str] = str.maketrans(
    "\u2022\uff64\u203e\u223c\u2641\u2609\u00a5\u00a2\u00a3", "\u2027\ufe51\u00af\uff5e\u2295\u2299\uffe5\uffe0\uffe1"
)
EUC_JP_OTHERS: Mapping[int, int | str] = str.maketrans(
    "\u301c\u2016\u2212\u00a2\u00a3\u00ac", "\uff5e\u2225\uff0d\uffe0\uffe1\uffe2"
)
GB18030_OTHERS: Mapping[int, int | str] = dict(
    zip(
        (0xE5E5, *range(0xE78D, 0xE797), 0xE7C7, 0xE81E, 0xE826, 0xE82B, 0xE82C, 0xE832, 0xE843, 0xE854, 0xE864),
        "\u3000\ufe10\ufe12\ufe11\ufe13\ufe14\ufe15\ufe16\ufe17\ufe18"
        "\ufe19\u1e3f\u9fb4\u9fb5\u9fb6\u9fb7\u9fb8\u9fb9\u9fba\u9fbb",
        strict=True,
    )
)
REPLACEMENT = "\ufffd"
ESCAPE = re.compile(rb"\x1b(?:\(([BJI])|\$[@B])")  # of ISO-2022-JP, by its letter; none for JIS X 0208
ASCII_WHITE = "\t\n\f\r "


@cache
def _names() -> dict[str, str]:
    return {label: name for name, labels in LABELS.items() for label in (name, *labels.split())}


def encoding_of(label: str) -> str:
    """The encoding that a label names, one of LABELS, or ""."""
    return _names().get(label.strip(ASCII_WHITE).lower(), "")


def decode(body: bytes, encoding: str) -> str:
    """The text of bytes in one of LABELS, without its byte order mark. Linear time."""
    if encoding == "utf-8":
        return body.decode("utf-8", "replace").removeprefix("\ufeff")
    if encoding in ("utf-16le", "utf-16be"):
        return body.decode(encoding, "replace").removeprefix("\ufeff")
    if encoding == "replacement":
        return REPLACEMENT if body else ""
    if encoding == "iso-2022-jp":
        return _iso_2022_jp(body)
    if encoding in MULTI_BYTE:
        codec, errors, others = MULTI_BYTE[encoding]
        text = body.decode(codec, errors)
        return text.translate(others) if others and not text.isascii() else text
    return codecs.charmap_decode(body, "replace", _table(encoding))[0]


@cache
def _table(encoding: str) -> str:
    """The characters of the 256 bytes of a single-byte encoding; U+FFFE for those that it doesn't have."""
    if encoding == "x-user-defined":
        return "".join(map(chr, (*range(0x80), *range(0xF780, 0xF800))))
    beyond = BEYOND_PYTHON.get(encoding, {})
    table = []
    for byte in range(256):
        sign = beyond.get(byte) or bytes((byte,)).decode(SINGLE_BYTE[encoding], "replace")
        control = sign == REPLACEMENT and encoding.startswith("windows-") and byte < 0xA0
        table.append(chr(byte) if control else "\ufffe" if sign == REPLACEMENT else sign)
    return "".join(table)


def _iso_2022_jp(body: bytes) -> str:
    """Runs between escapes: ASCII, JIS X 0201 and JIS X 0208, the last by way of EUC-JP."""
    out, place, state = [], 0, b"B"
    for escape in (*ESCAPE.finditer(body), None):
        run = body[place : escape.start() if escape else len(body)]
        if state == b"I":
            out.append(run.translate(_KATAKANA).decode("shift_jis", "replace"))
        elif state:
            text = run.translate(_SEVEN_BIT).decode("ascii", "replace")
            out.append(text.translate({0x5C: "\u00a5", 0x7E: "\u203e"}) if state == b"J" else text)
        else:
            out.append(decode(run.translate(_EIGHT_BIT), "euc-jp"))
        if escape:
            place, state = escape.end(), escape[1] or b""
    return "".join(out)


_SEVEN_BIT = bytes(0xFF if byte in (0x0E, 0x0F, 0x1B) else byte for byte in range(256))
_KATAKANA = bytes(byte + 0x80 if 0x21 <= byte < 0x60 else 0xFF if byte > 0x20 else byte for byte in range(256))
_EIGHT_BIT = bytes(
    byte + 0x80 if 0x21 <= byte < 0x7F else 0xFF if byte in (0x0E, 0x0F, 0x1B) or byte > 0x7E else byte
    for byte in range(256)
)


def _pairs(characters: Callable[[int, int], str]) -> Callable[[UnicodeError], tuple[str, int]]:
    """An error handler for a codec of byte pairs: `characters` of a pair that Python's codec lacks, else U+FFFD.

    As the standard has it, a second byte that is ASCII is no part of a broken pair: it may be the `<` of a tag.
    """

    def handle(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        body, at = error.object, error.start
        if at + 1 >= len(body) or not 0x80 < body[at] < 0xFF:
            return REPLACEMENT, at + 1
        found = characters(body[at], body[at + 1])
        if found:
            return found, at + 2
        return REPLACEMENT, at + (1 if body[at + 1] < 0x80 else 2)

    return handle


@cache
def _big5_pairs() -> dict[int, str]:
    """The characters that Python's codec lacks, by their two bytes: HKSCS of 2008 and ETEN's symbols among them."""
    found = {0xA3C0 + place: chr(0x2400 + place) for place in range(32)} | {0xA3E0: "\u2421", 0xA3E1: "\u20ac"}
    for run in BIG5_PAIRS.split():
        pair = int(run[:4], 16)
        for sign in run[4:]:
            found[pair] = sign
            pair += 0x23 if pair & 0xFF == 0x7E else 1
    return found


def _big5(lead: int, trail: int) -> str:
    return _big5_pairs().get(lead << 8 | trail, "")


def _euc_jp(lead: int, trail: int) -> str:
    """NEC's and IBM's characters, which Windows-31J has at the same places of JIS X 0208."""
    if not (lead >= 0xA1 and 0xA1 <= trail < 0xFF):
        return ""
    row, cell = divmod((lead - 0xA1) * 94 + trail - 0xA1, 188)
    pair = bytes((row + (0x81 if row < 0x1F else 0xC1), cell + (0x40 if cell < 0x3F else 0x41)))
    found = pair.decode("cp932", "replace")
    return found if len(found) == 1 and found != REPLACEMENT and not "\ue000" <= found < "\uf900" else ""


def _none(lead: int, trail: int) -> str:
    return ""


def _gb18030(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    body, at = error.object, error.start
    if body[at] == 0x80:
        return "\u20ac", at + 1
    if body[at] < 0xFF and 0x30 <= (body[at + 1] if at + 1 < len(body) else 0) < 0x3A:
        four = body[at + 2 : at + 4]
        whole = len(four) == 2 and 0x80 < four[0] < 0xFF and 0x30 <= four[1] < 0x3A
        return REPLACEMENT, at + (4 if whole else 1)
    return _pairs(_none)(error)


MULTI_BYTE: dict[
    str, tuple[str, str, Mapping[int, int | str] | None]
] = {  # the codec of Python, its error handler, characters to exchange
    "big5": ("big5hkscs", "trainyard.big5", BIG5_OTHERS),
    "euc-jp": ("euc_jp", "trainyard.euc-jp", EUC_JP_OTHERS),
    "shift_jis": ("cp932", "trainyard.pairs", {0xA0: REPLACEMENT} | dict.fromkeys(range(0xF8F0, 0xF8F4), REPLACEMENT)),
    "euc-kr": ("cp949", "trainyard.pairs", None),
    "gbk": ("gb18030", "trainyard.gb18030", GB18030_OTHERS),
    "gb18030": ("gb18030", "trainyard.gb18030", GB18030_OTHERS),
}
codecs.register_error("trainyard.big5", _pairs(_big5))
codecs.register_error("trainyard.euc-jp", _pairs(_euc_jp))
codecs.register_error("trainyard.pairs", _pairs(_none))
codecs.register_error("trainyard.gb18030", _gb18030)
