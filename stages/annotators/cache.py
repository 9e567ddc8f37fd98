"""The append-only cache of paid calls: a rerun never pays twice.

It lives outside DVC's outputs, in the folder that all work trees and experiment workspaces of a project share
(`base.store`), so that they find each other's replies. Only paid providers use it; no output depends on whether it is
there.
"""

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from stages.base.errors import InputError

CACHE_FILE = "calls.sqlite"


def call_key(base_url: str, body: Mapping[str, Any]) -> str:
    """sha256 over the server, model, messages and sampling parameters."""
    content = json.dumps({"base_url": base_url, "body": dict(body)}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


class CallCache:
    """key → (reply, seconds it took). Rows are only ever added; concurrent processes may share the file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(path, timeout=60, isolation_level=None)
            # With a write-ahead log a reply survives the end of the process without a wait for the disk.
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS calls "
                "(key TEXT PRIMARY KEY, body TEXT NOT NULL, reply TEXT NOT NULL, seconds REAL NOT NULL)"
            )
        except sqlite3.Error as error:
            raise InputError(f"{path}: not usable as the cache of judge calls ({error}); move it away") from None

    def __enter__(self) -> "CallCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def get(self, key: str) -> tuple[dict[str, Any], float] | None:
        row = self._database.execute("SELECT reply, seconds FROM calls WHERE key = ?", (key,)).fetchone()
        return (json.loads(row[0]), row[1]) if row else None

    def add(self, key: str, body: Mapping[str, Any], reply: Mapping[str, Any], seconds: float) -> None:
        self._database.execute(
            "INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?)",
            (key, json.dumps(dict(body), sort_keys=True), json.dumps(dict(reply), sort_keys=True), seconds),
        )

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM calls").fetchone()[0])
