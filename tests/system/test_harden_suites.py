"""Services' own clients inside the fence, beyond what the policies were learned from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.system.conftest import free_port, program
from tests.system.hardening import RINGFENCE, Done

pytestmark = pytest.mark.system


def test_redis_benchmark_inside_the_fence(tmp_path: Path) -> None:
    """Learned from one SET and GET; asked for lists, sets, hashes, scripts and a snapshot."""
    result = tmp_path / "result"
    command = ("redis-server", "--dir", "/var/lib/redis", "--daemonize", "no",
               "--protected-mode", "no")  # fmt: skip
    done = Done("-o", str(result), "--phases", "--user", "redis", "--exercise",
                "redis-cli set key value && redis-cli get key", command=command)  # fmt: skip
    assert done.code == 0, done.err
    port = str(free_port())
    process = subprocess.Popen(
        [RINGFENCE, "run", str(result), "-p", f"{port}:6379"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "Ready to accept connections" in line:
                break

        def ask(*words: str) -> str:
            return subprocess.run(
                [program("redis-cli"), "-p", port, *words],
                capture_output=True, text=True, check=True, timeout=60,
            ).stdout.strip()  # fmt: skip

        suite = [program("redis-benchmark"), "-p", port, "-n", "500", "-c", "20", "-q"]
        bench = subprocess.run(suite, capture_output=True, text=True, check=True, timeout=240)
        assert "LRANGE_600" in bench.stdout and "rror" not in bench.stdout
        assert ask("eval", "return redis.call('set', 'a', 7)", "0") == "OK"
        assert ask("save") == "OK"
        assert ask("config", "set", "maxclients", "2000") == "OK"
        times = ask("info", "cpu").splitlines()[1:]
        assert all(0 <= float(line.partition(":")[2]) < 1000 for line in times)
        assert ask("bgrewriteaof").startswith("Background")
        assert ask("bgsave", "schedule").startswith("Background")
        for _ in range(100):
            state = ask("info", "persistence")
            if "rdb_bgsave_in_progress:0" in state and "aof_rewrite_in_progress:0" in state:
                break
        assert "rdb_last_bgsave_status:ok" in state
        assert "aof_last_bgrewrite_status:ok" in state
    finally:
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "refused" not in err
