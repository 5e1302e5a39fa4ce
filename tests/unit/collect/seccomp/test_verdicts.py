"""Verdicts of several threads of one process, put together."""

from __future__ import annotations

from ringfence.collect.seccomp.verdicts import weakest
from ringfence.model.process import CallVerdict


def test_what_only_some_arguments_get_in_one_thread_another_may_get_whole() -> None:
    refused, passed = CallVerdict(("errno",), 1), CallVerdict(("allow",))
    partly = CallVerdict(("allow", "errno"), 1, (0,))
    assert weakest([refused, passed]) == weakest([partly, passed]) == passed
    assert weakest([refused, partly]) == partly
    assert weakest([refused, CallVerdict(("errno",), 38)]) == CallVerdict(("errno",))
    through = CallVerdict(("kill-process",), through=("i386",))
    assert weakest([refused, through]) == CallVerdict(("errno", "kill-process"), 1, (), ("i386",))
