"""Globs of rules as regular expressions that never go back further than a name.

Whoever makes files chooses the names against which a rule's glob is matched. With `.*` for each
`**` a chain of folders costs the power of its depth, so: what stands between two `**` is taken
where it first matches, and never given up again. That misses nothing: the earliest end leaves the
most for what comes after, for `*` stays in a name and everything else has one length. A `**` steps
over whole names, and pieces between the `*` of one name are taken in the same way.

Matched are bytes, after a slash that stands for the root.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ringfence.errors import UsageError

NAMES, CROSSING, STAR, ONE, SLASH = "**/", "**", "*", "?", "/"
"""Tokens of a glob beside characters and brackets. `NAMES` is `**` as a name of its own: any number
of names, each with the slash after it; `CROSSING` is every other `**`."""
_STEPS = {NAMES: b"(?:[^/]+/)*?", CROSSING: b"(?:[^/]*/)*?"}
_TO_LAST = b"(?:.*/)?+"
"""A step that leaves one name."""


def expression(glob: str) -> bytes:
    """The regular expression of a glob (for re.DOTALL), anchored at both ends. A glob that does not
    begin with a slash matches at any depth."""
    out, step, segment = b"", "", list[str]()
    for token in _tokens(glob if glob.startswith("/") else f"/**/{glob}"):
        if token in _STEPS:
            out += b"(?>%b%b)" % (_STEPS.get(step, b""), _segment(segment, step, token))
            step, segment = token, []
        else:
            segment.append(token)
    if step == CROSSING and not segment:
        return out + rb".*\Z"
    one = step == NAMES and SLASH not in segment
    return out + rb"(?>%b%b\Z)" % (
        _TO_LAST if one else _STEPS.get(step, b""), _segment(segment, step, "")
    )  # fmt: skip


def _segment(tokens: list[str], before: str, after: str) -> bytes:
    """What stands between two `**`, of which `before` and `after` say the kind."""
    names = [[b""]]
    if before == CROSSING:  # it goes on into the first name
        names[0].append(b"")
    for token in tokens:
        if token == SLASH:
            names.append([b""])
        elif token == STAR:
            names[-1].append(b"")
        else:
            names[-1][-1] += _one(token)
    last = _taken(names[-1]) if after == CROSSING else _whole(names[-1])
    return b"/".join([*map(_whole, names[:-1]), last])


def _whole(pieces: list[bytes]) -> bytes:
    """A name to its end, with a `*` between its pieces."""
    if len(pieces) == 1:
        return pieces[0]
    return _taken(pieces[:-1]) + b"[^/]*" + pieces[-1]


def _taken(pieces: list[bytes]) -> bytes:
    """The beginning of a name, each piece where it is found first."""
    return pieces[0] + b"".join(b"(?>[^/]*?%b)" % piece for piece in pieces[1:] if piece)


def _one(token: str) -> bytes:
    """What stands for one character."""
    if token == ONE:
        return b"[^/]"
    if len(token) > 2 and token[0] == "[":
        members = _members(token)
        return b"[%b]" % b"".join(b"\\x%02x" % byte for byte in members) if members else b"(?!)"
    return re.escape(token[-1].encode("utf-8", "surrogateescape"))


def _tokens(glob: str) -> Iterator[str]:
    """The tokens; a bracket is one, and so is a backslash with what it stands before. What makes no
    sense stands for itself, as sealed baselines may have it; `check` refuses it in what is new."""
    place = 0
    while place < len(glob):
        token = _token(glob, place)
        place += len(token)
        yield token


def _token(glob: str, place: int) -> str:
    if glob.startswith(NAMES, place) and glob[place - 1 : place] == SLASH:
        return NAMES
    if glob.startswith(CROSSING, place):
        return CROSSING
    if glob[place] == "[" and (end := _end(glob, place)):
        return glob[place:end]
    return glob[place : place + 1 + (glob[place] == "\\")]


def _end(glob: str, place: int) -> int:
    """After the bracket that begins at `place`, 0 where nothing closes it: a `]` at its beginning,
    also after `!` or `^`, is one of its members."""
    first = place + 1 + (glob[place + 1 : place + 2] in ("!", "^"))
    return glob.find("]", first + 1) + 1


def _members(bracket: str) -> list[int]:
    """The bytes that a bracket stands for, among which a slash never is (glob(7))."""
    negated = bracket[1] in "!^"
    inside = bracket[1 + negated : -1].encode("utf-8", "surrogateescape")
    found: set[int] = set()
    place = 0
    while place < len(inside):
        last = place + 2 if inside[place + 1 : place + 2] == b"-" and place + 2 < len(inside) else 0
        found.update(range(inside[place], inside[last or place] + 1))
        place = (last or place) + 1
    chosen = set(range(256)) - found if negated else found
    return sorted(chosen - {ord("/")})


def check(glob: str, where: str) -> None:
    """Raises UsageError for a glob that is none, or that no path can match."""
    problem, remedy = _problem(glob)
    if problem:
        raise UsageError(f"{glob!r} {problem}", where=where, remedy=remedy)


def _problem(glob: str) -> tuple[str, str]:
    """What is wrong with a glob, and what to write instead; '' where nothing is."""
    if any("\ud800" <= char <= "\udfff" for char in glob):
        return "is not UTF-8", "write `?` for each such byte"
    if "\0" in glob:
        return "has a zero byte, which no path has", ""
    tokens = list(_tokens(glob))
    if tokens[-1] == "\\":
        return "ends with a lone backslash", r"write `\\` for the character"
    if tokens.count("{") and tokens.count("}") and tokens.count(","):
        return "has braces, which are not expanded", r"write one rule for each, or `\{` and `\}`"
    for token in tokens:
        found = _bracket_problem(token) if token[0] == "[" else ("", "")
        if found[0]:
            return found
    return _names_problem(glob, tokens)


def _bracket_problem(token: str) -> tuple[str, str]:
    inside = token[1:-1]
    if not inside:
        return "has a `[` that nothing closes", r"write `\[` for the character"
    if re.search(r"\[[:.=]", inside):
        return "has a character class, which is not known here", "write ranges, as [a-z0-9]"
    if not inside.isascii():
        return "has more than ASCII in a bracket, which is one byte", "write one rule for each"
    if SLASH in inside:
        return "has a slash in brackets, which never match one", "write one rule for each"
    members = inside[1:] if inside[0] in "!^" else inside
    if any(first > last for first, last in re.findall(r"(?s)(.)-(.)", members)):
        return "has a range that ends before it begins", ""
    if not _members(token):
        return "has a bracket that matches nothing", ""
    return "", ""


def _names_problem(glob: str, tokens: list[str]) -> tuple[str, str]:
    """No path has a name that is empty, `.` or `..`."""
    names = [""]
    for token in tokens:
        if token == NAMES:
            names[-1:] = [CROSSING, ""]
        elif token == SLASH:
            names.append("")
        else:
            names[-1] += token[-1]
    if glob == SLASH:
        return "", ""
    if glob.endswith(SLASH):
        bare = glob.rstrip(SLASH)
        return "ends with a slash, as no path does", f"write `{bare}` or `{bare}/**`"
    if glob.startswith(SLASH):
        del names[0]
    if not {"", ".", ".."}.isdisjoint(names):
        return "has an empty name, `.` or `..`, as no path has", "write the path from the root"
    return "", ""
