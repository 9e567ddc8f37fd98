"""bundle: verified where there is no project, one flipped byte found wherever it is, nothing unpacked outside, and
signatures that openssl makes and checks as well."""

import base64
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages import cli
from stages.publishing.lineage.bundle import archive, statement
from stages.publishing.lineage.bundle.archive import BundleError, read_members
from stages.publishing.lineage.bundle.opened import opened
from tests.publishing.lineage.conftest import flip


def openssl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *arguments], capture_output=True, check=False)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    made = Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "key.pub").write_bytes(statement.pem(made.public_key()))
    return tmp_path / "key.pem"


@pytest.fixture
def elsewhere(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a bundle in the project and leaves for an empty folder."""

    def made(*options: str) -> Path:
        path = tmp_path / "gold.bundle"
        assert cli.main(["bundle", "gold", "-o", str(path), *options]) == 0
        (tmp_path / "empty").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "empty")
        return path

    return made


def test_a_bundle_is_verified_without_the_project(
    elsewhere: Callable[..., Path], key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = elsewhere("--key", str(key))
    capsys.readouterr()
    assert cli.main(["verify", str(path), "--key", str(key.with_suffix(".pub")), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["recomputed"] == ["judging.leaderboard (its file agrees)", "publishing.board (6 files agree)"]
    assert told["signature"].startswith("signed by ") and told["wrong"] == []
    missing = {one["path"] for one in told["unchecked"]}
    assert "data/models/sft/model.safetensors" in missing and "data/corpus/mix/train.parquet" in missing
    assert list(Path.cwd().iterdir()) == []


def test_weights_come_along_when_asked(
    elsewhere: Callable[..., Path], project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bundle", "gold", "--weights", "-o", str(tmp_path / "x")]) == 2
    assert "no weights" in capsys.readouterr().err and not (tmp_path / "x").exists()
    assert cli.main(["bundle", "sft", "--weights", "-o", str(tmp_path / "x")]) == 0
    assert "project/data/models/sft/model.safetensors" in read_members(tmp_path / "x")
    assert "project/data/models/sft/model.safetensors" not in read_members(elsewhere())


def test_the_same_project_is_the_same_bytes(project: Path, key: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert cli.main(["bundle", "gold", "--key", str(key), "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("signed", [True, False])
def test_one_flipped_byte_in_any_member_is_found(
    elsewhere: Callable[..., Path], key: Path, signed: bool, tmp_path: Path
) -> None:
    path = elsewhere(*(["--key", str(key)] if signed else []))
    members = read_members(path)
    content = path.read_bytes()
    places = [one.offset + part for one in members.values() for part in {0, one.size // 2, one.size - 1} if one.size]
    places += [
        one.offset - 512 + part for one in members.values() for part in (0, 99, 105, 130, 150, 156, 157, 345, 511)
    ]
    places += [one.offset + one.size for one in members.values() if one.size % 512] + [
        len(content) - 1,
        len(content) - 5000,
    ]
    spoilt = tmp_path / "spoilt"
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1
        spoilt.write_bytes(changed)
        with pytest.raises(BundleError), opened(spoilt, None):
            pass
    for cut in (0, 1, 511, 512, 5000, len(content) - 1, len(content) - 512):
        spoilt.write_bytes(content[:cut])
        with pytest.raises(BundleError), opened(spoilt, None):
            pass
    spoilt.write_bytes(content + b"\0")
    with pytest.raises(BundleError, match="longer"), opened(spoilt, None):
        pass


def test_another_key_is_refused(elsewhere: Callable[..., Path], key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = elsewhere("--key", str(key))
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    other = key.with_name("other.pub")
    other.write_bytes(statement.pem(Ed25519PrivateKey.generate().public_key()))
    capsys.readouterr()
    assert cli.main(["verify", str(path), "--key", str(other)]) == 1
    assert "not signed by the key" in capsys.readouterr().err
    assert cli.main(["verify", str(path)]) == 0
    assert "--key PUB tells" in capsys.readouterr().out


def test_an_unsigned_bundle_says_so(
    elsewhere: Callable[..., Path], key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = elsewhere()
    assert "not signed" in capsys.readouterr().out
    assert cli.main(["verify", str(path)]) == 0
    assert "not signed: whoever had it in hand" in capsys.readouterr().out
    assert cli.main(["verify", str(path), "--key", str(key.with_suffix(".pub"))]) == 1


def test_a_forger_who_makes_everything_anew_is_met_by_the_key(
    elsewhere: Callable[..., Path], key: Path, tmp_path: Path
) -> None:
    """Contents, checksums and statement fit each other, but not the signature."""
    path = elsewhere("--key", str(key))
    parts = {name: archive.content(path, one) for name, one in read_members(path).items()}
    name = "project/reports/leaderboard.csv"
    parts[name] = parts[name].replace(b"gold", b"lead")
    signed = statement.read_envelope(path, parts[archive.STATEMENT])
    subjects = signed.subjects | {"reports/leaderboard.csv": hashlib.sha256(parts[name]).hexdigest()}
    envelope = json.loads(parts[archive.STATEMENT])
    payload = statement.statement(subjects, signed.predicate)
    envelope["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    parts[archive.STATEMENT] = json.dumps(envelope).encode()
    forged = {name: content for name, content in parts.items() if name not in (archive.FIRST, archive.CHECKSUMS)}
    archive.write_archive(tmp_path / "forged", "gold", forged)
    with pytest.raises(BundleError, match="not signed by the key"), opened(tmp_path / "forged", None):
        pass


def test_openssl_checks_the_signature_and_its_keys_sign(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if openssl("genpkey", "-algorithm", "ed25519", "-out", str(tmp_path / "own.pem")).returncode:
        pytest.skip("no openssl with Ed25519")
    openssl("pkey", "-in", str(tmp_path / "own.pem"), "-pubout", "-out", str(tmp_path / "own.pub"))
    path = tmp_path / "gold.bundle"
    assert cli.main(["bundle", "gold", "--key", str(tmp_path / "own.pem"), "-o", str(path)]) == 0
    with tarfile.open(path) as tar:  # any tar reads it
        member = tar.extractfile(archive.STATEMENT)
        assert member is not None
        envelope = json.load(member)
    assert envelope["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    kind, payload = envelope["dsseEnvelope"]["payloadType"], base64.b64decode(envelope["dsseEnvelope"]["payload"])
    # DSSE's pre-authentication encoding, as its specification writes it.
    encoded = b" ".join([b"DSSEv1", b"%d" % len(kind), kind.encode(), b"%d" % len(payload), payload])
    (tmp_path / "encoded").write_bytes(encoded)
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["dsseEnvelope"]["signatures"][0]["sig"]))
    check = [
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        str(tmp_path / "own.pub"),
        "-rawin",
        "-in",
        str(tmp_path / "encoded"),
    ]
    assert openssl(*check, "-sigfile", str(tmp_path / "sig")).returncode == 0
    told = json.loads(payload)
    assert told["_type"] == "https://in-toto.io/Statement/v1" and told["predicate"]["row"] == "gold"
    names = {one["name"]: one["digest"]["sha256"] for one in told["subject"]}
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    done = subprocess.run(["sha256sum", "--quiet", "-c", archive.CHECKSUMS], cwd=tmp_path / "out", check=False)
    assert done.returncode == 0 and "dvc.lock" in names


@pytest.mark.parametrize("content", ["", "nonsense", "rsa", "public", "passphrase"])
def test_other_keys_are_one_line(
    project: Path, key: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    form = (Encoding.PEM, PrivateFormat.PKCS8)
    text = content.encode()
    if content == "rsa":
        text = rsa.generate_private_key(65537, 2048).private_bytes(*form, NoEncryption())
    if content == "public":
        text = key.with_suffix(".pub").read_bytes()
    if content == "passphrase":
        text = ed25519.Ed25519PrivateKey.generate().private_bytes(*form, BestAvailableEncryption(b"hush"))
    path = tmp_path / "odd.pem"
    path.write_bytes(text)
    assert cli.main(["bundle", "gold", "--key", str(path), "-o", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "odd.pem" in error and not (tmp_path / "x").exists()


def test_a_project_that_contradicts_itself_is_not_bundled(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip("data/models/sft/model.safetensors")
    assert cli.main(["bundle", "gold", "-o", str(tmp_path / "x")]) == 2
    assert "model.safetensors" in capsys.readouterr().err and not (tmp_path / "x").exists()
    assert cli.main(["bundle", "gould", "-o", str(tmp_path / "x")]) == 2
    assert "did you mean `gold`?" in capsys.readouterr().err


BOMB = (
    "a: &a ["
    + "x, " * 9
    + "x]\n"
    + "".join(f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True))
)


@pytest.mark.parametrize(
    "name, content",
    [
        ("params.yaml", BOMB),
        ("params.yaml", "a: " + "[" * 100_000),
        ("params.yaml", "run: {seed: 3}"),
        ("params.yaml", "[]"),
        ("dvc.yaml", BOMB),
        ("dvc.yaml", "stages: {a: 1}"),
        ("dvc.yaml", "stages: {a: {cmd: 'rm -rf /', foreach: x}}"),
        ("dvc.lock", BOMB),
        ("dvc.lock", "stages: {mix: {cmd: b, deps: [{path: ../../x, md5: 1}]}}"),
        ("data/judging/judge/items.json", '["../../../../etc/passwd"]'),
        ("data/judging/judge/items.json", '["/etc"]'),
        ("data/judging/judge/items.json", "[" * 50_000),
        ("data/judging/judge/items.json", "5"),
        ("data/judging/leaderboard/leaderboard.json", '{"rows": [{"model": "gold", "win_rate": 1e400}]}'),
        ("data/judging/leaderboard/leaderboard.json", "[]"),
        ("data/judging/leaderboard/record.json", '{"stage": 1}'),
        ("data/judging/judge/gold/annotations.parquet", "PAR1 garbage PAR1"),
        ("data/judging/judge/gold/record.json", '{"stage": "\\u001b[2J", "item": null, "params": {}, "seed": null, '
         '"code": "", "inputs": {"/etc/passwd": "0"}, "outputs": {"../../x": "0"}, "rows": null, "notes": {}}'),
        ("data/check/code/judging.judge.json", "[]"),
        ("reports/leaderboard.csv", "\udcff\0,\n\"" * 9),
        ("reports/leaderboard.json", "{}"),
    ],
)  # fmt: skip
def test_hostile_contents_end_in_words(
    elsewhere: Callable[..., Path], tmp_path: Path, name: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle that is well made of contents that aren't."""
    path = elsewhere()
    parts = {member: archive.content(path, one) for member, one in read_members(path).items()}
    parts[f"project/{name}"] = content.encode("utf-8", "surrogateescape")
    signed = statement.read_envelope(path, parts[archive.STATEMENT])
    subjects = signed.subjects | {name: hashlib.sha256(parts[f"project/{name}"]).hexdigest()}
    predicate = signed.predicate
    if name == "data/judging/leaderboard/leaderboard.json" and content != "[]":
        predicate = predicate | {"numbers": json.loads(content)["rows"][0] | {"win_rate": 1e300}}
    parts[archive.STATEMENT] = statement.envelope(statement.statement(subjects, predicate), None)
    kept = {member: part for member, part in parts.items() if member not in (archive.FIRST, archive.CHECKSUMS)}
    archive.write_archive(tmp_path / "hostile", "gold", kept)
    capsys.readouterr()
    assert cli.main(["verify", str(tmp_path / "hostile")]) in (1, 2)
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == 1 and "\x1b" not in shown.out + shown.err and "root:" not in shown.out


def tar_of(members: list[tuple[tarfile.TarInfo, bytes]], path: Path, **options: object) -> Path:
    with tarfile.open(path, "w", **options) as tar:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return path


def first(version: object = 1) -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(archive.FIRST), json.dumps(
        {"format": "trainyard bundle", "version": version, "row": "a"}
    ).encode()


def info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    return found


@pytest.mark.parametrize(
    "member",
    [
        info("/etc/passwd"),
        info("project/../../escape"),
        info("project/./here"),
        info("project//double"),
        info("project/..\\windows"),
        info("project/link", tarfile.SYMTYPE, "/etc/passwd"),
        info("project/hard", tarfile.LNKTYPE, "bundle.json"),
        info("project/folder", tarfile.DIRTYPE),
        info("project/pipe", tarfile.FIFOTYPE),
        info("project/device", tarfile.CHRTYPE),
        info("project/\u202etxt"),
        info("project/" + "a" * 300),
    ],
)
def test_what_could_escape_is_refused(tmp_path: Path, member: tarfile.TarInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tar_of([first(), (member, b"x")], tmp_path / "bad", format=tarfile.GNU_FORMAT)
    with pytest.raises(BundleError), opened(path, None):
        pass
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bad"] and not (tmp_path.parent / "escape").exists()


@pytest.mark.parametrize("version", [2, 0, "1", True, None, "\x1b[31m" * 100])
def test_another_version_is_refused_by_its_number(
    tmp_path: Path, version: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tar_of([first(version)], tmp_path / "next.bundle", format=tarfile.USTAR_FORMAT)
    info_, content = first(version)
    if len(content) <= 512:
        raw = archive._header(info_.name, len(content)) + content + b"\0" * (-len(content) % 512)
        path.write_bytes(raw + b"\0" * (10240 - len(raw)))
    assert cli.main(["verify", str(path)]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "\x1b" not in error
    if version == 2:
        assert "version 2" in error and "reads version 1" in error


def test_compressed_and_other_archives_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for mode in ("w:gz", "w:xz"):
        path = tmp_path / f"bomb.{mode[2:]}"
        with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
            tar.addfile(*_large())
        assert cli.main(["verify", str(path)]) in (1, 2)
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert cli.main(["verify", str(tar_of([(info("a"), b"x")], tmp_path / "plain.tar"))]) == 1
    assert "not a bundle of Trainyard" in capsys.readouterr().err


def _large() -> tuple[tarfile.TarInfo, io.BytesIO]:
    found = tarfile.TarInfo("zeros")
    found.size = 1 << 20
    return found, io.BytesIO(b"\0" * (1 << 20))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_arbitrary_bytes_are_refused_in_one_way(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "any"
    archive.write_archive(path, "gold", {archive.STATEMENT: b"{}", "project/a": b"abc"})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, 4095))
        piece = data.draw(st.binary(min_size=1, max_size=24))
        content[place : place + len(piece)] = piece
    if bytes(content) == path.read_bytes():
        return
    path.write_bytes(content)
    with pytest.raises(BundleError), opened(path, None):
        pass
