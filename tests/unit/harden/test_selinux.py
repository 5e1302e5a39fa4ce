"""The SELinux module and its labels: what lies outside the image is optional."""

from __future__ import annotations

import re
import stat

import msgspec

from ringfence.harden.layout import Entry
from ringfence.harden.policy import selinux, selinux_contexts
from ringfence.run.fence import Writable
from tests.guests.mac.labels import labels
from tests.unit.harden.test_policies import NEEDS

ENTRIES = (
    Entry("usr/sbin/web", "file", 0o755),
    Entry("etc/a b#c(1).conf", "file", 0o644),
    Entry("etc/axbxc11xconf", "link", 0o777, target="x"),
    Entry("run", "folder", 0o750),
    Entry("var/lib/web", "folder", 0o750),
    Entry("var/lib/web/state", "file", 0o600),
    Entry("var/lib/website", "folder", 0o755),
)
MODES = {"file": stat.S_IFREG, "folder": stat.S_IFDIR, "link": stat.S_IFLNK}


def needs_with(**changes: object) -> str:
    return selinux.write(msgspec.structs.replace(NEEDS, **changes))


def labelled() -> dict[str, str]:
    """Short types of the entries, by the labels that were written for them."""
    text = selinux_contexts.write(msgspec.structs.replace(NEEDS, entries=ENTRIES))
    paths = [(f"/{entry.path}", MODES[entry.kind] | entry.mode) for entry in ENTRIES]
    paths += [("/", stat.S_IFDIR), ("/var/lib/web/later", stat.S_IFREG), ("/etc", stat.S_IFDIR)]
    return {path: found.split(":")[2] if found else "" for path, found in
            labels(text, paths, "").items()}  # fmt: skip


def test_a_writable_folder_is_writable_itself_and_its_neighbour_is_not() -> None:
    found = labelled()
    assert {found[path] for path in ("/run", "/var/lib/web", "/var/lib/web/state",
                                     "/var/lib/web/later")} == {"web_rw_t"}  # fmt: skip
    assert found["/var/lib/website"] == found["/"] == "web_ro_t"
    assert found["/usr/sbin/web"] == "web_exec_t"


def test_names_are_not_patterns() -> None:
    found = labelled()
    assert found["/etc/a b#c(1).conf"] == found["/etc/axbxc11xconf"] == "web_ro_t"
    assert found["/etc"] == "", "what the image does not have has no label"


def test_the_module_says_nothing_of_the_hosts_files() -> None:
    assert "filecon" not in selinux.write(NEEDS)


def test_types_of_others_stand_in_optional_blocks_alone() -> None:
    own = re.compile(r"web_\w*t\b|object_r|system_r|self")
    for line in selinux.write(NEEDS).splitlines():
        others = {word for word in re.findall(r"\b\w+_[tr]\b", line) if not own.fullmatch(word)}
        if others:
            assert line.startswith("(optional web_around_"), line
    assert selinux.write(NEEDS).count("(optional ") == len(
        set(re.findall(r"\(optional (\w+)", selinux.write(NEEDS)))
    )


def test_ports_have_the_types_of_the_reference_policy() -> None:
    def bound(*ports: int) -> set[str]:
        text = needs_with(ports=ports, destinations=())
        return set(re.findall(r"web_t (\w+) \(tcp_socket \(name_bind\)\)", text))

    assert bound(80, 443) == {"http_port_t"}
    assert bound(6379, 9000) == {"redis_port_t", "unreserved_port_t"}
    assert bound(1023, 511) == {"hi_reserved_port_t", "reserved_port_t"}
    assert bound() == set()


def test_it_connects_only_where_it_was_seen_to() -> None:
    assert "name_connect" not in needs_with(destinations=())
    found = re.findall(r"web_t (\w+) \(tcp_socket \(name_connect", needs_with())
    assert found == ["http_port_t", "postgresql_port_t"]


def test_permissions_of_processes_follow_its_calls() -> None:
    def process(**calls: str) -> str:
        (found,) = re.findall(r"self \(process \((.*?)\)", needs_with(calls=calls))
        return str(found)

    assert "setrlimit" in process(prlimit64="") and "setsched" in process(setpriority="")
    assert "setrlimit" not in process(read="") and "execmem" not in process(mmap="")


def test_no_writable_folder_no_rule() -> None:
    needs = msgspec.structs.replace(NEEDS, writable=(), entries=ENTRIES)
    assert "web_rw_t" not in selinux_contexts.write(needs)
    more = msgspec.structs.replace(needs, writable=(Writable("srv/a.b"),))
    assert "/srv/a\\.b(/.*)?\t" in selinux_contexts.write(more)
