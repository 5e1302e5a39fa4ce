"""Errors that a person can act on: what happened, where, and what to do next.

Exit codes are those of the command line (docs/cli.md): 2 for wrong usage or unreadable input,
3 for a missing privilege or program, 4 for a watch that failed.
"""

from __future__ import annotations


class RingfenceError(Exception):
    """Base of every error that ends a command with one line and no traceback.

    `what` says what is wrong, `where` names file, entry or process, `remedy` says what to do.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(self.line())

    def line(self) -> str:
        """The error as one printable line: `where: what; remedy`."""
        text = f"{self.where}: {self.what}" if self.where else self.what
        text = f"{text}; {self.remedy}" if self.remedy else text
        return "".join(char if char.isprintable() else "?" for char in text)


class InputError(RingfenceError):
    """The target or a file given by the user cannot be read or makes no sense."""


class UsageError(RingfenceError):
    """The words on the command line do not fit together."""


class KnowledgeError(RingfenceError):
    """An entry of the knowledge base (or of a user's scale file) breaks its schema."""


class MissingError(RingfenceError):
    """A privilege or a program that this task cannot do without is missing."""

    exit_code = 3


class FailedError(RingfenceError):
    """Something that runs until it is stopped has ended by an error that nobody foresaw."""

    exit_code = 4
