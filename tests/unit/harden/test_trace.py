"""strace's log, read."""

from __future__ import annotations

import pytest

from ringfence.harden.observe.trace import Trace, Use, read_trace, unescaped

LOG = r"""
7 10.0 openat(AT_FDCWD</>, "/engine", O_RDONLY) = 3</engine>
7 11.0 execve("/usr/sbin/web", ["web"], 0x7f /* 1 var */) = 0
7 11.1 openat(AT_FDCWD</srv>, "page", O_RDONLY|O_CLOEXEC) = 3</srv/page>
7 11.2 openat(AT_FDCWD</srv>, "none", O_RDONLY) = -1 ENOENT (No such file or directory)
7 11.3 chdir("/data") = 0
7 11.4 clone(child_stack=NULL, flags=CLONE_VM|SIGCHLD, child_tidptr=0x1) = 2 /* 8 in strace's PID NS */
8 11.5 unlink("old")                     = 0
8 11.6 openat(AT_FDCWD</data>, "/var/log/web.log", O_WRONLY|O_CREAT|O_APPEND, 0644) = 4</var/log/web.log>
7 11.7 read(5<unfinished ...>
7 11.7 accept4(6<TCP:[1]>,  <unfinished ...>
8 11.8 socket(AF_INET6, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_TCP) = 5<TCPv6:[2]>
8 11.9 bind(5<TCPv6:[2]>, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::", &sin6_addr), sin6_scope_id=0}, 28) = 0
7 12.0 <... accept4 resumed>{sa_family=AF_INET}, [16], 0) = 7<TCP:[3]>
7 12.1 setresuid(-1, 33, -1)             = 0
7 12.2 ioctl(7<TCP:[3]>, FIONBIO, [1])    = 0
7 12.3 prctl(PR_SET_DUMPABLE, SUID_DUMP_USER) = 0
7 12.4 connect(8<UNIX:[9]>, {sa_family=AF_UNIX, sun_path="/run/x.sock"}, 110) = -1 ENOENT (No such file or directory)
7 30.0 exit_group(0)                     = ?
""".strip().splitlines()  # noqa: E501 - lines as strace writes them


def trace() -> Trace:
    return read_trace(LOG, ready=12.0, stopping=20.0, folder="/srv")


def test_what_the_engine_did_is_not_the_service() -> None:
    found = trace()
    assert all(use.path != "/engine" for use in found.uses)
    assert list(found.programs) == ["/usr/sbin/web"]


def test_paths_are_made_absolute() -> None:
    paths = {use.path: use for use in trace().uses}
    assert paths["/srv/page"].error == ""
    assert paths["/srv/none"].error == "ENOENT"
    assert paths["/data/old"].writes, "a child begins where its parent stood"
    assert paths["/run/x.sock"].call == "connect"


def test_writing_is_told_from_reading() -> None:
    uses = {use.path: use for use in trace().uses}
    assert not uses["/srv/page"].writes
    assert uses["/var/log/web.log"] == Use("/var/log/web.log", "openat", "", True)


def test_calls_have_phases_and_interrupted_ones_count_once_begun() -> None:
    calls = trace().calls
    assert calls["execve"] == {"start"}
    assert "start" in calls["accept4"]
    assert calls["ioctl"] == {"serve"}
    assert calls["exit_group"] == {"stop"}


def test_needs_beyond_files() -> None:
    found = trace()
    assert found.sockets == {("AF_INET6", "SOCK_STREAM")}
    assert found.listens == {("::", 80)}
    assert found.users == [33]
    assert found.ioctls == {"FIONBIO"}
    assert found.prctls == {"PR_SET_DUMPABLE"}
    assert found.clones == {"CLONE_VM", "SIGCHLD"}


def test_escapes() -> None:
    assert unescaped(r"a\"b\\c\n\303\244") == 'a"b\\c\nä'


@pytest.mark.parametrize(
    ("call", "in_memory"),
    [
        ('execveat(4</memfd:copy (deleted)>, "", ["copy"], 0x7f, AT_EMPTY_PATH) = 0', True),
        ('execve("/proc/self/fd/4", ["copy"], 0x7f /* 1 var */) = 0', True),
        ('execve("/proc/self/fd/4", ["copy"], 0x7f) = -1 EACCES (Permission denied)', False),
        ('memfd_create("copy", MFD_CLOEXEC|MFD_EXEC) = 4</memfd:copy (deleted)>', True),
        ('memfd_create("copy", MFD_CLOEXEC) = 4</memfd:copy (deleted)>', False),
        ('execve("/usr/bin/other", ["other"], 0x7f /* 1 var */) = 0', False),
    ],
)
def test_programs_in_memory_are_seen(call: str, in_memory: bool) -> None:
    found = read_trace([*LOG, f"7 30.1 {call}"], ready=12.0, stopping=20.0)
    assert found.memory_programs is in_memory
