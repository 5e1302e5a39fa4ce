"""Whom sudo rules below another root name, and that nothing there leads the reader astray."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringfence.collect.files.sudoers import sudo_rules
from ringfence.collect.files.way import anything
from ringfence.model.evidence import Grade
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
        ("User_Alias A = A\nA ALL=ALL", SudoRules()),
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


@pytest.mark.parametrize(
    "rules",
    ["+netgroup ALL=ALL", "%:domain ALL=ALL", "@include /opt/rules", "#include /opt/rules",
     '"a user" ALL=ALL', "nonsense", "User_Alias A"],
)  # fmt: skip
def test_what_may_name_anybody_is_not_known(tmp_path: Path, rules: str) -> None:
    assert sudo_rules(str(root(tmp_path, rules)), anything).value is None


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
