from __future__ import annotations

import random
import re
import time

import pytest

from ringfence.errors import UsageError
from ringfence.watch.baseline.globs import check, expression


def matches(glob: str, path: bytes) -> bool:
    return re.compile(expression(glob), re.DOTALL).match(path) is not None


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("/var/log/**", b"/var/log/a", True),
        ("/var/log/**", b"/var/log/a/b/c", True),
        ("/var/log/**", b"/var/log", False),
        ("/var/log/*", b"/var/log/a/b", False),
        ("/var/log/*", b"/var/log/a", True),
        ("/var/**/x", b"/var/x", True),
        ("/var/**/x", b"/var/a/b/x", True),
        ("/var/**/x", b"/var/a/xx", False),
        ("/a**/b", b"/a/b", True),
        ("/a**/b", b"/ax/y/b", True),
        ("/a**/b", b"/ab", False),
        ("/**.log", b"/a/b.log", True),
        ("/**.log", b"/a/b.log/c", False),
        ("*.pyc", b"/usr/lib/a.pyc", True),
        ("*.pyc", b"/a.pyc", True),
        ("*.pyc", b"/a.py", False),
        ("/a?c", b"/abc", True),
        ("/a?c", b"/a/c", False),
        ("/[ab]", b"/a", True),
        ("/[!ab]", b"/a", False),
        ("/[^ab]", b"/c", True),
        ("/[]a]", b"/]", True),
        ("/[!]a]", b"/]", False),
        ("/[!]a]", b"/b", True),
        ("/[a-]", b"/-", True),
        (r"/[\]", b"/\\", True),
        ("/a[.-0]b", b"/a.b", True),
        ("/a[.-0]b", b"/a0b", True),
        ("/a[.-0]b", b"/a/b", False),
        ("/a[!x]b", b"/a/b", False),
        (r"/a\*", b"/a*", True),
        (r"/a\*", b"/ab", False),
        (r"/\{a,b\}", b"/{a,b}", True),
        ("/a\nb", b"/a\nb", True),
        ("/*", b"/a\xff\nb", True),
        ("/é?", b"/\xc3\xa9x", True),
        ("/**", b"/", True),
        ("/", b"/", True),
        ("/", b"/a", False),
    ],
)
def test_globs(glob: str, path: bytes, expected: bool) -> None:
    check(glob, "here")
    assert matches(glob, path) is expected


def plainly(glob: str, path: str) -> bool:
    """What a glob of `a`, `b`, `/`, `?`, `*` and `**` matches, by trying everything."""
    if not glob:
        return not path
    if glob.startswith("**"):
        return any(plainly(glob[2:], path[end:]) for end in range(len(path) + 1))
    if glob.startswith("*"):
        end = (path + "/").find("/")
        return any(plainly(glob[1:], path[place:]) for place in range(end + 1))
    same = path[:1] == glob[0] or (glob[0] == "?" and path[:1] not in ("", "/"))
    return same and plainly(glob[1:], path[1:])


def by_names(glob: str, path: str) -> bool:
    """The same, where `**` as a name of its own may stand for no name at all."""
    head, found, tail = glob.partition("/**/")
    if not found:
        return plainly(glob, path)
    steps = [place for place, char in enumerate(path) if char == "/"]
    return any(
        plainly(head, path[:first]) and any(
            by_names("/" + tail, path[second:]) for second in steps if second >= first
        )
        for first in steps
    )  # fmt: skip


def test_globs_match_what_trying_everything_finds() -> None:
    chosen = random.Random(7)
    found = 0
    for _ in range(6000):
        names = [
            chosen.choice(["**", "".join(chosen.choices(["a", "b", "*", "?", "**"], k=3))])
            for _ in range(chosen.randint(1, 4))
        ]
        glob = "/" + "/".join(names)
        if "***" in glob:
            continue
        for _ in range(10):
            path = "".join(
                "/" + "".join(chosen.choices("ab", k=chosen.randint(1, 4)))
                for _ in range(chosen.randint(1, 5))
            )
            expected = by_names(glob, path)
            found += expected
            assert matches(glob, path.encode()) is expected, (glob, path)
    assert found > 1000


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("/home/**/cache/**/cache/**/cache/**/*.tmp", b"/home" + b"/cache" * 2500),
        ("/home/**cache**cache**cache**.tmp", b"/home" + b"/cache" * 2500),
        ("/home/**/c*e/c*e/**/c*e/*.tmp", b"/home" + b"/cache" * 2500),
        ("/home/*a*a*a*a*a*b", b"/home/" + b"a" * 255),
    ],
)
def test_a_path_made_to_take_long_takes_no_longer(glob: str, path: bytes) -> None:
    pattern = re.compile(expression(glob), re.DOTALL)
    began = time.process_time()
    assert pattern.match(path) is None
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("glob", "why"),
    [
        ("/a/", "ends with a slash"),
        ("./a", "empty name"),
        ("/a/../lib", "empty name"),
        ("/a//b", "empty name"),
        ("/a/[a-", "nothing closes"),
        ("/a/[!]", "nothing closes"),
        ("/a[[:punct:]]b", "character class"),
        ("/a[/]b", "slash in brackets"),
        ("/a[é]b", "ASCII"),
        ("/[b-a]", "range"),
        ("/{a,lib}/**", "braces"),
        ("/a\\", "backslash"),
        ("/a\0b", "zero byte"),
        ("/a\udcff", "UTF-8"),
    ],
)
def test_what_matches_nothing_is_refused(glob: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check(glob, "here")


def test_what_was_sealed_before_is_still_understood() -> None:
    for glob in ("/a/", "/a/[a-", "/[[:punct:]]", "/{a,b}", "/a\\"):
        assert not matches(glob, b"/a/b")
    assert matches("/a/[a-", b"/a/[a-")
