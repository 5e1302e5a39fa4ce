"""A quick check says what it cannot see: a mapped page that took a write takes more without a new
ctime."""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path

from tests.watching import Watched


def test_a_write_through_a_mapping_from_before_is_missed_and_said_to_be(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        target = Path(folder) / "program"
        target.write_bytes(b"GOOD" * 1024)
        with target.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[:1] = b"G"
            watched = Watched(tmp_path, folder)
            watched.init()
            mapped[:4] = b"EVIL"
            quick = watched.report("--quick")
            assert not quick["changed"]
            assert any("shared mapping" in note for note in quick["notes"])
            assert "shared mapping" in watched.check("--quick").out
            full = watched.report()
            assert [item["path"] for item in full["changed"]] == ["/program"]
            assert not any("shared mapping" in note for note in full["notes"])
