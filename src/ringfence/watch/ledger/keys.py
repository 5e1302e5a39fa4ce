"""Ed25519 keys from PEM files, as `openssl genpkey -algorithm ed25519` writes them."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from ringfence.errors import InputError
from ringfence.untrusted import regular_file

MOST_BYTES = 1 << 16
MAKE = "make one with `openssl genpkey -algorithm ed25519 -out FILE`"
EXTRACT = "take it with `openssl pkey -in KEY -pubout -out FILE`"


def private_key(path: Path) -> Ed25519PrivateKey:
    """The private key of a PEM file (PKCS #8, without a password). Raises InputError."""
    try:
        key = load_pem_private_key(small_file(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError("no private key in PEM", where=str(path), remedy=MAKE) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError("not an Ed25519 key", where=str(path), remedy=MAKE)
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """The public key of a PEM file. Raises InputError."""
    try:
        key = load_pem_public_key(small_file(path))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError("no public key in PEM", where=str(path), remedy=EXTRACT) from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError("not an Ed25519 key", where=str(path), remedy=EXTRACT)
    return key


def small_file(path: Path) -> bytes:
    """The bytes of a small regular file; a FIFO or device is refused. Raises InputError."""
    return regular_file(path, MOST_BYTES)
