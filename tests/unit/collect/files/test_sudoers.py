"""Whom sudo rules below another root name, and that nothing there leads the reader astray."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.collect.files.sudoers import MOST_BYTES, sudo_rules
from ringfence.collect.files.way import anything
from ringfence.model.evidence import Grade, Seen
from ringfence.model.files import SudoRules

ACCOUNTS = "root:x:0:0::/:/bin/sh\nweb:x:33:33::/:/bin/sh\nbob:x:1000:1000::/:/bin/sh\n"
GROUP = "root:x:0:\nweb:x:33:\nsudo:x:27:bob\nwheel:x:10:\n"


def root(place: Path, rules: str | None = None, **files: str) -> Path:
    (place / "etc/sudoers.d").mkdir(parents=True)
    (place / "etc/passwd").write_text(ACCOUNTS)
    (place / "etc/group").write_text(GROUP)
    if rules is not None:
        (place / "etc/sudoers").write_text(rules)
    for name, text in files.items():
        (place / "etc/sudoers.d" / name).write_text(text)
    return place


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (None, SudoRules()),
        ("Defaults env_reset\nroot ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n", SudoRules()),
        ("# web ALL=(ALL) ALL\n", SudoRules()),
        ("web ALL=(ALL) ALL", SudoRules(uids=frozenset({33}))),
        ("web,bob ALL=(ALL) NOPASSWD: /bin/x", SudoRules(uids=frozenset({33, 1000}))),
        ("web , bob ALL = ALL", SudoRules(uids=frozenset({33, 1000}))),
        ("web \\\n ALL=ALL", SudoRules(uids=frozenset({33}))),
        ("%sudo ALL=(ALL:ALL) ALL", SudoRules(frozenset({1000}), frozenset({27}))),
        ("%#33 ALL=ALL", SudoRules(frozenset({33}), frozenset({33}))),
        ("#1000 ALL=ALL # a comment", SudoRules(uids=frozenset({1000}))),
        ("ALL ALL=(ALL) /bin/x", SudoRules(everyone=True)),
        ("User_Alias A = web, B : B = bob\nA ALL=ALL", SudoRules(frozenset({33, 1000}))),
        ("User_Alias A = B, web : B = C : C = bob\nA, C ALL=ALL", SudoRules(frozenset({33, 1000}))),
        ("User_Alias BOB = web\nBOB ALL=ALL", SudoRules(frozenset({33}))),
        ("BOB, Web ALL=ALL", SudoRules(frozenset({33, 1000}))),
        ("ALL, !web, !%sudo ALL=ALL", SudoRules(everyone=True)),
        ("! web ALL=ALL", SudoRules()),
        ("# hello \\\nweb ALL=(ALL) NOPASSWD: ALL", SudoRules(frozenset({33}))),
        ("#²7 ALL=ALL", SudoRules()),
        ("Defaultsweb ALL=ALL\nDefaults,bob ALL=ALL", SudoRules(frozenset({1000}))),
        ("nobody-here ALL=ALL", SudoRules()),
    ],
)
def test_whom_rules_name(tmp_path: Path, rules: str | None, expected: SudoRules) -> None:
    found = sudo_rules(str(root(tmp_path, rules)), anything)
    assert found.value == expected
    assert found.evidence.grade is Grade.OBSERVED


def test_rules_of_the_folder_count(tmp_path: Path) -> None:
    found = sudo_rules(str(root(tmp_path, "", mine="web ALL=ALL\n")), anything)
    assert found.value == SudoRules(uids=frozenset({33}))


def test_a_user_whose_name_begins_like_a_setting_is_one(tmp_path: Path) -> None:
    place = root(tmp_path, "Defaultsx ALL=(ALL) NOPASSWD: ALL\n")
    (place / "etc/passwd").write_text(ACCOUNTS + "Defaultsx:x:7:7::/:/bin/sh\n")
    assert sudo_rules(str(place), anything).value == SudoRules(frozenset({7}))


DISTRIBUTED = """\
# See the man page for "@include" directives: \\o/
Defaults\tenv_reset, !lecture,timestamp_timeout=5
Defaults   !visiblepw
Defaults    env_keep =  "COLORS DISPLAY"
Defaults    env_keep += "MAIL#QTDIR"
Defaults\tsecure_path="/usr/local/sbin:/sbin:/bin"
Defaults!/usr/sbin/visudo env_keep += "SUDO_EDITOR EDITOR VISUAL"
Defaults targetpw   # ask for the password of the target user
#Defaults:%sudo env_keep += "http_proxy"
#---- #-1 is a user, these dashes are none
Host_Alias\tFILES = fs1, fs2
Cmnd_Alias SOFTWARE = /bin/rpm, /usr/bin/up2date, \\
    /usr/bin/yum
User_Alias ADMINS = root
root\tALL=(ALL:ALL) ALL
ADMINS FILES=(root) NOPASSWD: SOFTWARE, !/bin/sh ""
#includedir /etc/sudoers.d
@includedir "/etc/sudoers.d/"
"""


def test_what_distributions_ship_is_read(tmp_path: Path) -> None:
    place = root(tmp_path, DISTRIBUTED)
    (place / "etc/sudo.conf").write_text(
        "# Plugin x y.so\nPlugin sudoers_policy sudoers.so\n\nSet disable_coredump false\n"
        "Path askpass /usr/bin/ask\n"
    )
    (place / "etc/nsswitch.conf").write_text("passwd: files sss\nsudoers: files # alone\n")
    found = sudo_rules(str(place), anything)
    assert (found.value, found.evidence.grade) == (SudoRules(), Grade.OBSERVED)


@pytest.mark.parametrize(
    "rules",
    [
        "+netgroup ALL=ALL", "%:domain ALL=ALL", "@include /opt/rules", "#include /opt/rules",
        "@includedir /etc/sudoers.d/../x", '"a user" ALL=ALL', "nonsense", "User_Alias A",
        "!!web ALL=ALL", "! !web ALL=ALL", "#-7 ALL=ALL", "w\\eb ALL=ALL",
        "User_Alias X = !web\n!X ALL=ALL", "User_Alias X = !web : Y = !X\nY ALL=ALL",
        "User_Alias X = !!web\nX ALL=ALL", "User_Alias A = A\nA ALL=ALL",
        "User_Alias A = B : B = A\nroot ALL=ALL", "User_Alias ALL = root", "!ALL ALL=ALL",
        "root ALL=/bin/x a\\\\\nweb ALL=ALL", "root ALL=ALL, \\\n#include /opt/rules",
        "root ALL=ALL, \\\n@include /opt/rules", "root ALL=ALL \\ \nweb ALL=ALL",
        "root ALL=/bin/x \\# web ALL=ALL", 'Defaults x="\\\nweb ALL=ALL', "root ALL=ALL \\",
        "root ALL=ALL web ALL=ALL", "Defaults env_reset web ALL=ALL", "root ALL=ALL : B = ALL",
        "User_Alias A = root web ALL=ALL", "Host_Alias A = host web ALL=ALL",
        "root ALL=ALL\r\nweb ALL=ALL", "\ufeffweb ALL=ALL", "#" + "0" * 4999 + "7 ALL=ALL",
        "#4294967296 ALL=ALL", "root ALL=ALL # hello \\\nweb ALL=ALL",
    ],
)  # fmt: skip
def test_what_may_name_anybody_is_not_known(tmp_path: Path, rules: str) -> None:
    found = sudo_rules(str(root(tmp_path, rules)), anything)
    assert found.value is None
    assert (found.evidence.grade, bool(found.evidence.detail)) == (Grade.ASSUMED, True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sudo.conf", "Plugin sudoers_policy sudoers.so sudoers_file=/etc/rules\n"),
        ("sudo.conf", "Plugin other_policy other.so\n"),
        ("sudo.conf", "Path plugin_dir /opt\n"),
        ("sudo.conf", "Plugin sudoers_policy \\\nsudoers.so\n"),
        ("sudo.conf", "# comment \\\nSet disable_coredump false\n"),
        ("nsswitch.conf", "sudoers: files sss\n"),
        ("nsswitch.conf", "  SUDOERS: ldap\n"),
        ("nsswitch.conf", "sudo\\\ners: ldap\n"),
        ("sudoers-rs", ""),
    ],
)
def test_rules_configured_from_elsewhere_are_not_known(
    tmp_path: Path, name: str, text: str
) -> None:
    place = root(tmp_path, "")
    assert sudo_rules(str(place), anything).value == SudoRules()
    (place / "etc" / name).write_text(text)
    found = sudo_rules(str(place), anything)
    assert found.value is None
    assert name in found.evidence.detail


def test_members_of_a_group_are_named_however_they_are_written(tmp_path: Path) -> None:
    place = root(tmp_path, "%Wheel ALL=ALL")
    (place / "etc/group").write_text("# groups\n\nother:x:10:bob\nwheel:x:010:root, web\n")
    found = sudo_rules(str(place), anything)
    assert found.value == SudoRules(frozenset({33, 1000}), frozenset({10}))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("group", "x:x:²:"), ("group", "wheel:x: 10:web"), ("group", "+:::"), ("group", "wheel"),
        ("group", "wheel:x:" + "1" * 5000 + ":web"), ("group", "wheel:x:4294967296:"),
        ("group", "wheel:x:10:web\0,x"), ("passwd", "x:x:1:٣::/:/bin/sh"),
        ("passwd", " web:x:1:1::/:/bin/sh"), ("passwd", "x:x:+7:7::/:/bin/sh"),
    ],
)  # fmt: skip
def test_accounts_that_cannot_be_read_are_not_known(tmp_path: Path, name: str, line: str) -> None:
    """Where rules name nobody, accounts do not matter."""
    place = root(tmp_path, "%wheel ALL=ALL")
    assert sudo_rules(str(place), anything).value is not None
    (place / "etc" / name).write_text(ACCOUNTS * (name == "passwd") + line + "\n")
    assert sudo_rules(str(place), anything).value is None
    (place / "etc/sudoers").write_text("ALL ALL=ALL")
    assert sudo_rules(str(place), anything).value == SudoRules(everyone=True)


def timed(place: Path) -> Seen[SudoRules]:
    begun = time.process_time()
    found = sudo_rules(str(place), anything)
    assert time.process_time() - begun < 10
    return found


@pytest.mark.parametrize("width", [1, 2])
def test_aliases_of_aliases_take_little_time(tmp_path: Path, width: int) -> None:
    deep = 20_000
    chain = "".join(
        f"User_Alias A{at} = " + ",".join([f"A{at + 1}", f"A{at + 2}"][:width]) + "\n"
        for at in range(deep)
    )
    text = f"{chain}User_Alias A{deep} = bob : A{deep + 1} = bob\nA0 ALL=ALL\n"
    assert timed(root(tmp_path, text)).value == SudoRules(frozenset({1000}))


@pytest.mark.parametrize(
    "piece", [" ", "\t", ",", "!", "#", ":", '"', "=", "\\\n", "a ", "a,", " ,", "A=b:", " #", "a=",
              "Defaults a,", "User_Alias A=", "%", "(", "\n", "@", "-", "x, "]
)  # fmt: skip
@pytest.mark.parametrize("start", ["", "Defaults ", "User_Alias A = ", "web ", "web ALL = "])
def test_long_repetitions_take_little_time(tmp_path: Path, start: str, piece: str) -> None:
    timed(root(tmp_path, start + piece * (200_000 // len(piece)) + "\x7e"))


def test_rules_that_are_too_long_are_not_known(tmp_path: Path) -> None:
    half = "#" * (MOST_BYTES // 2) + "\n"
    place = root(tmp_path, half)
    assert sudo_rules(str(place), anything).value == SudoRules()
    (place / "etc/sudoers.d/more").write_text(half)
    assert sudo_rules(str(place), anything).value is None


PIECES = st.sampled_from(
    ["web", "bob", "ALL", "A", "B", "%sudo", "#7", "#", "!", ",", "=", ":", '"', "\\", "\n", "\\\n",
     " ", "\t", "Defaults", "User_Alias ", "@include", "dir /etc/sudoers.d", "(", ")", "²", "\0",
     "-", "x:x:", "0", "+", "/bin/x", "%"]
)  # fmt: skip
CONTENTS = st.binary(max_size=60) | st.lists(PIECES, max_size=25).map(
    lambda pieces: "".join(pieces).encode()
)
FILES = ["sudoers", "sudoers.d/x", "passwd", "group", "sudo.conf", "nsswitch.conf"]


@settings(max_examples=150, deadline=5000)
@given(st.dictionaries(st.sampled_from(FILES), CONTENTS))
def test_whatever_its_files_have_the_reader_answers(contents: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = root(Path(folder), "%sudo ALL=ALL\n")
        for name, data in contents.items():
            (place / "etc" / name).write_bytes(data)
        found = sudo_rules(folder, anything)
    known = found.value is not None
    assert found.evidence.grade is (Grade.OBSERVED if known else Grade.ASSUMED)
    assert found.evidence.detail


@settings(max_examples=150, deadline=5000)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_a_rule_is_seen_whatever_comes_before_its_line(before: str) -> None:
    """Unless sudo joins it to that, which leaves it unknown or names somebody else, too."""
    with tempfile.TemporaryDirectory() as folder:
        found = sudo_rules(str(root(Path(folder), f"{before}\nweb ALL=ALL\n")), anything).value
    if found is not None and not before.endswith("\\"):
        assert 33 in found.uids


def test_rules_like_sudo_s_are_told(tmp_path: Path) -> None:
    root(tmp_path)
    (tmp_path / "etc/doas.conf").write_text("permit nopass web\n")
    found = sudo_rules(str(tmp_path), anything)
    assert found.value is None
    assert "doas" in found.evidence.detail


def test_links_lead_where_they_do_inside(tmp_path: Path) -> None:
    """The reader's own files, and what lies beside the root, are never read."""
    inside, beside = root(tmp_path / "root"), tmp_path / "beside"
    beside.write_text("web ALL=ALL\n")
    link = inside / "etc/sudoers"
    for target in (str(beside), "../../beside", "../../../../beside"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert sudo_rules(str(inside), anything).value == SudoRules()
    (inside / "kept").write_text("bob ALL=ALL\n")
    link.unlink()
    link.symlink_to("/kept")
    assert sudo_rules(str(inside), anything).value == SudoRules(uids=frozenset({1000}))


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    place = root(tmp_path)
    os.mkfifo(place / "etc/sudoers")
    assert sudo_rules(str(place), anything).value is None
    (place / "etc/sudoers").unlink()
    (place / "etc/sudoers").symlink_to("sudoers")
    assert sudo_rules(str(place), anything).value is None


def test_what_is_shunned_is_told_with_its_reason(tmp_path: Path) -> None:
    place = root(tmp_path, "")
    found = sudo_rules(str(place), lambda path: "served" if path == "/etc/sudoers" else "")
    assert (found.value, found.evidence.detail) == (None, "served")
