"""A bundle opened to be verified: every byte of it checked, its project unpacked into a folder that goes away."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.base.artifacts import LEADERBOARD
from stages.base.errors import InputError
from stages.base.files import read_json
from stages.publishing.lineage.bundle import archive
from stages.publishing.lineage.bundle.archive import CHECKSUMS, FIRST, KEY, PROJECT, STATEMENT, BundleError, Member
from stages.publishing.lineage.bundle.contents import row_of_table
from stages.publishing.lineage.bundle.statement import (
    Signed,
    check_signature,
    fingerprint,
    public_key,
    read_envelope,
    read_public_key,
)
from stages.publishing.lineage.chain import BOARD
from stages.publishing.lineage.chain import LEADERBOARD as LEADERBOARD_STAGE
from stages.publishing.lineage.project import Project
from stages.publishing.lineage.records import read_record

EMPTY = hashlib.sha256().hexdigest()


@contextmanager
def opened(path: Path, key: Path | None) -> Iterator[tuple[Project, str]]:
    """The project of a bundle, and by whom it is signed, in words. `key`: the public key that must have signed it.

    Raises BundleError for any byte that isn't as it was written, or for another key than the given one.
    """
    members = archive.read_members(path)
    digests = _checked(path, members)
    signed = read_envelope(path, archive.content(path, members[STATEMENT]))
    _compare_subjects(path, signed, digests)
    words = _signer(path, members, signed, key)
    with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        folder = Path(scratch)
        archive.extract(path, members, folder)
        _make_empty_folders(folder)
        _compare_row(path, signed, folder, _named_row(path, members))
        yield Project(folder, sealed=True), words


def _named_row(path: Path, members: dict[str, Member]) -> str:
    """The row that the bundle is of, by its first member."""
    return str(json.loads(archive.content(path, members[FIRST])).get("row"))


def _make_empty_folders(folder: Path) -> None:
    """An archive holds no empty folders, and a stage may have read one: its hash says that it was empty."""
    sealed = Project(folder, sealed=True)
    for label in (LEADERBOARD_STAGE, BOARD):
        place = folder.joinpath("data", *label.split("."), "record.json")
        for name, digest in read_record(place).inputs.items() if place.is_file() else ():
            inside = ".." not in Path(name).parts and not Path(name).is_absolute()
            if digest == EMPTY and inside and sealed.files.place(name) is None:
                (folder / name).mkdir(parents=True, exist_ok=True)


def _checked(path: Path, members: dict[str, Member]) -> dict[str, str]:
    """Name → sha256 of every member but the list of checksums, compared with that list."""
    digests = {name: archive.member_digest(path, one) for name, one in members.items() if name != CHECKSUMS}
    right = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()
    listed = archive.content(path, members[CHECKSUMS])
    if listed != right:
        lines = zip(listed.split(b"\n"), right.split(b"\n"), strict=False)
        odd = next((now for was, now in lines if was != now), b"").decode().partition("  ")[2] or CHECKSUMS
        raise BundleError(f"{path}: `{odd}` or its line in {CHECKSUMS} was changed; get the bundle again")
    return digests


def _compare_subjects(path: Path, signed: Signed, digests: dict[str, str]) -> None:
    project = {name.removeprefix(PROJECT): digest for name, digest in digests.items() if name.startswith(PROJECT)}
    odd = sorted(name for name in {*project, *signed.subjects} if project.get(name) != signed.subjects.get(name))
    if odd:
        raise BundleError(f"{path}: the statement says otherwise of `{odd[0]}`; get the bundle again")


def _signer(path: Path, members: dict[str, Member], signed: Signed, key: Path | None) -> str:
    if not signed.signatures:
        if key is not None or KEY in members:
            raise BundleError(f"{path}: not signed; ask for one that is, or leave --key out")
        return "not signed: whoever had it in hand could have made it anew"
    if KEY not in members:
        raise BundleError(f"{path}: without `{KEY}`; get the bundle again")
    try:
        own = public_key(archive.content(path, members[KEY]), path)
    except InputError as error:
        raise BundleError(str(error)) from None
    check_signature(path, signed, own)
    if key is None:
        return f"signed by the key that it brings along, {fingerprint(own)}; --key PUB tells whether that is theirs"
    check_signature(path, signed, read_public_key(key))
    return f"signed by {key}, {fingerprint(own)}"


def _compare_row(path: Path, signed: Signed, folder: Path, row: str) -> None:
    """The statement is of the row that the bundle names, and has its numbers."""
    if signed.predicate.get("row") != row:
        raise BundleError(f"{path}: its statement is of another row than `{FIRST}` names; get the bundle again")
    if signed.predicate.get("numbers") != row_of_table(read_json(folder / LEADERBOARD), row):
        raise BundleError(f"{path}: the statement's numbers aren't those of `{row}` in {LEADERBOARD}")
