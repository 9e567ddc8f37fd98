"""Character sets: the standard's labels and indexes, its order of evidence, and pages with broken bytes."""

import codecs
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.corpus.broken_bytes import ENDINGS, mojibake, with_a_broken_character
from bench.corpus.extraction import article_pages
from stages.corpus.sources.charset import decode_page, guess, prescan, text_of, to_utf8
from stages.corpus.sources.web_encodings import LABELS, MULTI_BYTE, decode, encoding_of

# SHA-256 of the characters of the standard's index files in the order of their pointers, U+FFFD where there is none.
INDEXES = {
    "ibm866": "2e3f89d51df1d1b9",
    "iso-8859-2": "da4d3b2f8f06435d",
    "iso-8859-3": "c1d9ce25d3762a52",
    "iso-8859-4": "54140e6e75ba62ce",
    "iso-8859-5": "5372981566958051",
    "iso-8859-6": "2b716bc800e7bfe3",
    "iso-8859-7": "8d94b0308cf418c9",
    "iso-8859-8": "ade2c0790e86ddc8",
    "iso-8859-10": "129e084c5bc4da60",
    "iso-8859-13": "20a9bcd406361c31",
    "iso-8859-14": "80050213abdb4257",
    "iso-8859-15": "b9a4a2394ee58552",
    "iso-8859-16": "c2bb18a77fe0cd90",
    "koi8-r": "25a9da95cf2db39e",
    "koi8-u": "79b0a6e96024f61a",
    "macintosh": "94dcdcc19412eb48",
    "windows-874": "4bb5efdc1a2832ec",
    "windows-1250": "52665a0c49e77322",
    "windows-1251": "153baf169d84e269",
    "windows-1252": "9ba654722668eee9",
    "windows-1253": "fa630499b7db169e",
    "windows-1254": "612d01246f4b5106",
    "windows-1255": "16925d6a9d5cff62",
    "windows-1256": "ae636a90722c9d75",
    "windows-1257": "abd51531663d43f8",
    "windows-1258": "ded84db6d51e3143",
    "x-mac-cyrillic": "ab39a8a69bbbd008",
    "big5": "cffdd4a754c98bd6",
    "euc-kr": "5c78f63b09bdb486",
    "gb18030": "85373408efe24c65",
    "shift_jis": "8bdf1922c862b7ae",
    "euc-jp": "8b9d7687f5830297",
}
TRAILS = {
    "big5": [*range(0x40, 0x7F), *range(0xA1, 0xFF)],
    "euc-kr": [*range(0x41, 0xFF)],
    "gb18030": [*range(0x40, 0x7F), *range(0x80, 0xFF)],
    "shift_jis": [*range(0x40, 0x7F), *range(0x80, 0xFD)],
    "euc-jp": [*range(0xA1, 0xFF)],
}
LEADS = {
    "shift_jis": [*range(0x81, 0xA0), *range(0xE0, 0xFD)],
    "euc-jp": [*range(0xA1, 0xFF)],
}


@pytest.mark.parametrize("name", INDEXES)
def test_encodings_have_the_characters_of_the_standard(name):
    if name in TRAILS:
        pairs = (bytes((lead, trail)) for lead in LEADS.get(name, range(0x81, 0xFF)) for trail in TRAILS[name])
        signs = [decode(pair, name) for pair in pairs]
        text = "".join("\ufffd" if sign[0] == "\ufffd" else sign for sign in signs)
    else:
        text = decode(bytes(range(0x80, 0x100)), name)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == INDEXES[name]


def test_labels_are_those_of_browsers():
    for label, name in (
        ("latin1", "windows-1252"), ("ISO-8859-1", "windows-1252"), (" us-ascii\n", "windows-1252"), ("gb2312", "gbk"),
        ("x-sjis", "shift_jis"), ("ks_c_5601-1987", "euc-kr"), ("tis-620", "windows-874"),
        ("iso-8859-9", "windows-1254"), ("big5-hkscs", "big5"), ("utf8", "utf-8"),
        ("unicode", "utf-16le"), ("hz-gb-2312", "replacement"),
        ("visual", "iso-8859-8"), ("punycode", ""), ("utf-7", ""), ("", ""),
    ):  # fmt: skip
        assert encoding_of(label) == name


@given(st.binary(max_size=60), st.sampled_from([*LABELS]))
def test_every_decoder_takes_any_bytes(body, encoding):
    text = decode(body, encoding)
    text.encode()
    assert decode(body + b" <p>", encoding).endswith("<p>") or encoding in (
        "utf-16le", "utf-16be", "replacement", "iso-2022-jp",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("encoding", "body", "text"),
    [
        ("euc-kr", b"\xb0\xa1\xff\xb0\xa1", "가\ufffd가"),
        ("euc-kr", b"\xb0<p>", "\ufffd<p>"),  # ASCII is no second byte of a broken pair: the tag stands
        ("euc-kr", b"\x8c\x63", "똠"),
        ("gbk", b"\x80\xc4\xe3\xff", "€你\ufffd"),
        ("gbk", b"\x81\x30\x81\x30\x81\x30<", "\x80\ufffd0<"),
        ("shift_jis", b"\x87\x40\x81", "①\ufffd"),
        ("big5", b"\xfb\x48\x88\x62", "嘅\u00ca\u0304"),
        ("euc-jp", b"\xad\xa1\x8e\xb1\xa1\xc1", "①ｱ～"),
        ("windows-1251", b"\xcc\x98", "М\x98"),
        ("windows-874", b"\xa1\x85", "ก…"),
        ("koi8-u", b"\xae", "ў"),
        ("iso-2022-jp", b"a\x1b$B\x46\x7c\x1b(Bb\x1b(J\\", "a日b¥"),
        ("x-user-defined", b"a\x80", "a\uf780"),
        ("replacement", b"~{abc~}", "\ufffd"),
        ("utf-16be", b"\0a\xd8\0\0", "a\ufffd"),
    ],
)
def test_bytes_that_an_encoding_lacks_are_replaced_one_by_one(encoding, body, text):
    assert decode(body, encoding) == text


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        (b"<meta charset=gb2312>", "gbk"),
        (b"<META CONTENT='text/html; charset=\"big5\"' HTTP-EQUIV=Content-Type>", "big5"),
        (b"<meta name=description content='charset=big5'><meta charset = 'koi8-r' />", "koi8-r"),
        (b"<!-- <meta charset=big5> --><meta charset=euc-kr>", "euc-kr"),
        (b"<meta charset=no-such><meta charset=euc-kr>", "euc-kr"),
        (b"<meta title='a > b' charset=euc-kr>", "euc-kr"),
        (b"<meta charset=utf-16>", "utf-8"),
        (b"<meta charset=x-user-defined>", "windows-1252"),
        (b"<title>t</title>" + b"<link>" * 400 + b"<meta charset=euc-kr>", "euc-kr"),
        (b"<body>" + b"<br>" * 400 + b"<meta charset=euc-kr>", ""),
        (b"<script>document.write('<meta charset=big5>')</script>", ""),
        (b"<?xml version='1.0' encoding='windows-1251'?><html>", "windows-1251"),
        (b"<meta charset=", ""),
    ],
)
def test_what_a_page_declares(head, encoding):
    assert prescan(head) == encoding


def test_a_mark_counts_before_the_header_the_header_before_the_page_and_a_guess_last():
    korean = "북쪽 곶의 등대는 봄에 세워졌다."
    page = b"<meta charset=euc-kr>" + korean.encode("cp949")
    assert to_utf8(codecs.BOM_UTF8 + "é".encode(), "euc-kr")[0] == codecs.BOM_UTF8 + "é".encode()
    assert decode_page(to_utf8(codecs.BOM_UTF16_LE + korean.encode("utf-16-le"), "euc-kr")[0]) == korean
    told, known = to_utf8(page.replace(b"euc-kr", b"koi8-r"), "euc-kr")
    assert decode_page(told).endswith(korean) and known
    assert decode_page(page).endswith(korean)
    assert guess((korean * 3).encode("cp949")) == korean * 3
    assert guess("Straße".encode("latin-1")) == "Straße"  # too little for a guess


@pytest.mark.parametrize("label", ["", "utf-8", "iso-8859-1", "windows-1251"])
def test_one_bad_byte_costs_one_character(label):
    page = "<p>Der Wärter führte ein Tagebuch über Stürme – und schlief.".encode()
    for bad in (page[:-60] + b"\xe4" + page[-60:], page.replace("ü".encode(), b"\xc3", 1), page[:-1] + b"\xc3"):
        assert text_of(bad, encoding_of(label)).count("\ufffd") == 1
        assert "Stürme" in text_of(bad, encoding_of(label))


def test_a_label_of_byte_pairs_yields_to_proof_only():
    assert text_of("日本語の本文です。".encode(), "shift_jis") == "日本語の本文です。"
    short = b"\xc1\xaa\xcd\xa8"  # well formed in UTF-8 as well
    assert text_of(short, "gbk") == short.decode("gbk") == "联通"
    assert {"gbk", "euc-kr", "big5", "shift_jis", "euc-jp", "gb18030"} == set(MULTI_BYTE)


@pytest.mark.parametrize("kind", ENDINGS)
def test_real_pages_with_a_broken_character_have_no_mojibake(reference, kind):
    for row in article_pages(reference / "extraction"):
        page = with_a_broken_character(row["html"], kind)
        if page is not None:
            assert not mojibake(decode_page(page), row["html"])
