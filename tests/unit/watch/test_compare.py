from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ringfence.watch.baseline.compare import Change, Comparison
from ringfence.watch.baseline.entry import DIRECTORY, FILE, Entry
from ringfence.watch.baseline.items import item_of
from ringfence.watch.baseline.rules import Mode, Rule
from ringfence.watch.baseline.severity import meaning

OLD = Entry(
    b"a", FILE, 0o644, 0, 0, 10, 1, None, None, (), b"", b"", b"d" * 32, False, 10**18, 10**18, 5
)
EXACT = Rule(Mode.EXACT)


def differing(rule: Rule = EXACT, chosen: tuple[str, ...] = (), **fields: Any) -> tuple[str, ...]:
    new = msgspec.structs.replace(OLD, **fields)
    return Comparison(chosen).differing(OLD, new, new.digest or b"", rule)


def test_nothing_differs_from_itself() -> None:
    assert differing() == ()
    assert differing(mtime=5, ctime=6, inode=7) == ()


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("mode", 0o600, "mode"), ("uid", 1, "owner"), ("gid", 1, "group"), ("size", 11, "size"),
        ("links", 2, "links"), ("xattrs", ((b"user.a", b""),), "xattrs"), ("acl", b"x", "acl"),
        ("default_acl", b"x", "default-acl"), ("digest", b"e" * 32, "content"),
        ("mount", True, "mount"), ("kind", DIRECTORY, "type"),
    ],
)  # fmt: skip
def test_one_field_is_one_attribute(field: str, value: Any, name: str) -> None:
    assert differing(**{field: value}) == (name,)


def test_what_was_not_known_is_not_compared() -> None:
    blank = Entry(b"a", FILE)
    assert Comparison().differing(blank, OLD, b"", EXACT) == ()
    # The other way round something known is gone, which only an archive may do.
    assert "mode" in Comparison().differing(OLD, blank, b"", EXACT)
    assert Comparison(partial=True).differing(OLD, blank, b"", EXACT) == ()


def test_what_cannot_be_read_any_more_differs() -> None:
    assert differing(digest=None, unread="permission denied") == ("unread",)
    never = msgspec.structs.replace(OLD, digest=None, unread="permission denied")
    assert Comparison().differing(never, never, b"", EXACT) == ()
    assert Comparison().differing(never, OLD, b"", EXACT) == ()


def test_times_are_compared_by_choice_and_by_the_second_where_one_side_has_no_more() -> None:
    assert differing(chosen=("mtime",), mtime=10**18 + 1) == ()
    assert differing(chosen=("mtime",), mtime=10**18 + 10**9) == ("mtime",)
    exact = msgspec.structs.replace(OLD, mtime=10**18 + 3)
    later = msgspec.structs.replace(OLD, mtime=10**18 + 4)
    assert Comparison(("mtime",)).differing(exact, later, b"", EXACT) == ("mtime",)


def test_rules_with_attributes_compare_these_alone() -> None:
    rule = Rule(Mode.METADATA, attributes=("mode", "size"))
    assert differing(rule, uid=7, digest=None) == ()
    assert differing(rule, size=11) == ("size",)


def test_items_say_what_was_and_is_and_hide_values_of_attributes() -> None:
    new = msgspec.structs.replace(OLD, xattrs=((b"user.token", b"hunter2"),), mode=0o4755)
    item = item_of(Change(b"usr/bin/x", OLD, new, ("mode", "xattrs")), "sha256")
    assert item.attributes["mode"] == ("0644", "4755")
    assert item.severity == "critical"
    assert "hunter2" not in msgspec.json.encode(item).decode()


def test_names_that_are_no_text_are_told_twice() -> None:
    item = item_of(Change(b"bad\xff", None, OLD), "sha256")
    assert item.path == "/bad\\xff"
    assert item.path_bytes == "L2JhZP8="


@pytest.mark.parametrize(
    ("path", "mode", "expected"),
    [
        ("/usr/bin/su", 0o4755, "critical"),
        ("/etc/shadow", 0o640, "critical"),
        ("/etc/ld.so.preload", 0o644, "critical"),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", 0o644, "high"),
        ("/usr/bin/ls", 0o755, "high"),
        ("/etc/systemd/system/a.service", 0o644, "high"),
        ("/etc/nginx/nginx.conf", 0o644, "medium"),
        ("/srv/data.bin", 0o644, "low"),
        ("/var/log/syslog", 0o640, "low"),
    ],
)
def test_severity_by_what_it_is(path: str, mode: int, expected: str) -> None:
    entry = msgspec.structs.replace(OLD, mode=mode)
    assert meaning(path, entry, entry).severity == expected
    # Being it on one side is enough, in either direction.
    plain = msgspec.structs.replace(OLD, mode=0o644)
    assert meaning(path, plain, entry).severity == expected
    assert meaning(path, entry, plain).severity == expected
