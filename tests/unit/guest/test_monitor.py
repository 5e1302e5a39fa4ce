"""QEMU's monitor: that it has ended, and that it does not answer, are told apart."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from ringfence.errors import InputError
from ringfence.guest import monitor as module
from ringfence.guest.arch.x86 import X86
from ringfence.guest.monitor import Ended, monitor

GREETING = {"QMP": {"version": {"qemu": {}, "package": ""}, "capabilities": []}}


async def _serve(ours: socket.socket, *, closes: bool) -> None:
    """A QEMU that greets, and then says nothing any more, or ends."""
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        writer.write(json.dumps(GREETING).encode() + b"\n")
        assert b"qmp_capabilities" in await reader.read(4096)
        writer.write(b'{"return": {}}\n')
        await reader.read(4096)
        if not closes:
            await asyncio.sleep(60)
    finally:
        writer.close()


async def _ask(*, closes: bool) -> None:
    ours, theirs = socket.socketpair()
    serving = asyncio.create_task(_serve(theirs, closes=closes))
    try:
        async with monitor(ours, X86.look) as control:
            await control.text("info registers")
    finally:
        serving.cancel()
        await asyncio.wait([serving])


def test_a_qemu_that_does_not_answer_is_no_guest_that_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    with pytest.raises(InputError, match="QEMU did not answer"):
        asyncio.run(_ask(closes=False))


def test_a_qemu_that_ends_is_told_as_ended() -> None:
    with pytest.raises(Ended, match="isconnect"):
        asyncio.run(_ask(closes=True))
