"""QEMU's debugging interface: registers that its monitor does not print, read and never written.

The remote protocol of GDB (its manual, appendix E) on a socket of ours without a name. The machine
is stopped and started by the monitor; here questions are asked while it stands still. QEMU tells of
every stop, too: those packets are passed over. What QEMU answers is bounded.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence

PATIENCE = 10.0
"""Seconds until an answer is given up."""
MOST = 1 << 20
"""Bytes of one description of registers; QEMU 7.2's of aarch64 has 60 thousand."""
_CHUNK, _PART = 1 << 16, 0x7F0
_SYSTEM = "system-registers.xml"
_PACKET = re.compile(rb"\$([^#$]*)#([0-9a-f]{2})", re.DOTALL)
_STOPS = (b"T", b"S", b"W", b"X")
"""Stop replies. None of the answers asked for here begins so."""
_TAG = re.compile(r"<reg\b[^<>]*>")
_FIELD = re.compile(r'\b(name|regnum)="([\w.]{1,64})"')


class Refused(Exception):
    """QEMU gave no answer, or one that makes no sense; the message says which."""


def packet(text: str) -> bytes:
    """A request as it is sent: with its sum, and before it the receipt for what came last."""
    body = text.encode()
    return b"+$%b#%02x" % (body, sum(body) & 0xFF)


def plain(body: bytes) -> bytes:
    """An answer's bytes, of which some are escaped (E.1 of the manual)."""
    return re.sub(rb"}(.)", lambda match: bytes([match[1][0] ^ 0x20]), body, flags=re.DOTALL)


def numbers(description: str) -> dict[str, int]:
    """The numbers of the registers that a description (XML) names; the first of a name counts."""
    found: dict[str, int] = {}
    for tag in _TAG.findall(description):
        fields = dict(_FIELD.findall(tag))
        if "name" in fields and fields.get("regnum", "").isdecimal():
            found.setdefault(fields["name"], int(fields["regnum"]))
    return found


class Debugger:
    """Our end of the connection. All methods raise Refused, and are for a machine that stands."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._rest = b""
        self._numbers: dict[str, int] = {}

    async def read(self, names: Sequence[str], address: int) -> tuple[dict[str, int], bytes | None]:
        """System registers by QEMU's names, and four bytes at a linear address, None where there
        are none."""
        if not self._numbers:
            self._numbers = numbers(await self._description())
        missing = [name for name in names if name not in self._numbers]
        if missing:
            raise Refused(f"QEMU knows no register {missing[0]}")
        asked = [f"p{self._numbers[name]:x}" for name in names]
        *values, data = await self._ask(*asked, f"m{address:x},4")
        try:
            found = {
                name: int.from_bytes(bytes.fromhex(value.decode("ascii")), "little")
                for name, value in zip(names, values, strict=True)
            }
            here = None if data.startswith(b"E") else bytes.fromhex(data.decode("ascii"))
        except ValueError:
            raise Refused("QEMU's answer is no number") from None
        return found, here

    async def _description(self) -> str:
        """The system registers. QEMU answers to numbers once its description was asked for."""
        await self._ask(f"qXfer:features:read:target.xml:0,{_PART:x}")
        found = b""
        while len(found) < MOST:
            question = f"qXfer:features:read:{_SYSTEM}:{len(found):x},{_PART:x}"
            (answer,) = await self._ask(question)
            if answer[:1] not in (b"l", b"m"):
                break
            found += answer[1:]
            if answer[:1] == b"l":
                return found.decode("utf-8", "replace")
        raise Refused("QEMU describes no system registers")

    async def _ask(self, *requests: str) -> list[bytes]:
        """One answer to each request; they are sent at once."""
        loop = asyncio.get_running_loop()
        found: list[bytes] = []
        try:
            async with asyncio.timeout(PATIENCE):
                await loop.sock_sendall(self._connection, b"".join(map(packet, requests)))
                while len(found) < len(requests):
                    data = await loop.sock_recv(self._connection, _CHUNK)
                    if not data:
                        raise Refused("QEMU has closed its debugging interface")
                    found += self._packets(data)
        except TimeoutError:
            raise Refused(f"QEMU did not answer for {PATIENCE:.0f} s") from None
        except OSError as error:
            raise Refused(str(error)) from None
        return found

    def _packets(self, data: bytes) -> list[bytes]:
        """The answers that are complete with these bytes, without stop replies."""
        text = self._rest + data
        found, end = [], 0
        for match in _PACKET.finditer(text):
            end = match.end()
            if sum(match[1]) & 0xFF != int(match[2], 16):
                raise Refused("QEMU's answer has a wrong sum")
            if not match[1].startswith(_STOPS):
                found.append(plain(match[1]))
        self._rest = text[end:][-_CHUNK:]
        return found
