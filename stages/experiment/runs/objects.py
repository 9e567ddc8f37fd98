"""DVC's cache as the store of contents: a file by the md5 of its bytes, a folder by that of the JSON list of its files.

What a run writes becomes objects that `dvc checkout` finds, and what DVC has stored is what a run starts from. A digest
is 32 hex digits, with `.dir` behind it for a folder, as in dvc.lock.
"""

import configparser
import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TypedDict

from stages.base.errors import InputError
from stages.base.files import atomic_path

DIR = ".dir"
IGNORE = ".dvcignore"
LARGE = 1 << 20  # bytes; the md5 of a larger file from outside is remembered by its time and size


class Entry(TypedDict):
    """A file of a folder."""

    md5: str
    relpath: str


class MissingObject(Exception):
    """The cache doesn't hold what a result says it wrote: emptied, or never pulled."""


def cache_folder(root: Path) -> Path:
    """Where DVC keeps the contents of the project at `root`: `cache.dir` of its config, else .dvc/cache."""
    found = ".dvc/cache"
    for name in ("config", "config.local"):
        config = configparser.ConfigParser()
        try:
            # DVC indents options, which configparser would read as a continued line.
            text = (root / ".dvc" / name).read_text(encoding="utf-8")
            config.read_string("\n".join(line.strip() for line in text.splitlines()))
        except FileNotFoundError:
            continue
        except (configparser.Error, UnicodeDecodeError) as error:
            raise InputError(f"{root / '.dvc' / name}: not a config of DVC: {' '.join(str(error).split())}") from None
        if config.has_option("cache", "dir"):
            found = str(Path(".dvc", config.get("cache", "dir").strip("'\"")))
    return root / found


def tree_digest(entries: Iterable[Entry]) -> tuple[str, bytes]:
    """The digest of a folder of these files, and the object that says so (`dvc_data.hashfile.tree.Tree.as_bytes`)."""
    text = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True).encode()
    return hashlib.md5(text, usedforsecurity=False).hexdigest() + DIR, text


def md5_file(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


class Objects:
    """The objects of one cache, with what has been read of them."""

    def __init__(self, cache: Path) -> None:
        self.folder = cache / "files" / "md5"
        self._trees: dict[str, list[Entry]] = {}
        self._digests: dict[object, str] = {}
        self._here: set[str] = set()

    def path(self, digest: str) -> Path:
        return self.folder / digest[:2] / digest[2:]

    def forget(self) -> None:
        """What was seen may have gone since: look again."""
        self._here.clear()

    def has(self, digest: str) -> bool:
        """Whether a file, or a folder with all its files, is here."""
        if digest in self._here:
            return True
        here = self.path(digest).is_file()
        if here and digest.endswith(DIR):
            here = all(self.has(entry["md5"]) for entry in self.tree(digest))
        if here:
            self._here.add(digest)
        return here

    def tree(self, digest: str) -> list[Entry]:
        """The files of a folder. Raises MissingObject."""
        if digest not in self._trees:
            try:
                self._trees[digest] = json.loads(self.path(digest).read_bytes())
            except (FileNotFoundError, ValueError):
                raise MissingObject(digest) from None
        return self._trees[digest]

    def within(self, digest: str, inner: str) -> str:
        """The digest of a file or folder inside a folder. Raises MissingObject where the cache doesn't hold the folder,
        InputError where the folder has no such file."""
        key = (digest, inner)
        if key not in self._digests:
            found = [entry for entry in self.tree(digest) if entry["relpath"] == inner]
            below = [
                Entry(md5=entry["md5"], relpath=entry["relpath"].removeprefix(f"{inner}/"))
                for entry in self.tree(digest)
                if entry["relpath"].startswith(f"{inner}/")
            ]
            if not found and not below:
                raise InputError(f"{inner}: is not among the files of the folder that should hold it")
            self._digests[key] = found[0]["md5"] if found else self._keep(below)
        return self._digests[key]

    def union(self, parts: Sequence[tuple[str, str]]) -> str:
        """The digest of a folder that holds (relative path, digest) files and folders. Raises MissingObject."""
        key = tuple(parts)
        if key not in self._digests:
            entries: list[Entry] = []
            for place, digest in parts:
                if digest.endswith(DIR):
                    entries += [
                        Entry(md5=entry["md5"], relpath=f"{place}/{entry['relpath']}") for entry in self.tree(digest)
                    ]
                else:
                    entries.append(Entry(md5=digest, relpath=place))
            self._digests[key] = self._keep(entries)
        return self._digests[key]

    def _keep(self, entries: list[Entry]) -> str:
        """Remember a folder that no stage wrote as a whole: DVC has no object of it either."""
        digest, _ = tree_digest(entries)
        self._trees.setdefault(digest, entries)
        return digest

    def files(self, digest: str) -> Iterator[tuple[str, str]]:
        """(Relative path, md5) of the files of a folder; of a file, ("", md5)."""
        if digest.endswith(DIR):
            yield from ((entry["relpath"], entry["md5"]) for entry in self.tree(digest))
        else:
            yield "", digest

    def size(self, digest: str) -> tuple[int, int]:
        """Bytes and files, as dvc.lock says them. Raises MissingObject."""
        try:
            sizes = [self.path(md5).stat().st_size for _, md5 in self.files(digest)]
        except FileNotFoundError:
            raise MissingObject(digest) from None
        return sum(sizes), len(sizes)

    def add(self, path: Path, ignored: "Ignored") -> str:
        """Store a file or folder, which is no more to be written to: its bytes become the cache's."""
        if not path.is_dir():
            return self._add_file(path)
        entries = [
            Entry(md5=self._add_file(file), relpath=file.relative_to(path).as_posix())
            for file in ignored.files_below(path)
        ]
        digest, text = tree_digest(entries)
        if not self.path(digest).is_file():
            with atomic_path(self.path(digest)) as temporary:
                temporary.write_bytes(text)
                temporary.chmod(0o444)
        self._trees[digest] = entries
        return digest

    def _add_file(self, path: Path) -> str:
        digest = md5_file(path)
        place = self.path(digest)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            path.chmod(0o444)
            _link(path, place)
        return digest

    def link(self, digest: str, target: Path) -> None:
        """Let a file or folder stand at `target`, without a copy of its bytes. Raises MissingObject."""
        for relpath, md5 in self.files(digest):
            place = target / relpath if relpath else target
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                _link(self.path(md5), place)
            except FileNotFoundError:
                raise MissingObject(md5) from None
        if digest.endswith(DIR):
            target.mkdir(parents=True, exist_ok=True)  # an empty one


def _link(source: Path, target: Path) -> None:
    """A second name of a file; a copy of it, complete or not there, on another file system."""
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:
        if not source.exists():
            raise FileNotFoundError(source) from None
        with atomic_path(target) as temporary:
            shutil.copy2(source, temporary)


class Ignored:
    """What DVC leaves out of folders: the patterns of `.dvcignore`, git's and its own files."""

    def __init__(self, root: Path) -> None:
        import pathspec

        lines = [".hg/", ".git/", ".git", ".dvc/"]
        if (root / IGNORE).is_file():
            lines += (root / IGNORE).read_text(encoding="utf-8").splitlines()
        self._root, self._spec = root, pathspec.GitIgnoreSpec.from_lines(lines)

    def files_below(self, folder: Path) -> list[Path]:
        """The files of a folder, at any depth, but for those that are ignored; sorted."""
        found = []
        for here, folders, names in os.walk(folder, followlinks=True):
            place = os.path.relpath(here, self._root)
            inside = "" if place == "." or place.startswith("..") else f"{place}/"
            folders[:] = [name for name in folders if not self._spec.match_file(f"{inside}{name}/")]
            found += [Path(here, name) for name in names if not self._spec.match_file(f"{inside}{name}")]
        return sorted(found)


class Externals:
    """Digests of what no stage writes: code, lists, the folders that sources name; each read once."""

    def __init__(self, root: Path, project: Path, memory: Path) -> None:
        """root: of the code; project: the work tree, where files lie that git doesn't keep; memory: a JSON file, shared
        by runners, of the md5 of large files that stay as they are."""
        self._root, self._project, self._ignored, self._memory = root, project, Ignored(root), memory
        self._digests: dict[str, str] = {}
        self._states: dict[str, list[tuple[str, int, int]]] = {}
        self._large: dict[str, list] = {}
        with contextlib.suppress(FileNotFoundError, ValueError):
            self._large = json.loads(memory.read_bytes())

    def place(self, path: str) -> Path:
        return self._root / path if (self._root / path).exists() else self._project / path

    def digest(self, path: str) -> str:
        """Raises InputError for a path that isn't there."""
        if path not in self._digests:
            if "://" in path:
                return "url:" + hashlib.md5(path.encode(), usedforsecurity=False).hexdigest()
            place, state = self.place(path), self._state(path)
            if place.is_dir():
                entries = [
                    Entry(md5=self._md5(file), relpath=PurePosixPath(file.relative_to(place)).as_posix())
                    for file in self._ignored.files_below(place)
                ]
                digest, _ = tree_digest(entries)
            elif place.is_file():
                digest = self._md5(place)
            else:
                raise InputError(f"{place}: not found, and no stage writes it")
            self._states[path], self._digests[path] = state, digest
        return self._digests[path]

    def changed(self) -> str | None:
        """A path whose content is no longer what it was when it was first read, by time and size."""
        return next((path for path, state in self._states.items() if self._state(path) != state), None)

    def size(self, path: str) -> tuple[int, int]:
        """Bytes and files."""
        self.digest(path)
        return sum(size for _, size, _ in self._states[path]), len(self._states[path])

    def _state(self, path: str) -> list[tuple[str, int, int]]:
        place = self.place(path)
        files = self._ignored.files_below(place) if place.is_dir() else [place] if place.exists() else []
        found = []
        for file in files:
            state = file.stat()
            found.append((str(file), state.st_size, state.st_mtime_ns))
        return found

    def _md5(self, file: Path) -> str:
        state = file.stat()
        if state.st_size < LARGE:
            return md5_file(file)
        key, stamp = str(file.resolve()), [state.st_size, state.st_mtime_ns]
        if self._large.get(key, [])[:2] != stamp:
            self._large[key] = [*stamp, md5_file(file)]
            with atomic_path(self._memory) as temporary:
                temporary.write_text(json.dumps(self._large), encoding="utf-8")
        return self._large[key][2]
