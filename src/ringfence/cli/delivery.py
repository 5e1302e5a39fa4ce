"""How results leave: to standard output, or to the place that `-o` names."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import select
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from ringfence.errors import InputError


def writable(ctx: click.Context, param: click.Parameter, output: Path | None) -> Path | None:
    """A callback for `-o`, so that long work is not begun for nothing. Raises InputError."""
    if output is None:
        return None
    own = _own_descriptor(output)
    if own is not None:
        if fcntl.fcntl(own, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise _unwritten(OSError(errno.EBADF, ""), output)
        return output
    if _as_it_is(output):
        if not os.access(output, os.W_OK):
            raise _unwritten(PermissionError(errno.EACCES, ""), output)
        return output
    handle, name = _beside(output)
    os.close(handle)
    Path(name).unlink()
    return output


def deliver(text: str, output: Path | None) -> None:
    """Print `text`, or write it to `output` whole or not at all; into a device, a FIFO or an open
    file as it is. Raises InputError on failure."""
    if output is None:
        put(text.encode("utf-8", "replace").decode())  # as a file would have it
        return
    if _as_it_is(output):
        if _own_descriptor(output) == 1:
            sys.stdout.flush()
        _into(text, output)
        return
    handle, name = _beside(output)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(output)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise _unwritten(error, output) from None


def _as_it_is(output: Path) -> bool:
    """Whether the name must stay what it is: a device, a FIFO, or an open file's (/dev/stdout).

    Any other link is replaced as a file is: who may have planted it does not say where we write.
    """
    try:
        found = output.stat()
    except OSError:
        return False
    if stat.S_ISDIR(found.st_mode):
        raise _unwritten(IsADirectoryError(errno.EISDIR, ""), output)
    return not stat.S_ISREG(found.st_mode) or _open_file(output) is not None


def _own_descriptor(output: Path) -> int | None:
    """The descriptor of ours that a name like /dev/stdout or /dev/fd/3 leads to, if it does."""
    found = _open_file(output)
    if found is None or found.parts[2] != str(os.getpid()) or not found.name.isdecimal():
        return None
    return int(found.name)


def _open_file(output: Path) -> Path | None:
    """Where a name that exists leads through a process's table of open files (/proc/PID/fd)."""
    while os.path.lexists(output):
        folder = output.parent.resolve()
        if folder.parts[:2] == ("/", "proc") and folder.name == "fd":
            return folder / output.name
        if not output.is_symlink():
            return None
        output = folder / output.readlink()
    return None


def _into(text: str, output: Path) -> None:
    data = memoryview(text.encode("utf-8", "replace"))
    try:
        with _opened(output) as handle:
            while data:
                data = data[os.write(handle, data) :]
    except OSError as error:
        raise _unwritten(error, output) from None


@contextlib.contextmanager
def _opened(output: Path) -> Iterator[int]:
    """A descriptor to write to: our own where the name is one's, so that whoever shares it goes on
    behind what we wrote, and sockets can be named."""
    own = _own_descriptor(output)
    if own is not None:
        yield own
        return
    # A file that others have open goes on at its end; a block device has no end to go on at.
    append = os.O_APPEND if output.is_file() else 0
    handle = os.open(output, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | append)
    try:
        yield handle
    finally:
        os.close(handle)


def _beside(output: Path) -> tuple[int, str]:
    """A new file in the same folder: descriptor and name."""
    try:
        return tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    except OSError as error:
        raise _unwritten(error, output) from None


def _unwritten(error: OSError, output: Path) -> InputError:
    what = os.strerror(error.errno or errno.EIO).lower()
    return InputError(f"cannot be written: {what}", where=str(output))


def put(text: str, *, now: bool = True) -> bool:
    """Print `text`, `now` or when there is more; whether it still has a reader.

    One that has gone (`| head`) is no error, and decides no exit code: what follows is for nobody.
    Raises InputError when it cannot be written.
    """
    try:
        sys.stdout.write(text)
        if now:
            sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would be tried again, aloud, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, (BrokenPipeError, ConnectionResetError)):
            return False
        what = os.strerror(error.errno or 0).lower()
        raise InputError(f"cannot be written: {what}", where="standard output") from None
    return True


def reader_left() -> bool:
    """Whether standard output has a reader still, as far as pipes and sockets tell."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return not poll.poll(0)


def say(line: str) -> None:
    """Print one line on standard error; where nobody hears, the exit code says it alone."""
    with contextlib.suppress(OSError):
        click.echo(f"ringfence: {line}", err=True)


def encode_output() -> None:
    """Have standard output take every character: a file or a pipe gets UTF-8, the bytes that `-o`
    writes, whatever the locale, and a name that is not UTF-8 as it is; a terminal its own encoding,
    with `\\u2265` for what that lacks."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return
    if sys.stdout.isatty():
        sys.stdout.reconfigure(errors="backslashreplace")
    else:
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")


def colour() -> bool:
    """Whether standard output is a terminal that wants colour (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def width(least: int) -> int:
    """Columns to use: the terminal's, at least `least` where output is not one."""
    import shutil

    return max(shutil.get_terminal_size((least, 24)).columns, least if not colour() else 60)
