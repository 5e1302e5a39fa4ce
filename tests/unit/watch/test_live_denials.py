"""Lines of the kernel's audit become records of the target's processes, without a flood."""

from __future__ import annotations

import itertools
import time

import pytest

from ringfence.errors import MissingError
from ringfence.watch.ledger import auditgroup, repeats
from ringfence.watch.ledger.auditgroup import line_of
from ringfence.watch.live import denials as module
from ringfence.watch.live.denials import DOMAIN, Denials
from ringfence.watch.live.told import Told
from ringfence.watch.live.verdicts import UNKNOWN

serials = itertools.count(1)


def killed(pid: int, *, call: int = 86, serial: int = 0) -> str:
    return (
        f"audit: type=1326 audit(1795911706.190:{serial or next(serials)}): auid=1 uid=0 gid=0 "
        f'ses=1 pid={pid} comm="ln" exe="/bin/busybox" sig=31 arch=c000003e syscall={call} '
        "compat=0 ip=0x47cb87 code=0x80000000"
    )


class Lines:
    """An audit source that has what is put there."""

    name = "test"

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.lost = 0

    def fileno(self) -> int:
        return 0

    def read(self) -> list[str]:
        found, self.lines = self.lines, []
        return found

    def close(self) -> None:
        pass


class Known:
    """1 is of the target, 2 is not, 3 is not known."""

    def look(self) -> None:
        pass

    def judge(self, pid: int, wall: int) -> str | None:
        assert wall == 1795911706_190000
        return {1: "", 2: None}.get(pid, UNKNOWN)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Lines:
    lines = Lines()
    monkeypatch.setattr(module, "audit_source", lambda: lines)
    return lines


def of_target() -> Denials:
    return Denials("web", Known())  # type: ignore[arg-type]


def test_those_of_the_target_are_told_and_no_others(source: Lines) -> None:
    denials = of_target()
    source.lines = [killed(1), killed(2), killed(3), "audit: type=1300 audit(1.0:1): pid=1"]
    sure, unsure = denials.read()
    assert (sure.kind, sure.subject) == ("denial", "/bin/busybox")
    wanted = {"event": "denial", "source": "kernel audit", "by": "seccomp", "pid": 1,
              "call": "link", "action": "kill_process", "enforced": True}  # fmt: skip
    assert wanted.items() <= sure.detail.items()
    assert "unsure" not in sure.detail
    assert (unsure.detail["pid"], unsure.detail["unsure"]) == (3, [UNKNOWN])


def test_all_of_a_host_are_told(source: Lines) -> None:
    source.lines = [killed(1), killed(2)]
    found = Denials("host", None).read()
    assert [item.detail["pid"] for item in found] == [1, 2]
    assert not any("unsure" in item.detail for item in found)


def test_repetitions_are_counted(source: Lines) -> None:
    denials = of_target()
    source.lines = [killed(1) for _ in range(5)] + [killed(1, call=88)]
    assert [item.detail["call"] for item in denials.read()] == ["link", "symlink"]
    assert denials.repeated() == []
    (more,) = denials.repeated(last=True)
    assert (more.detail["call"], more.detail["times"]) == ("link", 4)
    assert denials.repeated(last=True) == []


def test_one_record_read_twice_is_one_denial(source: Lines) -> None:
    denials = of_target()
    source.lines = [killed(1, serial=7), killed(1, serial=7)]
    assert len(denials.read()) == 1
    assert denials.repeated(last=True) == []


class Clock:
    """CLOCK_MONOTONIC."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def counts(found: list[Told]) -> list[int]:
    """Of records that only count, and no others."""
    assert {(item.kind, item.detail["event"]) for item in found} <= {("event", "audit")}
    return [item.detail["times"] for item in found]


def test_a_flood_of_different_ones_is_counted_once_in_a_window(
    source: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "MOST_KINDS", 3)
    clock, denials = Clock(monkeypatch), of_target()
    told, counted, calls = 0, [], itertools.count()
    for _ in range(200):  # 10 seconds, in turns of the loop
        source.lines = [killed(1, call=next(calls)) for _ in range(10)]
        told += len(denials.read())
        counted += counts(denials.repeated())
        clock.now += 0.05
    rest = counts(denials.repeated(last=True))
    assert (len(counted), len(rest)) == (1, 1)
    assert told + sum(counted) + sum(rest) == 2000
    assert told == 6
    assert denials.repeated(last=True) == []


def test_a_count_waits_for_its_window(source: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "MOST_KINDS", 3)
    clock, denials = Clock(monkeypatch), of_target()
    source.lines = [killed(1, call=number) for number in range(10)]
    assert len(denials.read()) == 3
    clock.now += repeats.WINDOW - 0.1
    assert denials.repeated() == []
    clock.now += 0.2
    assert counts(denials.repeated()) == [7]
    clock.now += 2 * repeats.WINDOW
    assert denials.repeated() == []


def test_what_was_lost_is_told_once_in_a_window(
    source: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, denials = Clock(monkeypatch), of_target()
    for _ in range(4):
        source.lost += 2
        assert denials.read() == denials.repeated() == []
    clock.now += repeats.WINDOW
    assert counts(denials.repeated()) == [8]
    assert denials.read() == denials.repeated(last=True) == []


def landlocked(domain: str) -> str:
    return f'audit: type=1423 audit(1795911706.190:1): domain={domain} blockers=fs.x path="/x"'


def test_landlock_names_a_domain_and_its_maker_is_known(source: Lines) -> None:
    """The domain is told of after the first denial in it."""
    denials = of_target()
    made = "audit: type=1424 audit(1795911706.190:1): domain={} status=allocated pid={} uid=0"
    source.lines = [landlocked("a"), made.format("a", 1), landlocked("b"), made.format("b", 2)]
    (told,) = denials.read()
    assert (told.detail["by"], told.detail["unsure"]) == ("landlock", [DOMAIN])
    source.lines = [landlocked("c")]
    assert denials.read() == denials.repeated() == []
    (unplaced,) = denials.repeated(last=True)
    assert (unplaced.detail["event"], unplaced.detail["times"]) == ("audit", 1)


def test_without_access_it_is_said_and_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise MissingError("kernel log: operation not permitted", where="/dev/kmsg")

    monkeypatch.setattr(module, "audit_source", refused)
    denials = of_target()
    said = denials.started()
    assert said == Told("event", "web", {
        "event": "audit", "why": "not read: /dev/kmsg: kernel log: operation not permitted",
    })  # fmt: skip
    assert (denials.fd, denials.read(), denials.repeated(last=True)) == (-1, [], [])
    denials.close()


def test_a_datagram_of_the_audit_is_a_line_of_the_log() -> None:
    head = b"\xeb\x00\x00\x00\x2e\x05" + bytes(10)
    text = killed(1).removeprefix("audit: type=1326 ")
    assert line_of(head + text.encode() + b"\0") == [f"audit: type=1326 {text}"]
    assert line_of(head) == []


@pytest.mark.parametrize(("links", "allowed", "wanted"), [
    ({"pid": "pid:[4026531836]", "1": "net:[1]", "self": "net:[1]"}, True, "group"),
    ({"pid": "pid:[4026531836]", "1": "", "self": "net:[1]"}, True, "group"),
    ({"pid": "pid:[4026531836]", "1": "net:[1]", "self": "net:[2]"}, True, "log"),
    ({"pid": "pid:[4026531836]", "1": "net:[1]", "self": "net:[1]"}, False, "log"),
    ({"pid": "pid:[5]", "1": "net:[1]", "self": "net:[1]"}, True, ""),
])  # fmt: skip
def test_where_the_audit_is_read(
    links: dict[str, str], allowed: bool, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def group() -> str:
        if not allowed:
            raise PermissionError
        return "group"

    def link(name: str) -> str:
        return links["pid" if name.endswith("/pid") else name.split("/")[2]]

    monkeypatch.setattr(auditgroup, "_link", link)
    monkeypatch.setattr(auditgroup, "AuditGroup", group)
    monkeypatch.setattr(auditgroup, "KernelLog", lambda: "log")
    if wanted:
        assert auditgroup.audit_source() == wanted  # type: ignore[comparison-overlap]
    else:
        with pytest.raises(MissingError, match="first PID namespace"):
            auditgroup.audit_source()
