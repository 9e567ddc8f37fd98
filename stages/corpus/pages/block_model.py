"""Which text blocks of a page are its content: a logistic regression over `block_features`, then a vote in each unit.

A unit is a data table, a list or a piece of code: kept or dropped as a whole, for a table without its short cells is no
table. Layout tables, lists of long texts and lists inside tables are no units.
"""

import numba
import numpy as np

from stages.corpus.pages.block_features import features
from stages.corpus.pages.block_names import bit
from stages.corpus.pages.block_weights import INTERCEPT, WEIGHTS

COEFFICIENTS = np.array(WEIGHTS)
TABLE, CELL, CODE = bit("table"), bit("cell"), bit("pre")
LISTS = bit("ul") | bit("ol") | bit("dl")
LONGEST = 400  # characters of a block; a table or a list with a longer one lays out a page
MOST_LINKED = 0.3  # of the characters of a unit that is kept for what stands around it
CELL_BLOCKS = 3  # so does a table with more of them in a cell


@numba.njit(cache=True)
def innermost(containers, mask):
    """The innermost container of the kinds that each container stands in or is; 0 for none."""
    found = np.zeros(len(containers), np.int64)
    for row in range(1, len(containers)):
        found[row] = row if containers[row].kind & mask else found[containers[row].parent]
    return found


@numba.njit(cache=True)
def outermost(containers, mask):
    """The outermost one, likewise."""
    found = np.zeros(len(containers), np.int64)
    for row in range(1, len(containers)):
        above = found[containers[row].parent]
        found[row] = above if above > 0 or not containers[row].kind & mask else row
    return found


def data_tables(blocks: np.ndarray, containers: np.ndarray) -> np.ndarray:
    """The data table of each block, or 0: tables whose cells are short and hold no table of their own."""
    rows = blocks["container"]
    if not (containers["kind"] & TABLE).any():
        return np.zeros(len(blocks), np.int64)
    tables, cells = innermost(containers, TABLE), innermost(containers, CELL)
    layout = np.zeros(len(containers), bool)
    layout[tables[containers["parent"][(containers["kind"] & TABLE) != 0]]] = True
    layout[tables[rows[blocks["chars"] > LONGEST]]] = True
    layout[tables[np.bincount(cells[rows], minlength=len(containers)) > CELL_BLOCKS]] = True
    table = tables[rows]
    return np.where(layout[table] | (cells[rows] < table), 0, table)


def vote(content: np.ndarray, blocks: np.ndarray, containers: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """`content` with one answer in each unit: that of most of its characters.

    A unit between two blocks of content is content too, unless it is links: its cells may be too short to be known.
    """
    rows, count, made = blocks["container"], len(blocks), len(containers)
    units = np.where(tables > 0, tables, outermost(containers, LISTS | CODE)[rows])
    long = np.zeros(made, bool)
    long[units[(blocks["chars"] > LONGEST) & (tables == 0)]] = True
    units[long[units]] = 0
    answers = np.bincount(units, np.where(content, 1, -1) * blocks["chars"], minlength=made) > 0
    decided = np.where(units > 0, answers[units], content)
    linked = np.bincount(units, blocks["link_chars"] - MOST_LINKED * blocks["chars"], minlength=made) > 0
    start, end = containers["first_block"], containers["end_block"]
    between = (start > 0) & (end < count) & ~linked
    between[between] = decided[start[between] - 1] & decided[end[between]]
    return decided | ((units > 0) & between[units])


def without_code(blocks: np.ndarray, containers: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """`tables` with 0 for those that hold code of several lines: they can't be written a line a row."""
    code = (blocks["feeds"] > 0) & (containers["kinds"][blocks["container"]] & CODE != 0)
    return np.where(np.isin(tables, tables[code]), 0, tables) if code.any() else tables


def kept(blocks: np.ndarray, containers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Whether each block is content, the data table that it is written in or 0)."""
    # Not `@`: a BLAS may add up in another order on another number of threads.
    content = np.einsum("ij,j->i", features(blocks, containers), COEFFICIENTS) + INTERCEPT > 0
    tables = data_tables(blocks, containers)
    return vote(content, blocks, containers, tables), without_code(blocks, containers, tables)
