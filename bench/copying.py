"""What reading from the page cache costs by where in a page the buffer begins.

The kernel copies with `rep movsb` where the processor is said to do that well (FSRM). On some it
depends on the distance of source and destination within a page: memory of malloc, and so a
bytearray of some size, begins 16 bytes into one. `watch` reads into a mapping (`digests.Digester`).
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time

from ringfence.watch.baseline.digests import PIECE

SIZE = 64 << 20
OFFSETS = (0, 16, 32, 48, 64, 2048)
ROUNDS = 25


def seconds(handle: int, buffer: memoryview) -> float:
    """One reading of the whole file, piece by piece."""
    os.lseek(handle, 0, os.SEEK_SET)
    started = time.perf_counter()
    while os.readv(handle, [buffer]):
        pass
    return time.perf_counter() - started


def main() -> None:
    """A line for each offset: gigabytes a second, the quickest of some rounds."""
    memory = memoryview(mmap.mmap(-1, PIECE + 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    with tempfile.TemporaryFile() as file:
        file.write(os.urandom(1 << 20) * (SIZE >> 20))
        file.flush()
        best = dict.fromkeys(OFFSETS, float("inf"))
        for _ in range(ROUNDS):
            for offset in OFFSETS:
                took = seconds(file.fileno(), memory[offset : offset + PIECE])
                best[offset] = min(best[offset], took)
    for offset, took in best.items():
        print(f"{offset:>5} bytes into a page: {SIZE / took / 1e9:5.1f} GB/s")


if __name__ == "__main__":
    main()
