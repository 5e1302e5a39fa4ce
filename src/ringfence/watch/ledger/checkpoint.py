"""Signed heads: what is signed, and the form in which a head leaves to be kept elsewhere.

Both are a checkpoint of C2SP (https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note), so
that tools for transparency logs can read them: three lines, origin, size and root, are signed.
"""

from __future__ import annotations

import base64
import binascii
import re
from hashlib import sha256

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ringfence.watch.ledger.record import Head

ORIGIN = "ringfence.ledger/"
_ED25519 = b"\x01"
"""The signature type of an Ed25519 key in a signed note."""
_NOTE = re.compile(
    rf"{re.escape(ORIGIN)}(?P<ledger>[0-9a-f]{{32}})\n(?P<size>0|[1-9][0-9]{{0,18}})\n"
    rf"(?P<root>[A-Za-z0-9+/]{{43}}=)\n\n"
    rf"— {re.escape(ORIGIN)}(?P=ledger) (?P<signature>[A-Za-z0-9+/=]{{92}})\n"
)


class Checkpoint(msgspec.Struct, frozen=True):
    """A head with the ledger that it is of; `root` and `signature` in hexadecimal."""

    ledger: str
    size: int
    root: str
    signature: str


class NotSigned(ValueError):
    """A head or checkpoint that the key did not sign, or that is none."""


def body(ledger: str, size: int, root: bytes) -> bytes:
    """The bytes that are signed."""
    return f"{ORIGIN}{ledger}\n{size}\n{base64.b64encode(root).decode()}\n".encode()


def sign(key: Ed25519PrivateKey, ledger: str, size: int, root: bytes, prev: str) -> Head:
    """A signed head."""
    return Head(size, root.hex(), prev, key.sign(body(ledger, size, root)).hex())


def check(key: Ed25519PublicKey, head: Checkpoint) -> None:
    """Raises NotSigned unless the key signed just this."""
    try:
        root, signature = bytes.fromhex(head.root), bytes.fromhex(head.signature)
        key.verify(signature, body(head.ledger, head.size, root))
    except (InvalidSignature, ValueError):
        raise NotSigned(f"signature of the head over {head.size} records wrong") from None
    if (root.hex(), signature.hex()) != (head.root, head.signature):
        raise NotSigned(f"head over {head.size} records altered: not written as it was signed")


def note(key: Ed25519PublicKey, head: Checkpoint) -> str:
    """The checkpoint as a signed note: text to keep elsewhere."""
    signed = key_id(key, head.ledger) + bytes.fromhex(head.signature)
    text = body(head.ledger, head.size, bytes.fromhex(head.root)).decode()
    return f"{text}\n— {ORIGIN}{head.ledger} {base64.b64encode(signed).decode()}\n"


def parse_note(key: Ed25519PublicKey, text: str) -> Checkpoint:
    """The checkpoint of a signed note, its signature checked. Raises NotSigned."""
    match = _NOTE.fullmatch(text)
    if match is None:
        raise NotSigned("not a checkpoint of a ledger")
    try:
        signed = base64.b64decode(match["signature"], validate=True)
    except binascii.Error:
        raise NotSigned("not a checkpoint of a ledger") from None
    if signed[:4] != key_id(key, match["ledger"]):
        raise NotSigned("a checkpoint that another key signed")
    root = base64.b64decode(match["root"])
    found = Checkpoint(match["ledger"], int(match["size"]), root.hex(), signed[4:].hex())
    check(key, found)
    return found


def key_id(key: Ed25519PublicKey, ledger: str) -> bytes:
    """The four bytes that stand before a signature in a note."""
    name = f"{ORIGIN}{ledger}".encode()
    return sha256(name + b"\n" + _ED25519 + key.public_bytes_raw()).digest()[:4]
