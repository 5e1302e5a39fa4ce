"""Names of archive members stay inside the root."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.collect.files.paths import MOST_HOPS, inside, resolve_parent

NAMES = st.text("ab./", max_size=20)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("etc/passwd", "etc/passwd"), ("./etc//x/", "etc/x"), ("/abs", "abs"), (".", ""), ("", ""),
     ("a/../b", "b"), ("a/b/../..", ""), ("..", None), ("a/../../b", None), ("/..", None),
     ("a\0b", None), ("...", "..."), ("a/.hidden", "a/.hidden")],
)  # fmt: skip
def test_names(name: str, expected: str | None) -> None:
    assert inside(name) == expected


@given(NAMES)
def test_what_is_inside_is_plain(name: str) -> None:
    found = inside(name)
    if found is not None:
        assert not found.startswith("/")
        assert ".." not in found.split("/")
        assert found == inside(found)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=4),
       st.dictionaries(st.sampled_from(["a", "b", "a/b", "c"]), NAMES, max_size=4))  # fmt: skip
def test_following_links_ends_and_never_leaves_the_root(
    parts: list[str], links: dict[str, str]
) -> None:
    found = resolve_parent("/".join(parts), links)
    if found is not None:
        assert ".." not in found.split("/")
        assert found.split("/")[-1] == parts[-1]


def test_links_are_followed_as_the_kernel_follows_them() -> None:
    assert resolve_parent("lib/x", {"lib": "usr/lib"}) == "usr/lib/x"
    assert resolve_parent("lib/x", {"lib": "/usr/lib"}) == "usr/lib/x"
    assert resolve_parent("a/b/x", {"a/b": "../c"}) == "c/x"
    assert resolve_parent("a/x", {"a": "b", "b": "c"}) == "c/x"
    assert resolve_parent("lib", {"lib": "usr/lib"}) == "lib"
    assert resolve_parent("a/x", {"a": "../../.."}) == "x"


def test_a_chain_that_is_too_long_is_a_loop() -> None:
    links = {f"l{number}": f"l{number + 1}" for number in range(MOST_HOPS + 5)}
    assert resolve_parent("l0/x", links) is None
    assert resolve_parent(f"l{MOST_HOPS}/x", links) is not None
