"""The client of QEMU's debugging interface against a scripted peer."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest

from ringfence.guest.debugger import Debugger, Refused, numbers, packet, plain

XML = """<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd">
<feature name="org.qemu.gdb.arm.sys.regs">
<reg name="VBAR" bitsize="64" regnum="101" group="cp_regs"/>
<reg name="SCTLR" bitsize="64" regnum="103" group="cp_regs"/>
<reg name="VBAR" bitsize="64" regnum="109" group="cp_regs"/>
<reg name="x#y" regnum="7"/><reg name="PAR" regnum="-1"/></feature>"""
VALUES = {101: 0xFFFF000000010800, 103: 0x30D0198D}


def framed(body: bytes) -> bytes:
    return b"+$" + body + b"#%02x" % (sum(body) & 0xFF)


def escaped(text: bytes) -> bytes:
    return re.sub(rb"[#$*}]", lambda match: b"}" + bytes([match[0][0] ^ 0x20]), text)


def answer(request: bytes) -> bytes:
    """As QEMU 7.2 answers, the description in pieces, with news of a stop in between."""
    if match := re.match(rb"qXfer:features:read:(.*):(\w+),(\w+)$", request):
        if match[1] == b"target.xml":
            return framed(b"l<target/>")
        start, size = int(match[2], 16), min(int(match[3], 16), 100)
        more = b"m" if start + size < len(XML) else b"l"
        return framed(more + escaped(XML.encode()[start : start + size]))
    if request.startswith(b"p"):
        return (
            b"$T02thread:01;#00"[:-2]
            + b"%02x" % (sum(b"T02thread:01;") & 0xFF)
            + framed(VALUES[int(request[1:], 16)].to_bytes(8, "little").hex().encode())
        )
    return framed(b"7f2003d5" if request == b"m1000,4" else b"E14")


async def served(far: socket.socket, replies: dict[bytes, bytes]) -> None:
    far.setblocking(False)
    loop, rest = asyncio.get_running_loop(), b""
    while data := await loop.sock_recv(far, 4096):
        rest += data
        for match in re.finditer(rb"\$([^#]*)#(..)", rest):
            assert int(match[2], 16) == sum(match[1]) & 0xFF
            await loop.sock_sendall(far, replies.get(match[1]) or answer(match[1]))
        rest = rest[rest.rfind(b"#") + 3 :]


def read(names: tuple[str, ...], address: int, **replies: bytes) -> object:
    async def both() -> object:
        near, far = socket.socketpair()
        with near, far:
            peer = asyncio.create_task(
                served(far, {name.encode(): text for name, text in replies.items()})
            )
            try:
                debugger = Debugger(near)
                await debugger.read(names, address)
                return await debugger.read(names, address)
            finally:
                peer.cancel()

    return asyncio.run(both())


def test_registers_and_an_instruction() -> None:
    assert read(("SCTLR", "VBAR"), 0x1000) == (
        {"SCTLR": 0x30D0198D, "VBAR": 0xFFFF000000010800},
        bytes.fromhex("7f2003d5"),
    )


def test_where_nothing_is_mapped_there_is_no_instruction() -> None:
    assert read(("SCTLR",), 0x2000) == ({"SCTLR": 0x30D0198D}, None)


@pytest.mark.parametrize(
    ("names", "replies", "why"),
    [
        (("TTBR9",), {}, "knows no register TTBR9"),
        (("SCTLR",), {"p67": b"$zz#f4"}, "no number"),
        (("SCTLR",), {"p67": b"$00#ff"}, "wrong sum"),
    ],
)
def test_answers_that_make_no_sense(
    names: tuple[str, ...], replies: dict[str, bytes], why: str
) -> None:
    with pytest.raises(Refused, match=why):
        read(names, 0x1000, **replies)


def test_a_peer_that_ends() -> None:
    async def ended() -> None:
        near, far = socket.socketpair()
        with near:
            far.close()
            await Debugger(near).read(("SCTLR",), 0)

    with pytest.raises(Refused):
        asyncio.run(ended())


def test_the_form_of_packets() -> None:
    assert packet("p67") == b"+$p67#dd"
    assert plain(b"a}\x03b}]") == b"a#b}"
    assert numbers(XML) == {"VBAR": 101, "SCTLR": 103}
    assert numbers("<reg name=" * 1000) == {}
