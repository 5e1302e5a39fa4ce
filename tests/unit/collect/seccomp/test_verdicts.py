"""Verdicts of several threads of one process, put together, and of calls with arguments."""

from __future__ import annotations

from ringfence.collect.seccomp.tables import AUDIT_ARCH, native, native_calls
from ringfence.collect.seccomp.verdicts import answers, weakest
from ringfence.model.process import CallVerdict
from tests.seccomp import ALLOW, ERRNO, encoded


def test_what_only_some_arguments_get_in_one_thread_another_may_get_whole() -> None:
    refused, passed = CallVerdict(("errno",), 1), CallVerdict(("allow",))
    partly = CallVerdict(("allow", "errno"), 1, (0,))
    assert weakest([refused, passed]) == weakest([partly, passed]) == passed
    assert weakest([refused, partly]) == partly
    assert weakest([refused, CallVerdict(("errno",), 38)]) == CallVerdict(("errno",))
    through = CallVerdict(("kill-process",), through=("i386",))
    assert weakest([refused, through]) == CallVerdict(("errno", "kill-process"), 1, (), ("i386",))


def test_a_comparison_of_more_bits_than_the_kernel_takes_closes_nothing() -> None:
    """socket(2) takes an int: of 0x100000028 as a family the kernel makes AF_VSOCK."""
    low = [(0x20, 0, 0, 16), (0x15, 0, 1, 40), (0x06, 0, 0, ERRNO | 1), (0x06, 0, 0, ALLOW)]
    high = [(0x20, 0, 0, 20), (0x15, 0, 3, 0)]
    asked = "socket[AF_VSOCK]"

    def actions(*about: tuple[int, int, int, int]) -> tuple[str, ...]:
        only = [(0x20, 0, 0, 4), (0x15, 1, 0, AUDIT_ARCH[native()]), (0x06, 0, 0, ERRNO)]
        number = [(0x20, 0, 0, 0), (0x15, 0, len(about) - 1, native_calls()["socket"])]
        return answers([encoded([*only, *number, *about])], [asked])[asked].actions

    assert actions(*low) == ("errno",)
    assert actions(*high, *low) == ("allow", "errno")
