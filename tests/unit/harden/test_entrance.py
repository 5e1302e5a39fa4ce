"""What a hardening takes in from outside: refused before any work, or normalised."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ringfence.errors import InputError, RingfenceError, UsageError
from ringfence.harden.build import absent_of
from ringfence.harden.entrance import admitted, check_folders, check_name, how_to_write, name_from
from ringfence.harden.service import Identity, Service, check_fenced
from ringfence.harden.source import Source
from ringfence.harden.wishes import Wishes
from tests.unit.harden.trees import planted

FILES: dict[str, str | bytes] = {
    "usr/bin/srv*": "", "srv/suid": "", "etc/conf": "", "data/x": "",
    "etc/passwd": "root:x:0:0:::\nweb:x:33:33:::\n",
}  # fmt: skip


def _source(root: Path, **changed: object) -> Source:
    if not any(root.iterdir()):
        planted(root, FILES, {"bin": "usr/bin", "var/www": "../srv"})
    service = msgspec.structs.replace(Service(("/bin/srv",)), **changed)
    return Source("rootfs", "base", root, service)


@pytest.mark.parametrize(
    ("folder", "word"),
    [
        ("/srv\nExecStartPre=/bin/evil", "policies cannot say"),
        ("/srv\rUser=0", "policies cannot say"),
        ("/srv\\", "policies cannot say"),
        ("/srv ", "policies cannot say"),
        ("srv", "does not begin with /"),
        ("", "does not begin with /"),
    ],
)
def test_a_working_directory_that_would_be_lines_of_a_policy_is_refused(
    folder: str, word: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=word):
        admitted(_source(tmp_path, folder=folder), Wishes())


@pytest.mark.parametrize(
    ("folder", "read"),
    [("/../../etc", "/etc"), ("//srv/", "/srv"), ("/a b,%h", "/a b,%h"), ("/", "/")],
)
def test_a_working_directory_is_read_as_engines_do(folder: str, read: str, tmp_path: Path) -> None:
    assert admitted(_source(tmp_path, folder=folder), Wishes())[0].service.folder == read


@pytest.mark.parametrize("word", ["=x", "D E=1", "A\n=1", "Ä=1", "A=x\0y", "A=\udcff"])
def test_a_variable_that_no_image_can_say_is_refused(word: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="variable"):
        admitted(_source(tmp_path, environment=(word,)), Wishes())


def test_other_variables_pass(tmp_path: Path) -> None:
    words = ("A=1\n\t2", "discovery.type=single-node", "B=", 'C=%$\\"é', "D=x\r", "PS1=\x1b[0m")
    found = admitted(_source(tmp_path, environment=words), Wishes())
    assert found[0].service.environment == words


@pytest.mark.parametrize("words", [("/bin/srv", "\udcff"), ("/bin/srv", "a\0b"), ("", "a")])
def test_a_command_that_no_image_can_say_is_refused(words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="command"):
        admitted(_source(tmp_path, command=words), Wishes())


@pytest.mark.parametrize(
    "name",
    ['a b"c', "a\nExecStartPre=/x", "../../up", "Über", "80" * 40, "a..b", "-a", "a_", "\udcff"],
)  # fmt: skip
def test_a_name_that_no_image_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        check_name(name)
    check_name(name_from(name))


@pytest.mark.parametrize("name", ["", "web", "a-b_c.d", "a--b__c", "a" * 63, "7z", "python3.11"])
def test_other_names_are_left_as_they_are(name: str) -> None:
    check_name(name)
    assert name_from(name) == (name or "service")


def test_the_name_of_a_program_becomes_one_of_an_image() -> None:
    found = [name_from(text) for text in ("My Server", "Über", "..", "[", "a" * 62 + "-b", "x\ny")]
    assert found == ["my-server", "ber", "service", "service", "a" * 62, "x-y"]


@pytest.mark.parametrize("user", ["0", "root", "0:33", ":33"])
def test_root_is_no_user_to_ask_for(user: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unprivileged"):
        admitted(_source(tmp_path), Wishes(user=user))


@pytest.mark.parametrize("user", ["70000", "1000:70000", "65536", "4294967294"])
def test_a_user_that_a_fence_does_not_have_is_refused(user: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="below 65536"):
        admitted(_source(tmp_path), Wishes(user=user))
    with pytest.raises(InputError, match="below 65536"):
        admitted(_source(tmp_path, user=user), Wishes())
    admitted(_source(tmp_path, user=user), Wishes(user="33"))


def test_users_that_a_fence_has(tmp_path: Path) -> None:
    for user in ("33", "web", "65535:65535", "1000:0"):
        admitted(_source(tmp_path), Wishes(user=user))
    admitted(_source(tmp_path, user="0"), Wishes())  # an image's own root becomes somebody else
    check_fenced(Identity(65535, 65535), "x")


@pytest.mark.parametrize(
    "path",
    ["/", "", "..", "/proc", "/dev/", "/sys/kernel", "/bin", "/usr/bin/", "/usr", "/bin/srv",
     "/etc/conf", "/a:b", "/a\nb", '/a"b', "/a$b", "/a\\b", "/data/a "],
)  # fmt: skip
def test_a_folder_that_cannot_be_writable_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(RingfenceError) as caught:
        admitted(_source(tmp_path), Wishes(writable=(path,)))
    assert caught.value.exit_code == 2


def test_writable_folders_are_normalised(tmp_path: Path) -> None:
    paths = ("/etc", "data//", "/data/../data", "/a b,c%h", "/dev/shm", "/var/new")
    found = admitted(_source(tmp_path), Wishes(writable=paths))[1].writable
    assert found == ("etc", "data", "a b,c%h", "dev/shm", "var/new")


def test_no_option_is_named_that_would_be_refused(tmp_path: Path) -> None:
    source = _source(tmp_path)
    for path in ("etc/conf", "data/a/b", "dev/shm/x"):
        option, _, folder = how_to_write(path, "openat").partition(" ")
        assert option == "--writable"
        admitted(source, Wishes(writable=(folder,)))
    for path in ("x", "proc/sys/x", "dev/x"):
        assert how_to_write(path, "openat") == ""
        with pytest.raises(UsageError):
            admitted(source, Wishes(writable=(f"/{path.rpartition('/')[0]}",)))


def test_who_makes_a_folder_is_offered_that_folder_alone() -> None:
    assert (
        how_to_write("srv/up", "mkdir") == how_to_write("srv/up/x", "open") == "--writable /srv/up"
    )
    assert how_to_write("srv/up", "unlink") == "--writable /srv"
    assert how_to_write("proc/x", "mkdirat") == ""


def test_folders_that_it_writes_are_looked_at_as_well() -> None:
    check_folders(("var/lib/My App", "run/é"))
    with pytest.raises(InputError, match="/run/a:b"):
        check_folders(("run", "run/a:b"))


def test_what_is_left_out_is_named_as_files_are(tmp_path: Path) -> None:
    drop = ("bin/../bin/srv", "srv/../srv/suid", "/usr/bin/srv", "/var/www/suid", "/bin", "/nope/",
            "srv/.")  # fmt: skip
    source, wishes = admitted(_source(tmp_path), Wishes(drop=drop))
    # `..` after a link leads out of where the link leads to.
    assert wishes.drop == ("usr/bin/srv", "srv/suid", "bin", "nope", "srv")
    assert absent_of(source, wishes) == ("--drop /nope: the tree has nothing of that name",)


@pytest.mark.parametrize("path", ["/", "", "..", "srv/.."])
def test_the_whole_tree_is_not_left_out(path: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="whole tree"):
        admitted(_source(tmp_path), Wishes(drop=(path,)))
