"""The network as the workload has it: ports, loopback's services, interfaces.

Connections are made to loopback and to Unix sockets alone, and closed without a byte.
"""

from __future__ import annotations

import errno
import socket
import struct

from ringfence.probe.definition import Inside, Outcome, Probe, Seen, closed, opened, undecided
from ringfence.probe.services import Service

GROUP = "network"
AF_INET, AF_INET6, STREAM, DGRAM = 2, 10, 1, 2
LOOPBACK, ANY = "127.0.0.1", "0.0.0.0"  # noqa: S104 - nothing listens there
MOST_TEXT = 1 << 20
MOST_SERVICES = 32
NONBLOCK = 0o4000


def address(host: str, port: int) -> bytes:
    """struct sockaddr_in or sockaddr_in6, that with the number after `%` as its scope."""
    if ":" in host:
        plain, _, scope = host.partition("%")
        return struct.pack("=H", AF_INET6) + struct.pack("!HI", port, 0) + socket.inet_pton(
            socket.AF_INET6, plain) + struct.pack("=I", int(scope or 0))  # fmt: skip
    return struct.pack("=H", AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def bind_port(inside: Inside) -> Outcome:
    """Binds a free port of loopback to a socket that does not listen and ends with the child."""
    handle = inside.socket(AF_INET, STREAM, 0)
    if handle < 0:
        return inside.judged(handle)
    result = -errno.EADDRNOTAVAIL
    for host in (LOOPBACK, ANY):  # loopback has no address where it is down
        where = address(host, 0)
        if result == -errno.EADDRNOTAVAIL:
            result = inside.call("bind", handle, where, len(where))
    return inside.judged(result)


def listen(inside: Inside) -> Outcome:
    """Listens on a free port of loopback for the moment until the child ends. Where loopback
    cannot be bound, the kernel would choose every interface: then only the filter is asked."""
    handle = inside.socket(AF_INET, STREAM, 0)
    if handle < 0:
        return inside.judged(handle)
    where = address(LOOPBACK, 0)
    if inside.call("bind", handle, where, len(where)) >= 0:
        return inside.judged(inside.call("listen", handle, 1))
    verdict = inside.passes("listen", handle, 1)
    return opened("without binding first") if verdict.passes else closed(verdict.words)


def loopback_services(inside: Inside) -> Outcome:
    """Connects to what listens on loopback in its network namespace, and sends nothing."""
    own = {item.inode for item in inside.view.facts.listeners}
    others = [one for one in inside.view.services if one.inode not in own]
    if not others:
        return closed("nobody listens", "no other service on its loopback")
    found = None
    for service in others[:MOST_SERVICES]:
        found = _connected(inside, service)
        if found.seen is Seen.OPEN:
            return found
    if len(others) > MOST_SERVICES:
        left = len(others) - MOST_SERVICES
        return undecided(f"refused by {MOST_SERVICES} services, {left} were not tried")
    return found or closed("nobody listens")


def _connected(inside: Inside, service: Service) -> Outcome:
    where = address(service.host, service.port)
    family = AF_INET6 if ":" in service.host else AF_INET
    detail = f"{service.host}, port {service.port}"
    handle = inside.socket(family, STREAM | NONBLOCK, 0)
    if handle < 0:
        return inside.judged(handle, detail=detail)
    result = inside.call("connect", handle, where, len(where))
    if result == -errno.EINPROGRESS:  # loopback has answered by now, if anything does
        result = inside.call("connect", handle, where, len(where))
    if result == -errno.EALREADY:
        return closed("network filter", f"{detail}: nothing comes back")
    return inside.judged(result, (errno.EISCONN,), detail=detail)


def neighbours(inside: Inside) -> Outcome:
    """Reads its table of neighbours, if there is an interface beside loopback."""
    handle = inside.open("/proc/net/dev", 0)
    if handle < 0:
        return inside.judged(handle)
    lines = _lines(inside, handle)
    names = [line.split(b":")[0].strip() for line in lines if b":" in line]
    real = [name.decode("ascii", "replace") for name in names if name not in (b"lo", b"sit0",
                                                                             b"tunl0")]  # fmt: skip
    return opened(", ".join(real)) if real else closed("namespace (net)", "only loopback")


def _lines(inside: Inside, handle: int) -> list[bytes]:
    """The lines of a file of /proc, which gives a page at a time."""
    text, room = b"", bytearray(1 << 14)
    while len(text) < MOST_TEXT:
        size = inside.call("read", handle, room, len(room))
        if size <= 0:
            break
        text += room[:size]
    return text.splitlines()


def abstract_sockets(inside: Inside) -> Outcome:
    """Connects to a containerd shim's abstract Unix socket if one is listed, without a byte."""
    handle = inside.open("/proc/net/unix", 0)
    if handle < 0:
        return inside.judged(handle)
    for line in _lines(inside, handle):
        name = line.split()[-1] if line.split() else b""
        if name.startswith(b"@/containerd-shim"):
            made = inside.socket(1, STREAM | NONBLOCK, 0)
            where = struct.pack("=H", 1) + b"\0" + name[1:]
            return inside.judged(inside.call("connect", made, where, len(where)), (errno.EAGAIN,))
    return closed("namespace (net)", "no containerd shim is in its network namespace")


def send_datagrams(inside: Inside) -> Outcome:
    """Connects a datagram socket to a port of loopback and sends nothing."""
    handle = inside.socket(AF_INET, DGRAM, 0)
    if handle < 0:
        return inside.judged(handle)
    where = address(LOOPBACK, 9)
    return inside.judged(inside.call("connect", handle, where, len(where)))


def mark_packets(inside: Inside) -> Outcome:
    """Marks what a socket would send, and sends nothing through it."""
    handle = inside.any_socket(AF_INET)
    if handle < 0:
        return inside.judged(handle)
    value = struct.pack("=I", 1)
    return inside.judged(inside.call("setsockopt", handle, 1, 36, value, 4),
                         capability="CAP_NET_ADMIN")  # fmt: skip


PROBES = (
    Probe("network.bind", GROUP, "Bind a port", "T1571", bind_port, ("syscall:bind",)),
    Probe("network.listen", GROUP, "Listen on a port", "T1571", listen,
          ("syscall:listen",)),
    Probe("network.loopback-services", GROUP, "Connect to other services on its loopback", "T1046",
          loopback_services),
    Probe("network.interfaces", GROUP, "Have an interface beside loopback", "T1016", neighbours),
    Probe("network.containerd-shim", GROUP, "Connect to a containerd shim", "T1611",
          abstract_sockets),
    Probe("network.datagrams", GROUP, "Use UDP", "T1095", send_datagrams),
    Probe("network.mark", GROUP, "Mark packets", "T1562.004", mark_packets,
          ({"any": ["nscap:CAP_NET_ADMIN", "nscap:CAP_NET_RAW"]},)),
)  # fmt: skip
