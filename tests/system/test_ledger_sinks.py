"""The real daemons read what the sinks send: systemd-journald and rsyslogd, in namespaces."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ringfence.watch.ledger.writer import Ledger
from tests.system.conftest import program
from tests.unit.watch.ledgers import KEY, checked

pytestmark = pytest.mark.system
SUBJECT = 'worker "7" ]\nnext \\ line é'
JOURNALD = Path("/lib/systemd/systemd-journald")

SEND = """
import sys
from pathlib import Path
from ringfence.watch.ledger.sinks.choose import choose
from ringfence.watch.ledger.writer import Ledger
from tests.unit.watch.ledgers import KEY
with Ledger.open(Path(sys.argv[1]), KEY, sinks=[choose(sys.argv[2])]) as ledger:
    ledger.append("denial", sys.argv[3], {"call": "mount", "text": "x" * 5000})
"""

# A mount namespace of its own: nothing of it is seen by, or sent to, a journal of this machine.
# journald takes the whole kernel log in at its start: an empty /dev/kmsg spares that.
JOURNAL = """
set -e
mount -t tmpfs none /run; mount -t tmpfs none /var/log; mount --bind /dev/null /dev/kmsg
mkdir -p /run/systemd/journal /run/log/journal
"$1" >/dev/null 2>&1 & daemon=$!
for _ in $(seq 100); do [ -S /run/systemd/journal/socket ] && break; sleep 0.05; done
"$2" -c "$3" "$4" journald "$5"
for _ in $(seq 100); do
    journalctl --sync >/dev/null 2>&1 || true
    journalctl --directory=/run/log/journal -o json --all SYSLOG_IDENTIFIER=ringfence \\
        >"$6" 2>/dev/null
    [ "$(wc -l <"$6")" -ge 3 ] && break; sleep 0.05
done
kill $daemon; wait $daemon || true
"""


def text(value: Any) -> str:
    """journalctl gives values with control characters as numbers."""
    return bytes(value).decode() if isinstance(value, list) else str(value)


def test_journald_stores_every_record(tmp_path: Path) -> None:
    if not JOURNALD.exists():
        pytest.skip("no systemd-journald here")
    subprocess.run(
        ["unshare", "-m", "sh", "-c", JOURNAL, "sh", str(JOURNALD), sys.executable, SEND,
         str(tmp_path / "log"), SUBJECT, str(tmp_path / "out")],
        check=True, timeout=60,
    )  # fmt: skip
    entries = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [entry["RINGFENCE_INDEX"] for entry in entries] == ["0", "1", "2"]
    denial = entries[1]
    assert (denial["PRIORITY"], denial["RINGFENCE_KIND"]) == ("4", "denial")
    assert text(denial["RINGFENCE_SUBJECT"]) == SUBJECT
    assert json.loads(text(denial["RINGFENCE_RECORD"]))["detail"]["call"] == "mount"
    assert checked(tmp_path / "log").broken is None


RSYSLOG = """
module(load="imuxsock" SysSock.Use="off")
module(load="imudp")
global(workDirectory="{folder}" maxMessageSize="64k")
input(type="imuxsock" Socket="{folder}/socket" UseSpecialParser="off" ParseTrusted="off")
template(name="whole" type="list" option.jsonf="on") {{
  property(outname="pri" name="pri" format="jsonf")
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="msgid" name="msgid" format="jsonf")
  property(outname="sd" name="structured-data" format="jsonf")
  property(outname="version" name="protocol-version" format="jsonf")
  property(outname="msg" name="msg" format="jsonf")
}}
action(type="omfile" file="{folder}/out" template="whole")
"""


def test_rsyslogd_reads_every_field(tmp_path: Path) -> None:
    daemon = program("rsyslogd")
    (tmp_path / "conf").write_text(RSYSLOG.format(folder=tmp_path))
    process = subprocess.Popen(
        [daemon, "-n", "-f", str(tmp_path / "conf"), "-i", str(tmp_path / "pid")]
    )
    try:
        until((tmp_path / "socket").exists)
        command = [sys.executable, "-c", SEND, str(tmp_path / "log"), f"syslog:{tmp_path}/socket"]
        subprocess.run([*command, SUBJECT], check=True)
        out = tmp_path / "out"
        until(lambda: out.exists() and out.read_text().count("\n") >= 3)
    finally:
        process.terminate()
        process.wait(20)
    entries = [json.loads(line) for line in out.read_text().splitlines()]
    assert [entry["msgid"] for entry in entries] == ["ledger", "denial", "ledger"]
    denial = entries[1]
    assert (denial["pri"], denial["app"], denial["version"]) == (str(13 * 8 + 4), "ringfence", "1")
    assert denial["sd"] == "-"
    record = json.loads(denial["msg"].lstrip("\ufeff"))
    assert (record["subject"], record["detail"]["text"]) == (SUBJECT, "x" * 5000)
    assert denial["time"].startswith(record["time"][:19])


def until(true: Any) -> None:
    """Until it is so."""
    import time

    for _ in range(400):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come true")


def test_without_a_daemon_the_ledger_says_so(tmp_path: Path) -> None:
    """The opposite: the same writer, nobody at the socket."""
    command = [sys.executable, "-c", SEND, str(tmp_path / "log"), f"syslog:{tmp_path}/socket"]
    subprocess.run([*command, SUBJECT], check=True)
    shown = subprocess.run(
        [sys.executable, "-c", "from ringfence.cli.watch_log import command; command()",
         str(tmp_path / "log"), "--kind", "ledger"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "state=failing" in shown
    assert "state=lost" in shown
    assert checked(tmp_path / "log").broken is None
    Ledger.open(tmp_path / "log", KEY).close()
