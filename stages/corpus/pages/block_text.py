"""Kept blocks to text: paragraphs, lists with their marks, rows of tables, code as it stands."""

import re

import numpy as np
from resiliparse.parse.html import HTMLTree

from stages.corpus.pages.block_grid import Grid
from stages.corpus.pages.block_lists import OL, UL, list_depths, marks
from stages.corpus.pages.block_model import CELL, innermost, kept
from stages.corpus.pages.block_names import REMOVED, bit, scanned

LI, PRE, ROW = (bit(kind) for kind in ("li", "pre", "tr"))
BREAK = re.compile(r"<br[^>]*>")
MAX_INDENT = 20  # levels of a list that are shown: indentation must not multiply a text
TAG = re.compile(r"<!--.*?-->|<[^>]*>", re.DOTALL)
CELL_BORDER = " | "


def text_of(markup: str) -> str:
    """The text of inline markup as Resiliparse serialises it: it writes four references (WHATWG HTML, 13.3)."""
    text = TAG.sub("", markup) if "<" in markup else markup
    if "&" in text:
        text = text.replace("&nbsp;", " ").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return text


def prose(markup: str) -> str:
    """A block outside <pre>: white space collapsed, <br> a line feed."""
    if "<br" not in markup:
        return " ".join(text_of(markup).split())
    return "\n".join(" ".join(text_of(line).split()) for line in BREAK.split(markup)).strip("\n")


def code(markup: str) -> str:
    """A block inside <pre>, indentation and all."""
    return text_of(BREAK.sub("\n", markup)).strip("\n").rstrip()


def serialised(tree: HTMLTree) -> bytes:
    """The body of a page for `scanned`, in UTF-8. Elements without text for readers leave the tree."""
    body = tree.body
    if body is None:
        return b""
    for element in body.query_selector_all(REMOVED).values():
        element.remove()
    return body.html.encode("utf-8", "replace")


def main_content(tree: HTMLTree) -> str:
    """The content of a page; the tree is changed."""
    markup = serialised(tree)
    blocks, containers = scanned(markup)
    keep, tables = kept(blocks, containers)
    return Renderer(markup, containers).render(blocks[keep], tables[keep])


class Renderer:
    """Writes blocks of one page, one behind the other."""

    def __init__(self, markup: bytes, containers: np.ndarray) -> None:
        self._markup, self._containers = markup, containers
        self._items = innermost(containers, LI)
        self._code = innermost(containers, PRE)
        self._out: list[str] = []

    def render(self, blocks: np.ndarray, tables: np.ndarray) -> str:
        """The text of blocks; `tables` has the data table of each, or 0."""
        rows = blocks["container"]
        items, codes = self._items[rows].tolist(), self._code[rows].tolist()
        if tables.any():
            self._cells, self._rows = innermost(self._containers, CELL), innermost(self._containers, ROW)
            self._grid = Grid(self._markup, self._containers)
        if any(items):
            self._marks = marks(self._markup, self._containers)
            self._depths = list_depths(self._containers, UL | OL)
        spans = blocks[["origin", "start", "end"]].tolist()
        seen: set[int] = set()  # items that have their mark
        before = (0, 0, 0)  # item, code and table of the block before
        line: list[str] = []  # cells of the row that is being written
        line_row = 0
        for (origin, start, end), row, item, table, pre in zip(
            spans, rows.tolist(), items, tables.tolist(), codes, strict=True
        ):
            if table:
                cell, tr = int(self._cells[row]), int(self._rows[row])
                if tr != line_row or before[2] != table:
                    self._end_row(line)
                    self._gap("\n" if before[2] == table else "\n\n")
                    line, line_row = self._grid.line(tr), tr
                self._grid.write(line, cell, prose(self._slice(start, end)).replace("\n", " "))
            else:
                self._end_row(line)
                line, line_row = [], 0
                text = code(self._slice(origin, end)) if pre else prose(self._slice(start, end))
                together = (pre and pre == before[1]) or (item and before[0] and not pre)
                self._gap("\n" if together else "\n\n")
                self._out.append(text if pre or not item else self._item(text, item, seen))
            before = (item, pre, table)
        self._end_row(line)
        return "".join(self._out)

    def _slice(self, start: int, end: int) -> str:
        return self._markup[start:end].decode("utf-8", "replace")

    def _gap(self, gap: str) -> None:
        if self._out:
            self._out.append(gap)

    def _end_row(self, line: list[str]) -> None:
        if line:
            self._out.append(CELL_BORDER.join(line).strip())

    def _item(self, text: str, item: int, seen: set[int]) -> str:
        """A block of a list: the first of an item has its mark, the others stand under it."""
        indent = "  " * min(max(int(self._depths[item]) - 1, 0), MAX_INDENT)
        mark = self._marks[item]
        if item in seen:
            return indent + " " * len(mark) + text
        seen.add(item)
        return indent + mark + text
