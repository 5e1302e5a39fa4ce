"""`ringfence guest IMAGE`"""

from __future__ import annotations

import re
from pathlib import Path

import click

from ringfence.cli.delivery import colour, deliver, width, writable
from ringfence.cli.options import finite
from ringfence.errors import UsageError

_SIZE = re.compile(r"(\d{1,9})([kmg]?)", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_LEAST, _MOST = 16 << 20, 16 << 30
_WIDTH = 140


@click.command("guest")
@click.argument("image", type=click.Path(path_type=Path), metavar="IMAGE")
@click.option("--initrd", type=click.Path(path_type=Path), help="Initial RAM disk of a kernel.")
@click.option("--append", default="", help="Command line of a kernel.")
@click.option("--memory", default="256m", show_default=True, help="Of the guest, like 512m.")
@click.option("--cpu", default="", help="QEMU's processor model. Default: max.")
@click.option(
    "--disk", "disks", multiple=True, type=click.Path(path_type=Path),
    help="A further disk, raw or qcow2; what the guest writes is thrown away. Repeatable.",
)  # fmt: skip
@click.option(
    "--port", "ports", multiple=True, type=click.IntRange(1, 65535),
    help="A TCP port of the guest, published on loopback. Without one it has no network. "
    "Repeatable.",
)  # fmt: skip
@click.option(
    "--boots", default=5, show_default=True, type=click.IntRange(1, 100),
    help="Boots from which randomisation is told.",
)  # fmt: skip
@click.option(
    "--exercise", default="", metavar="CMD",
    help="Drives the guest, by $RINGFENCE_SERIAL (a Unix socket) or $RINGFENCE_PORT.",
)  # fmt: skip
@click.option(
    "--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", show_default=True
)
@click.option(
    "--time", "seconds", default=60.0, show_default=True, type=click.FloatRange(1, 3600),
    callback=finite, help="Most seconds that one boot may take.",
)  # fmt: skip
@click.option(
    "--format", "form", type=click.Choice(["terminal", "json"]), default="terminal",
    show_default=True,
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), callback=writable,
    help="Write to a file instead.",
)  # fmt: skip
def command(
    image: Path,
    initrd: Path | None,
    append: str,
    memory: str,
    cpu: str,
    disks: tuple[Path, ...],
    ports: tuple[int, ...],
    boots: int,
    exercise: str,
    accel: str,
    seconds: float,
    form: str,
    output: Path | None,
) -> None:
    """Boot a virtual machine or unikernel image and examine its rings and memory from outside.

    IMAGE is a bzImage, a multiboot or PVH ELF file, an EFI program, a raw, qcow2 or CD image with a
    boot sector, or of aarch64 an Image (packed, too) or an ELF file. QEMU runs as a user of its
    own; the guest reaches nothing of this host.
    """
    from ringfence.cli.progress import progress
    from ringfence.guest.examine import Options, examine
    from ringfence.report.look import Look

    options = Options(
        initrd=initrd, append=append, memory=_size(memory), cpu=cpu, disks=disks, ports=ports,
        boots=boots, exercise=exercise, accelerator=accel, seconds=seconds,
    )  # fmt: skip
    with progress("examining the guest"):
        found = examine(image, options)
    if form == "json":
        from ringfence.report import json_format

        text = json_format.text(found)
    else:
        from ringfence.guest.report import report

        show = colour() and output is None
        text = report(found, Look(colour=show, width=width(_WIDTH)))
    deliver(text, output)


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    size = int(match[1]) * _UNITS[match[2].lower()] if match else 0
    if not _LEAST <= size <= _MOST:
        raise UsageError(f"{text!r} is no size", remedy="from 16m to 16g, as in --memory 512m")
    return size & -(1 << 20)
