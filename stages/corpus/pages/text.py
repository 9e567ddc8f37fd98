"""Text as extractors give it, brought into one form: paragraphs, rows of tables, code, Unicode."""

import re
import unicodedata

from resiliparse.parse.html import HTMLTree

LIST_ITEM = re.compile(r"^\s*(?:[-*•+]|\d+[.)])\s")
TABLE_ROW = re.compile(r"^\|(.*)\|\s*$")
TABLE_RULE = re.compile(r"^\|[-|]+\|?\s*$")
CELL_GAP = re.compile(r"(?<=\S)\t\t+(?=\S)")
# Sorting the marks of one letter takes quadratic time; no writing has thirty (UAX 15, Stream-Safe Text Format).
MARKS = "".join(char for char in map(chr, range(0x300, 0x1F000)) if unicodedata.combining(char))
MARK_RUN = re.compile(f"([{MARKS}]{{30}})[{MARKS}]+")
MAY_HOLD_MARKS = re.compile("[\u0300-\U0001efff]{31}")  # one range: a search of it takes a twentieth of the time
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# White space inside <pre> in the guise of printable signs, which extractors neither collapse nor break lines at.
DISGUISE = {"\n": "\u240a", "\t": "\u2409", "  ": "\u2420\u2420", "\u2420 ": "\u2420\u2420"}
UNDISGUISE = str.maketrans({"\u240a": "\n", "\u2409": "\t", "\u2420": " "})


def protect(tree: HTMLTree) -> bool:
    """Disguise the white space of preformatted text, for `unprotect` to undo. False if there is none to disguise.

    A page that has such signs itself is left as it is.
    """
    root, body = tree.document, tree.body
    if root is None or body is None or any(sign in (body.text_content or "") for sign in "\u240a\u2409\u2420"):
        return False
    blocks = [
        block
        for block in body.get_elements_by_tag_name("pre").values()
        if block.parent_element is None or block.parent_element.closest("pre") is None
    ]
    for block in blocks:
        for line_break in block.get_elements_by_tag_name("br").values():
            line_break.replace_with(root.create_text_node("\n"))
        text = (block.text_content or "").strip("\n").rstrip()
        for space, sign in DISGUISE.items():
            text = text.replace(space, sign)
        block.text_content = text
    return bool(blocks)


def unprotect(text: str) -> str:
    return text.translate(UNDISGUISE)


def rows(text: str) -> str:
    """Resiliparse's rows of tables, cells two tabs apart, as `a | b`."""
    return CELL_GAP.sub(" | ", text)


def paragraphs(text: str) -> str:
    """Trafilatura's lines are paragraphs: set a blank line between them, except within lists and tables."""
    out: list[str] = []
    before = ""
    for line in text.split("\n"):
        if TABLE_RULE.match(line):
            continue
        row = TABLE_ROW.match(line)
        kind = "row" if row else "item" if LIST_ITEM.match(line) else ""
        if out and not (kind and kind == before):
            out.append("")
        out.append(" | ".join(cell.strip() for cell in row[1].split("|")).strip() if row else line)
        before = kind
    return "\n".join(out)


def normalise(text: str) -> str:
    """NFC, no control characters or soft hyphens, no trailing blanks, exactly one blank line between paragraphs."""
    text = CONTROL.sub("", text.replace("\u00ad", "").replace("\r\n", "\n").replace("\r", "\n"))
    if MAY_HOLD_MARKS.search(text):
        text = MARK_RUN.sub(r"\1", text)
    text = unicodedata.normalize("NFC", text)
    text = "\n".join([line.rstrip() for line in text.split("\n")])
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")
