"""The serial line and QEMU's standard error: delivered once, bounded, whatever comes."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from ringfence.guest import output as output_module
from ringfence.guest.console import PENDING, console
from ringfence.guest.output import Output

TRACE = b"memory_region_ops_write cpu 0 mr 0x1 addr 0x3f8 value 0x41 size 1 name 'serial'\n"


def talk(tmp_path: Path, said: bytes, sent: bytes) -> tuple[bytes, bytes, int]:
    """A guest says `said`; a client connects, sends `sent` and reads until it has had enough:
    what the client and the guest received, and what was counted."""

    async def both() -> tuple[bytes, bytes, int]:
        ours, guest = socket.socketpair()
        with ours, guest:
            guest.setblocking(False)
            loop = asyncio.get_running_loop()
            async with console(ours, tmp_path / "serial") as line:
                await loop.sock_sendall(guest, said)
                while line.said < len(said):
                    await asyncio.sleep(0.001)
                reader, writer = await asyncio.open_unix_connection(tmp_path / "serial")
                writer.write(sent)
                writer.write_eof()
                heard = await reader.readexactly(min(len(said), PENDING))
                got = await loop.sock_recv(guest, 100)
                await loop.sock_sendall(guest, b"later")
                heard += await reader.readexactly(5)
                writer.close()
                return heard, got, line.said

    return asyncio.run(both())


def test_both_ways_and_after_the_client_has_said_all(tmp_path: Path) -> None:
    assert talk(tmp_path, b"ready\n", b"hello\n") == (b"ready\nlater", b"hello\n", 11)


def test_a_flood_keeps_its_last_bytes(tmp_path: Path) -> None:
    flood = bytes(range(256)) * 2048
    heard, _, said = talk(tmp_path, flood, b"x")
    assert heard == flood[-PENDING:] + b"later"
    assert said == len(flood) + 5


def test_a_second_client_is_sent_away_and_the_next_gets_what_was_missed(tmp_path: Path) -> None:
    async def clients() -> None:
        ours, guest = socket.socketpair()
        with ours, guest:
            loop = asyncio.get_running_loop()
            guest.setblocking(False)
            async with console(ours, tmp_path / "serial"):
                _, held = await asyncio.open_unix_connection(tmp_path / "serial")
                held.write(b"x")
                assert await loop.sock_recv(guest, 1) == b"x"
                second, other = await asyncio.open_unix_connection(tmp_path / "serial")
                assert await second.read() == b""
                other.close()
                held.close()
                await asyncio.sleep(0.2)
                await loop.sock_sendall(guest, b"missed")
                await asyncio.sleep(0.1)
                third, last = await asyncio.open_unix_connection(tmp_path / "serial")
                assert await third.readexactly(6) == b"missed"
                last.close()

    asyncio.run(clients())


def heard(*parts: bytes) -> Output:
    """What was made of these pieces of standard error."""

    async def reading() -> Output:
        read, write = os.pipe()
        found = Output(read)
        found.start()
        for part in parts:
            os.write(write, part)
            await asyncio.sleep(0.005)
        os.close(write)
        await asyncio.sleep(0.005)
        found.stop()
        os.close(read)
        return found

    return asyncio.run(reading())


def test_lines_in_pieces() -> None:
    found = heard(TRACE[:30], TRACE[30:] + b"Triple ", b"fault\nqemu-system-x86_64: no\n")
    assert found.accesses.booting == {"serial": 1}
    assert found.triple_fault
    assert found.said == ["qemu-system-x86_64: no"]


def test_resets_of_the_processor_are_no_complaint() -> None:
    reset = b"CPU Reset (CPU 0)\nEAX=00000000 EBX=0\nCS =0000 0 0\nCR0=0 CR2=0\nFPR0=0 0\n"
    assert heard(reset + b"DR6=0\nXMM00=0\nEFER=0\n").said == []


def test_a_flood_of_accesses_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_module, "MOST_TRACE", 10)
    found = heard(TRACE * 20)
    assert found.flooded
    assert found.accesses.booting == {"serial": 10}


def test_a_flood_while_booting_is_remembered_when_the_guest_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(output_module, "MOST_TRACE", 10)
    for lines, cut in ((20, True), (10, False)):
        found = heard(TRACE * lines)
        found.serve()
        assert (found.flooded, found.cut) == (False, cut)


def test_a_line_without_end_is_bounded() -> None:
    found = heard(*[b"x" * 60000] * 3)
    assert found.said == [] and not found.triple_fault
