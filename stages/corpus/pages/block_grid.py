"""Columns of the cells of data tables: those that `rowspan` and `colspan` fill are counted (HTML Standard, 4.9.12)."""

import numpy as np

from stages.corpus.pages.block_lists import attributes, integer
from stages.corpus.pages.block_model import CELL

WIDEST, HIGHEST = 100, 1000  # columns and rows that a cell spans at the most
FILLED = 4  # positions that spans fill, for each cell of a page; more than that and they fill none
REPEATED = 60  # characters of a cell that is written in every row that it spans


class Grid:
    """The tables of one page, row by row."""

    def __init__(self, markup: bytes, containers: np.ndarray) -> None:
        cells = np.flatnonzero(containers["kind"] & CELL)
        rows: dict[int, list[int]] = {}
        for cell, row in zip(cells.tolist(), containers["parent"][cells].tolist(), strict=True):
            rows.setdefault(row, []).append(cell)
        spans: dict[int, tuple[int, int]] = {}
        if b"span=" in markup:
            for cell, place in zip(cells.tolist(), containers["place"][cells].tolist(), strict=True):
                told = attributes(markup, place)
                width, height = integer(told.get(b"colspan")) or 1, integer(told.get(b"rowspan"))
                height = HIGHEST if height == 0 else height or 1
                spans[cell] = (min(max(width, 1), WIDEST), min(max(height, 1), HIGHEST))
        groups = dict(zip(rows, containers["parent"][list(rows)].tolist(), strict=True)) if rows else {}
        if not self._lay_out(rows, groups, spans, FILLED * len(cells)):
            self._lay_out(rows, groups, {}, 0)
        self._texts: dict[int, str] = {}  # of cells that span rows

    def _lay_out(
        self, rows: dict[int, list[int]], groups: dict[int, int], spans: dict[int, tuple[int, int]], most: int
    ) -> bool:
        """Give every cell its column; False if spans fill too much."""
        self._columns: dict[int, int] = {}
        self._widths: dict[int, int] = {}
        self._from_above: dict[int, list[tuple[int, int]]] = {}  # of a row: columns and the cells that reach into them
        hanging: dict[int, dict[int, tuple[int, int]]] = {}  # of a row group: column to rows left and the cell, or 0
        for row, cells in rows.items():
            above, below = hanging.get(groups[row], {}), {}
            column = last = 0
            for cell in cells:
                while column in above:
                    column += 1
                width, height = spans.get(cell, (1, 1))
                self._columns[cell] = last = column
                if height > 1:
                    below[column] = (height - 1, cell)
                    below |= {column + step: (height - 1, 0) for step in range(1, width)}
                column += width
            self._from_above[row] = [(at, cell) for at, (_, cell) in above.items()]
            self._widths[row] = 1 + max((at for at, (_, cell) in above.items() if cell), default=0)
            self._widths[row] = max(self._widths[row], last + 1)
            most -= len(above) + last + 1 - len(cells)
            if most < 0 and spans:
                return False
            hanging[groups[row]] = {at: (left - 1, cell) for at, (left, cell) in above.items() if left > 1} | below
        return True

    def line(self, row: int) -> list[str]:
        """A new row: its cells, empty but for the short ones that reach into it from above."""
        cells = [""] * self._widths.get(row, 1)
        for column, cell in self._from_above.get(row, ()):
            if column < len(cells) and len(self._texts.get(cell, "")) <= REPEATED:
                cells[column] = self._texts.get(cell, "")
        return cells

    def write(self, line: list[str], cell: int, text: str) -> None:
        """Set text into its cell of a row, behind what it has already."""
        column = min(self._columns.get(cell, 0), len(line) - 1)
        line[column] = self._texts[cell] = f"{line[column]} {text}".strip()
