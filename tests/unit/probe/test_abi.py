"""What filters refuse in one ABI and let through in another, or leave to another process, is not
closed: only what was tried is."""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from ringfence.collect.seccomp.tables import AUDIT_ARCH, X32_BIT, native, native_calls
from ringfence.knowledge.loader import load
from ringfence.probe.abi import ABIS, I386, X32, Abi, Form, forms, possible
from ringfence.probe.attempts import Result, attempted
from ringfence.probe.battery import PROBES
from ringfence.probe.definition import Seen
from ringfence.probe.driven import Driven, Killed, Tampered
from ringfence.probe.join import joined
from ringfence.probe.table import kernel_table, offered_abis
from ringfence.probe.view import View
from ringfence.probe.words import explain_probe
from ringfence.run.tracee import InjectionFailed
from tests import seccomp
from tests.seccomp import ALLOW, JUMP_EQUAL, LOAD_NUMBER, RETURN, Instruction

BY_ID = {probe.id: probe for probe in PROBES}
USER_NOTIF = 0x7FC00000
LOAD_ARGUMENT = 16
"""Offset of the low word of the first one in struct seccomp_data."""
KEYS = ("kernel.add-key", "call.add_key")
x86_64 = pytest.mark.skipif(native() != "x86_64", reason="the ABIs of x86-64")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="joins a process under a filter")


@contextlib.contextmanager
def zygote(*programs: list[Instruction]) -> Iterator[Driven]:
    """A process in the place of a child of ours under these filters."""

    def prepare() -> None:
        for program in programs:
            seccomp.install(program)

    with seccomp.child(prepare) as pid, joined(pid) as (found, _):
        yield found


def tried(
    *programs: list[Instruction],
    ids: tuple[str, ...] = KEYS,
    abis: tuple[Abi, ...] = (),
    owns: bool = False,
) -> list[Result]:
    """What came of probes under these filters."""
    encoded = tuple(seccomp.encoded(program) for program in programs)
    view = mock.Mock(spec=View, programs=encoded, owns=owns)
    with zygote(*programs) as found:
        results = attempted(found, view, [BY_ID[name] for name in ids], encoded, abis)
    return [results[name] for name in ids]


def seen(results: list[Result]) -> list[Seen]:
    return [result.outcome.seen for result in results]


def about(name: str, action: int) -> list[Instruction]:
    """A filter that answers one native call so, refuses other ABIs, and lets the rest through."""
    return [
        (LOAD_NUMBER, 0, 0, 4),
        (JUMP_EQUAL, 0, 3, AUDIT_ARCH[native()]),
        (LOAD_NUMBER, 0, 0, 0),
        (JUMP_EQUAL, 2, 0, native_calls()[name]),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, seccomp.ERRNO | 1),
        (RETURN, 0, 0, action),
    ]


# --- another ABI ---------------------------------------------------------------------------------


@x86_64
def test_each_form_of_a_call() -> None:
    assert forms(I386, "keyctl", (0, -2)) == (Form(288, (0, 0xFFFFFFFE)),)
    assert [form.number for form in forms(I386, "setuid")] == [23, 213], "and setuid32"
    assert [form.number for form in forms(I386, "mmap")] == [90, 192], "and mmap2"
    direct, carried = forms(I386, "socket", (40, 1, 0))
    assert direct == Form(359, (40, 1, 0))
    assert (carried.number, carried.values[0], carried.carried) == (102, 1, True)
    assert forms(X32, "keyctl") == (Form(250 | X32_BIT, ()),)
    assert forms(X32, "ioctl") == (Form(514 | X32_BIT, ()),), "one of its own"
    assert not forms(X32, "socketcall") and not forms(I386, "no_such_call")


@x86_64
def test_arguments_count_in_another_abi_too() -> None:
    """But those of a carried call lie in memory, where no filter looks."""
    only_zero: list[Instruction] = [
        (LOAD_NUMBER, 0, 0, LOAD_ARGUMENT),
        (JUMP_EQUAL, 0, 1, 0),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, seccomp.ERRNO | 1),
    ]
    programs = (seccomp.encoded(only_zero),)
    assert list(possible(programs, I386, "keyctl", ((0, 5),))) == [{"errno"}]
    assert list(possible(programs, I386, "keyctl", ((0, 0),))) == [{"allow"}]
    assert list(possible(programs, I386, "keyctl", ())) == [{"allow", "errno"}]
    # socketcall(1, ...) is refused by this filter, whatever the family of the socket.
    assert list(possible(programs, I386, "socket", ((0, 0),))) == [{"allow"}, {"errno"}]


@x86_64
@as_root
@pytest.mark.parametrize("abi", [I386, X32], ids=lambda abi: abi.name)
def test_a_filter_of_numbers_alone_closes_nothing_where_another_abi_is_offered(abi: Abi) -> None:
    number = native_calls()["add_key"]
    by_number = seccomp.refusing(number)
    attempt, call = tried(by_number, abis=(abi,))
    assert seen([attempt, call]) == [Seen.UNSUPPORTED, Seen.OPEN]
    assert "not known: " in attempt.outcome.detail and abi.name in attempt.outcome.detail
    assert not attempt.layer
    assert call.outcome.detail.startswith(f"as {abi.name}; ")

    assert seen(tried(by_number)) == [Seen.CLOSED, Seen.CLOSED], "the kernel has no other ABI"
    both = [*by_number[:1], (JUMP_EQUAL, 1, 0, number | X32_BIT), *by_number[1:]]
    there = seccomp.refusing(286) if abi is I386 else both
    assert seen(tried(by_number, there, abis=(abi,))) == [Seen.CLOSED, Seen.CLOSED]


@x86_64
@as_root
def test_a_filter_that_looks_at_the_architecture_closes() -> None:
    checked = seccomp.native_refusing(native_calls()["add_key"])
    attempt, call = tried(checked, abis=(I386,))
    assert seen([attempt, call]) == [Seen.CLOSED, Seen.CLOSED]
    assert attempt.layer == "seccomp (errno 1, operation not permitted)"


@x86_64
@as_root
def test_a_filter_that_kills_by_number_does_not_close_either() -> None:
    """The end of the child is the answer then, and says as little of the other ABI."""
    killing = [*seccomp.refusing(native_calls()["add_key"])]
    killing[2] = (RETURN, 0, 0, 0x80000000)
    assert seen(tried(killing, abis=(I386,))) == [Seen.UNSUPPORTED, Seen.OPEN]
    assert seen(tried(killing)) == [Seen.CLOSED, Seen.CLOSED]


# --- what the kernel offers ----------------------------------------------------------------------


@x86_64
def test_what_the_kernel_offers_is_tried() -> None:
    with contextlib.suppress(OSError):
        config = gzip.decompress(Path("/proc/config.gz").read_bytes()).decode()
        with zygote() as found:
            offered = offered_abis(found)
        if "\nCONFIG_IA32_EMULATION=y" not in config:
            assert I386 not in offered
        if "\nCONFIG_X86_X32_ABI=y" not in config:
            assert X32 not in offered
        assert set(offered) <= set(ABIS)


@x86_64
@pytest.mark.parametrize(
    ("answer", "offered"),
    [(1, ABIS), (-38, ()), (InjectionFailed("the process stops at signal 11"), ()),
     (Killed("call 64 of i386", 11), ())],
    ids=["made", "ENOSYS", "a fault", "killed"],
)  # fmt: skip
def test_what_a_kernel_answers_without_an_abi(answer: object, offered: tuple[Abi, ...]) -> None:
    effect = {"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}
    with zygote() as found, mock.patch.object(Driven, "call_as", **effect):
        assert offered_abis(found) == offered


@x86_64
def test_a_process_that_was_tampered_with_says_nothing_of_the_kernel() -> None:
    with (
        zygote() as found,
        mock.patch.object(Driven, "call_as", side_effect=Tampered(1, "its memory")),
        pytest.raises(Tampered),
    ):
        offered_abis(found)


def test_calls_that_no_filter_is_asked_about_have_their_names() -> None:
    numbers = {335: True, 336: True, 470: True}
    with mock.patch("ringfence.probe.table._numbers", return_value=numbers):
        table = kernel_table(mock.Mock(spec=Driven))
    wanted = {"uretprobe", "uprobe"} if native() == "x86_64" else {"call-335", "call-336"}
    assert set(table) == {*wanted, "call-470"}
    for name in table:
        assert f"{name} passes the filters" in (explain_probe(f"call.{name}", load()) or "")
    assert explain_probe("call.no-such", load()) is None


# --- another process is asked --------------------------------------------------------------------


@as_root
def test_what_another_process_answers_is_not_known_to_a_copy() -> None:
    asking = about("add_key", USER_NOTIF)
    attempt, call = tried(asking)
    assert seen([attempt, call]) == [Seen.UNSUPPORTED, Seen.UNSUPPORTED]
    assert "asks another process about add_key" in attempt.outcome.detail
    assert "asks another process" in call.outcome.detail and not attempt.layer

    refusing = about("add_key", seccomp.ERRNO | 1)
    assert seen(tried(asking, refusing)) == [Seen.CLOSED, Seen.CLOSED], "the other filter refuses"
    assert seen(tried(about("keyctl", USER_NOTIF))) == [Seen.OPEN, Seen.OPEN], "another call"


@as_root
def test_what_the_workload_was_answered_itself_is_known() -> None:
    """Where nobody listens any more, that is ENOSYS. Of what was asked about and not made, nothing
    is known there either."""
    asking = about("add_key", USER_NOTIF)
    attempt, call = tried(asking, owns=True)
    assert seen([attempt, call]) == [Seen.CLOSED, Seen.UNSUPPORTED]
    assert attempt.layer == "seccomp (another process is asked)"
    not_made = tried(about("clone", USER_NOTIF), ids=("namespace.clone-user",), owns=True)
    assert seen(not_made) == [Seen.UNSUPPORTED]
