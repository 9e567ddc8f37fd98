"""The append-only cache of paid calls: a rerun never pays twice, and neither do two processes at once.

It lives outside DVC's outputs, in the folder that all work trees and experiment workspaces of a project share
(`base.store`), so that they find each other's replies. Only paid providers use it; no output depends on whether it is
there.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from stages.annotators.server import normal_url
from stages.base.errors import InputError, ResourceError

CACHE_FILE = "calls.sqlite"
LEAST_FREE_BYTES = 16 << 20  # on the disk of the cache, before anything is paid for
DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
BUSY_S = 60.0  # that another process may hold the database
_PLACES = 1 << 62  # of locks in the lock file: one byte, which need not exist, for each key


def call_key(base_url: str, body: Mapping[str, Any]) -> str:
    """sha256 over the server in its normal spelling, model, messages and sampling parameters."""
    content = json.dumps({"base_url": normal_url(base_url), "body": dict(body)}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


class CallCache:
    """key → (reply, seconds it took), usable replies only; and the tokens that replies without an answer were billed.

    Each row carries the sha256 of what it says. One that is damaged or was edited is as good as absent: it is taken
    out, counted in `damaged`, and asked for again. The files are their owner's alone. Rows are only added (a reply that
    no reader takes any more makes room for the next one). Concurrent processes may share the file: each claims a key
    before it pays for it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0  # rows that were met so far
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock")
        try:
            for file in (path, lock):
                os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
                with suppress(PermissionError):  # another user's, who shares it
                    file.chmod(0o600)
            self._lock = lock.open("r+b")
            self._database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            self._log_ahead()
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS calls "
                "(key TEXT PRIMARY KEY, body TEXT NOT NULL, reply TEXT NOT NULL, seconds REAL NOT NULL, sha256 TEXT)"
            )
            self._add_digests()
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS unusable "
                "(key TEXT NOT NULL, tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL)"
            )
            self._database.execute("CREATE INDEX IF NOT EXISTS unusable_key ON unusable (key)")
        except OSError as error:
            raise ResourceError(f"{error.filename}: can't be opened as the cache of judge calls ({error})") from None
        except sqlite3.Error as error:
            raise InputError(self.trouble(error)) from None

    def _log_ahead(self) -> None:
        """With a write-ahead log a reply survives the end of the process without a wait for the disk.

        SQLite does not wait for its own time-out where two connections change the journal of a new file at once: one
        of them is refused at once (https://www.sqlite.org/rescode.html#busy).
        """
        give_up = time.monotonic() + BUSY_S
        while True:
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
                time.sleep(0.01)

    def _add_digests(self) -> None:
        """To the rows of a file of an older version: what they hold now is taken for right."""
        if any(column[1] == "sha256" for column in self._database.execute("PRAGMA table_info(calls)")):
            return
        self._database.execute("BEGIN IMMEDIATE")  # another process may be doing so, too
        if not any(column[1] == "sha256" for column in self._database.execute("PRAGMA table_info(calls)")):
            self._database.execute("ALTER TABLE calls ADD COLUMN sha256 TEXT")
            self._database.create_function("digest", 4, _digest, deterministic=True)
            self._database.execute("UPDATE calls SET sha256 = digest(key, body, reply, seconds)")
        self._database.execute("COMMIT")

    def __enter__(self) -> "CallCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self._lock.close()

    def trouble(self, error: sqlite3.Error) -> str:
        """What an error of the database is, and what to do about it."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # of the extended code
        if code in DAMAGED:
            return f"{self.path}: not usable as the cache of judge calls ({error}); move it away"
        if code == sqlite3.SQLITE_BUSY:
            return f"{self.path}: another process holds the cache of judge calls ({error}); rerun when it has ended"
        return f"{self.path}: the cache of judge calls can't be written ({error}): free space on its disk and rerun"

    def check_space(self) -> None:
        """Raises ResourceError where paid replies may find no room."""
        free = shutil.disk_usage(self.path.parent).free
        if free < LEAST_FREE_BYTES:
            raise ResourceError(
                f"{self.path}: {free >> 10} KiB are free on the disk of the cache of judge calls; free "
                f"{LEAST_FREE_BYTES >> 20} MiB before paying for replies"
            )

    def claim(self, key: str) -> bool:
        """Whether this process may ask for `key` now: no other one does, until `release` or the end of the process."""
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._place(key))
        except OSError as error:
            # A file system without locks can't tell; then nobody is kept out.
            return error.errno not in (errno.EACCES, errno.EAGAIN)
        return True

    def release(self, key: str) -> None:
        with suppress(OSError):
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, self._place(key))

    @staticmethod
    def _place(key: str) -> int:
        return int(key[:16], 16) % _PLACES

    def get(self, key: str) -> tuple[dict[str, Any], float] | None:
        """The reply and how long it took; None where there is none, or a damaged one."""
        columns = (
            "CAST(body AS BLOB), CAST(reply AS BLOB), seconds, CAST(sha256 AS BLOB)"  # damaged text may be no UTF-8
        )
        row = self._database.execute(f"SELECT {columns} FROM calls WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        body, reply, seconds, written = row
        if written != _digest(key, body, reply, seconds).encode():
            self.damaged += 1
            self.discard(key)
            return None
        return json.loads(reply), seconds

    def add(self, key: str, body: Mapping[str, Any], reply: Mapping[str, Any], seconds: float) -> None:
        row = (key, json.dumps(dict(body), sort_keys=True), json.dumps(dict(reply), sort_keys=True), float(seconds))
        self._database.execute("INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?)", (*row, _digest(*row)))

    def discard(self, key: str) -> None:
        """Take out a reply that is no answer, as older versions kept them, or a damaged one."""
        self._database.execute("DELETE FROM calls WHERE key = ?", (key,))

    def bill(self, key: str, tokens: tuple[int, int]) -> None:
        """Tokens (sent, received) of a reply without an answer: paid for, though nothing of it is kept."""
        self._database.execute("INSERT INTO unusable VALUES (?, ?, ?)", (key, *tokens))

    def billed(self, key: str) -> tuple[int, int]:
        """All that `bill` was told of a key."""
        question = "SELECT total(tokens_in), total(tokens_out) FROM unusable WHERE key = ?"
        tokens_in, tokens_out = self._database.execute(question, (key,)).fetchone()
        return int(tokens_in), int(tokens_out)

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM calls").fetchone()[0])


def _digest(key: str, body: str | bytes, reply: str | bytes, seconds: float) -> str:
    """sha256 of all that a row says; of values that no row of ours has, another one."""
    digest = hashlib.sha256()
    for part in (key, body, reply, repr(seconds)):
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part or b""
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
