"""`ringfence watch log`: what it shows, its exit codes, and proofs that hold outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ringfence.cli import watch_log
from ringfence.watch.ledger.checkpoint import Checkpoint, sign
from ringfence.watch.ledger.checkpoint import note as checkpoint_note
from ringfence.watch.ledger.keys import private_key
from ringfence.watch.ledger.record import START
from ringfence.watch.ledger.verify import Verdict
from ringfence.watch.ledger.writer import Ledger
from tests.command import Outcome, ringfence
from tests.unit.watch import outside
from tests.unit.watch.ledgers import KEY, OTHER, Clock, small


def log(*words: object) -> Outcome:
    """The command alone, with main's treatment of errors."""
    with mock.patch("ringfence.cli.main.ringfence", watch_log.command):
        return ringfence(*words)


def write_keys(folder: Path, key: Ed25519PrivateKey, name: str) -> Path:
    public = folder / f"{name}.pub"
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.key").write_bytes(private)
    return public


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a ledger `log` of 20 records, and keys."""
    clock = Clock()
    small(tmp_path / "log", 20, clock=clock)
    with Ledger.open(tmp_path / "log", KEY, clock=clock, segment_bytes=3000) as ledger:
        clock.pass_(3600)
        ledger.append("denial", "nginx\n\x1b[31m", {"call": "mount", "pid": 7, "why": "a b"})
    write_keys(tmp_path, KEY, "own")
    write_keys(tmp_path, OTHER, "other")
    return tmp_path


def test_it_shows_records_by_kind_and_time(place: Path) -> None:
    everything = log(place / "log")
    assert everything.code == 0
    lines = everything.out.splitlines()
    assert len(lines) == 24
    assert lines[22].split()[:3] == ["22", "2027-01-15T09:00:00.021000Z", "denial"]
    assert lines[22].endswith('nginx??[31m  call=mount pid=7 why="a b"')
    denials = log(place / "log", "--kind", "denial", "--format", "json").out.splitlines()
    assert [json.loads(line)["subject"] for line in denials] == ["nginx\n\x1b[31m"]
    late = log(place / "log", "--since", "2027-01-15T08:30:00Z").out.splitlines()
    assert late == lines[21:]
    local = log(place / "log", "--since", "2027-01-15T10:30:00+02:00").out.splitlines()
    assert local == late
    assert log(place / "log", "--since", "2099-01-01").out == ""


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_a_time_copied_from_the_log_is_the_logs_own(
    place: Path, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        lines = log(place / "log").out.splitlines()
        copied = lines[21].split()[1].removesuffix("Z")
        assert log(place / "log", "--since", copied).out.splitlines() == lines[21:]
        assert log(place / "log", "--since", "2027-01-15T09:00:01").out.splitlines() == []
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_empty_time_is_refused(place: Path) -> None:
    for words in (("--since", ""), ("--since", "", "--verify")):
        done = log(place / "log", *words)
        assert (done.code, done.out) == (2, ""), done.err


def test_a_span_before_now(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, KEY) as ledger:
        ledger.append("run", "just now")
    assert "just now" in log(tmp_path, "--since", "1h").out
    assert log(tmp_path, "--since", "0s").out == ""


def test_verify_says_whole_or_where_it_breaks(place: Path) -> None:
    words = (place / "log", "--verify", "--public-key", place / "own.pub")
    good = log(*words)
    assert (good.code, good.out.split(":")[0]) == (0, "whole")
    verdict = json.loads(log(*words, "--format", "json").out)
    assert (verdict["broken"], verdict["size"], verdict["first"]) == (None, 24, 0)
    for segment in (place / "log").glob("segment-*"):
        segment.write_bytes(segment.read_bytes().replace(b"/etc/file-9", b"/etc/file-x"))
    bad = log(*words)
    assert bad.code == 1
    assert bad.out.startswith("BROKEN: record 10 altered")
    assert json.loads(log(*words, "--format", "json").out)["broken"].startswith("record 10")
    for option in ("--print-head", "--inclusion=1", "--consistency=1"):
        proof = log(place / "log", option, "--public-key", place / "own.pub")
        assert (proof.code, proof.out) == (1, "")
        assert "record 10 altered" in proof.err


def test_what_a_ledger_says_does_not_write_on_the_terminal(place: Path) -> None:
    """A verification's texts are as long, as many and as hostile as its ledger has them."""
    evil = "\x1b[2J\n\x9b\u202e" + "x" * 9999
    notes = tuple(f"{number}{evil}" for number in range(1000))
    words = (place / "log", "--public-key", place / "own.pub")
    for broken in (None, evil):
        verdict = Verdict("id" + evil, 0, 1, evil, 1, broken, notes, None)
        with mock.patch("ringfence.watch.ledger.verify.verify", return_value=verdict):
            shown = log(*words, "--verify").out
            found = log(*words, "--verify", "--format", "json").out
            refused = log(*words, "--print-head")
        assert "\x1b" not in shown
        assert "\x9b" not in shown + found
        assert "\u202e" not in shown + found
        assert json.loads(found)["notes"] == list(notes)
        lines = shown.splitlines()
        assert len(lines) == (24 if broken is None else 23)
        assert all(len(line) < 330 for line in lines)
        assert lines[-1] == "  and 980 more notes: --format json has all"
        assert "\x1b" not in refused.err
        assert (refused.code, len(refused.err.splitlines())) == (1, 1)


def test_another_key_does_not_verify(place: Path) -> None:
    answer = log(place / "log", "--verify", "--public-key", place / "other.pub")
    assert answer.code == 1
    assert "another key" in answer.out


def test_a_head_kept_elsewhere_shows_what_was_cut(place: Path) -> None:
    key = ("--public-key", place / "own.pub")
    kept = place / "kept.head"
    kept.write_text(log(place / "log", "--print-head", *key).out)
    assert log(place / "log", "--verify", *key, "--head", kept).code == 0
    newest = sorted((place / "log").glob("segment-*"))[-1]
    lines = newest.read_bytes().splitlines(keepends=True)
    newest.write_bytes(b"".join(lines[:-2]))
    assert log(place / "log", "--verify", *key).code == 0
    answer = log(place / "log", "--verify", *key, "--head", kept)
    assert answer.code == 1
    assert "truncated at record 23: the head kept elsewhere is over 24 records" in answer.out


def test_head_files_that_are_none(place: Path) -> None:
    key = ("--public-key", place / "own.pub")
    note = log(place / "log", "--print-head", *key).out
    altered = note.replace("\n24\n", "\n23\n")
    assert altered != note
    for text in ("", "x" * 70_000, altered, note + note, note.replace("ledger/", "ledger/f", 2)):
        (place / "bad.head").write_text(text)
        answer = log(place / "log", "--verify", *key, "--head", place / "bad.head")
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith("ringfence: ")


def outsider(place: Path, proof: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The verifier of the docs, as a program of its own."""
    (place / "verify_proof.py").write_text(outside.source())
    (place / "proof.json").write_text(proof)
    key = KEY.public_key().public_bytes_raw().hex()
    return subprocess.run(
        [sys.executable, "-I", *options, str(place / "verify_proof.py"),
         str(place / "proof.json"), key],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip


def test_proofs_hold_outside_and_altered_ones_do_not(place: Path) -> None:
    key = ("--public-key", place / "own.pub")
    inclusion = log(place / "log", "--inclusion", 22, *key)
    consistency = log(place / "log", "--consistency", 13, *key)
    assert (inclusion.code, consistency.code) == (0, 0)
    assert json.loads(json.loads(inclusion.out)["record"])["subject"] == "nginx\n\x1b[31m"
    for proof, old, new in (
        (inclusion.out, "mount", "chmod"),
        (inclusion.out, '"size": 24', '"size": 23'),
        (consistency.out, '"old_size": 13', '"old_size": 12'),
    ):
        assert outsider(place, proof).stdout == "the proof holds\n"
        assert old in proof
        assert outsider(place, proof.replace(old, new)).returncode != 0


def test_the_outside_verifier_refuses_false_proofs_also_without_asserts(place: Path) -> None:
    key = ("--public-key", place / "own.pub")
    inclusion = json.loads(log(place / "log", "--inclusion", 22, *key).out)
    consistency = json.loads(log(place / "log", "--consistency", 13, *key).out)
    another = inclusion["record"].replace("mount", "chmod")
    longer = [inclusion["path"][0] + "00", *inclusion["path"][1:]]
    for proof, words in (
        (inclusion | {"record": another}, "not below this root"),
        (inclusion | {"index": 21}, "another index"),
        (inclusion | {"index": 24}, "no such record"),
        (inclusion | {"index": -1}, "no such record"),
        (inclusion | {"size": 25}, "another size"),
        (inclusion | {"root": "00" * 32}, "another size or root"),
        (inclusion | {"path": longer}, "32 bytes"),
        (inclusion | {"path": inclusion["path"] * 20}, "too long"),
        (inclusion | {"proof": "fame"}, "of what"),
        (consistency | {"old_size": 0}, "no such old size"),
        (consistency | {"old_size": -1}, "no such old size"),
        (consistency | {"old_size": 25}, "no such old size"),
        (consistency | {"old_size": 13.0}, "no such size"),
        (consistency | {"old_root": "00" * 32}, "does not go on"),
        (consistency | {"path": []}, "does not go on"),
    ):
        done = outsider(place, json.dumps(proof), "-O")
        assert (done.returncode, done.stdout) == (1, ""), proof
        assert done.stderr.startswith("the proof does not hold: "), done.stderr
        assert words in done.stderr
    for proof in (inclusion, consistency):
        assert outsider(place, json.dumps(proof), "-O").stdout == "the proof holds\n"


def test_an_old_root_is_that_of_the_head_of_then(tmp_path: Path) -> None:
    """What an outsider kept is what the consistency proof starts from."""
    public = write_keys(tmp_path, KEY, "own")
    before = small(tmp_path / "log", 9)
    small(tmp_path / "log", 14)
    answer = log(tmp_path / "log", "--consistency", before.size, "--public-key", public)
    assert json.loads(answer.out)["old_root"] == before.root


def test_proofs_of_what_is_not_there(place: Path) -> None:
    key = ("--public-key", place / "own.pub")
    for words in (
        ("--inclusion", 24),
        ("--inclusion", -1),
        ("--consistency", 0),
        ("--consistency", 25),
    ):
        answer = log(place / "log", *words, *key)
        assert (answer.code, answer.out) == (2, ""), words
    (place / "log" / "segment-00000000.ledger").unlink()
    answer = log(place / "log", "--inclusion", 20, "--archived", *key)
    assert answer.code == 2
    assert "every segment from 0" in answer.err


@pytest.mark.parametrize(
    "words", [("--verify",), ("--head", "x"), ("--since", "soon"), ("--since", "9" * 30 + "d"),
              ("--kind", "gossip"), ("--verify", "--public-key", "none"), ("--to", "fax")],
)  # fmt: skip
def test_wrong_words(place: Path, words: tuple[str, ...]) -> None:
    answer = log(place / "log", *words)
    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1


def test_options_that_would_be_passed_over_are_refused(place: Path) -> None:
    key = ("--public-key", place / "own.pub")
    modes = (("--verify",), ("--print-head",), ("--inclusion", 0), ("--consistency", 1))
    others = (("--since", "1h"), ("--kind", "run"), ("--follow",), ("--to", "journald"))
    for mode in modes:
        assert log(place / "log", *mode, *key).code == 0
        for other in (*others, *(found for found in modes if found != mode)):
            answer = log(place / "log", *mode, *other, *key)
            assert (answer.code, answer.out) == (2, ""), (mode, other)
            assert len(answer.err.splitlines()) == 1
            assert str(mode[0]) in answer.err
            assert str(other[0]) in answer.err


def test_a_form_is_refused_where_there_is_but_one(place: Path) -> None:
    key = ("--public-key", place / "own.pub")
    for mode in (("--print-head", *key), ("--inclusion", 0, *key), ("--to", "journald")):
        answer = log(place / "log", *mode, "--format", "json")
        assert (answer.code, answer.out) == (2, "")
        assert f"{mode[0]} has one form" in answer.err
    assert log(place / "log", "--verify", *key, "--format", "json").out.startswith("{")
    assert log(place / "log", "--format", "json").out.startswith("{")


def test_a_record_that_a_sink_cannot_hold_is_one_line(place: Path) -> None:
    """Deeper than OTLP's form of it can be written."""
    newest = sorted((place / "log").glob("segment-*"))[-1]
    deep = b'"why":' + b"[" * 450 + b"]" * 450
    data = newest.read_bytes()
    assert b'"why":"a b"' in data
    newest.write_bytes(data.replace(b'"why":"a b"', deep))
    answer = log(place / "log", "--to", "otlp:http://127.0.0.1:1/", "--kind", "denial")
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 1
    assert "record 22 not sent: " in answer.err


def test_no_ledger(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        answer = log(path)
        assert (answer.code, answer.out) == (2, "")


def test_keys_of_openssl_are_taken(tmp_path: Path) -> None:
    """OpenSSL's own program makes what the docs say."""
    key, public = tmp_path / "key", tmp_path / "pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True)
    subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(public)], check=True)
    with Ledger.open(tmp_path / "log", private_key(key)) as ledger:
        ledger.append("run", "x")
    assert log(tmp_path / "log", "--verify", "--public-key", public).code == 0
    assert log(tmp_path / "log", "--verify", "--public-key", key).code == 2


def test_two_heads_of_one_size_with_different_roots(place: Path) -> None:
    """A writer that shows two histories: neither head may hide the other."""
    key = ("--public-key", place / "own.pub")
    note = log(place / "log", "--print-head", *key).out
    ledger = note.splitlines()[0].removeprefix("ringfence.ledger/")
    forged = sign(KEY, ledger, 24, bytes(32), START)
    other = checkpoint_note(KEY.public_key(), Checkpoint(ledger, 24, forged.root, forged.signature))
    (place / "one").write_text(note)
    (place / "two").write_text(other)
    for order in (("one", "two"), ("two", "one")):
        words = [word for name in order for word in ("--head", place / name)]
        answer = log(place / "log", "--verify", *key, *words)
        assert answer.code == 1
        assert "has another root" in answer.out


def test_follow_shows_what_is_added(place: Path) -> None:
    command = "from ringfence.cli.watch_log import command; command()"
    with subprocess.Popen(
        [sys.executable, "-c", command, str(place / "log"), "--follow", "--kind", "run"],
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            with Ledger.open(place / "log", KEY, segment_bytes=3000) as ledger:
                for number in range(12):
                    ledger.append("run", f"workload-{number}")
            shown = [process.stdout.readline().split()[3] for _ in range(12)]
        finally:
            process.terminate()
    assert shown == [f"workload-{number}" for number in range(12)]


@pytest.mark.parametrize("more", [(), ("--follow",)])
def test_a_reader_that_has_gone_ends_it_in_peace(more: tuple[str, ...], place: Path) -> None:
    """Also where it would go on for ever."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "ringfence", "watch", "log", str(place / "log"), *more]
    try:
        done = subprocess.run(
            command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=30
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_standard_output_is_one_line(place: Path) -> None:
    for more in ((), ("--verify", "--public-key", str(place / "own.pub"))):
        command = [sys.executable, "-m", "ringfence", "watch", "log", str(place / "log"), *more]
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                command, stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "standard output: cannot be written" in done.stderr
