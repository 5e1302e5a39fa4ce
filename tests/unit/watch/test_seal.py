"""Keys and signatures, with OpenSSL as the oracle."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ringfence.errors import InputError, UsageError
from ringfence.watch.baseline import seal

DIGEST = bytes(range(32))
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")


@needs_openssl
def test_openssl_accepts_our_signature_and_we_its_key(tmp_path: Path) -> None:
    key, public = tmp_path / "key.pem", tmp_path / "pub.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True)
    subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(public)], check=True)
    signer = seal.signer(str(key), None)
    assert signer.public == seal.read_public(public)
    (tmp_path / "text").write_bytes(seal.message(DIGEST, signer.public))
    (tmp_path / "signature").write_bytes(signer.seal(DIGEST))
    subprocess.run(
        ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(public),
         "-in", str(tmp_path / "text"), "-sigfile", str(tmp_path / "signature")],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


@needs_openssl
@pytest.mark.parametrize("encoder", ["cat", "base64", "xxd"])
def test_a_command_signs_without_the_key_being_here(tmp_path: Path, encoder: str) -> None:
    if shutil.which(encoder) is None:
        pytest.skip(f"no {encoder}")
    seal.generate(tmp_path / "key")
    script = tmp_path / "sign.sh"
    script.write_text(
        f"cat > {tmp_path}/in; openssl pkeyutl -sign -rawin -inkey {tmp_path}/key -in {tmp_path}/in"
        f" | {encoder if encoder != 'xxd' else 'xxd -p'}\n"
    )
    signer = seal.signer(f"command:sh {script}", tmp_path / "key.pub")
    assert seal.verified(DIGEST, signer.public, signer.seal(DIGEST))


def test_a_command_that_signs_with_another_key_is_refused(tmp_path: Path) -> None:
    seal.generate(tmp_path / "one")
    seal.generate(tmp_path / "two")
    code = (
        "import sys; from ringfence.watch.baseline import seal;"
        f"s = seal.signer({str(tmp_path / 'two')!r}, None);"
        "sys.stdout.buffer.write(s.load()[1](sys.stdin.buffer.read()))"
    )
    script = tmp_path / "sign.py"
    script.write_text(code)
    command = f"command:{sys.executable} {script}"
    with pytest.raises(InputError, match="not one of the public key"):
        seal.signer(command, tmp_path / "one.pub").seal(DIGEST)
    assert seal.signer(command, tmp_path / "two.pub").seal(DIGEST)


@pytest.mark.parametrize(
    "command",
    ["false", "true", "/nowhere/at-all", "echo short", f"echo {base64.b64encode(b'x')!r}"],
)
def test_a_command_that_gives_no_signature_is_refused(tmp_path: Path, command: str) -> None:
    seal.generate(tmp_path / "key")
    with pytest.raises(InputError):
        seal.signer(f"command:{command}", tmp_path / "key.pub").seal(DIGEST)


def test_a_command_needs_its_public_key() -> None:
    with pytest.raises(UsageError):
        seal.signer("command:true", None)


def test_keys_of_openssh_are_keys(tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen")
    key = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    signer = seal.signer(str(key), None)
    assert signer.public == seal.read_public(tmp_path / "id.pub")


@pytest.mark.parametrize("content", ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nAA==\n"])
def test_what_is_no_key_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(InputError):
        seal.signer(str(path), None)
    with pytest.raises(InputError):
        seal.read_public(path)


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    seal.generate(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(InputError):
        seal.generate(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


def test_half_a_pair_is_never_left(tmp_path: Path) -> None:
    """A private key without its public one could seal nothing that anybody checks."""
    (tmp_path / "key.pub").write_text("of somebody else")
    with pytest.raises(InputError, match="cannot be written"):
        seal.generate(tmp_path / "key")
    assert [path.name for path in tmp_path.iterdir()] == ["key.pub"]
    assert (tmp_path / "key.pub").read_text() == "of somebody else"


def test_a_pair_is_kept_for_what_was_sealed_with_it_alone(tmp_path: Path) -> None:
    with seal.generated(tmp_path / "kept"):
        pass
    with pytest.raises(InputError), seal.generated(tmp_path / "removed"):
        raise InputError("holds no files")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "kept.pub"]
