"""Where an installed package lies, its version and licence: from metadata, never by importing it."""

import os
import platform
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from stages.base.errors import InputError

STDLIB = "stdlib"
SKIPPED_FOLDERS = frozenset(
    ("tests", "test", "testing", "_testing", "conftest", "benchmarks", "idlelib", "lib2to3", "ensurepip", "turtledemo",
     "site-packages", "dist-packages", "__pycache__", "lib-dynload", "__phello__", "externals", "extern", "_vendor",
     "vendor", "vendored", "code_generators", "pydoc_data")
)  # fmt: skip


@dataclass(frozen=True)
class Package:
    name: str  # as it is imported; `stdlib` for Python's own library
    version: str  # full version
    licence: str
    root: Path  # folder whose dotted names start with `name`

    @property
    def site_version(self) -> str:
        """The first two parts of the version, as documentation sites use them in addresses."""
        return ".".join(self.version.split("+")[0].split(".")[:2])


def locate(distribution: str) -> Package:
    """Find an installed distribution, or `stdlib`. Raises InputError naming the package if it isn't installed."""
    if distribution == STDLIB:
        return Package(STDLIB, platform.python_version(), "PSF-2.0", Path(sysconfig.get_paths()["stdlib"]))
    try:
        found = metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        raise InputError(
            f"package_docs: `{distribution}` is not installed; install it or drop it from corpus.package_docs.packages"
        ) from None
    sizes = Counter(
        file.parts[0]
        for file in found.files or ()
        if file.suffix == ".py" and len(file.parts) > 1 and file.parts[0] != ".."
    )
    if not sizes:
        raise InputError(f"package_docs: `{distribution}` lists no Python files in its metadata; reinstall it")
    name = min(sizes, key=lambda part: (-sizes[part], part))
    return Package(name, found.version, _licence(found.metadata), Path(str(found.locate_file(name))))


def _licence(fields: metadata.PackageMetadata) -> str:
    """The SPDX expression, else a short licence field, else the trove classifier, else `unknown`."""
    values = {key: fields.get_all(key) or [] for key in ("License-Expression", "License", "Classifier")}
    for value in values["License-Expression"] + values["License"]:
        if value and "\n" not in value and len(value) <= 200:
            return value.strip()
    for value in values["Classifier"]:
        if value.startswith("License ::"):
            return value.rsplit("::", 1)[1].strip()
    return "unknown"


def source_files(package: Package) -> Iterator[tuple[str, Path]]:
    """(dotted module name, file) of a package's sources, sorted by name; stubs only where there is no source."""
    found: dict[str, Path] = {}
    paths: list[Path] = []
    for folder, folders, names in os.walk(package.root):
        folders[:] = [name for name in folders if name.lower() not in SKIPPED_FOLDERS and name.isidentifier()]
        paths += [Path(folder, name) for name in names if name.endswith((".py", ".pyi"))]
    for path in sorted(paths):
        relative = path.relative_to(package.root)
        if path.stem.startswith(("test_", "conftest", "setup")) or path.stem in SKIPPED_FOLDERS:
            continue
        parts = [*relative.parts[:-1], *([] if path.stem == "__init__" else [path.stem])]
        if not all(part.isidentifier() for part in parts):
            continue
        module = ".".join([*([] if package.name == STDLIB else [package.name]), *parts])
        if module and (module not in found or path.suffix == ".py"):
            found[module] = path
    yield from sorted(found.items())
