"""Mojibake after one broken byte: `python bench/corpus/broken_bytes.py`. Needs the reference data.

Every reference page with letters beyond ASCII, as UTF-8, is broken at one character in the middle in three ways and
then decoded. Counted are the pages in which any other character changed. The bar is none.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
ENDINGS = ("cut within", "a byte of Latin-1", "a lone byte")


def with_a_broken_character(html: str, kind: str) -> bytes | None:
    """A page in UTF-8, broken at the middle one of its characters beyond ASCII; None if it has fewer than three."""
    places = [place for place, sign in enumerate(html) if 0x7F < ord(sign) < 0xD800]
    if len(places) < 3:
        return None
    place = places[len(places) // 2]
    before, sign, after = html[:place], html[place].encode(), html[place + 1 :]
    broken = {"cut within": sign[:-1], "a byte of Latin-1": b"\xe4", "a lone byte": sign + b"\x80"}[kind]
    return before.encode("utf-8", "replace") + broken + after.encode("utf-8", "replace")


def mojibake(text: str, html: str) -> bool:
    """Whether a text has characters beyond ASCII that its page has not, but for the sign of a broken one."""
    return bool({sign for sign in text if sign > "\x7f"} - {sign for sign in html if sign > "\x7f"} - {"\ufffd"})


def main() -> None:
    from bench.corpus.extraction import article_pages, reference_folder, segment_pages
    from stages.corpus.sources.charset import decode_page, to_utf8

    if not reference_folder().is_dir():
        sys.exit(f"{reference_folder()} is missing: set TRAINYARD_REFERENCE to the folder of reference data")
    rows = article_pages(reference_folder()) + segment_pages(reference_folder())
    print("| broken | header | pages | with mojibake | signs of a broken character, at the most |")
    print("|---|---|---|---|---|")
    for kind in ENDINGS:
        pages = [(row["html"], page) for row in rows if (page := with_a_broken_character(row["html"], kind))]
        for label in ("", "utf-8"):
            texts = [decode_page(to_utf8(page, label)[0]) for _, page in pages]
            bad = sum(mojibake(text, html) for text, (html, _) in zip(texts, pages, strict=True))
            most = max(
                text.count("\ufffd") - html.count("\ufffd") for text, (html, _) in zip(texts, pages, strict=True)
            )
            print(f"| {kind} | {label or 'none'} | {len(pages)} | {bad} | {most} |", flush=True)


if __name__ == "__main__":
    main()
