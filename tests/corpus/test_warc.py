"""WARC: against FastWARC on whole archives, and against planted damage, wrong digests, encodings and bombs."""

import base64
import contextlib
import gzip
import hashlib
import io
import random
import resource
import zlib

import brotli
import pytest
import zstandard
from fastwarc.warc import ArchiveIterator, WarcRecordType
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.base.errors import InputError
from stages.corpus.sources.archive_bytes import PIECE
from stages.corpus.sources.http_body import EncodingError, dechunk, decode_content, parse_response
from stages.corpus.sources.raw import Raw, unwrap
from stages.corpus.sources.robots import Robots
from stages.corpus.sources.warc import read_warc
from tests.corpus.archives import LIMIT, http, noise, page, pages, read, record, sha1, zstd

COMPRESS = pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])


@COMPRESS
def test_bodies_come_without_headers_and_in_utf8(tmp_path, compress):
    latin = {"media": "text/html; charset=iso-8859-1"}
    parts = [
        record("", b"software: x\r\n", kind="warcinfo", media="application/warc-fields"),
        record("http://a/", b"GET / HTTP/1.1\r\n\r\n", kind="request"),
        page("http://a/", b"<p>caf\xe9", **latin),
        page("http://a/404", b"gone", status="404 Not Found"),
        page("http://a/img", b"\x89PNG", media="image/png"),
        record("dns:a", b"20240101 a. 60 IN A 1.2.3.4", media="text/dns"),
        page("<http://a/none>", b"<p>no type", media=""),
        record("http://a/wet", "Zeile ä\n".encode(), kind="conversion", media="text/plain"),
    ]
    found = read(tmp_path, *map(compress, parts))
    assert [raw.problem for raw in found] == ["", "http_status", "not_html", "not_html", "", ""]
    assert found[0].html == "<p>café".encode() and found[0].url == "http://a/"
    assert found[4].url == "http://a/none" and unwrap(found[5].html) == "Zeile ä\n"


@COMPRESS
@pytest.mark.parametrize("body", [b"", b"x", b"<p>" + b"y" * PIECE, b"\n\r\n WARC/1.0\r\n" * 9, noise(1, 3 * PIECE)])
def test_whole_archives_read_as_fastwarc_reads_them(tmp_path, compress, body):
    parts = [page(f"http://a/{n}", body[: len(body) - n] + b"<p>") for n in range(4)]
    found = read(tmp_path, *map(compress, parts))
    archive = io.BytesIO(b"".join(map(compress, parts)))
    expected = [
        (one.headers["WARC-Target-URI"], one.reader.read(), one.stream_pos)
        for one in ArchiveIterator(archive, record_types=WarcRecordType.response, parse_http=True)
    ]
    assert [(raw.url, raw.html, int(raw.where.partition("@")[2])) for raw in found] == expected


def test_an_archive_compressed_as_one_member_is_read(tmp_path):
    found = read(tmp_path, gzip.compress(b"".join(pages(5, 100_000))))
    assert [raw.url for raw in found] == [f"http://a/{n}" for n in range(5)] and not any(r.problem for r in found)


@COMPRESS
@pytest.mark.parametrize("cut", [20, 120, 300, 1500])
def test_a_cut_off_archive_loses_its_last_record(tmp_path, compress, cut):
    parts = [compress(part) for part in pages(3)]
    found = read(tmp_path, b"".join(parts)[:-cut])
    assert [raw.problem for raw in found] == ["", "", "damaged"]
    assert found[2].where == f"a.warc@{len(parts[0]) + len(parts[1])}" and found[2].detail


@COMPRESS
@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.99], ids="at {:.0%}".format)
def test_damage_in_the_middle_costs_no_other_record(tmp_path, compress, place):
    parts = [compress(part) for part in pages(6)]
    start = len(parts[0]) + len(parts[1])
    data = bytearray(b"".join(parts))
    if compress is bytes:  # a lost piece: the declared length reaches into the next record
        at = start + 300 + int(place * 2000)
        del data[at : at + 400]
    else:
        at = start + int(place * (len(parts[2]) - 5))
        data[at : at + 4] = bytes(byte ^ 0xFF for byte in data[at : at + 4])
    found = read(tmp_path, bytes(data))
    assert [(raw.url, raw.problem) for raw in found if not raw.problem] == [
        (f"http://a/{n}", "") for n in (0, 1, 3, 4, 5)
    ]
    assert [raw.where for raw in found if raw.problem] == [f"a.warc@{start}"]


@COMPRESS
def test_two_damaged_records_are_two_problems(tmp_path, compress):
    parts = [compress(part) for part in pages(7)]
    parts[1], parts[4] = parts[1][:-700], parts[4][:-700]
    problems = [raw.problem for raw in read(tmp_path, *parts)]
    assert problems == ["", "damaged", "", "", "damaged", "", ""]


@pytest.mark.parametrize("declared", ["-1", "1e3", "", "9" * 30, "٣"])
def test_a_senseless_length_is_damage(tmp_path, declared):
    broken = (
        pages(1)[0]
        .replace(b"Content-Length: ", b"X: ", 1)
        .replace(b"X: ", f"Content-Length: {declared}\r\nX: ".encode(), 1)
    )
    assert [raw.problem for raw in read(tmp_path, broken, *pages(2))] == ["damaged", "", ""]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([bytes, gzip.compress, zstd]),
    st.sampled_from(["flip", "cut", "drop", "double"]),
)
@example(4567, bytes, "flip")
@example(4567, bytes, "cut")
def test_any_damage_is_survived_and_whole_records_are_right(tmp_path_factory, seed, compress, kind):
    """Whatever happens to the bytes, reading ends, and what is given as a page with a digest is a page of the archive.

    Not always the one of its address: a header whose end is cut out together with the next one's beginning is as good
    as any.
    """
    draw = random.Random(seed)
    bodies = {f"http://a/{n}": b"<p>" + noise(n, 2000) for n in range(5)}
    parts = [record(url, http(body), f"WARC-Block-Digest: {sha1(http(body))}") for url, body in bodies.items()]
    data = bytearray(b"".join(map(compress, parts)))
    start, size = draw.randrange(len(data)), draw.randrange(1, 3000)
    piece = bytes(data[start : start + size])
    data[start : start + size] = {
        "flip": bytes(byte ^ draw.randrange(1, 256) for byte in piece),
        "cut": b"",
        "drop": bytes(len(piece)),
        "double": piece + piece,
    }[kind]
    path = tmp_path_factory.mktemp("damage") / "a.warc"
    path.write_bytes(bytes(data))
    try:
        found = list(read_warc(path, path.name, LIMIT))
    except InputError:
        return
    good = [raw for raw in found if not raw.problem]
    assert all(raw.html in bodies.values() for raw in good if raw.url in bodies)
    assert len(good) >= 5 - 2 - size // 1000 or compress is bytes


@COMPRESS
@pytest.mark.parametrize("content", [b"", b"this is no archive at all\n" * 50])
def test_what_is_no_warc_is_named(tmp_path, compress, content):
    with pytest.raises(InputError, match=r"a\.warc.*WARC"):
        read(tmp_path, compress(content))
    with pytest.raises(InputError, match="nothing"):
        list(read_warc(tmp_path / "nothing.warc.gz", "nothing", LIMIT))


@pytest.mark.parametrize("name", ["sha1", "sha256", "md5", "sha512"])
@pytest.mark.parametrize(
    "encode",
    [
        lambda d: d.hex(),
        lambda d: base64.b32encode(d).decode(),
        lambda d: base64.b64encode(d).decode(),
        lambda d: base64.urlsafe_b64encode(d).decode().rstrip("="),
    ],
    ids=["hex", "base32", "base64", "base64url"],
)
@pytest.mark.parametrize("what", ["Block", "Payload"])
def test_digests_are_checked(tmp_path, name, encode, what):
    block = http(b"<p>body")
    digest = hashlib.new(name, block if what == "Block" else b"<p>body").digest()
    header = f"WARC-{what}-Digest: {name}:"
    other = hashlib.new(name, b"other").digest()
    found = read(
        tmp_path,
        record("http://good/", block, header + encode(digest)),
        record("http://bad/", block, header + encode(other)),
        record("http://short/", block, header + encode(digest).rstrip("=")[:-3]),
        record("http://unknown/", block, f"WARC-{what}-Digest: crc32:00000000"),
    )
    assert [raw.problem for raw in found] == ["", "bad_digest", "bad_digest", ""]


def test_digests_as_fastwarc_checks_them(tmp_path):
    blocks = [http(b"<p>body"), http(b"<p>b\xf6dy")]
    parts = [record(f"http://a/{n}", blocks[n], f"WARC-Block-Digest: {sha1(blocks[0])}") for n in range(2)]
    verified = [one.verify_block_digest() for one in ArchiveIterator(io.BytesIO(b"".join(parts)), parse_http=False)]
    assert [raw.problem == "" for raw in read(tmp_path, *parts)] == verified == [True, False]


def chunked(body: bytes, size: int = 1000) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


RAW_DEFLATE = zlib.compressobj(wbits=-15)
BODY = b"<html><p>" + noise(1)
ENCODED = {
    "gzip": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY[:100]) + gzip.compress(BODY[100:]),
    "deflate": zlib.compress(BODY),
    "Deflate": RAW_DEFLATE.compress(BODY) + RAW_DEFLATE.flush(),
    "br": brotli.compress(BODY),
    "gzip, br": brotli.compress(gzip.compress(BODY)),
    "identity": BODY,
}


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("over", ["plain", "chunked", "decoded"])
def test_transfer_and_content_encodings_are_undone(tmp_path, encoding, over):
    """`decoded`: the crawler has undone both and kept the headers."""
    sent = {"plain": ENCODED[encoding], "chunked": chunked(ENCODED[encoding]), "decoded": BODY}[over]
    headers = [f"Content-Encoding: {encoding}"] + ["Transfer-Encoding: chunked"] * (over != "plain")
    block = http(sent, *headers)
    payload = {"plain": sent, "chunked": ENCODED[encoding], "decoded": BODY}[over]
    found = read(tmp_path, record("http://a/", block, f"WARC-Payload-Digest: {sha1(payload)}"))
    assert [(raw.problem, raw.html) for raw in found] == [("", BODY)]


CUT = b"1000\r\n<html><p>hello"  # of 4,096 bytes


def test_what_is_cut_off_in_its_first_chunk_or_no_gzip_is_named(tmp_path):
    parts = [
        page("http://a/", CUT, "Transfer-Encoding: chunked"),
        page("http://a/", CUT + b"\r\n0\r\n", "Transfer-Encoding: chunked"),
        page("http://a/", bytes(range(128, 256)) * 8, "Content-Encoding: gzip"),
        page("http://a/", "Zeile ä".encode(), "Content-Encoding: gzip"),
        page("http://a/", b"caf\xe9 <html>", "Content-Encoding: gzip"),
        page("http://a/", b"bad words\r\n and more", "Transfer-Encoding: chunked"),
    ]
    assert [raw.problem for raw in read(tmp_path, *parts)] == ["bad_encoding"] * 3 + [""] * 3


@COMPRESS
def test_junk_after_a_record_costs_no_record(tmp_path, compress):
    parts = pages(3)
    found = read(tmp_path, compress(parts[0] + b"junk\n" * 99), compress(parts[1]), compress(parts[2]), b"junk")
    assert [raw.problem for raw in found] == ["", "damaged", "", "", "damaged"]
    junk = [raw.where for raw in found if raw.problem]
    if compress is bytes:
        assert junk == [f"a.warc@{len(parts[0])}", f"a.warc@{sum(map(len, parts)) + 495}"]


def test_converted_texts_are_remarked_and_others_dropped(tmp_path):
    def converted(block: bytes, media: str) -> bytes:
        return record("http://a/", block, kind="conversion", media=media)

    found = read(
        tmp_path,
        converted(b"h\xe9\0llo", "text/plain"), converted(b"<p>", "text/html"), converted(b"x", "text/plain; a=b"),
    )  # fmt: skip
    assert [raw.remarks for raw in found] == [("wrong_charset", "nul_bytes"), (), ()]
    assert [raw.problem for raw in found] == ["", "not_html", ""] and "text/html" in found[1].detail


def test_broken_encodings_are_named(tmp_path):
    bad = {"gzip": ENCODED["gzip"][:-50], "br": ENCODED["br"][:-50], "deflate": b"\x00\x01\x02", "zstd": b"(\xb5/\xfd"}
    parts = [page("http://a/", body, f"Content-Encoding: {name}") for name, body in bad.items()]
    parts.append(page("http://a/", chunked(BODY)[:-500], "Transfer-Encoding: chunked"))
    assert [raw.problem for raw in read(tmp_path, *parts)] == ["bad_encoding"] * 5
    with pytest.raises(EncodingError, match="layers"):
        decode_content(b"x", "gzip," * 9, LIMIT)


@given(st.binary(max_size=400))
def test_no_bytes_break_the_http_reader(data):
    parse_response(data)
    parse_response(b"HTTP/1.1 200 OK\r\n" + data)
    for attempt in (lambda: dechunk(data), lambda: decode_content(data, "br, deflate, gzip", 1000)):
        with contextlib.suppress(EncodingError):
            attempt()


def test_bombs_are_too_large_and_never_in_memory(tmp_path):
    """A quarter of a gigabyte as an archive member, as gzip, deflate and brotli content, and in layers."""
    size = 2**28
    packer, bomb = zlib.compressobj(1, wbits=31), b""
    member = zlib.compressobj(1, wbits=31)
    head = record("http://bomb/member", http(b""))[: -len(b"\r\n\r\n")]
    head = head.replace(
        f"Content-Length: {len(http(b''))}".encode(), f"Content-Length: {len(http(b'')) + size}".encode()
    )
    whole = member.compress(head)
    for _ in range(size // 2**20):
        bomb += packer.compress(bytes(2**20))
        whole += member.compress(bytes(2**20))
    bomb += packer.flush()
    whole += member.compress(b"\r\n\r\n") + member.flush()
    parts = [
        whole,
        gzip.compress(page("http://bomb/gzip", bomb, "Content-Encoding: gzip")),
        gzip.compress(page("http://bomb/layers", gzip.compress(bomb), "Content-Encoding: gzip, gzip")),
        gzip.compress(page("http://bomb/br", brotli.compress(bytes(2**26)), "Content-Encoding: br")),
        gzip.compress(pages(1)[0]),
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = read(tmp_path, *parts)
    assert [raw.problem for raw in found] == ["too_large"] * 4 + [""]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
    assert all(raw.where and raw.detail for raw in found[:4])


def test_a_large_page_is_too_large_and_a_large_picture_a_picture(tmp_path):
    parts = [page("http://a/", bytes(2 * LIMIT)), page("http://i/", bytes(2 * LIMIT), media="image/png"), *pages(1)]
    assert [raw.problem for raw in read(tmp_path, *parts)] == ["too_large", "not_html", ""]


def test_charsets_and_zero_bytes_are_remarked(tmp_path):
    def of(body: bytes, charset: str) -> Raw:
        return read(tmp_path, page("http://a/", body, media=f'text/html; charset="{charset}"'))[0]

    assert of("日本".encode("shift_jis"), "x-sjis").html.decode() == "日本"
    assert of("日本".encode("utf-16"), "").html.decode() == "日本"
    assert of("日本".encode(), "iso-8859-1").html.decode() == "日本"  # valid UTF-8 is UTF-8
    broken = of(b"caf\xe9", "utf-8")
    assert broken.html.decode() == "caf\ufffd" and broken.remarks == ("wrong_charset",)
    for body, charset in [(b"caf\xe9", "no-such"), (b"caf\xe9", "punycode")]:
        assert of(body, charset).html == body and of(body, charset).remarks == ("wrong_charset",)
    assert of(b"a\0b", "utf-8").remarks == ("nul_bytes",)


def test_signals_of_headers_and_robots_files(tmp_path):
    parts = [
        page(
            "http://a/",
            b"<p>x",
            "X-Robots-Tag: noai",
            "X-Robots-Tag: otherbot: NoImageAI, nofollow",
            "tdm-reservation: 1",
        ),
        page("http://b/", b"<p>x", "X-Robots-Tag: unavailable_after: 25 Jun 2040", "tdm-reservation: 0"),
        page("HTTP://User@Host.Example:8080/robots.txt", b"User-agent: *", media="text/plain"),
        page("http://host.example:80/robots.txt", b"x" * 600_000, media="text/plain"),
        page("http://c/robots.txt", b"no", status="404 Not Found"),
    ]
    found = read(tmp_path, *parts)
    assert found[0].opt_out == "tdm-reservation x-robots-tag:noai x-robots-tag:noimageai" and found[1].opt_out == ""
    assert found[2] == Robots("host.example:8080", "User-agent: *")
    assert found[3].host == "host.example" and len(found[3].text) == 512_000 and len(found) == 4


def test_hostile_replies_cost_no_more_than_their_bounds():
    with pytest.raises(EncodingError, match="members"):
        decode_content(gzip.compress(b"") * 20_000, "gzip", 10**6)
    assert decode_content(gzip.compress(b"one ") + gzip.compress(b"two"), "gzip", 100) == b"one two"
    assert parse_response(b"HTTP/1.1 200 OK\nA: b\n" + b" folded\n" * 200_000) is None


def test_header_lines_end_at_line_feeds_only_and_the_last_type_counts():
    types = b"Content-Type: text/plain\r\nContent-Type: text/html\r\n"
    block = b"HTTP/1.1 200 OK\r\nX: a\x85Content-Type: image/png\r\n" + types + b"\r\n"
    found = parse_response(block)
    assert found is not None
    assert found[0].type == ("text/html", "") and found[0].get("x") == "a\x85Content-Type: image/png"


def test_brotli_that_begins_like_white_space_is_decoded():
    for size in range(5000, 6500):
        page = b"<p>" + b"x" * size
        encoder = brotli.Compressor()
        assert decode_content(encoder.process(page) + encoder.flush() + encoder.finish(), "br", 10**6) == page


# ------------------------------------------------------------------------------------------ what writers really write


@pytest.mark.parametrize("ends", ["\r\n\r\n", "\n\n", "\n\r\n", "\r\n\n", "\r\n\r\r\n"], ids=repr)
@pytest.mark.parametrize("line", ["\r\n", "\n"], ids=repr)
def test_an_empty_line_ends_the_header_whatever_the_line_ends_are(tmp_path, ends, line):
    block = f"HTTP/1.1 200 OK{line}Content-Type: text/html{line}X: y{ends}".encode() + BODY
    assert [(raw.problem, raw.html) for raw in read(tmp_path, record("http://a/", block))] == [("", BODY)]


@pytest.mark.parametrize("types", [
    ["text/html, charset=utf-8"], ["text/html, text/html; charset=utf-8"], ["text/html charset=utf-8"], ["html"], [],
    ["text/plain", "text/html"], ["*/*"], ["application/unknown"], ["text/html;"], ["TEXT/HTML;charset"], [""],
    ["application/xhtml+xml; charset=utf-8"],
])  # fmt: skip
def test_what_a_browser_takes_for_html_is_html(tmp_path, types):
    block = http(BODY, *[f"Content-Type: {one}" for one in types], media="")
    assert [(raw.problem, raw.html) for raw in read(tmp_path, record("http://a/", block))] == [("", BODY)]


def test_what_a_browser_takes_for_something_else_is_not(tmp_path):
    def of(body: bytes, *headers: str, identified: str = "") -> str:
        told = [f"WARC-Identified-Payload-Type: {identified}"] if identified else []
        raw = read(tmp_path, record("http://a/", http(body, *headers, media=""), *told))[0]
        return raw.problem and f"{raw.problem} {raw.detail}"

    assert of(b"%PDF-1.7 x").startswith("not_html application/pdf")
    assert of(b'{"html": "<p>"}').startswith("not_html text/plain")
    assert of(BODY, "Content-Type: text/plain").startswith("not_html text/plain")
    assert of(BODY, "X-Content-Type-Options: nosniff").startswith("not_html text/plain")
    assert of(BODY, "Content-Type: text/css, nonsense").startswith("not_html text/css")
    assert of(b"<section>no tag of the table</section>", identified="text/html") == ""
    assert of(b"<section>no tag of the table</section>").startswith("not_html text/plain")


def test_decoded_bodies_under_any_coding_are_pages(tmp_path):
    bodies = [BODY, b"\xef\xbb\xbf" + BODY, b"\n " + BODY, "Ein Wort: größer <b>als</b>".encode(), b"caf\xe9 <html>"]
    for coding in ("gzip", "br", "deflate", "zstd", "windows-1251", "amazon", "gzip, br"):
        parts = [page("http://a/", body, f"Content-Encoding: {coding}") for body in bodies]
        assert [(raw.problem, raw.html) for raw in read(tmp_path, *parts)] == [("", body) for body in bodies], coding
    noise = bytes(range(128, 256)) * 8
    for coding in ("gzip", "br", "deflate", "zstd", "amazon"):
        assert read(tmp_path, page("http://a/", noise, f"Content-Encoding: {coding}"))[0].problem == "bad_encoding"


def test_what_is_cut_off_without_a_word_is_never_taken_for_text(tmp_path):
    """Compressed bytes have something like a tag in one of thirty beginnings."""
    for coding, pack in (("gzip", gzip.compress), ("br", brotli.compress), ("zstd", zstandard.compress)):
        for number in range(200):
            packed = pack(noise(number, 8000))
            body = packed[: len(packed) // 2]
            assert read(tmp_path, page("http://a/", body, f"Content-Encoding: {coding}"))[0].problem == "bad_encoding"
    marked = "\ufeff<p>größer".encode("utf-16-le")
    assert read(tmp_path, page("http://a/", marked, "Content-Encoding: gzip"))[0].html.decode() == "<p>größer"


def test_codings_that_stand_elsewhere_are_undone_too(tmp_path):
    packed = gzip.compress(BODY)
    parts = [
        page("http://a/", chunked(packed), "Transfer-Encoding: gzip, chunked"),
        page("http://a/", packed, "Transfer-Encoding: gzip"),
        page("http://a/", packed),  # none is named
        page("http://a/", gzip.compress(packed), "Content-Encoding: gzip"),
        record("http://a/", b"http/1.1 200 ok\r\ncontent-type: text/html\r\n\r\n" + BODY),
    ]
    assert [(raw.problem, raw.html) for raw in read(tmp_path, *parts)] == [("", BODY)] * 5
    bomb = page("http://a/", gzip.compress(gzip.compress(bytes(2**27))), "Content-Encoding: gzip")
    assert read(tmp_path, bomb)[0].problem == "too_large"


def test_zstd_is_undone_within_its_bounds(tmp_path):
    packed = zstandard.compress(BODY)
    found = read(
        tmp_path,
        page("http://a/", packed, "Content-Encoding: zstd"),
        page("http://a/", packed[:-9], "Content-Encoding: zstd"),
        page("http://a/", zstandard.compress(bytes(2**28)), "Content-Encoding: zstd"),
    )
    assert [raw.problem for raw in found] == ["", "bad_encoding", "too_large"] and found[0].html == BODY


LONG = b"<html><p>" + noise(7, 40_000)


@pytest.mark.parametrize("coding", ["", "gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("chunks", [False, True], ids=["whole", "chunked"])
def test_a_body_that_the_crawler_cut_off_is_kept_up_to_the_cut(tmp_path, coding, chunks):
    packed = {
        "": bytes, "gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstandard.compress
    }[coding](LONG)  # fmt: skip
    sent = chunked(packed) if chunks else packed
    headers = [f"Content-Encoding: {coding}"] * bool(coding) + ["Transfer-Encoding: chunked"] * chunks
    block = http(sent[: len(sent) // 2], *headers)
    digest = f"WARC-Payload-Digest: {sha1(LONG)}"  # of the whole
    for reason in ("length", "time", "disconnect", "unspecified"):
        [raw] = read(tmp_path, record("http://a/", block, f"WARC-Truncated: {reason}", digest))
        assert raw.problem == "" and raw.remarks == ("truncated",)
        assert LONG.startswith(raw.html) and len(raw.html) > (10_000 if coding != "zstd" else -1)
    if coding or chunks:
        assert read(tmp_path, record("http://a/", block))[0].problem == "bad_encoding"


def test_the_digest_of_the_block_stands_for_the_payload_s(tmp_path):
    block = http(BODY)
    good = f"WARC-Payload-Digest: {sha1(block)}"
    found = read(tmp_path, record("http://a/", block, good), record("http://a/", block + b" ", good))
    assert [raw.problem for raw in found] == ["", "bad_digest"]


def test_resources_are_pages_texts_or_counted(tmp_path):
    def of(block: bytes, media: str, url: str = "file:///a/b.html", *headers: str) -> bytes:
        return record(url, block, *headers, kind="resource", media=media)

    found = read(
        tmp_path,
        of(b"<p>caf\xe9", "text/html; charset=latin1"),
        of(b"words", "text/plain"),
        of(b"\x89PNG", "image/png"),
        of(BODY, "nonsense"),
        of(BODY[:50], "text/html", "http://a/", "WARC-Truncated: length"),
        of(b"User-agent: *", "text/plain", "http://h.example/robots.txt"),
        of(b"<p>x", "text/html", "http://a/", f"WARC-Payload-Digest: {sha1(b'other')}"),
        record("http://a/", b"<p>bare", media="text/html"),  # a response of no HTTP, as of ftp
    )
    assert [raw.problem for raw in found if isinstance(raw, Raw)] == [
        "", "", "not_html", "", "", "bad_digest", ""
    ]  # fmt: skip
    assert found[0].html == "<p>café".encode() and unwrap(found[1].html) == "words" and found[3].html == BODY
    assert found[4].remarks == ("truncated",) and found[5] == Robots("h.example", "User-agent: *")
    assert found[7].html == b"<p>bare"


def split_members(data: bytes, *sizes: int) -> bytes:
    members, start = [], 0
    for size in (*sizes, len(data)):
        members.append(gzip.compress(data[start : start + size]))
        start += size
    return b"".join(members)


@pytest.mark.parametrize("sizes", [(40,), (150, 200, 1), (1,) * 9, (300, 0, 0, 100)], ids=str)
def test_a_record_over_several_members_is_one(tmp_path, sizes):
    parts = pages(3)
    found = read(tmp_path, split_members(parts[0], *sizes), gzip.compress(b""), *map(gzip.compress, parts[1:]))
    assert [(raw.url, raw.problem) for raw in found] == [(f"http://a/{n}", "") for n in range(3)]
    whole = b"".join(parts)
    blocks = split_members(whole, *[1000] * (len(whole) // 1000)) + gzip.compress(b"")  # as bgzip does
    assert [raw.html for raw in read(tmp_path, blocks)] == [raw.html for raw in found]


@COMPRESS
def test_zeros_at_the_end_are_padding_and_elsewhere_damage(tmp_path, compress):
    parts = [compress(part) for part in pages(2)]
    for count in (1, 511, 200_000):
        assert [raw.problem for raw in read(tmp_path, *parts, bytes(count))] == ["", ""]
        assert [raw.problem for raw in read(tmp_path, parts[0], bytes(count), parts[1])] == ["", "damaged", ""]


@COMPRESS
@pytest.mark.parametrize("version", [b"WARC/0.17", b"WARC/0.18", b"WARC/1.1", b"WARC/2.0"])
def test_the_next_record_is_found_in_any_version(tmp_path, compress, version):
    parts = [compress(part.replace(b"WARC/1.0", version, 1)) for part in pages(3)]
    assert [raw.problem for raw in read(tmp_path, parts[0], b"junk" + parts[1], parts[2])] == ["", "damaged", "", ""]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])  # of zstd, nothing of a block comes before its end
def test_a_single_record_that_is_cut_off_is_damage_and_no_other_file(tmp_path, compress):
    found = read(tmp_path, compress(pages(1)[0])[:-700])
    assert [(raw.problem, raw.where) for raw in found] == [("damaged", "a.warc@0")]


def test_wat_files_are_named(tmp_path):
    info = record("", b"x: y\r\n", kind="warcinfo", media="application/warc-fields")
    described = record("http://a/", b'{"Envelope": {}}', kind="metadata", media="application/json")
    with pytest.raises(InputError, match=r"a WAT file"):
        read(tmp_path, gzip.compress(info), gzip.compress(described))
    assert [raw.problem for raw in read(tmp_path, info, described, *pages(1))] == [""]
