"""Profiles in JSON: rules, arguments, conditions, and what gets round them."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.collect.seccomp.profile import from_profile
from ringfence.collect.seccomp.tables import native
from ringfence.collect.seccomp.verdicts import answers
from ringfence.errors import InputError
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.process import Seccomp
from ringfence.run.compile import compiled

SAID = Evidence(Grade.DECLARED, "profile.json")
X86 = pytest.mark.skipif(native() != "x86_64", reason="i386 is foreign to x86-64 alone")


def rule(names: list[str], action: str = "ALLOW", **more: Any) -> dict[str, Any]:
    return {"names": names, "action": f"SCMP_ACT_{action}", **more}


def profile(*rules: dict[str, Any], default: str = "ERRNO", **more: Any) -> dict[str, Any]:
    return {"defaultAction": f"SCMP_ACT_{default}", "syscalls": list(rules), **more}


def read(document: dict[str, Any], *questions: str, **more: Any) -> Seccomp:
    return from_profile(document, questions, SAID, **more)


def test_names_and_the_default() -> None:
    found = read(profile(rule(["read", "no-such-call"])))
    assert found.calls["read"].actions == ("allow",)
    assert found.calls["bpf"].actions == ("errno",)
    assert found.calls["bpf"].errno == 1


def test_errno_of_rule_and_default() -> None:
    found = read(profile(rule(["bpf"], "ERRNO", errnoRet=38), default="ALLOW"))
    assert found.calls["bpf"].errno == 38
    assert found.calls["read"].actions == ("allow",)
    assert read(profile(defaultErrnoRet=13)).calls["read"].errno == 13


BEYOND = 1 << 32


@pytest.mark.parametrize(
    ("operator", "value", "two", "passes", "always"),
    [("EQ", 38, 0, {"AF_ALG"}, False), ("NE", 38, 0, {"AF_INET", "AF_ALG"}, False),
     ("LT", 38, 0, {"AF_INET"}, False), ("LE", 2, 0, {"AF_INET"}, False),
     ("GT", 2, 0, {"AF_INET", "AF_ALG"}, False), ("GE", 38, 0, {"AF_INET", "AF_ALG"}, False),
     ("EQ", 38 | BEYOND, 0, {"AF_ALG"}, False), ("MASKED_EQ", 0x20, 0, {"AF_INET"}, True),
     ("MASKED_EQ", 0x20, 0x20, {"AF_ALG"}, True),
     ("MASKED_EQ", 0x20 | BEYOND, 0x20, {"AF_ALG"}, False)],
)  # fmt: skip
def test_arguments(operator: str, value: int, two: int, passes: set[str], always: bool) -> None:
    """The kernel takes 32 bits of a family and filters compare 64: whoever calls chooses the rest.
    Of what we compile, our reader of programs says the same."""
    condition = {"index": 0, "op": f"SCMP_CMP_{operator}", "value": value, "valueTwo": two}
    document = profile(rule(["socket"], args=[condition]))
    questions = ("socket[AF_INET]", "socket[AF_ALG]")
    found = read(document, *questions)
    built = answers([compiled(document)], questions) if operator.endswith("EQ") else found.asked
    for family in ("AF_INET", "AF_ALG"):
        said = found.asked[f"socket[{family}]"].actions
        assert ("allow" in said) == (family in passes), family
        assert said == built[f"socket[{family}]"].actions, family
        assert not always or len(said) == 1
    assert found.calls["socket"].actions == ("allow", "errno")
    assert found.calls["socket"].arguments == (0,)


def test_what_means_something_to_docker_alone_is_passed_over() -> None:
    """runc reads no `includes`, `excludes` and `archMap`: such a rule counts."""
    includes = rule(["bpf"], includes={"caps": ["CAP_BPF"], "arches": ["s390x"]})
    assert read(profile(includes)).calls["bpf"].actions == ("allow",)
    excludes = rule(["clone3"], "ERRNO", errnoRet=38, excludes={"caps": ["CAP_SYS_ADMIN"]})
    assert read(profile(excludes, default="ALLOW")).calls["clone3"].actions == ("errno",)


def test_a_rule_that_names_an_argument_twice_asks_for_either() -> None:
    """libcontainer makes a rule of each then, all of which allow."""
    new_user = {"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0x10000000}
    twice = [{**new_user, "valueTwo": 0}, {**new_user, "valueTwo": 0x10000000}]
    question = "unshare[CLONE_NEWUSER]"
    assert "allow" in read(profile(rule(["unshare"], args=twice)), question).asked[question].actions
    once = read(profile(rule(["unshare"], args=twice[:1])), question).asked[question]
    assert once.actions == ("errno",)
    apart = [twice[1], {"index": 1, "op": "SCMP_CMP_EQ", "value": 7}]
    both = read(profile(rule(["unshare"], args=apart)), question).asked[question]
    assert both.actions == ("allow", "errno") and both.arguments == (1,)


def test_names_of_fields_have_no_case() -> None:
    said = {"DefaultAction": "SCMP_ACT_ERRNO",
            "SYSCALLS": [{"Names": ["bpf"], "aCTION": "SCMP_ACT_ALLOW"}]}  # fmt: skip
    assert read(said).calls["bpf"].actions == ("allow",)


def test_a_name_many_times_in_one_rule_costs_little() -> None:
    assert read(profile(rule(["bpf"] * 200_000))).calls["bpf"].actions == ("allow",)


@X86
def test_socketcall_of_i386_gets_round_a_refused_family() -> None:
    names = ["socketcall", "read"]
    both = read(
        profile(rule(names), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]), "socket[AF_ALG]"
    )
    assert both.asked["socket[AF_ALG]"].through == ("i386",)
    alone = read(profile(rule(names), architectures=["SCMP_ARCH_X86_64"]), "socket[AF_ALG]")
    assert alone.asked["socket[AF_ALG]"].through == ()
    refused = read(profile(rule(["read"]), architectures=["SCMP_ARCH_X86"]), "socket[AF_ALG]")
    assert refused.asked["socket[AF_ALG]"].through == ()


@pytest.mark.parametrize(
    ("document", "said"),
    [({}, "missing required field `defaultAction`"), ({"defaultAction": 3}, "Expected `str`"),
     ({"defaultAction": "SCMP_ACT_DANCE"}, "unknown action"),
     (profile(rule(["read"], "SING")), "unknown action"),
     (profile({"names": "read", "action": "SCMP_ACT_ALLOW"}), "Expected `array`"),
     (profile(rule(["read"], args=[{"index": 9, "op": "SCMP_CMP_EQ", "value": 1}])), "argument 9"),
     (profile(rule(["read"], args=[{"index": 0, "op": "SCMP_CMP_ODD", "value": 1}])), "CMP_ODD")],
)  # fmt: skip
def test_what_makes_no_sense_is_named(document: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(document)
    assert said in caught.value.line()
    assert caught.value.line().startswith("profile.json: seccomp profile")
