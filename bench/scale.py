"""Cost against the number of files: 1,000 to 1,000,000 in a tar archive, to 100,000 in a folder.

What a run on an archive of one file costs is taken off. Growth is linear when a file among
1,000,000 costs no more than one among 100,000, with room for noise. The memory that grows is the
record of each file, which the merging of layers needs: the archive itself passes through, whatever
its size. Of a folder nothing is kept but what the result tells, so that memory stays as it is.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from pathlib import Path

from bench.timing import BIN, Run, best, finish, verdict

SIZES = (1_000, 10_000, 100_000, 1_000_000)
FOLDERS = (1_000, 100_000)
BODY = 512
LIMIT = 1.3
"""Times the cost of a file at 100,000 that a file at 1,000,000 may cost."""
FLAT = 1.1
"""Times the memory of the smaller folder that the larger one may take."""


def archive(path: Path, files: int) -> Path:
    """A tar archive of `files` small files, a hundred to a folder, written block by block."""
    body = b"x" * BODY
    with path.open("wb") as out:
        for number in range(files):
            info = tarfile.TarInfo(f"srv/{number // 10_000}/{number // 100}/file-{number}.txt")
            info.size = BODY
            out.write(info.tobuf(tarfile.USTAR_FORMAT) + body)
        out.write(bytes(1024))
    return path


def measured(folder: Path, files: int) -> Run:
    """The better of two runs on an archive of `files` files, which is removed afterwards."""
    path = archive(folder / f"{files}.tar", files)
    try:
        command = [str(BIN / "ringfence"), "measure", "--kind", "rootfs", "--no-plan", str(path)]
        return best(2, *command)
    finally:
        path.unlink()


def measured_folder(place: Path, files: int) -> Run:
    """The better of two runs on a folder of `files` files, a hundred to a folder of its own."""
    root = place / f"root-{files}"
    for number in range(files):
        path = root / f"srv/{number // 10_000}/{number // 100}/file-{number}.txt"
        if number % 100 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * BODY)
    return best(2, str(BIN / "ringfence"), "measure", "--kind", "rootfs", "--no-plan", str(root))


def main() -> None:
    """A row a size, and whether the last step is a straight line."""
    place = Path(os.environ.get("RINGFENCE_CACHE", tempfile.gettempdir()))
    place.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[int, Run]] = []
    with tempfile.TemporaryDirectory(prefix="scale-", dir=place) as folder:
        empty = measured(Path(folder), 1)
        print(f"{'files':>10} {'seconds':>9} {'us/file':>9} {'MB':>7} {'bytes/file':>11}")
        for files in SIZES:
            took = measured(Path(folder), files)
            rows.append((files, took))
            each = (took.seconds - empty.seconds) / files * 1e6
            own = (took.peak - empty.peak) / files
            row = f"{files:>10} {took.seconds:>9.2f} {each:>9.1f} {took.peak / 1e6:>7.0f}"
            print(f"{row} {own:>11.0f}", flush=True)
        peaks = [measured_folder(Path(folder), files).peak for files in FOLDERS]
    (some, smaller), (many, larger) = rows[-2:]
    time = (larger.seconds - empty.seconds) / many / ((smaller.seconds - empty.seconds) / some)
    memory = (larger.peak - empty.peak) / many / max(1, (smaller.peak - empty.peak) / some)
    finish([
        verdict(f"time of a file, {many} to {some}", f"{time:.2f} x", time <= LIMIT),
        verdict(f"memory of a file, {many} to {some}", f"{memory:.2f} x", memory <= LIMIT),
        verdict(
            f"memory of a folder of {FOLDERS[1]} files, to {FOLDERS[0]}",
            f"{peaks[1] / 1e6:.0f} to {peaks[0] / 1e6:.0f} MB",
            peaks[1] <= FLAT * peaks[0],
        ),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
