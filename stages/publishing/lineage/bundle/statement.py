"""What a bundle says and who says so: an in-toto Statement v1 in a DSSE envelope, signed with Ed25519.

The envelope stands in a Sigstore bundle (media type v0.3) with a public key's hint and no transparency log, the form of
`cosign attest-blob --key`. Sources: in-toto Attestation Framework v1 (Statement), DSSE v1.0.2 (the pre-authentication
encoding that is signed), Sigstore's `sigstore_bundle.proto`, RFC 8032 (Ed25519).
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.base.errors import InputError
from stages.publishing.lineage.bundle.archive import BundleError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:x-trainyard:leaderboard-row:v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


@dataclass(frozen=True)
class Signed:
    """A statement that was read, and how it is signed."""

    subjects: dict[str, str]
    """Path in the project → sha256."""
    predicate: dict[str, Any]
    payload: bytes
    signatures: list[bytes]


def statement(subjects: Mapping[str, str], predicate: Mapping[str, Any]) -> bytes:
    """The payload: the same facts are the same bytes."""
    value = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(subjects.items())],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def envelope(payload: bytes, key: "Ed25519PrivateKey | None") -> bytes:
    """The Sigstore bundle; without a key, one with no signature."""
    signatures = [] if key is None else [{"sig": _text(key.sign(signed_bytes(payload)))}]
    material = {} if key is None else {"publicKey": {"hint": fingerprint(key.public_key())}}
    value = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": material,
        "dsseEnvelope": {"payload": _text(payload), "payloadType": PAYLOAD_TYPE, "signatures": signatures},
    }
    return json.dumps(value, sort_keys=True, indent=2).encode() + b"\n"


def signed_bytes(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: lengths before texts, so that nothing can be moved between them."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def read_envelope(path: Path, text: bytes) -> Signed:
    """Raises BundleError for what isn't a statement of this kind."""
    try:
        value = json.loads(text)
        inner = value["dsseEnvelope"]
        payload = base64.b64decode(inner["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in inner["signatures"]]
        told = json.loads(payload)
        subjects = {str(one["name"]): str(one["digest"]["sha256"]) for one in told["subject"]}
        kinds = (value["mediaType"], inner["payloadType"], told["_type"], told["predicateType"])
        predicate = told["predicate"]
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        raise BundleError(f"{path}: its statement isn't readable; get the bundle again") from None
    expected = (MEDIA_TYPE, PAYLOAD_TYPE, STATEMENT_TYPE, PREDICATE_TYPE)
    if kinds != expected or not isinstance(predicate, dict):
        odd = next((str(kind) for kind, right in zip(kinds, expected, strict=True) if kind != right), "no predicate")
        raise BundleError(f"{path}: its statement is of another kind ({odd[:80]}); use the Trainyard that wrote it")
    return Signed(subjects, predicate, payload, signatures)


def check_signature(path: Path, signed: Signed, key: "Ed25519PublicKey") -> None:
    """Raises BundleError unless one of the signatures is this key's over the statement."""
    from cryptography.exceptions import InvalidSignature

    for signature in signed.signatures:
        try:
            return key.verify(signature, signed_bytes(signed.payload))
        except InvalidSignature:
            continue
    raise BundleError(
        f"{path}: not signed by the key {fingerprint(key)[:16]}…; it was changed, or another key signed it"
    )


def private_key(path: Path) -> "Ed25519PrivateKey":
    """Of a PEM file. Raises InputError for any other key; nothing of the file is ever printed."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    remedy = "`openssl genpkey -algorithm ed25519 -out key.pem` makes one"
    try:
        key = load_pem_private_key(_pem(path), password=None)
    except TypeError:
        raise InputError(
            f"{path}: the key has a passphrase; `openssl pkey -in {path} -out plain.pem` takes it off"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"{path}: not a private key in PEM; {remedy}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path}: not an Ed25519 key; {remedy}")
    return key


def public_key(content: bytes, path: Path) -> "Ed25519PublicKey":
    """Of a PEM text. Raises InputError naming `path` for any other key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path}: not an Ed25519 public key in PEM; `openssl pkey -in key.pem -pubout` prints one")
    return key


def read_public_key(path: Path) -> "Ed25519PublicKey":
    return public_key(_pem(path), path)


def pem(key: "Ed25519PublicKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def fingerprint(key: "Ed25519PublicKey") -> str:
    """Base64 of the sha256 of the key's DER form, as Sigstore names keys."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return _text(hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest())


def _pem(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(1 << 16)
    except OSError as error:
        raise InputError(f"{path}: can't be read as a key: {error.strerror}") from None


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
