"""A project's files by their hashes: each is read once, and one that isn't in place is read from DVC's cache.

Records hold sha256 (`base.files`), dvc.lock holds md5 (of a folder: of the JSON list of its files, as DVC writes it).
"""

import configparser
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from stages.base.files import folder_digest

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Digest:
    sha256: str
    md5: str


class Files:
    """The files below `root`. `sealed`: a path that leads out of it is not looked at, as in a stranger's bundle."""

    def __init__(self, root: Path = Path("."), outs: Mapping[str, str] | None = None, sealed: bool = False) -> None:
        """`outs`: path → md5 of everything that dvc.lock says was written."""
        self.root = root
        self._sealed = sealed
        self._outs = outs or {}
        self._read: dict[str, Digest | None] = {}
        self._cached: dict[str, Path] | None = None
        self._ignored = _ignored_names(root)

    def place(self, path: str) -> Path | None:
        """Where the bytes of a file or folder lie; None where they don't."""
        if self._sealed and (PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts):
            return None
        here = self.root / path
        if here.exists():
            return here
        found = self._in_cache().get(path)
        return found if found is not None and found.is_file() else None

    def digest(self, path: str) -> Digest | None:
        """Of one file; None where it is neither in place nor in the cache."""
        if path not in self._read:
            place = self.place(path)
            self._read[path] = None if place is None or not place.is_file() else _digest(place)
        return self._read[path]

    def sha256(self, path: str, known: Iterable[str] = ()) -> str | None:
        """Of a file, or of a folder as `base.files.sha256_path` does it; None where something of it is gone.

        `known`: files that stand in the folder by a record, in place or not.
        """
        if not (self.root / path).is_dir() and not (known := list(known)):
            found = self.digest(path)
            return found.sha256 if found else None
        digests: dict[str, str] = {}
        for name in self.below(path, known):
            if PurePosixPath(name).name != "record.json":
                found = self.digest(name)
                if found is None:
                    return None
                digests[name] = found.sha256
        return folder_digest(path, digests)

    def md5(self, path: str, known: Iterable[str] = ()) -> str | None:
        """As dvc.lock has it: of a file, or of a folder (`….dir`); None where something of it is gone."""
        known = list(known)
        if not (self.root / path).is_dir() and not known:
            found = self.digest(path)
            return found.md5 if found else None
        listed = []
        for name in self.below(path, known):
            found = self.digest(name)
            if found is None:
                return None
            listed.append({"md5": found.md5, "relpath": PurePosixPath(name).relative_to(path).as_posix()})
        listed.sort(key=lambda one: one["relpath"])
        return f"{hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest()}.dir"

    def below(self, folder: str, known: Iterable[str]) -> list[str]:
        """Files of a folder, sorted as `base.files` sorts them, and those that should be there."""
        place = self.root / folder
        found = {
            file.relative_to(self.root).as_posix()
            for file in (place.rglob("*") if place.is_dir() else ())
            if file.is_file() and not self._is_ignored(file.relative_to(self.root))
        }
        return [path.as_posix() for path in sorted(PurePosixPath(name) for name in found | set(known))]

    def _is_ignored(self, path: Path) -> bool:
        return any(fnmatch(part, name) for part in path.parts for name in self._ignored)

    def listing(self, digest: str) -> dict[str, str]:
        """Relative path → md5 of the files of a folder that DVC's cache has; empty where it doesn't."""
        place = self.object(digest)
        if not digest.endswith(".dir") or not place.is_file():
            return {}
        try:
            return {str(one["relpath"]): str(one["md5"]) for one in json.loads(place.read_bytes())}
        except (ValueError, TypeError, KeyError, RecursionError):
            return {}  # damaged: its files count as gone

    def object(self, digest: str) -> Path:
        """Where DVC's cache keeps what has this md5."""
        return self._cache / digest[:2] / digest[2:]

    @property
    def _cache(self) -> Path:
        """Of this project: `.dvc/cache`, or what its configuration names (a shared one)."""
        folder = self.root / ".dvc"
        settings = configparser.ConfigParser(interpolation=None)
        try:
            settings.read([folder / "config", folder / "config.local"], encoding="utf-8")
            named = settings.get("cache", "dir", fallback="cache")
        except (configparser.Error, UnicodeDecodeError):
            named = "cache"
        return folder / named / "files" / "md5"

    def _in_cache(self) -> dict[str, Path]:
        if self._cached is None:
            self._cached = {}
            for path, digest in {} if self._sealed else self._outs.items():
                self._cached[path] = self.object(digest)
                for name, inner in self.listing(digest).items():
                    self._cached[f"{path}/{name}"] = self.object(inner)
        return self._cached


def _digest(path: Path) -> Digest:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK):
            sha256.update(block)
            md5.update(block)
    return Digest(sha256.hexdigest(), md5.hexdigest())


def _ignored_names(root: Path) -> list[str]:
    """Patterns of .dvcignore, of which DVC hashes nothing; plain names and stars, as this project has them."""
    try:
        lines = (root / ".dvcignore").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [line.strip().rstrip("/") for line in lines if line.strip() and not line.startswith("#")]


def plain(value: Any) -> Any:
    """What JSON makes of a value of params: keys are texts, tuples lists; records hold them so."""
    return json.loads(json.dumps(value))
