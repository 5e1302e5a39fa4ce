"""Policies from needs: what they allow, and what they do not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
import yaml

from ringfence.collect.seccomp.bpf import Call, run
from ringfence.collect.seccomp.profile import from_profile
from ringfence.collect.seccomp.tables import AUDIT_ARCH, native_calls
from ringfence.collect.seccomp.verdicts import answers, table
from ringfence.harden.layout import Entry
from ringfence.harden.policy import (
    apparmor,
    compose,
    containers,
    kubernetes,
    landlock,
    nftables,
    quadlet,
    seccomp,
    selinux,
    selinux_contexts,
    systemd,
)
from ringfence.harden.policy.calls import allowed, closed, lists, serving
from ringfence.harden.policy.languages import LANGUAGES
from ringfence.harden.policy.needs import Needs, destinations
from ringfence.harden.service import Identity, Service
from ringfence.model.evidence import Evidence, Grade
from ringfence.run.compile import compiled
from ringfence.run.fence import Writable
from ringfence.run.notify import notifying

CALLS = dict.fromkeys(
    ("read", "write", "close", "clone", "socket", "ioctl", "prctl", "personality", "exit_group"), ""
)
NEEDS = Needs(
    name="web",
    program="usr/sbin/web",
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
    allowed_ones = {name for name, verdict in asked.items() if "allow" in verdict.actions}
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


def test_the_engine_is_given_what_it_would_die_without_and_no_more() -> None:
    found = allowed({}, {})
    assert {"clone", "epoll_pwait", "getdents64", "sigaltstack"} <= found.keys()
    assert not {"epoll_ctl", "gettid", "nanosleep"} & found.keys()
    assert "gettid" in allowed({}, {"gettid": "here"})


def test_what_was_observed_is_allowed_whatever_it_is() -> None:
    assert "keyctl" in allowed({"keyctl": {"serve"}}, {})


def test_what_the_filter_never_allows_is_not_told_as_allowed() -> None:
    """clone3 is answered as missing, also to a service that was seen to make it."""
    observed = {"clone3": {"start", "serve"}, "read": {"serve"}}
    for calls in (allowed(observed, {}), serving(observed, {"clone": "here"})):
        verdicts = table([compiled(seccomp.profile(NEEDS, calls))])
        assert sorted(calls) == sorted(
            name for name, verdict in verdicts.items() if "allow" in verdict.actions
        )
        assert "clone" in calls and "clone3" not in calls


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


def test_what_the_own_code_asks_of_itself_stays_in_the_serving_phase() -> None:
    """redis' CONFIG SET maxclients: its start showed the call, and a command makes it again."""
    observed, code = {"prlimit64": {"start"}}, {"getrusage": "here", "listen": "here"}
    own = ("prlimit64", "getrusage", "listen")
    assert {"prlimit64", "getrusage"} <= serving(observed, code, own=own).keys()
    assert "listen" not in serving(observed, code, own=own)
    assert not {"prlimit64", "getrusage"} & serving(observed, code).keys()
    assert "prlimit64" in serving(observed, {}), "no code was followed: nobody knows whose it is"
    masked = {**code, "umask": "umask in libc.so.6"}
    assert "umask" not in serving(observed, masked, own={"umask"})
    assert "umask" in serving({**observed, "umask": {"start"}}, masked, own={"umask"})


def test_a_second_filter_that_notifies_refuses_as_much() -> None:
    document = notifying(seccomp.profile(NEEDS, CALLS), Path("/none"))
    program = compiled(document)
    quiet, told = table([compiled(seccomp.profile(NEEDS, CALLS))]), table([program])
    for name, verdict in quiet.items():
        may = told[name].actions
        assert ("allow" in may) == ("allow" in verdict.actions), name
    assert told["bpf"].actions == ("notify",) and quiet["bpf"].actions == ("errno",)


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


@pytest.mark.parametrize("name", ["7e1", "0o17", "1.5", "8080", "y", "n", "1_0", "no", "null"])
def test_a_name_that_a_reader_of_yaml_could_take_for_a_value_is_quoted(name: str) -> None:
    """YAML 1.2 reads 7e1 and 0o17 as numbers; Go's reader of 1.1, of Kubernetes, y as true."""
    needs = msgspec.structs.replace(NEEDS, name=name)
    label = name.replace(".", "-").replace("_", "-")
    assert f"app.kubernetes.io/name: '{label}'\n" in kubernetes.write(needs)
    assert f"  '{name}':\n" in compose.write(needs)


def test_numbers_and_plain_words_of_yaml_are_not() -> None:
    text = kubernetes.write(NEEDS)
    assert "runAsNonRoot: true\n" in text and f"runAsUser: {NEEDS.who.uid}\n" in text
    assert "kind: Deployment\n" in text


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


def settings_of(needs: Needs) -> dict[str, list[str]]:
    """Of the unit, the values of each setting in order."""
    found: dict[str, list[str]] = {}
    for line in systemd.write(needs).splitlines():
        name, _, value = line.partition("=")
        found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize(
    ("ports", "capability"),
    [((80, 8443), "CAP_NET_BIND_SERVICE"), ((1023,), "CAP_NET_BIND_SERVICE"), ((1024,), ""),
     ((), "")],
)  # fmt: skip
def test_systemd_gives_the_one_capability_to_ports_below_1024_alone(
    ports: tuple[int, ...], capability: str
) -> None:
    """In a user namespace it would not hold for the host's network."""
    unit = settings_of(msgspec.structs.replace(NEEDS, ports=ports))
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == [capability]
    assert unit["PrivateUsers"] == ["no" if capability else "yes"]


def test_systemd_opens_a_file_for_output_that_is_opened_by_name_and_the_journal_else() -> None:
    unit = settings_of(msgspec.structs.replace(NEEDS, output_by_name=True, writable=()))
    assert unit["StandardOutput"] == ["append:/var/log/ringfence-web.log"]
    assert unit["ExecStartPre"] == ["+/bin/chown -h 33:33 /var/log/ringfence-web.log"]
    other = settings_of(msgspec.structs.replace(NEEDS, writable=()))
    assert "StandardOutput" not in other and "ExecStartPre" not in other


def test_systemd_gives_writable_folders_to_the_user_with_what_the_image_has_there() -> None:
    needs = msgspec.structs.replace(
        NEEDS,
        who=Identity(33, 34),
        writable=(Writable("run"), Writable("var/run-down")),
        entries=(Entry("run", "folder", 0o750), Entry("var/run-down/in", "folder", 0o750)),
    )
    unit = settings_of(needs)
    assert unit["TemporaryFileSystem"] == ['"/run:mode=0700,uid=33,gid=34,nodev,nosuid,noexec"']
    assert unit["BindPaths"] == ['"-/run/ringfence/web/var/run-down":"/var/run-down"']
    assert unit["NoExecPaths"] == ['"+/var/run-down"']
    removed, copied = unit["ExecStartPre"]
    assert removed.endswith('/bin/rm -rf "/run/ringfence/web/var/run-down"')
    assert copied.endswith(
        '"/var/lib/ringfence/web/root/var/run-down" "/run/ringfence/web/var/run-down"'
    )
    assert unit["ExecStopPost"] == [removed]


def test_systemd_keeps_state_and_begins_it_as_the_image_has_it() -> None:
    unit = settings_of(msgspec.structs.replace(NEEDS, writable=(Writable("srv", state=True),)))
    assert unit["BindPaths"] == ['"-/var/lib/ringfence/web/state/srv":"/srv"']
    (copied,) = unit["ExecStartPre"]
    assert "[ -e" in copied and copied.endswith('/root/srv" "/var/lib/ringfence/web/state/srv"')
    assert "TemporaryFileSystem" not in unit and "ExecStopPost" not in unit


@pytest.mark.parametrize("path", ["home/app/run.sh", "root/run.sh", "usr/bin/run.sh"])
def test_systemd_hides_no_home_of_the_image_and_lets_none_be_written(path: str) -> None:
    """ProtectSystem=strict leaves homes as they are: without ProtectHome= they are writable."""
    unit = settings_of(msgspec.structs.replace(NEEDS, entries=(Entry(path, "file", 0o755),)))
    assert (unit["ProtectSystem"], unit["ProtectHome"]) == (["strict"], ["read-only"])


def test_systemd_makes_nothing_writable_that_was_not_declared() -> None:
    """PrivateTmp=yes makes a writable /tmp and /var/tmp, PrivateDevices=yes takes the host's
    /dev/shm and /dev/mqueue."""
    unit = settings_of(msgspec.structs.replace(NEEDS, writable=()))
    assert unit["PrivateTmp"] == ["no"]
    assert unit["InaccessiblePaths"] == ["-+/dev/shm", "-+/dev/mqueue"]
    assert "TemporaryFileSystem" not in unit and "BindPaths" not in unit


def test_systemd_gives_declared_shared_memory_and_temporary_folders() -> None:
    folders = ("dev/shm", "tmp", "var/tmp")
    needs = msgspec.structs.replace(NEEDS, writable=tuple(Writable(path) for path in folders))
    unit = settings_of(needs)
    options = "mode=0700,uid=33,gid=33,nodev,nosuid,noexec"
    assert unit["TemporaryFileSystem"] == [f'"/{path}:{options}"' for path in folders]
    assert unit["InaccessiblePaths"] == ["-+/dev/mqueue"]


def test_what_systemd_copies_is_whole_and_only_where_it_is_not_yet(tmp_path: Path) -> None:
    source, place = tmp_path / "root/srv", tmp_path / "a b/state/srv"
    source.mkdir(parents=True)
    (source / "seed").write_text("seed")
    words = ["/bin/sh", "-c", systemd._FILLED, str(source), str(place)]
    partly = place.with_name("srv.part")
    partly.mkdir(parents=True)
    (partly / "cut short").touch()
    subprocess.run(words, check=True)
    assert [path.name for path in place.iterdir()] == ["seed"] and not partly.exists()
    (place / "seed").write_text("grown")
    subprocess.run(words, check=True)
    assert (place / "seed").read_text() == "grown"


def test_systemd_is_told_of_the_account_that_it_wants() -> None:
    needs = msgspec.structs.replace(NEEDS, who=Identity(65532, 65533))
    assert (
        "# systemd-sysusers --inline 'g ringfence-65533 65533' 'u ringfence-65532 65532:65533'\n"
        in systemd.write(needs)
    )


def test_landlock_rules_name_only_rights_that_exist() -> None:
    document = json.loads(landlock.write(NEEDS))
    handled = set(document["ruleset"][0]["handledAccessFs"])
    for rule in document["pathBeneath"]:
        assert set(rule["allowedAccess"]) <= handled
    assert document["netPort"][0]["port"] == [80, 8443]


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_policy_says_where_it_came_from(name: str) -> None:
    assert "a test" in LANGUAGES[name](NEEDS)


def test_systemd_starts_what_the_command_names_and_not_what_it_leads_to() -> None:
    needs = msgspec.structs.replace(NEEDS, program="bin/httpd", programs=("bin/busybox",))
    assert 'ExecStart="/bin/httpd" "-g"' in systemd.write(needs)


def test_a_variable_that_systemd_does_not_take_is_told_and_left_out() -> None:
    words = ("A=x\rExecStartPre=/bin/evil", "PS1=\x1b[0m", "B=1\n\t2", "C=\x85é", "D.d=1")
    needs = msgspec.structs.replace(
        NEEDS, service=msgspec.structs.replace(NEEDS.service, environment=words)
    )
    lines = systemd.write(needs).split("\n")
    assert [line for line in lines if line.startswith("Environment=")] == [
        'Environment="B=1\\x0a\\x092"', 'Environment="C=\x85é"',
    ]  # fmt: skip
    told = [line for line in lines if "systemd takes no variable" in line]
    assert [line.partition(":")[0] for line in told] == ["# A", "# PS1", "# D.d"]
    assert not any("\r" in line or "\x1b" in line or "evil" in line for line in lines)
    assert list(systemd.unsaid(needs.service)) == ["A", "PS1", "D.d"]


def test_systemd_variables_are_quoted_as_systemd_reads_them(tmp_path: Path) -> None:
    """`$` means nothing there; a name that systemd does not take is told and left out."""
    words = ('A=$x %h \\ "q"', "B=1\n2", "discovery.type=x")
    needs = msgspec.structs.replace(NEEDS, service=Service(("/bin/true", "a\rb"), words))
    text = systemd.write(needs)
    assert 'Environment="A=$x %%h \\\\ \\"q\\""\n' in text
    assert 'Environment="B=1\\x0a2"\n' in text
    assert '"a\\x0db"\n' in text
    assert "\r" not in text and 'Environment="discovery' not in text
    assert "# discovery.type: systemd takes" in text


ODD = (Writable("run/a b,%h"), Writable("var/lib/My App", state=True), Writable("srv", state=True))


def test_writable_folders_are_quoted_in_every_language() -> None:
    needs = msgspec.structs.replace(NEEDS, writable=ODD)
    unit, container = systemd.write(needs), quadlet.write(needs)
    options = "mode=0700,uid=33,gid=33,nodev,nosuid,noexec"
    assert f'TemporaryFileSystem="/run/a b,%%h:{options}"\n' in unit
    assert 'BindPaths="-/var/lib/ringfence/web/state/var/lib/My App":"/var/lib/My App"\n' in unit
    assert 'NoExecPaths="+/var/lib/My App"\n' in unit
    assert "Tmpfs=/run/a b,%%h:rw," in container
    assert "Volume=web-srv:/srv\n" in container
    file = yaml.safe_load(compose.write(needs))
    assert file["services"]["web"]["tmpfs"][0].startswith("/run/a b,%h:rw,")
    first, second = file["services"]["web"]["volumes"]
    assert (first.partition(":")[2], second) == ("/var/lib/My App", "web-srv:/srv")
    assert all(re.fullmatch("[a-z0-9][A-Za-z0-9_.-]+", name) for name in file["volumes"])
    assert len(set(file["volumes"])) == 2


def test_volumes_of_folders_that_look_alike_differ() -> None:
    names = {containers.volume(NEEDS, path) for path in ("a/b c", "a/b_c", "a/b\xa0c", "a/b")}
    assert len(names) == 4


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """It says in a line what it ignores; that it does so for an odd folder unquoted is the
    condition."""
    words = ('A=$x %h \\ "q"', "B=1\n2", "discovery.type=x")
    service = Service(("/bin/true", "a\rb", "50%", ";", '"'), words, folder="/a b%h")
    needs = msgspec.structs.replace(NEEDS, service=service, program="bin/true", writable=ODD)
    unit = systemd.write(needs)
    broken = unit.replace(':"/var/lib/My App"', ":/var/lib/My App")
    for text, complains in ((unit, False), (broken, True)):
        path = tmp_path / "service.service"
        path.write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        said = [line for line in done.stderr.splitlines() if "service.service:" in line]
        assert bool(said) == complains, said


@pytest.mark.skipif(shutil.which("apparmor_parser") is None, reason="no apparmor_parser")
def test_apparmor_takes_names_of_files_that_hold_anything(tmp_path: Path) -> None:
    odd = Entry('srv/a\n"b" {c}\\ @{d}\r\x01é\udcff', "file", 0o644)
    needs = msgspec.structs.replace(NEEDS, entries=(*NEEDS.entries, odd), writable=ODD)
    text = apparmor.write(needs)
    for body, taken in ((text, True), (text.replace('"/run/a b', "/run/a b"), False)):
        path = tmp_path / "profile"
        path.write_text(body, errors="surrogateescape")
        done = subprocess.run(["apparmor_parser", "-Q", "-K", str(path)],
                              capture_output=True, check=False)  # fmt: skip
        assert (done.returncode == 0) == taken, done.stderr


@pytest.mark.parametrize("name", LANGUAGES)
def test_names_of_files_that_are_no_utf_8_can_be_written(name: str, tmp_path: Path) -> None:
    odd = Entry("usr/bin/\udcff\udcfe", "file", 0o755)
    needs = msgspec.structs.replace(
        NEEDS, entries=(odd,), programs=("usr/sbin/web", "usr/bin/\udcff\udcfe")
    )
    (tmp_path / name).write_text(LANGUAGES[name](needs), errors="surrogateescape")


def test_labels_name_files_that_hold_white_space() -> None:
    odd = Entry("srv/a\n\x0b #é\u2028", "file", 0o644)
    text = selinux_contexts.write(msgspec.structs.replace(NEEDS, entries=(odd,)))
    assert "/srv/a\\x0a\\x0b\\x20\\x23é\u2028\t--\t" in text


def test_types_of_a_service_whose_name_is_a_number_begin_with_a_letter() -> None:
    assert "(type s_7z_t)" in selinux.write(msgspec.structs.replace(NEEDS, name="7z"))
    assert "(type web_t)" in selinux.write(NEEDS)


def test_an_ipv4_address_in_the_clothes_of_ipv6_is_one() -> None:
    found = destinations(
        {("::ffff:10.1.2.3", 443), ("10.1.2.3", 443), ("2001:DB8::1", 53), ("::ffff:127.0.0.1", 80),
         ("127.9.9.9", 80), ("::1", 80), ("192.0.2.7", 0)}
    )  # fmt: skip
    assert found == (("10.1.2.3", 443), ("2001:db8::1", 53))
    assert "ip daddr 10.1.2.3" in nftables.write(msgspec.structs.replace(NEEDS, destinations=found))
