"""Debian's own kernel with busybox, booted and examined: rings, protections, KASLR, its network."""

from __future__ import annotations

import http.server
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.guests import ask_on_serial, examined, initramfs, linux, values

pytestmark = pytest.mark.system

START = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /dev
mount -t proc none /proc
mount -t devtmpfs none /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo
"""
ANSWER = """
while read line; do n=0; while [ $n -lt 300 ]; do n=$((n+1)); done; echo "answer $line"; done
"""
MODULES = """failover net_failover virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev
virtio_pci virtio_net""".split()
SERVE = """
for name in {modules}; do insmod /modules/$name.ko; done
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 && route add default gw 10.0.2.2
out="cannot"
wget -T 3 -q -O - http://10.0.2.2:{port}/ >/dev/null 2>&1 && out="can"
mkdir /www && echo "the guest $out reach the host" >/www/index.html
httpd -p 80 -h /www
echo ready
sleep 1000
"""
FETCH = """
import os, sys, urllib.request
for _ in range(6):
    url = f"http://127.0.0.1:{os.environ['RINGFENCE_PORT_80']}/"
    page = urllib.request.urlopen(url, timeout=3).read()
open(sys.argv[1], "wb").write(page)
"""


@pytest.fixture(scope="module")
def kernel() -> Path:
    (found,) = (linux() / "boot").glob("vmlinuz-*")
    return found


@pytest.fixture(scope="module")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("initrd") / "initrd.img"
    path.write_bytes(initramfs(START + ANSWER))
    return path


def boots(kernel: Path, initrd: Path, words: str) -> dict[str, Any]:
    return examined(
        kernel, "--initrd", initrd, "--append", f"console=ttyS0 quiet {words}", "--boots", 4,
        "--exercise", ask_on_serial("hello", "answer hello", 2.0),
    )  # fmt: skip


def test_a_stock_kernel(kernel: Path, initrd: Path) -> None:
    found = boots(kernel, initrd, "")
    facts = values(found)
    assert found["kernel"].startswith("Linux 6.1.")
    assert (found["kind"], found["ends"], found["unseen"]) == ("bzImage", [], [])
    assert facts["ring3_share"] > 0.1 and facts["ring0_share"] > 0
    assert facts["ring3_share_before"] in (0, None)
    assert [facts[name] for name in ("wp", "nx", "smep", "smap", "umip")] == [True] * 5
    assert facts["page_zero_mapped"] is False
    assert facts["writable_executable_pages"] == 0
    assert facts["writable_aliases_of_code"] == 0
    assert facts["user_pages"] > 0
    assert facts["stack_executable"] is facts["heap_executable"] is False
    assert facts["idt"] == {"base": "0xfffffe0000000000", "writable": False}
    bits = facts["randomised_bits"]
    # CONFIG_RANDOMIZE_BASE: 1 GiB in steps of 2 MiB, 9 bits; mmap_rnd_bits of x86-64: 28, of
    # which the stack has 22 in pages (arch/x86/mm/mmap.c). busybox is static, not a PIE.
    # Four boots show four values, once in 85 three of the code.
    assert bits["code"] in (1.5, 2)
    assert bits["user_stack"] == 2
    # Its own data lies still beside a heap that moves: which is which is not told.
    assert bits["user_code"] == 0 and bits["user_heap"] is None


def test_the_same_without_kaslr(kernel: Path, initrd: Path) -> None:
    bits = values(boots(kernel, initrd, "nokaslr"))["randomised_bits"]
    assert bits["code"] == bits["stack"] == 0
    assert bits["heap"] in (0, None)
    assert bits["user_stack"] == 2


def test_the_same_without_random_addresses_of_programs(kernel: Path, initrd: Path) -> None:
    bits = values(boots(kernel, initrd, "nokaslr norandmaps"))["randomised_bits"]
    assert bits["code"] == bits["stack"] == bits["user_code"] == bits["user_stack"] == 0
    assert bits["heap"] in (0, None) and bits["user_heap"] in (0, None)


def test_a_kernel_told_to_go_without(kernel: Path, initrd: Path) -> None:
    found = examined(
        kernel, "--initrd", initrd, "--boots", 1, "--cpu", "max,smap=off,umip=off,la57=off",
        "--append", "console=ttyS0 quiet nosmep norandmaps",
    )  # fmt: skip
    facts = values(found)
    assert (facts["smap"], facts["umip"], facts["paging"]) == (False, False, "4-level")
    assert facts["wp"] and facts["nx"]


@pytest.fixture
def listening() -> Iterator[int]:
    """A web server on this host's loopback, which a guest must not reach."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_its_network_leads_in_and_not_out(kernel: Path, tmp_path: Path, listening: int) -> None:
    initrd = tmp_path / "initrd.img"
    modules = {path.stem: path for path in linux().glob("lib/modules/**/*.ko")}
    init = START + SERVE.format(modules=" ".join(MODULES), port=listening)
    initrd.write_bytes(initramfs(init, tuple(modules[name] for name in MODULES)))
    page = tmp_path / "page"
    found = examined(
        kernel, "--initrd", initrd, "--append", "console=ttyS0 quiet", "--boots", 1,
        "--port", 80, "--exercise",
        shlex.join([sys.executable, "-c", FETCH, str(page)]),
    )  # fmt: skip
    assert page.read_text() == "the guest cannot reach the host\n"
    assert found["unseen"] == []
    network = next(one for one in values(found)["devices"] if one["name"] == "virtio-net")
    assert network["driver_ok"] is True
    assert network["serving"] > 0
