"""Text from outside in Markdown, as the text that it is: no markup, no HTML, no lines of its own,
and nothing that a forge makes a link or a mention of."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MARKS = str.maketrans(
    {char: f"\\{char}" for char in "\\`*_[]{}~!#@$^"}
    # A bar would end a table's cell before any backslash is looked at in some dialects.
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
)
_START = re.compile(r"^\d+(?=[.)])|^(?=[-+=])")
"""Where a backslash keeps text from beginning a list or underlining a heading."""
_LINKING = re.compile(
    r"@|#|:/|www\.|mailto:|xmpp:|\bgh-[0-9]|[!%&$~][\w\"]|\b[0-9a-f]{7,40}\b|\b[a-z]+-[0-9]+\b",
    re.IGNORECASE,
)
"""What GitHub and GitLab link of their own accord, save in code."""


class Markdown(str):
    """Text that is Markdown already, and safe."""

    __slots__ = ()


def prose(text: str) -> Markdown:
    """Plain text within a line, a heading, an item of a list or a cell."""
    if isinstance(text, Markdown):
        return text
    words = [
        code(word) if _LINKING.search(word) else word.translate(_MARKS)
        for word in _one_line(text).split(" ")
    ]
    return Markdown(" ".join(words).strip(" "))


def block(text: str) -> Markdown:
    """The same where it begins a paragraph or an item."""
    return Markdown(_START.sub(r"\g<0>\\", prose(text)))


def code(text: str) -> Markdown:
    """A code span, whatever backticks are in it; several where a bar would end a cell."""
    return Markdown("&#124;".join(_span(part) for part in _one_line(text).split("|")))


def fenced(text: str) -> list[str]:
    """Lines of a fenced code block with `text`, line by line, whatever backticks are in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [fence, *map(_one_line, text.splitlines()), fence]


def bold(text: str) -> Markdown:
    """Strong emphasis of plain text."""
    return Markdown(f"**{prose(text)}**")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; what is not Markdown yet is plain text."""
    return [
        f"| {' | '.join(map(prose, headings))} |",
        f"|{' --- |' * len(headings)}",
        *(f"| {' | '.join(map(prose, row))} |" for row in rows),
    ]


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def _span(text: str) -> str:
    if not text:
        return ""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    # One space at both ends is no part of a code span, where there is more in it.
    space = " " if text.strip(" ") and (text[0] in " `" or text[-1] in " `") else ""
    return f"{fence}{space}{text}{space}{fence}"
