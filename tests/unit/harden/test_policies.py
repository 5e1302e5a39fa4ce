"""Policies from needs: what they allow, and what they do not."""

from __future__ import annotations

import json

import msgspec
import pytest
import yaml

from ringfence.collect.seccomp.bpf import Call, run
from ringfence.collect.seccomp.profile import from_profile
from ringfence.collect.seccomp.tables import AUDIT_ARCH, native_calls
from ringfence.collect.seccomp.verdicts import answers, table
from ringfence.harden.layout import Entry
from ringfence.harden.policy import kubernetes, landlock, nftables, seccomp, systemd
from ringfence.harden.policy.calls import allowed, closed, lists, serving
from ringfence.harden.policy.languages import LANGUAGES
from ringfence.harden.policy.needs import Needs
from ringfence.harden.service import Identity, Service
from ringfence.model.evidence import Evidence, Grade
from ringfence.run.compile import compiled
from ringfence.run.fence import Writable

CALLS = dict.fromkeys(
    ("read", "write", "close", "clone", "socket", "ioctl", "prctl", "personality", "exit_group"), ""
)
NEEDS = Needs(
    name="web",
    service=Service(("/usr/sbin/web", "-g", 'say "100%" $x'), ("PATH=/bin",)),
    who=Identity(33, 33),
    calls=CALLS,
    serving=dict.fromkeys(("read", "write", "exit_group"), ""),
    sockets=(("AF_INET", "SOCK_STREAM"), ("AF_NETLINK", "SOCK_RAW")),
    prctls=("PR_SET_DUMPABLE",),
    ioctls=("FIONBIO", "TIOCOUTQ"),
    ports=(80, 8443),
    destinations=(("192.0.2.7", 5432), ("2001:db8::1", 443)),
    programs=("usr/sbin/web",),
    writable=(Writable("run"), Writable("var/lib/web", state=True)),
    entries=(Entry("usr/sbin/web", "file", 0o755), Entry('etc/a "odd" [name]', "file", 0o644)),
    origin="a test",
)
QUESTIONS = ("clone[CLONE_NEWUSER]", "socket[AF_INET,SOCK_STREAM]", "socket[AF_INET,SOCK_RAW]",
             "socket[AF_PACKET]", "socket[AF_NETLINK,*,NETLINK_ROUTE]",
             "ioctl[*,TIOCSTI]")  # fmt: skip


@pytest.mark.parametrize("calls", [NEEDS.calls, NEEDS.serving, allowed({}, {})])
def test_our_compiler_and_the_profile_say_the_same_of_every_call(calls: dict[str, str]) -> None:
    """Two readers written apart: one of the JSON, one of BPF programs."""
    document = seccomp.profile(NEEDS, calls)
    program = compiled(document)
    read = from_profile(document, QUESTIONS, Evidence(Grade.DECLARED, "test"))
    for mine, theirs in (
        (table([program]), read.calls),
        (answers([program], QUESTIONS), read.asked),
    ):
        assert {name: (item.actions, item.errno) for name, item in mine.items()} == {
            name: (item.actions, item.errno) for name, item in theirs.items()
        }


def test_arguments_decide() -> None:
    asked = answers([compiled(seccomp.profile(NEEDS, CALLS))], QUESTIONS)
    allowed_ones = {name for name, verdict in asked.items() if verdict.actions == ("allow",)}
    assert allowed_ones == {"socket[AF_INET,SOCK_STREAM]", "socket[AF_NETLINK,*,NETLINK_ROUTE]"}


def test_other_architectures_are_killed() -> None:
    program = compiled(seccomp.profile(NEEDS, CALLS))
    found = run(program, Call(native_calls()["read"], AUDIT_ARCH["i386"], ()))
    assert [outcome.action for outcome in found.outcomes] == ["kill-process"]


def test_clone3_is_answered_as_missing() -> None:
    verdict = table([compiled(seccomp.profile(NEEDS, CALLS))])["clone3"]
    assert (verdict.actions, verdict.errno) == (("errno",), 38)


def test_code_alone_opens_no_risky_interface() -> None:
    everything = dict.fromkeys(native_calls(), "somewhere")
    found = allowed({}, everything)
    for call in ("bpf", "io_uring_setup", "keyctl", "perf_event_open", "userfaultfd", "ptrace",
                 "mount", "setns", "unshare", "setuid", "chown", "init_module",
                 "shmget"):  # fmt: skip
        assert call in closed() and call not in found, call
    assert {"openat", "sendmmsg", "rename"} <= found.keys()


def test_what_was_observed_is_allowed_whatever_it_is() -> None:
    assert "keyctl" in allowed({"keyctl": {"serve"}}, {})


def test_an_older_call_stays_closed_where_the_newer_one_was_seen() -> None:
    code = {"accept": "here", "accept4": "here"}
    assert "accept" not in allowed({"accept4": {"serve"}}, code)
    assert "accept" in allowed({}, code)


def test_the_serving_phase_only_loses_calls() -> None:
    observed = {
        "execve": {"start"},
        "bind": {"start"},
        "read": {"start", "serve"},
        "open": {"stop"},
    }
    code = dict.fromkeys(("fsync", "setrlimit", "listen"), "code")
    first, second = allowed(observed, code), serving(observed, code)
    assert second.keys() <= first.keys()
    assert {"read", "open", "fsync", "rt_sigreturn"} <= second.keys()
    assert not {"execve", "bind", "setrlimit"} & second.keys()


def test_a_thread_that_begins_later_registers_where_threads_are_made() -> None:
    """glibc ends the process when it cannot."""
    observed, code = {"rseq": {"start"}, "read": {"serve"}}, {"getcwd": "here", "truncate": "here"}
    assert "rseq" not in serving(observed, code)
    assert {"rseq", "truncate"} <= serving(observed, code, further=("threads",)).keys()
    assert "getcwd" not in serving(observed, code, further=("threads",))
    assert "getcwd" in serving(observed, code, further=("threads", "scripts"))
    assert "getcwd" not in serving(observed, {}, further=("threads", "scripts"))


def test_a_pair_of_sockets_within_the_service_is_local() -> None:
    needs = msgspec.structs.replace(NEEDS, sockets=(("AF_INET", "SOCK_STREAM"),))
    rules = seccomp.profile(needs, {"socketpair": "", "socket": ""})["syscalls"]
    families = {
        name: {rule["args"][0]["value"] for rule in rules if rule["names"] == [name]}
        for name in ("socket", "socketpair")
    }
    assert families == {"socket": {2}, "socketpair": {1, 2}}


def test_lists_name_real_calls() -> None:
    for name, entry in lists().items():
        for word in entry.calls:
            for call in word.split("="):
                assert call in native_calls(), (name, call)


def test_firewall() -> None:
    text = nftables.write(NEEDS)
    assert text.count("policy drop;") == 3
    assert "    tcp dport { 80, 8443 } accept\n" in text
    assert 'oif "lo" tcp dport { 80, 8443 } accept' in text
    assert "ct state" not in text
    assert "ip daddr 192.0.2.7 tcp dport 5432" in text
    assert "ip6 daddr 2001:db8::1 tcp dport 443" in text


def test_kubernetes_meets_the_restricted_level() -> None:
    """The controls of https://kubernetes.io/docs/concepts/security/pod-security-standards/."""
    deployment, network = yaml.safe_load_all(kubernetes.write(NEEDS))
    pod = deployment["spec"]["template"]["spec"]
    for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
        assert not pod.get(forbidden)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] != 0
    assert pod["securityContext"]["seccompProfile"]["type"] in ("RuntimeDefault", "Localhost")
    safe = {"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
            "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start"}  # fmt: skip
    assert {item["name"] for item in pod["securityContext"]["sysctls"]} <= safe
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"]["drop"] == ["ALL"]
        assert "add" not in context["capabilities"]
        assert all("hostPort" not in port for port in container["ports"])
    kinds = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
             "projected", "secret"}  # fmt: skip
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= kinds
    assert network["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert [rule["ports"][0]["port"] for rule in network["spec"]["egress"]] == [5432, 443]


def test_systemd_quotes_what_it_would_expand() -> None:
    text = systemd.write(NEEDS)
    assert 'ExecStart="/usr/sbin/web" "-g" "say \\"100%%\\" $$x"' in text
    assert "CapabilityBoundingSet=\n" in text


def test_landlock_rules_name_only_rights_that_exist() -> None:
    document = json.loads(landlock.write(NEEDS))
    handled = set(document["ruleset"][0]["handledAccessFs"])
    for rule in document["pathBeneath"]:
        assert set(rule["allowedAccess"]) <= handled
    assert document["netPort"][0]["port"] == [80, 8443]


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_policy_says_where_it_came_from(name: str) -> None:
    assert "a test" in LANGUAGES[name](NEEDS)
