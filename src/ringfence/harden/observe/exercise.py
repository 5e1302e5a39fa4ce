"""What drives a service, and the answers: HTTP requests and commands, compared run by run.

Requests go to loopback inside the container's own network namespace and nowhere else.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import signal
import subprocess
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from ringfence.collect.process.inside import in_network
from ringfence.errors import UsageError

PATIENCE = 30.0
MOST_BODY = 64 << 20
KEPT_HEADERS = ("content-type", "content-length", "content-range", "content-encoding", "location")
"""Headers that make an answer the same; dates, tags and cookies change by themselves."""


class Request(msgspec.Struct, frozen=True):
    """One HTTP request."""

    method: str
    port: int
    path: str
    headers: tuple[tuple[str, str], ...] = ()

    def title(self) -> str:
        """The request in a line."""
        extra = "".join(f" [{name}: {value}]" for name, value in self.headers)
        return f"{self.method} :{self.port}{self.path}{extra}"


class Answer(msgspec.Struct, frozen=True):
    """What came back: `text` is what is compared, `detail` says more to a person."""

    request: str
    text: str
    detail: str = ""


class Exercise(msgspec.Struct, frozen=True):
    """Requests and commands, in this order."""

    requests: tuple[Request, ...] = ()
    commands: tuple[str, ...] = ()


def request_of(url: str) -> Request:
    """The request for a URL. Raises UsageError for one that leads away from the service."""
    local = ("localhost", "127.0.0.1", "::1")
    try:
        parts = urlsplit(url)
        port = parts.port or 80
        fitting = parts.scheme == "http" and parts.hostname in local
    except ValueError:
        fitting = False
    if not fitting:
        raise UsageError(
            "is not http://localhost[:PORT]/...",
            where=url,
            remedy="the service is asked on loopback, inside its own network namespace",
        )
    if not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError("cannot be sent as it is", where=url, remedy="write é as %C3%A9")
    path = parts.path or "/"
    return Request("GET", port, f"{path}?{parts.query}" if parts.query else path)


def variants(requests: tuple[Request, ...]) -> tuple[Request, ...]:
    """Requests like those of the exercise that were not in it."""
    found: dict[Request, None] = {}
    for request in requests:
        plain = (
            ("HEAD", request.path, ()),
            ("GET", f"{request.path.rstrip('/')}/no-such-page-{len(request.path)}", ()),
            ("GET", request.path, (("Range", "bytes=0-9"),)),
            ("GET", request.path, (("Accept-Encoding", "gzip"),)),
            ("GET", request.path, (("If-Modified-Since", "Fri, 01 Jan 2038 00:00:00 GMT"),)),
            ("OPTIONS", request.path, ()),
            ("POST", request.path, (("Content-Type", "text/plain"),)),
        )
        for method, path, headers in plain:
            found[Request(method, request.port, path, headers)] = None
    return tuple(found)


def perform(exercise: Exercise, pid: int) -> tuple[Answer, ...]:
    """Every answer of the service whose first process is `pid`."""
    answers = [in_network(pid, _asking(request)) for request in exercise.requests]
    answers += [_command(command, pid) for command in exercise.commands]
    return tuple(answers)


def _asking(request: Request) -> Callable[[], Answer]:
    return lambda: _ask(request)


def _ask(request: Request) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", request.port, timeout=PATIENCE)
    try:
        body = b"ringfence" if request.method == "POST" else None
        connection.request(request.method, request.path, body, dict(request.headers))
        response = connection.getresponse()
        content = response.read(MOST_BODY)
    except (OSError, http.client.HTTPException) as error:
        return Answer(request.title(), f"no answer ({_kind(error)})", str(error))
    finally:
        connection.close()
    headers = [f"{name}={response.headers[name]}" for name in KEPT_HEADERS
               if name in response.headers]  # fmt: skip
    digest = hashlib.sha256(content).hexdigest()[:16]
    text = f"{response.status} {' '.join(headers)} body {len(content)} {digest}"
    return Answer(request.title(), text)


def _kind(error: Exception) -> str:
    """An end and a reset are alike: which of them it is depends on what was still under way."""
    refused = isinstance(error, ConnectionRefusedError)
    closed = isinstance(error, ConnectionError) and not refused
    return "closed" if closed else type(error).__name__


def _command(command: str, pid: int) -> Answer:
    """A command of the user's, on this host, in the service's network namespace."""
    environment = {
        **os.environ,
        "RINGFENCE_PID": str(pid),
        "RINGFENCE_ROOT": f"/proc/{pid}/root",
    }
    words = ["nsenter", "--target", str(pid), "--net", "--", "/bin/sh", "-c", command]
    # A session of its own: what the shell started ends with it, should we not wait for its end.
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as shell:
        try:
            told, complained = shell.communicate(timeout=10 * PATIENCE)
        except subprocess.TimeoutExpired:
            _end_group(shell.pid)
            return Answer(command, "no end after 300 s")
        except BaseException:
            _end_group(shell.pid)
            raise
    output = told.decode("utf-8", "replace")
    digest = hashlib.sha256(told).hexdigest()[:16]
    text = f"exit {shell.returncode}, output {len(told)} {digest}"
    complaint = complained.decode("utf-8", "replace").strip()
    return Answer(
        command, text, "\n".join(part for part in (output[-2000:], complaint[-500:]) if part)
    )


def _end_group(leader: int) -> None:
    """Kill a process that leads a group, and all others in it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
