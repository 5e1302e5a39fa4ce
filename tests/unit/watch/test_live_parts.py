"""The pure parts of the watch in real time."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import msgspec
import pytest

from ringfence.errors import InputError, UsageError
from ringfence.report.watch_live import line
from ringfence.watch.baseline.compare import Change
from ringfence.watch.baseline.entry import FILE, Entry
from ringfence.watch.baseline.items import item_of
from ringfence.watch.baseline.result import Checked, Item, Report, Subject, Unseen, Value
from ringfence.watch.baseline.seal import generate
from ringfence.watch.baseline.targets import Target
from ringfence.watch.ledger.batch import Wish
from ringfence.watch.ledger.keys import private_key
from ringfence.watch.ledger.record import Kind
from ringfence.watch.ledger.segments import segments
from ringfence.watch.ledger.writer import Ledger
from ringfence.watch.live.allowed import FORMAT, Allowed, Learned, LearnedFile, Wanted, read_learned
from ringfence.watch.live.cmdline import CUT, told
from ringfence.watch.live.code import looks_like_code
from ringfence.watch.live.containers import container_of
from ringfence.watch.live.enforce import marking
from ringfence.watch.live.happening import FROM, TO, Happening, merged
from ringfence.watch.live.judge import Judgement, Verdict
from ringfence.watch.live.keeper import Keeper
from ringfence.watch.live.known import Known
from ringfence.watch.live.learning import Lessons
from ringfence.watch.live.looks import parse_stat
from ringfence.watch.live.mounts import alone, at, parse_mounts, read_mounts, table_of
from ringfence.watch.live.places import Places
from ringfence.watch.live.rescan import News, findings
from ringfence.watch.live.told import Told, bounded, change, denial
from ringfence.watch.live.who import Who
from tests.watching import Watched


def test_a_folder_moves_with_all_that_is_below_it() -> None:
    places = Places()
    places.fix(b"root", b"")
    places.put(b"a", b"root", b"a")
    places.put(b"b", b"a", b"b")
    assert places.path(b"b") == b"a/b"
    places.put(b"a", b"root", b"z")
    assert places.path(b"b") == b"z/b"
    places.drop(b"a")
    assert places.path(b"b") is None
    assert places.path(b"root") == b""
    assert places.path(b"never seen") is None
    places.put(b"a", b"root", b"a")
    assert places.path(b"a") == b"a"
    assert places.path(b"b") is None  # what became of it meanwhile is not known


def test_a_selected_folder_stays_where_it_is_and_circles_end() -> None:
    places = Places()
    places.fix(b"sel", b"usr/bin")
    places.put(b"x", b"sel", b"x")
    assert places.path(b"x") == b"usr/bin/x"
    places.put(b"p", b"q", b"p")
    places.put(b"q", b"p", b"q")
    assert places.path(b"p") is None
    places.drop(b"p")
    assert b"p" not in places
    assert b"q" not in places
    assert places.path(b"x") == b"usr/bin/x"


def test_a_place_is_sure_below_what_was_not_moved() -> None:
    places = Places()
    places.fix(b"root", b"")
    places.put(b"a", b"root", b"a")
    places.put(b"b", b"a", b"b")
    assert places.unsure(b"b", ()) is None
    assert places.unsure(b"b", (b"a",)) == b"a"
    assert places.unsure(b"b", (b"a", b"b")) == b"b"
    assert places.unsure(b"never seen", ()) == b"never seen"
    assert places.unsure(b"root", (b"root",)) is None


def test_secrets_are_not_told() -> None:
    given = b"curl\0--token\0abc\0--api-key=def\0DB_PASSWORD=ghi\0http://me:jkl@host/\0-v\0file\0"
    words = told(given)
    assert words == ("curl", "--token", "***", "--api-key=***", "DB_PASSWORD=***",
                     "http://***@host/", "-v", "file")  # fmt: skip
    assert told(b"") == ("",)
    assert told(b"a\0" + b"b" * 3000)[-1] == CUT and told(b"a\0" * 50)[-1] == CUT
    assert CUT not in told(b"a\0" + b"b" * 2000) + told(b"a\0" * 40)
    assert told(b"ls\0--password\0--all\0") == ("ls", "--password", "--all")


def test_a_stat_with_a_hostile_name_is_read_rightly() -> None:
    tail = " S 1 " + " ".join(["0"] * 17) + " 777 " + " ".join(["0"] * 25) + " 99 0 0"
    found = parse_stat("5 (a) b) (c" + ")" + tail)
    assert found is not None
    assert (found.name, found.parent, found.started, found.arguments) == ("a) b) (c", 1, 777, 99)
    assert not found.ended
    assert parse_stat("5 (a) S 1") is None
    assert parse_stat("") is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"0::/system.slice/docker-{'a' * 64}.scope\n", "a" * 64),
        (f"0::/machine.slice/libpod-{'b' * 64}.scope/container\n", "b" * 64),
        (f"12:pids:/docker/{'c' * 64}\n0::/\n", "c" * 64),
        ("3:memory:/web\n", "web"),
        ("0::/\n", ""),
        ("nonsense", ""),
    ],
)
def test_containers_are_named_by_their_cgroup(text: str, name: str) -> None:
    assert container_of(text) == name


def test_what_encloses_the_watcher_too_is_no_containers_name() -> None:
    outer = f"4:cpu:/pods/{'a' * 32}"
    assert container_of(f"{outer}/web\n", f"{outer}\n") == "web"
    assert container_of(f"{outer}/web\n") == "a" * 32
    assert container_of(f"{outer}\n", f"{outer}/watcher\n") == ""
    assert container_of("0::/system.slice/web.service\n", "0::/system.slice/us\n") == "web.service"


def happening(name: bytes, *did: str, pid: int = 1, other: bytes | None = None) -> Happening:
    """Something that happened at the root."""
    return Happening(b"", name, did, Who(pid), other)


def test_what_one_process_did_to_one_file_is_one_thing() -> None:
    found = merged([
        happening(b"a", "create"), happening(b"b", "create"),
        happening(b"a", "write", "close-after-write"), happening(b"a", "write"),
    ])  # fmt: skip
    assert [(item.name, item.did) for item in found] == [
        (b"a", ("create", "write", "close-after-write")),
        (b"b", ("create",)),
    ]


def test_other_processes_renames_and_removals_stay_apart() -> None:
    items = [
        happening(b"a", "write"), happening(b"a", "write", pid=2), happening(b"a", "delete", pid=2),
        happening(b"a", "create", pid=2), happening(b"a", FROM, pid=2, other=b"b"),
        happening(b"a", TO, pid=2, other=b"c"), happening(b"a", "write", pid=2),
    ]  # fmt: skip
    assert [item.did for item in merged(items)] == [
        ("write",), ("write", "delete"), ("create",), (FROM,), (TO,), ("write",),
    ]  # fmt: skip


MOUNTS = b"""\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:40 / /srv rw shared:1 - tmpfs x rw
31 22 0:41 / /data rw - tmpfs x rw
32 22 0:41 /in /elsewhere rw - tmpfs x rw
33 22 254:0 /var/www /web\\040site rw - ext4 /dev/vda rw
34 22 0:5 / /proc rw - proc proc rw
broken line
"""


def test_only_a_file_system_of_its_own_is_marked_as_a_whole() -> None:
    mounts = parse_mounts(MOUNTS)
    assert alone(mounts, "/srv")
    assert not alone(mounts, "/data"), "a part of it is mounted elsewhere"
    assert not alone(mounts, "/web site"), "a part of another one"
    assert not alone(mounts, "/srv/below")
    assert not alone(mounts, "/proc")
    found = at(mounts, "/web site")
    assert found is not None
    assert found.root == "/var/www"


@pytest.mark.parametrize(
    ("head", "mode", "name", "is_code"),
    [
        (b"\x7fELF", 0o644, b"/x", True),
        (b"#!/b", 0o600, b"/x", True),
        (b"data", 0o755, b"/x", True),
        (b"prin", 0o644, b"/x.PY", True),
        (b"text", 0o644, b"/libz.so.1.2", True),
        (b"text", 0o644, b"/notes.txt", False),
        (b"", 0o644, b"/sh", False),
    ],
)
def test_what_looks_like_code(head: bytes, mode: int, name: bytes, is_code: bool) -> None:
    assert bool(looks_like_code(head, mode, name)) is is_code


def sealed(place: Path) -> tuple[Watched, Known]:
    """A baseline of a few hundred files."""
    target = place / "target"
    target.mkdir()
    for number in range(700):
        folder = target / f"d{number % 7}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_text(f"content {number}")
    watched = Watched(place, target)
    watched.init()
    public = bytes.fromhex(watched.report()["sealed_by"].removeprefix("ed25519:"))
    return watched, Known(watched.baseline, public)


def test_known_and_allowed_find_every_file_and_no_other(tmp_path: Path) -> None:
    import hashlib

    _, known = sealed(tmp_path)
    allowed = Allowed(known)
    assert len(allowed) == 700
    for number in range(700):
        digest = hashlib.sha256(f"content {number}".encode()).digest()
        entry = known.entry(b"d%d" % (number % 7), b"f%d" % number)
        assert entry is not None
        assert entry.digest == digest
        wanted = allowed.wanted(b"d%d/f%d" % (number % 7, number))
        assert wanted == Wanted(digest, len(f"content {number}"))
    assert known.entry(b"d1", b"f0") is None
    assert known.entry(b"zzz", b"f0") is None
    assert known.entry(b"", b"") is not None
    assert allowed.wanted(b"d1/f0") is None
    assert allowed.wanted(b"") is None


def test_an_altered_baseline_is_not_known(tmp_path: Path) -> None:
    watched, known = sealed(tmp_path)
    data = bytearray(watched.baseline.read_bytes())
    data[len(data) // 2] ^= 1
    watched.baseline.write_bytes(data)
    with pytest.raises(InputError):
        Known(watched.baseline, bytes.fromhex("00" * 32))
    assert known.entry(b"d0", b"f0") is not None


def test_what_was_learned_narrows_and_never_widens(tmp_path: Path) -> None:
    import hashlib

    _, known = sealed(tmp_path)
    digest = hashlib.sha256(b"content 7").digest()
    path = tmp_path / "learned.json"
    lessons = Lessons(path, "sha256")
    assert lessons.take(Learned.of(b"d0/f7", digest, "execute", known=True))
    assert not lessons.take(Learned.of(b"d0/f7", digest, "execute", known=True))
    assert lessons.take(Learned.of(b"d0/foreign\xff", b"\1" * 32, "open", known=False))
    assert lessons.take(Learned.of(b"d0/f0", b"\2" * 32, "open", known=False))
    lessons.save()
    learned = read_learned(path, "sha256")
    assert {item.key()[0] for item in learned} == {b"d0/f7", b"d0/foreign\xff", b"d0/f0"}
    allowed = Allowed(known, learned)
    assert len(allowed) == 1
    assert allowed.wanted(b"d0/f7") == Wanted(digest, len("content 7"))
    assert allowed.wanted(b"d0/f0") is None
    assert len(Lessons(path, "sha256")._files) == 3, "a second run goes on with it"


def test_a_file_that_was_not_learned_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "learned.json"
    for data in (b"", b"{}", b"[]", msgspec.json.encode(LearnedFile(FORMAT, "blake3", []))):
        path.write_bytes(data)
        with pytest.raises(InputError):
            read_learned(path, "sha256")
    with pytest.raises(InputError):
        read_learned(tmp_path / "absent", "sha256")


def test_the_same_finding_is_news_once() -> None:
    news = News()
    item = Item("/a", "low", "data", {"size": (1, 2)})
    assert news.is_news("/a", "changed", item)
    assert not news.is_news("/a", "changed", item)
    assert news.is_news("/a", "changed", Item("/a", "low", "data", {"size": (1, 3)}))
    assert news.is_news("/a", "removed", None)


def checked(*changed: Item, unseen: tuple[Unseen, ...] = ()) -> Report:
    """What a full check reports."""
    return Report(Subject("directory", "t"), "b", "full", "", 0, True, Checked(1, 1, 1, 0),
                  (), (), changed, unseen)  # fmt: skip


def test_what_a_full_check_found_put_back_is_news_when_it_differs_again() -> None:
    news = News()
    item = Item("/d/a", "low", "data", {"size": (1, 2)})

    def found(report: Report, began: float = math.inf) -> list[str]:
        return [told.subject for told in findings(report, news, "check", began)]

    assert found(checked(item)) == ["/d/a"]
    assert found(checked(item)) == [], "it differs as before"
    for unseen in ("/d/a", "/d", "/"):
        assert found(checked(unseen=(Unseen(unseen, "refused"),))) == []
        assert found(checked(item)) == [], "nobody saw that it was put back"
    assert found(checked(unseen=(Unseen("/e", "refused"), Unseen("/d/", "refused")))) == []
    assert found(checked(unseen=(Unseen("/e", "refused"),))) == []
    assert found(checked(item)) == ["/d/a"]
    assert found(checked(), began=0.0) == []
    assert found(checked(item)) == [], "told after that check had begun"


def test_a_line_says_what_which_and_who_and_has_no_control_characters() -> None:
    item = Item("/etc/x", "high", "configuration", {"sha256": ("aa", "bb")})
    who = Who(9, 0, "root", "/bin/sh", ("sh", "-c", "\x1b[31m"), container="web")
    record = change(
        Happening(b"etc", b"x\n\xff", ("write",), who), Judgement(Verdict.CHANGED, item)
    )
    assert record.detail["attributes"] == {"sha256": ["aa", "bb"]}
    text = line(record, "12:00:00")
    assert text.isprintable()
    for word in ("12:00:00", "high", "changed", "/etc/x", "(write)", "[sha256]", "/bin/sh[9]",
                 "of root", "in web"):  # fmt: skip
        assert word in text
    assert "unsure" not in text and "as uid" not in text
    other = msgspec.structs.replace(who, executable="", name="/bin/x", fsuid=7, unsure=("uid: x",))
    text = line(change(Happening(b"", b"y", ("write",), other), Judgement(Verdict.SAME)), "t")
    for word in ("a process[9] that calls itself '/bin/x'", "as uid 7", "unsure: uid"):
        assert word in text
    denied = line(denial(b"/evil", "not in the baseline", "execute", Who(3, gone=True)), "t")
    assert "denial" in denied and "not in the baseline" in denied and "ended since" in denied


DEEP = b"/".join([b"d" * 250] * 265)


@pytest.mark.parametrize(
    ("path", "other", "words"),
    [
        (DEEP, None, ()),
        (DEEP, DEEP, ()),
        (DEEP.replace(b"d", b"\xff"), None, ()),
        (DEEP.replace(b"d", b"\1"), DEEP.replace(b"d", b"\x80"), ()),
        (b"a", None, ("x" * 99_999,) * 3),
        (b"a", None, ("\1" * 300,) * 999),
        (DEEP, DEEP, ("\udcff" * 9999,) * 99),
    ],
    ids=["path", "both ends", "no UTF-8", "escapes", "command", "words", "all"],
)
def test_no_record_is_longer_than_a_ledger_takes(
    path: bytes, other: bytes | None, words: tuple[str, ...]
) -> None:
    pairs: dict[str, tuple[Value, Value]] = {f"xattr {n}": ("x" * 999, "y") for n in range(99)}
    item = Item("/a", "high", "data", pairs)
    happened = Happening(b"", path, ("write",), Who(1, command=words), other)
    given = change(happened, Judgement(Verdict.CHANGED, item))
    with pytest.raises(ValueError, match="too many"):
        Wish.of(Kind.EVENT, given.subject, given.detail)
    record = bounded(given)
    Wish.of(Kind.EVENT, record.subject, record.detail)
    assert record.detail["left_out"]
    assert (record.detail["event"], record.detail["verdict"]) == ("change", "changed")
    assert record.detail["who"]["pid"] == 1


def test_what_is_cut_stays_apart_and_what_fits_stays_whole() -> None:
    middle = len(DEEP) // 2
    others = [DEEP, DEEP[:middle] + b"e" + DEEP[middle + 1 :]]
    first, second = (
        bounded(change(Happening(b"", path, ("delete",)), Judgement(Verdict.ABSENT)))
        for path in others
    )
    assert first.subject != second.subject
    assert f"{len(DEEP) + 1} bytes in all" in first.subject
    assert hashlib.sha256(b"/" + DEEP).hexdigest() in first.subject
    assert first.subject.startswith("/dddd") and first.subject.endswith("dddd")
    short = change(Happening(b"", DEEP[:9000], ("delete",)), Judgement(Verdict.ABSENT))
    assert bounded(short) is short


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "1970-01-01T00:00:00.000000001Z"),
        (1 << 40, "@1099511627776.000000001"),
        (-99_999_999_999, "@-99999999999.000000001"),
        (1 << 62, "@4611686018427387904.000000001"),
    ],
)
def test_any_time_that_a_file_can_have_is_told(seconds: int, shown: str) -> None:
    old, new = Entry(b"a", FILE, mtime=1), Entry(b"a", FILE, mtime=seconds * 10**9 + 1)
    found = item_of(Change(b"a", old, new, ("mtime",)), "sha256")
    assert found.attributes["mtime"] == ("1970-01-01T00:00:00.000000001Z", shown)


def test_a_record_of_which_nothing_fits_keeps_its_subject() -> None:
    heap = {f"{number}": {f"{inner}": "\1" * 999 for inner in range(64)} for number in range(64)}
    record = bounded(Told("event", "/a", {"event": "change", "a": heap, "b": heap, "c": heap}))
    assert record.detail == {"event": "change", "left_out": "all but the subject: too long"}


def test_a_keeper_keeps_a_path_of_any_length(tmp_path: Path) -> None:
    key = tmp_path / "key"
    generate(key)
    with Ledger.open(tmp_path / "ledger", private_key(key)) as ledger:
        keeper = Keeper(ledger, lambda told: told.subject, lambda: True)
        deep = change(Happening(b"", DEEP, ("create",)), Judgement(Verdict.ABSENT))
        keeper.keep([deep, Told("event", "/next", {"event": "change"})])
        keeper.close()
    kept = [line for each in segments(tmp_path / "ledger") for line in each.lines()]
    assert any(b"bytes in all" in line for line in kept)
    assert any(b'"/next"' in line for line in kept)


def test_nobody_is_told_to_mount_the_root_over_itself(tmp_path: Path) -> None:
    for root, advised in ((Path("/"), False), (tmp_path, True)):
        with pytest.raises(UsageError) as caught:
            marking(Target("directory", str(root), root), -1)
        assert ("mount --bind" in caught.value.remedy) is advised


ROOT = b"22 1 254:0 / / rw - ext4 /dev/vda rw\n"
ONE = b"40 22 0:50 / /t/sub rw - tmpfs one rw\n"
TWO = b"41 40 0:51 / /t/sub rw - tmpfs two rw\n"
FAR = b"42 22 0:52 / /tx rw - tmpfs x rw\n"


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        (ROOT, ROOT + ONE, ["mount"]),
        (ROOT + ONE, ROOT, ["unmount"]),
        (ROOT + ONE, ROOT + ONE + TWO, ["mount"]),
        (ROOT + ONE + TWO, ROOT + ONE, ["unmount"]),
        (ROOT + ONE, ROOT + TWO, ["unmount", "mount"]),
        (ROOT + ONE, ROOT + ONE.replace(b"0:50", b"0:53"), ["unmount", "mount"]),
        (ROOT + ONE, ROOT + ONE + FAR, []),
        (ROOT + ONE, ROOT + ONE, []),
    ],
)
def test_each_mount_counts_and_not_the_path_alone(
    before: bytes, after: bytes, changes: list[str]
) -> None:
    former, now = table_of(before, b"/t"), table_of(after, b"/t")
    assert now.since(former) == [(b"sub", did) for did in changes]
    assert now.paths == (frozenset([b"sub"]) if b"/t/sub" in after else frozenset())
    assert table_of(after, b"/").since(table_of(before, b"/"))[: len(changes)] == [
        (b"t/sub", did) for did in changes
    ]


@pytest.mark.parametrize("odd", ["\r", "\x0b", "\u2028"])
def test_a_mount_point_is_called_as_it_is(tmp_path: Path, odd: str) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(f"1 0 0:7 / /t/a{odd}b rw shared:4 - tmpfs x rw\n".encode())
    assert [mount.point for mount in read_mounts(table)] == [f"/t/a{odd}b"]
