"""Baselines beside AIDE and beside the hashing alone, in one run on one tree, warm cache.

The tree is of real files of this machine, at least 2 GB and 50,000 of them, made once. Both tools
keep and compare type, mode, owner, size, links, inode, times of modification and of status change,
link targets, ACLs, extended attributes and SHA-256. The floor is the quickest way known here to
hash those bytes on all processors: one process each, with lists made beforehand (nothing is
searched for, looked at or written) and balanced by bytes, OpenSSL's SHA-256 over one reused buffer
that begins with a page (see `bench.copying`). What finding the files and hashing them with
OpenSSL's own program in as many processes takes is printed beside it. Rounds are interleaved, and
the quickest of each counts.

The limit of 1.3 comes with a figure of 2.7 s for the floor: what SHA-256 takes without the
processor's instructions for it. With them hashing takes a third, and everything else takes what it
did: so both are measured, the first by OPENSSL_ia32cap(3). Debian's AIDE hashes with mhash, which
has no use for them. Peak memory is that of all processes together (proportional set size, sampled),
at 1,000,000 files on a tmpfs.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.timing import BIN, INSTALLED, finish, verdict
from bench.trees import copied, many

CACHE = Path(os.environ.get("RINGFENCE_CACHE", "/var/cache/ringfence"))
ROUNDS, EACH = 2, 8
FASTER, FLOOR, MEMORY = 8.0, 1.3, 200e6
FILES = 1_000_000
ATTRIBUTES = "p+ftype+l+n+u+g+s+i+m+c+acl+xattrs+selinux+caps+sha256"
PIECE = 1 << 20


def seconds(*command: str, environment: dict[str, str] | None = None) -> float:
    """Wall time of one process. Raises RuntimeError when it does not end with 0."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False, env=environment or INSTALLED)
    took = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr!r}")
    return took


def lists(tree: Path, count: int) -> list[list[str]]:
    """All files of the tree in `count` lists of about the same bytes, the largest dealt first."""
    sized = []
    for folder, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            if stat.S_ISREG(info.st_mode):
                sized.append((info.st_size, path))
    found: list[list[str]] = [[] for _ in range(count)]
    sums = [0] * count
    for size, path in sorted(sized, reverse=True):
        place = sums.index(min(sums))
        found[place].append(path)
        sums[place] += size + 20_000  # what opening a file costs, in bytes hashed
    return [sorted(paths) for paths in found]


def hashed(paths: list[str]) -> None:
    """Hash every file; nothing else."""
    buffer = mmap.mmap(-1, PIECE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    view = memoryview(buffer)
    for path in paths:
        handle = os.open(path, os.O_RDONLY | os.O_NOATIME)
        count = os.readv(handle, [buffer])
        state = hashlib.sha256(view[:count])
        while count == PIECE:
            count = os.readv(handle, [buffer])
            state.update(view[:count])
        state.digest()
        os.close(handle)


def floor(parts: list[list[str]]) -> float:
    """Wall seconds of one process for each list."""
    started = time.perf_counter()
    children = []
    for paths in parts:
        pid = os.fork()
        if pid == 0:
            hashed(paths)
            os._exit(0)
        children.append(pid)
    for pid in children:
        if os.waitpid(pid, 0)[1] != 0:
            raise RuntimeError("a hashing process failed")
    return time.perf_counter() - started


def aide(place: Path, tree: Path, workers: int) -> Path:
    """A configuration of AIDE for the tree."""
    path = place / f"aide-{workers}.conf"
    database = place / f"aide-{workers}.db"
    path.write_text(
        f"database_in=file:{database}\ndatabase_out=file:{database}\ngzip_dbout=no\n"
        f"num_workers={workers}\n{tree}(/|$) {ATTRIBUTES}\n"
    )
    return path


def without_instructions() -> dict[str, str]:
    """The environment in which OpenSSL finds no SHA instructions (CPUID leaf 7, EBX bit 29)."""
    return {**INSTALLED, "OPENSSL_ia32cap": ":~0x20000000"}


def commands(place: Path, tree: Path) -> dict[str, tuple[str, ...]]:
    """Our init and check of a tree, with the key in `place`."""
    ours, baseline, key = str(BIN / "ringfence"), str(place / "baseline"), str(place / "key")
    return {
        "init": (ours, "watch", "init", str(tree), "-o", baseline, "--key", key,
                 "--with", "mtime", "--with", "ctime", "--with", "inode"),
        "check": (ours, "watch", "check", str(tree), "--baseline", baseline,
                  "--public-key", f"{key}.pub"),
    }  # fmt: skip


def note(best: dict[str, float], name: str, took: float) -> None:
    """Keep the quickest."""
    best[name] = min(took, best.get(name, took))


def plain(place: Path, tree: Path, count: int) -> dict[str, float]:
    """Floor, init and check without SHA instructions: the floor in a process of its own, since
    OpenSSL looks at the processor once."""
    without = without_instructions()
    code = f"from bench.watch import *; p = lists(Path({str(tree)!r}), {count}); print(floor(p))"
    best: dict[str, float] = {}
    for _ in range(EACH):
        alone = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True,
                               env=without)  # fmt: skip
        note(best, "floor", float(alone.stdout))
        for name, command in commands(place, tree).items():
            note(best, name, seconds(*command, environment=without))
    return best


def rounds(place: Path, tree: Path, parts: list[list[str]]) -> dict[str, float]:
    """The quickest of some rounds of everything."""
    key = place / "key"
    if not key.exists():
        seconds(str(BIN / "ringfence"), "watch", "init", str(place), "-o", str(place / "x"),
                "--generate-key", str(key))  # fmt: skip
    ours = commands(place, tree)
    program = f"find {tree} -type f -print0 | xargs -0 -n 200 -P {len(parts)} openssl dgst -sha256"
    best: dict[str, float] = {}

    for number in range(ROUNDS):
        for workers in (1, len(parts)):
            configured = ("aide", "-c", str(aide(place, tree, workers)))
            for name in ("init", "check"):
                note(best, f"AIDE {name}, {workers} worker(s)", seconds(*configured, f"--{name}"))
        for _ in range(EACH):
            note(best, "floor", floor(parts))
            note(best, "find, openssl dgst", seconds("sh", "-c", program))
            for name, command in ours.items():
                note(best, name, seconds(*command))
            note(best, "quick check", seconds(*ours["check"], "--quick"))
        print(f"round {number + 1} of {ROUNDS} done", file=sys.stderr)
    return best


def memory(*command: str) -> float:
    """Peak memory in bytes of a process and its children, proportional set sizes added up."""
    with open(os.devnull, "wb") as nowhere:
        process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(_pss(pid) for pid in _family(process.pid)))
            time.sleep(0.05)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return peak


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _pss(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("Pss:"))


def at_a_million(place: Path) -> tuple[float, float]:
    """Peak memory of init and check at `FILES` files."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-", dir=shared) as folder:
        tree = Path(folder)
        many(tree, FILES)
        ours = commands(place, tree)
        init = memory(*ours["init"])
        size = os.path.getsize(place / "baseline") / FILES
        print(f"baseline of {FILES} files: {size:.0f} bytes a file")
        check = memory(*ours["check"])
    return init, check


def main() -> None:
    """Everything in one run."""
    if shutil.which("aide") is None:
        sys.exit("aide is missing: sh tools/install.sh services")
    tree = copied(CACHE / "watch-tree")
    parts = lists(tree, len(os.sched_getaffinity(0)))
    floor(parts)  # warms the cache
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-") as folder:
        place = Path(folder)
        best = rounds(place, tree, parts)
        slower = plain(place, tree, len(parts))
        for name, took in best.items():
            print(f"{name:<28} {took:7.2f} s")
        for name, took in slower.items():
            print(f"{name + ', no SHA instructions':<28} {took:7.2f} s")
        init, check = at_a_million(place)
    results = []
    for name in ("init", "check"):
        faster, above = best[f"AIDE {name}, 1 worker(s)"] / best[name], best[name] / best["floor"]
        results += [
            verdict(f"{name}: at least {FASTER:.0f} times as fast as AIDE", f"{faster:.1f} x",
                    faster >= FASTER),
            verdict(f"{name}: at most {FLOOR} times the hashing alone", f"{above:.2f} x",
                    above <= FLOOR),
            verdict(f"{name}: the same without SHA instructions",
                    f"{slower[name] / slower['floor']:.2f} x",
                    slower[name] / slower["floor"] <= FLOOR),
        ]  # fmt: skip
    for name, peak in (("init", init), ("check", check)):
        label = f"{name}: memory at {FILES} files under {MEMORY / 1e6:.0f} MB"
        results.append(verdict(label, f"{peak / 1e6:.0f} MB", peak < MEMORY))
    finish(results)


if __name__ == "__main__":
    main()
