"""JSON Lines that grow by one line at a time and are never half-written: what people have voted and labelled."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.base.errors import InputError, ResourceError
from stages.base.files import json_lines, write_jsonl

Row = dict[str, Any]


class Journal:
    """The rows of a file, and a way to add to them; a row that has been added is on the disk. One process writes.

    Raises InputError, naming the line, for a file that holds anything but objects. A last line without its end, which a
    machine that failed may leave, is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _cut_torn_line(path)
        self.rows: list[Row] = []
        for number, row in json_lines(path) if path.exists() else ():
            if not isinstance(row, dict):
                raise InputError(f"{path}:{number}: not a JSON object; mend or remove the line")
            self.rows.append(row)

    def append(self, row: Row) -> None:
        """Raises ResourceError, with the file as it was, where the disk takes no more."""
        line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("ab") as handle:
                handle.write(line)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            if self.path.exists():
                os.truncate(self.path, size)
            raise ResourceError(f"{self.path}: can't be written ({error}); make room") from None
        self.rows.append(row)

    def remove(self, place: int) -> Row:
        """Take a row out again, in memory and on the disk."""
        kept = self.rows[:place] + self.rows[place + 1 :]
        write_jsonl(self.path, kept)
        removed, self.rows = self.rows[place], kept
        return removed


def _cut_torn_line(path: Path) -> None:
    with path.open("rb+") as handle:
        whole = handle.read()
        end = whole.rfind(b"\n") + 1
        if end == len(whole):
            return
        try:
            json.loads(whole[end:])
        except ValueError:
            handle.truncate(end)
        else:
            handle.write(b"\n")


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold a folder's journals alone. ResourceError where another process does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ResourceError(
                f"{folder}: another `trainyard serve` writes its votes there; stop it, or give --folder"
            ) from None
        yield
