"""The seal of a baseline: an Ed25519 signature (RFC 8032) over a digest of all its bytes.

The private key need not be on this machine: `command:CMD` starts CMD with the text to be signed
on its standard input and takes the signature (64 bytes, or hexadecimal, or base64) from its
standard output. The text names what it seals, so that a key used for other things cannot be
led to sign a baseline unawares.
"""

from __future__ import annotations

import binascii
import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ringfence.errors import InputError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# The library takes as long to load as a small tree to look at: whoever needs it loads it.

COMMAND = "command:"
PATIENCE = 300.0
"""Seconds for a command that signs: a person may have to touch a token."""
MOST_KEY = 1 << 16
_PRIVATE = bytes.fromhex("302e020100300506032b657004220420")
_PUBLIC = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of a key (RFC 8410); other encodings are left to the library."""


def message(digest: bytes, public: bytes) -> bytes:
    """What is signed: three lines of text."""
    return b"ringfence baseline 1\nsha256 %s\nkey %s\n" % (
        digest.hex().encode(), public.hex().encode(),
    )  # fmt: skip


class Signer:
    """Signs with one key, which `find` gives: the public key (32 bytes), and what signs with it."""

    def __init__(self, find: Callable[[], tuple[bytes, Callable[[bytes], bytes]]]) -> None:
        self._find = find
        self.sealed = b""
        """The digest that was signed last."""
        self._found: tuple[bytes, Callable[[bytes], bytes]] | None = None

    def load(self) -> tuple[bytes, Callable[[bytes], bytes]]:
        """What `find` gives, once."""
        if self._found is None:
            self._found = self._find()
        return self._found

    @property
    def public(self) -> bytes:
        """The public key."""
        return self.load()[0]

    def seal(self, digest: bytes) -> bytes:
        """The signature over `digest`, checked. Raises InputError when it is not this key's."""
        public, sign = self.load()
        signature = sign(message(digest, public))
        if not verified(digest, public, signature):
            raise InputError(
                "the signature is not one of the public key", where="--key",
                remedy="give the public key that belongs to it with --public-key",
            )  # fmt: skip
        self.sealed = digest
        return signature


def verified(digest: bytes, public: bytes, signature: bytes) -> bool:
    """Whether `signature` is that of the key `public` over `digest`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message(digest, public))
    except (InvalidSignature, ValueError):
        return False
    return True


def signer(key: str, public: Path | None) -> Signer:
    """What `--key` names: a file, or a command that signs. Raises InputError, and UsageError for
    a file that is not the private key of `public`."""
    if not key.startswith(COMMAND):
        found = _with_private(Path(key))
        if public is not None and found.public != read_public(public):
            raise UsageError("--key does not belong to --public-key", where=str(public))
        return found
    import shlex

    words = shlex.split(key.removeprefix(COMMAND))
    if not words or public is None:
        raise UsageError(
            "a command that signs needs its public key", remedy="give it with --public-key FILE"
        )
    known = read_public(public)
    return Signer(lambda: (known, lambda text: _ask(words, text)))


def _ask(words: list[str], text: bytes) -> bytes:
    import subprocess

    try:
        done = subprocess.run(words, input=text, stdout=subprocess.PIPE, timeout=PATIENCE,
                              check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        why = error.strerror if isinstance(error, OSError) else "no answer in 300 s"
        raise InputError(f"cannot sign: {why}", where=words[0]) from None
    if done.returncode != 0:
        raise InputError(f"cannot sign: it ended with {done.returncode}", where=words[0])
    return _signature(done.stdout, words[0])


def _signature(output: bytes, where: str) -> bytes:
    """64 bytes: as they are, in hexadecimal, or in base64."""
    if len(output) == 64:
        return output
    text = b"".join(output.split())
    with contextlib.suppress(binascii.Error):
        found = (
            binascii.unhexlify(text)
            if len(text) == 128
            else binascii.a2b_base64(text, strict_mode=True)
        )
        if len(found) == 64:
            return found
    raise InputError("printed no Ed25519 signature of 64 bytes", where=where)


def _with_private(path: Path) -> Signer:
    data = _read(path)
    seed = _bare(data, b"PRIVATE KEY", _PRIVATE)
    if not seed:
        private = _private(path, data)
        return Signer(lambda: _pair(private))

    def find() -> tuple[bytes, Callable[[bytes], bytes]]:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return _pair(Ed25519PrivateKey.from_private_bytes(seed))

    return Signer(find)


def _pair(private: Ed25519PrivateKey) -> tuple[bytes, Callable[[bytes], bytes]]:
    return private.public_key().public_bytes_raw(), private.sign


def _private(path: Path, data: bytes) -> Ed25519PrivateKey:
    """A key in an encoding that the library knows."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    load = serialization.load_pem_private_key
    if b"BEGIN OPENSSH PRIVATE KEY" in data:
        load = serialization.load_ssh_private_key
    try:
        found = load(data, None)
    except TypeError:
        raise InputError("is encrypted", where=str(path),
                         remedy="decrypt it, or sign with --key command:CMD") from None  # fmt: skip
    except (ValueError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, Ed25519PrivateKey):
        raise InputError("is no Ed25519 private key", where=str(path),
                         remedy="openssl genpkey -algorithm ed25519 makes one")  # fmt: skip
    return found


def read_public(path: Path) -> bytes:
    """The 32 bytes of a public key file: PEM, or OpenSSH's one line. Raises InputError."""
    data = _read(path)
    if bare := _bare(data, b"PUBLIC KEY", _PUBLIC):
        return bare
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    load = serialization.load_pem_public_key
    if data.startswith(b"ssh-"):
        load = serialization.load_ssh_public_key
    try:
        found = load(data)
    except (ValueError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, Ed25519PublicKey):
        raise InputError("is no Ed25519 public key", where=str(path),
                         remedy="openssl pkey -pubout prints it")  # fmt: skip
    return found.public_bytes_raw()


def _bare(data: bytes, kind: bytes, before: bytes) -> bytes:
    """The key of a PEM file in its usual encoding, b'' for anything else.

    Done here because the library's readers take longer to load than a small check takes.
    """
    match = re.fullmatch(
        rb"-----BEGIN %b-----\s(.*?)-----END %b-----\s*" % (kind, kind), data, re.S
    )
    with contextlib.suppress(binascii.Error):
        plain = binascii.a2b_base64(b"".join(match[1].split()), strict_mode=True) if match else b""
        if len(plain) == len(before) + 32 and plain.startswith(before):
            return plain[len(before) :]
    return b""


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MOST_KEY)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from None


def generate(path: Path) -> Signer:
    """A new key pair: `path` (for its owner alone) and `path`.pub. Never writes over a file."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    secret = private.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    with contextlib.ExitStack() as written:
        for place, data, mode in ((path, secret, 0o600), (Path(f"{path}.pub"), public, 0o644)):
            _write_new(place, data, mode, written)
        written.pop_all()
    return Signer(lambda: _pair(private))


@contextlib.contextmanager
def generated(path: Path) -> Iterator[Signer]:
    """A new key pair, as `generate` makes it, which is removed again where the work inside fails:
    nothing is sealed with it then."""
    found = generate(path)
    try:
        yield found
    except BaseException:
        for place in (path, Path(f"{path}.pub")):
            place.unlink(missing_ok=True)
        raise


def _write_new(place: Path, data: bytes, mode: int, written: contextlib.ExitStack) -> None:
    try:
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        written.callback(place.unlink, missing_ok=True)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=str(place)) from None
