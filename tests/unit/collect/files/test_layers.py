"""Layers and whiteouts, against a reference that keeps folders inside folders."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.collect.files import layers
from ringfence.collect.files.layers import Layers, merged
from ringfence.collect.files.streams import Stretch
from ringfence.errors import InputError
from ringfence.model.files import FileKind
from tests.images import Entry, folder, hard, layer, link


def lay(*stack: Iterable[Entry]) -> Layers:
    data = [layer(entries) for entries in stack]
    return merged(Stretch(item, "layer.tar", 0, len(item)) for item in data)


def names(*stack: Iterable[Entry]) -> set[str]:
    """Paths of what is left, folders that were only implied left out."""
    return set(lay(*stack).files)


def test_a_whiteout_removes_what_lies_below() -> None:
    below = [folder("etc"), Entry("etc/a"), Entry("etc/b")]
    assert names(below, [Entry("etc/.wh.a")]) == {"etc", "etc/b"}


def test_a_whiteout_of_a_folder_removes_all_in_it() -> None:
    below = [folder("opt"), folder("opt/x"), Entry("opt/x/y"), Entry("opt/xy")]
    assert names(below, [Entry("opt/.wh.x")]) == {"opt", "opt/xy"}


def test_a_whiteout_spares_its_own_layer_wherever_it_stands() -> None:
    for own in ([Entry("a"), Entry(".wh.a")], [Entry(".wh.a"), Entry("a")]):
        assert names([Entry("a", b"old")], own) == {"a"}
        assert lay([Entry("a", b"old!")], own).files["a"].size == 0


def test_an_opaque_folder_hides_all_below_but_not_its_own() -> None:
    below = [folder("d"), Entry("d/old"), Entry("e")]
    for own in (
        [Entry("d/.wh..wh..opq"), Entry("d/new")],
        [Entry("d/new"), Entry("d/.wh..wh..opq")],
    ):
        assert names(below, own) == {"d", "d/new", "e"}


def test_an_opaque_root_hides_everything() -> None:
    assert names([Entry("a"), Entry("b/c")], [Entry(".wh..wh..opq"), Entry("n")]) == {"n"}


def test_a_file_in_place_of_a_folder_removes_what_was_in_it() -> None:
    assert names([folder("d"), Entry("d/x")], [Entry("d", b"file")]) == {"d"}
    assert names([folder("d"), Entry("d/x")], [link("d", "/e")]) == {"d"}


def test_a_folder_over_a_folder_keeps_what_is_in_it() -> None:
    found = lay([folder("d"), Entry("d/x")], [folder("d", mode=0o700)])
    assert set(found.files) == {"d", "d/x"}
    assert found.files["d"].mode == 0o700


def test_later_layers_win() -> None:
    found = lay([Entry("a", b"1" * 30, mode=0o4755)], [Entry("a", b"22", mode=0o755)]).files["a"]
    assert (found.size, found.mode) == (2, 0o755)


def test_writing_through_a_symlinked_folder_lands_where_it_leads() -> None:
    below = [folder("usr"), folder("usr/lib"), link("lib", "usr/lib")]
    assert "usr/lib/x.so" in names(below, [Entry("lib/x.so")])
    assert "usr/lib/y" in names([*below, Entry("lib/y")])


def test_a_symlink_never_leads_out_of_the_root() -> None:
    found = names([link("up", "../../../etc"), Entry("up/evil")])
    assert "etc/evil" in found
    assert not any(name.startswith("..") for name in found)


def test_hard_links_have_the_facts_and_no_bytes_of_their_own() -> None:
    found = lay([Entry("a", b"123456", mode=0o4755)], [hard("b", "a")]).files
    assert (found["b"].mode, found["b"].size, found["a"].size) == (0o4755, 0, 6)


def test_all_layers_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is listed a thousand times is as much work as a thousand."""
    monkeypatch.setattr(layers, "MOST_EXPANDED", 64 << 10)
    same = [Entry("a", bytes(30 << 10))]
    assert set(lay(same).files) == {"a"}
    with pytest.raises(InputError, match="expands to more than"):
        lay(*[same] * 3)


def test_a_hard_link_that_is_set_user_id_makes_its_file_so() -> None:
    """Engines give one file the link's owner and mode; `ls` in podman shows both names so."""
    link = hard("su", "a")
    link.info.mode = 0o4755
    for stack in ([[Entry("a", b"123", mode=0o755, uid=7), link]],
                  [[Entry("a", b"123", mode=0o755, uid=7)], [link]]):  # fmt: skip
        found = lay(*stack).files
        assert {(found[name].mode, found[name].uid) for name in ("a", "su")} == {(0o4755, 0)}
        assert found["a"].size == 3


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (Entry("../evil"), "leads out of the root"),
        (Entry("a/../../evil"), "leads out of the root"),
        (hard("b", "../evil"), "a hard link to nothing"),
        (hard("b", "nothing"), "a hard link to nothing"),
        (Entry("odd", kind=b"Z"), "is not known"),
    ],
)
def test_what_is_refused_is_said(entry: Entry, why: str) -> None:
    found = lay([entry, Entry("good")])
    assert set(found.files) == {"good"}
    (note,) = found.unseen()
    assert why in note.why
    assert not found.complete
    assert lay([Entry("good")]).complete


def test_an_absolute_name_is_taken_as_below_the_root() -> None:
    assert names([Entry("/etc/x")]) == {"etc/x"}


def test_a_loop_of_symlinks_is_refused_and_ends() -> None:
    found = lay([link("a", "b"), link("b", "a"), Entry("a/x"), link("self", "self/self")])
    assert set(found.files) == {"a", "b", "self"}
    assert "loop" in found.unseen()[0].why


def test_kinds_are_told_apart() -> None:
    entries = [folder("d"), Entry("f"), link("l", "f"), Entry("p", kind=tarfile.FIFOTYPE),
               Entry("c", kind=tarfile.CHRTYPE)]  # fmt: skip
    found = lay(entries).files
    kinds = {name: file.kind for name, file in found.items()}
    assert kinds == {"d": FileKind.DIRECTORY, "f": FileKind.REGULAR, "l": FileKind.SYMLINK,
                     "p": FileKind.FIFO, "c": FileKind.DEVICE}  # fmt: skip


class Folder(dict[str, "Folder | int"]):
    """The reference: a folder is a dict, a file its size."""


def apply(root: Folder, entries: list[Entry]) -> None:
    """One layer onto the tree below, in the order of the specification: first what goes."""
    for entry in entries:
        *parents, last = entry.info.name.split("/")
        if not last.startswith(".wh."):
            continue
        place: Folder | int | None = root
        for name in parents:
            place = place.get(name) if isinstance(place, Folder) else None
        if not isinstance(place, Folder):
            continue
        if last == ".wh..wh..opq":
            place.clear()
        else:
            place.pop(last[4:], None)
    for entry in entries:
        *parents, last = entry.info.name.split("/")
        if last.startswith(".wh."):
            continue
        place = root
        for name in parents:
            step = place.get(name)
            if not isinstance(step, Folder):
                step = place[name] = Folder()
            place = step
        if entry.info.isdir():
            if not isinstance(place.get(last), Folder):
                place[last] = Folder()
        else:
            place[last] = len(entry.body)


def flat(place: Folder, prefix: str = "") -> dict[str, int]:
    """Files of the reference with their sizes."""
    found: dict[str, int] = {}
    for name, item in place.items():
        if isinstance(item, Folder):
            found |= flat(item, f"{prefix}{name}/")
        else:
            found[prefix + name] = item
    return found


PARTS = st.sampled_from(["a", "b"])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@st.composite
def one_layer(draw: st.DrawFn) -> list[Entry]:
    """A layer as tools write it: each path once, folders before what is in them, and nothing
    below a file of the same layer."""
    chosen: dict[str, Entry] = {}
    for path in draw(st.lists(PATHS, max_size=4, unique=True)):
        parents = [path.rpartition("/")[0]]
        while parents[-1]:
            parents.append(parents[-1].rpartition("/")[0])
        if any(other in chosen for other in parents if other) or any(
            name.startswith(f"{path}/") for name in chosen
        ):
            continue
        for parent in reversed([item for item in parents if item]):
            chosen.setdefault(f"{parent} ", folder(parent))
        chosen[path] = Entry(path, b"x" * draw(st.integers(0, 9)))
    whiteouts = []
    for path in draw(st.lists(PATHS, max_size=2, unique=True)):
        head, _, last = path.rpartition("/")
        name = ".wh..wh..opq" if draw(st.booleans()) else f".wh.{last}"
        whiteouts.append(Entry(f"{head}/{name}" if head else name))
    made = list(chosen.values())
    return [*whiteouts, *made] if draw(st.booleans()) else [*made, *whiteouts]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(one_layer(), min_size=1, max_size=3))
def test_merging_is_that_of_the_reference(stack: list[list[Entry]]) -> None:
    root = Folder()
    for entries in stack:
        apply(root, entries)
    found = {
        path: file.size for path, file in lay(*stack).files.items() if file.kind is FileKind.REGULAR
    }
    assert found == flat(root)


def test_all_layers_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringfence.collect.files.layers.MOST_MEMBERS", 4)
    assert names([Entry("a"), Entry("b")], [Entry("a"), Entry("b")]) == {"a", "b"}
    with pytest.raises(InputError, match="more than 4 files together"):
        lay([Entry("a"), Entry("b")], [Entry("a"), Entry("b"), Entry("c")])


def test_package_databases_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringfence.collect.files.layers.MOST_HELD", 60)
    part = "var/lib/dpkg/status.d/"
    found = lay([Entry(f"{part}a", b"x" * 40), Entry(f"{part}b", b"y" * 40)])
    assert found.bodies == {f"{part}a": b"x" * 40}
    assert [(note.what, note.why) for note in found.unseen()] == [
        (f"1 file(s) of the archive, the first '{part}b'",
         "package databases of more than 128 MiB in all are not read"),
    ]  # fmt: skip


def test_a_database_that_takes_the_place_of_another_needs_no_room_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ringfence.collect.files.layers.MOST_HELD", 60)
    status = "var/lib/dpkg/status"
    stack = [[Entry(status, bytes([number]) * 25)] for number in range(8)]
    assert lay(*stack).bodies == {status: bytes([7]) * 25}
