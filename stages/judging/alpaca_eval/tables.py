"""Tables that go with an instruction set, difficulty and regularising rows, matched to the instructions of the files.

Their `instruction_index` is a place in somebody's list of instructions. Whether it is the files' own list must be
shown: by a column `instruction`, by the lengths of the baseline's outputs, or by the caller (`--align position`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from stages.base.compressed import open_compressed
from stages.base.errors import InputError
from stages.judging.statistics.columns import column

WIDEST, LONGEST = 65_536, 1_000_000  # bytes of a header, rows of a table

Align = Literal["evidence", "position"]


@dataclass(frozen=True)
class Instructions:
    """What the files say of each instruction, in their order."""

    texts: Sequence[str]
    baseline_lengths: Sequence[int]  # characters of the baseline's output


def read_csv(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """A CSV file, perhaps compressed. Raises InputError for one that can't be read, too wide, or without a column."""
    try:
        with open_compressed(path) as file:
            if len(file.readline(WIDEST)) >= WIDEST:
                raise InputError(f"{path}: its first line has {WIDEST:,} bytes or more; that is no header")
        with open_compressed(path) as file:
            table = pd.read_csv(file, encoding="utf-8", nrows=LONGEST + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: not found") from None
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"{path}: not a readable CSV file: {' '.join(str(error).split())[:200]}") from None
    if not 0 < len(table) <= LONGEST:
        raise InputError(f"{path}: {'no rows' if table.empty else f'more than {LONGEST:,} rows'}")
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise InputError(f"{path}: column `{missing[0]}` is missing")
    return table


def matched(
    path: Path, table: pd.DataFrame, known: Instructions, align: Align, witness: "Mapping[str, Any] | None" = None
) -> pd.DataFrame:
    """The rows with `instruction_index` being the files' own. witness: a table by the same index with `len_baseline`.

    Raises InputError where that isn't shown, or where the table is of other instructions.
    """
    places = {text: number for number, text in enumerate(known.texts)}
    if "instruction" in table.columns:
        table = table[table["instruction"].isin(list(places))]
        lacking = len(places) - table["instruction"].nunique()
        if lacking:
            raise InputError(f"{path}: {lacking} of the {len(places)} instructions of the files aren't in it")
        return table.assign(instruction_index=[places[text] for text in table["instruction"]])
    index = column(table, "instruction_index", np.int64, str(path))
    if set(index.tolist()) != set(places.values()):
        raise InputError(
            f"{path}: its indices are of {len(set(index.tolist())):,} instructions, and the files have "
            f"{len(places):,}: it belongs to another instruction set"
        )
    witness = table if witness is None else witness
    if align == "position":
        return table
    if "len_baseline" not in witness:
        raise InputError(
            f"{path}: nothing shows that its instruction_index is the files' order; give it a column `instruction`, "
            "or say `--align position`"
        )
    lengths = column(witness, "len_baseline", np.float64, str(path))
    wrong = lengths != np.asarray(known.baseline_lengths)[column(witness, "instruction_index", np.int64, str(path))]
    if wrong.any():
        raise InputError(
            f"{path}: the baseline's outputs have other lengths in {int(wrong.sum()):,} of {len(wrong):,} rows: it is "
            "of another order or another baseline"
        )
    return table


def agreeing(path: Path, gamed: pd.DataFrame, difficulty: pd.DataFrame) -> None:
    """Raises InputError where the regularising rows have other difficulties than the table of difficulties."""
    known = difficulty.set_index("instruction_index")["instruction_difficulty"].to_dict()
    theirs = column(gamed, "instruction_difficulty", np.float64, str(path))
    ours = np.array([known[index] for index in gamed["instruction_index"]], dtype=np.float64)
    wrong = np.flatnonzero(~np.isclose(theirs, ours, atol=1e-6, equal_nan=True))
    if len(wrong):
        raise InputError(
            f"{path}: row {int(wrong[0])}: difficulty {theirs[wrong[0]]:g}, but {ours[wrong[0]]:g} in the table of "
            "difficulties"
        )
