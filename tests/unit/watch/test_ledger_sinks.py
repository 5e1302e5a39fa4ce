"""What sinks send, read by somebody else's parser, and that their failures cost nothing."""

from __future__ import annotations

import http.server
import re
import socket
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from ringfence.errors import UsageError
from ringfence.watch.ledger.record import MOST_LINE, Record, decode, encode
from ringfence.watch.ledger.segments import segments
from ringfence.watch.ledger.sinks import delivery, journald, otlp, syslog
from ringfence.watch.ledger.sinks.choose import choose
from ringfence.watch.ledger.writer import Ledger
from tests.unit.watch.ledgers import KEY, checked

RECORD = Record(
    1, 41, "2026-11-24T20:44:00.123456Z", 5, "boot", "denial", 'a "b" ]c\\\nd\x1b',
    {"call": "mount", "pid": 7, "deep": {"list": [1.5, None, True, "é"]}}, "ab" * 32,
)  # fmt: skip


def records(path: Path) -> list[Record]:
    lines = (decode(data[:-1]) for item in segments(path) for data in item.lines())
    return [line for line in lines if isinstance(line, Record)]


def test_otlp_is_what_the_projects_own_definition_accepts() -> None:
    request = ParseDict(otlp.export([RECORD, RECORD]), ExportLogsServiceRequest())
    scope = request.resource_logs[0].scope_logs[0]
    assert len(scope.log_records) == 2
    log = scope.log_records[0]
    assert log.time_unix_nano == 1795553040123456000
    assert (log.severity_number, log.severity_text) == (13, "WARN")
    values = {item.key: item.value for item in log.attributes}
    assert values["ringfence.index"].int_value == 41
    assert values["ringfence.subject"].string_value == RECORD.subject
    detail = {item.key: item.value for item in values["ringfence.detail"].kvlist_value.values}
    assert detail["pid"].int_value == 7
    deep = detail["deep"].kvlist_value.values[0].value.array_value.values
    assert deep[0].double_value == 1.5
    assert deep[1].WhichOneof("value") is None
    assert deep[2].bool_value
    assert deep[3].string_value == "é"


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-11-24", "1969-01-01T00:00:00Z", "9999-01-01T00:00:00Z",
             "0001-01-01T00:00:00+23:59", "9" * 5000],
)  # fmt: skip
def test_a_time_that_is_none_is_sent_as_unknown(text: str) -> None:
    odd = msgspec.structs.replace(RECORD, time=text)
    request = ParseDict(otlp.export([odd]), ExportLogsServiceRequest())
    assert request.resource_logs[0].scope_logs[0].log_records[0].time_unix_nano == 0


def test_syslog_follows_the_grammar() -> None:
    """RFC 5424, section 6: header, no structured data (6.3.1), BOM and text."""
    message = syslog.message(RECORD, "my host", 12)
    head, text = message.split(b"\xef\xbb\xbf", 1)
    match = re.fullmatch(
        r"<(\d{1,3})>1 (\S+) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) - ",
        head.decode(),
    )
    assert match
    assert match.groups() == (str(13 * 8 + 4), RECORD.time, "myhost", "ringfence", "12", "denial")
    assert msgspec.json.decode(text)["index"] == 41
    assert msgspec.json.decode(text)["subject"] == RECORD.subject
    long = msgspec.structs.replace(RECORD, detail={"x": "y" * (MOST_LINE - 600)})
    assert len(syslog.message(long, "h" * 300, 1)) < 65507


@pytest.mark.parametrize(("kind", "detail", "priority", "number"), [
    ("event", {"event": "change", "verdict": "changed", "severity": "critical"}, 2, 18),
    ("event", {"event": "found", "verdict": "added", "severity": "high"}, 3, 17),
    ("event", {"event": "change", "verdict": "changed", "severity": "medium"}, 4, 13),
    ("event", {"event": "change", "verdict": "changed", "severity": "low"}, 5, 10),
    ("event", {"event": "change", "verdict": "same"}, 5, 10),
    ("event", {"event": "overflow"}, 4, 13),
    ("event", {"event": "full-check", "verdict": "failed"}, 4, 13),
    ("event", {"event": "full-check", "verdict": "unchanged"}, 5, 10),
    ("event", {"event": "change", "severity": ["critical"]}, 5, 10),
    ("policy", {"event": "enforce", "verdict": "off"}, 4, 13),
    ("policy", {"event": "enforce", "verdict": "on"}, 5, 10),
    ("denial", {"call": "mount"}, 4, 13),
    ("run", {"event": "ended"}, 6, 9),
])  # fmt: skip
def test_what_is_urgent_is_so_in_every_sink(
    kind: str, detail: dict[str, object], priority: int, number: int
) -> None:
    record = msgspec.structs.replace(RECORD, kind=kind, detail=detail)
    assert syslog.message(record, "h", 1).startswith(f"<{13 * 8 + priority}>1 ".encode())
    assert read_journal(journald.datagram(record))["PRIORITY"] == str(priority).encode()
    request = ParseDict(otlp.export([record]), ExportLogsServiceRequest())
    log = request.resource_logs[0].scope_logs[0].log_records[0]
    assert log.severity_number == number
    for word in detail.values():
        if isinstance(word, str) and "event" in detail:
            assert word in log.body.string_value
            assert word.encode() in read_journal(journald.datagram(record))["MESSAGE"]


def read_journal(data: bytes) -> dict[str, bytes]:
    """The other side of the native protocol."""
    fields = {}
    while data:
        end = data.index(b"\n")
        name, equals, value = data[:end].partition(b"=")
        if equals:
            data = data[end + 1 :]
        else:
            (size,) = struct.unpack("<Q", data[end + 1 : end + 9])
            value, data = data[end + 9 : end + 9 + size], data[end + 10 + size :]
        fields[name.decode()] = value
    return fields


def test_journald_gets_every_field_whole(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "socket"))
        sink = journald.Journald(tmp_path / "socket")
        large = msgspec.structs.replace(RECORD, detail={"x": "y" * (MOST_LINE - 600)})
        sink.send([RECORD, large])
        fields = read_journal(server.recv(1 << 20))
        assert fields["RINGFENCE_SUBJECT"] == RECORD.subject.encode()
        assert fields["RINGFENCE_RECORD"] == encode(RECORD)
        assert (fields["PRIORITY"], fields["RINGFENCE_INDEX"]) == (b"4", b"41")
        assert b"\n" not in fields["MESSAGE"]
        assert read_journal(server.recv(1 << 20))["RINGFENCE_RECORD"] == encode(large)
        sink.close()


class Flaky:
    """A sink that fails when told to, and may stand still."""

    name = "flaky"

    def __init__(self) -> None:
        self.fails = False
        self.go = threading.Event()
        self.go.set()
        self.got: list[int] = []

    def send(self, records: Sequence[Record]) -> None:
        self.go.wait(20)
        if self.fails:
            raise OSError("nobody there")
        self.got += [record.index for record in records]

    def close(self) -> None:
        """Nothing is held."""


def until_sent(sink: Flaky, index: int) -> None:
    for _ in range(500):
        if index in sink.got:
            return
        time.sleep(0.01)
    raise AssertionError(f"record {index} was not sent")


def test_a_failing_sink_is_noted_and_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "QUIET", 0.0)
    good, bad = Flaky(), Flaky()
    bad.name = "bad"
    ledger = Ledger.open(tmp_path, KEY, sinks=[good, bad])
    bad.fails = True
    lost = [ledger.append("event", str(number)) for number in range(20)]
    until_sent(good, lost[-1])
    bad.fails = False
    found = [ledger.append("event", "again")]
    until_sent(bad, found[0])
    ledger.close()
    entries = records(tmp_path)
    assert set(lost) <= set(good.got)
    assert not set(lost) & set(bad.got)
    states = [item.detail for item in entries if item.subject == "sink:bad"]
    assert [state["state"] for state in states] == ["failing", "lost", "working"]
    assert states[0]["why"] == "nobody there"
    assert states[1]["records"] >= 20
    assert not [item for item in entries if item.subject == "sink:flaky"]
    assert not {item.index for item in entries if item.subject == "sink:bad"} & set(good.got)
    assert entries[-1].subject == "closed"
    assert entries[-1].index in good.got
    assert checked(tmp_path).broken is None


class Wrong(Flaky):
    """A sink with a defect: it raises what no sink should."""

    def send(self, records: Sequence[Record]) -> None:
        if self.fails:
            raise ValueError("a defect")
        super().send(records)

    def close(self) -> None:
        raise ValueError("another")


def test_a_sink_with_a_defect_is_a_failing_sink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "QUIET", 0.0)
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    sink = Wrong()
    sink.fails = True
    ledger = Ledger.open(tmp_path, KEY, sinks=[sink])
    ledger.append("event", "lost")
    for _ in range(500):
        if any(item.subject == "sink:flaky" for item in records(tmp_path)):
            break
        time.sleep(0.01)
    sink.fails = False
    until_sent(sink, ledger.append("event", "again"))
    ledger.close()
    states = [item.detail for item in records(tmp_path) if item.subject == "sink:flaky"]
    assert states[0] == {"state": "failing", "why": "ValueError: a defect"}
    assert states[-1] == {"state": "working"}
    assert not died


def test_a_sink_that_stands_still_blocks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "MOST_WAITING", 50)
    monkeypatch.setattr(delivery, "SETTLE", 0.1)
    sink = Flaky()
    ledger = Ledger.open(tmp_path, KEY, sinks=[sink])
    sink.go.clear()
    indexes = [ledger.append("event", str(number)) for number in range(200)]
    assert len(indexes) == 200
    ledger.close()
    sink.go.set()
    lost = [item.detail for item in records(tmp_path) if item.subject == "sink:flaky"]
    assert lost
    assert lost[-1]["state"] == "lost"
    assert lost[-1]["records"] >= 100
    assert checked(tmp_path).broken is None


def test_nobody_listens_at_real_sockets(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        for text in (f"journald:{tmp_path}/none", f"syslog:{tmp_path}/none",
                     f"otlp:http://127.0.0.1:{port}/v1/logs"):  # fmt: skip
            sink = choose(text)
            with pytest.raises(OSError, match=r"."):
                sink.send([RECORD])
            sink.close()


class Collector(http.server.BaseHTTPRequestHandler):
    """Answers with the status of its path."""

    bodies: list[bytes]

    def do_POST(self) -> None:
        Collector.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(int(self.path.strip("/")))
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_a_collector_that_refuses_is_a_failure() -> None:
    Collector.bodies = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        for status in (200, 503, 400):
            sink = choose(f"otlp:http://127.0.0.1:{server.server_port}/{status}")
            if status == 200:
                sink.send([RECORD])
                sink.send([RECORD])
            else:
                with pytest.raises(OSError, match=str(status)):
                    sink.send([RECORD])
            sink.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert len(Collector.bodies) == 4
    ParseDict(msgspec.json.decode(Collector.bodies[0]), ExportLogsServiceRequest())


@pytest.mark.parametrize(
    "text",
    [
        "", "file:/x", "syslog:192.0.2.1:514", "syslog:localhost:514", "syslog:127.0.0.1:x",
        "syslog:127.0.0.1:0", "otlp:http://192.0.2.1:4318/v1/logs", "otlp:https://127.0.0.1:1/",
        "otlp:http://127.0.0.1/v1/logs", "otlp:http://user@192.0.2.1:1/", "otlp:http://[::1",
        "otlp:http://127.0.0.1:99999/", "otlp:http://127.0.0.1:0/v1/logs",
        "otlp:http://127.0.0.1:1/\u00e9", "otlp:http://127.0.0.1:1/a b",
        "otlp:http://127.0.0.1:1/a\n", "otlp:http://127.0.0.1:" + "1" * 5000 + "/",
        "syslog:127.0.0.1:" + "1" * 5000, "syslog:127.0.0.1:", "syslog:127.0.0.1:65536",
        "syslog:127.0.0.1:\u0661",
    ],
)  # fmt: skip
def test_only_places_on_this_machine(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        choose(text)
    assert len(refused.value.line()) < 500


@pytest.mark.parametrize(
    "text",
    [
        "otlp:http://me:s3cret@127.0.0.1:4318/v1/logs", "otlp:http://s3cret@127.0.0.1:1/",
        "otlp:http://127.0.0.1:1/?token=s3cret", "otlp:http://127.0.0.1:1/#s3cret",
        "otlp:http://me:s3cret@[::1", "otlp:http://me:s3cret#s3cret@127.0.0.1:1/",
        "otlp:https://me:s3cret@192.0.2.1:1/", "otlp:http://me:s3cret@192.0.2.1:1/",
        "http://me:s3cret@127.0.0.1:4318/", "syslog:me:s3cret@127.0.0.1:x", "s3cret@127.0.0.1",
        "syslog:me:s3cret@127.0.0.1:514", "otlp:http://me:s3cret@s3cret@127.0.0.1:1/",
    ],
)  # fmt: skip
def test_a_password_is_refused_and_not_repeated(text: str) -> None:
    """A sink's name is kept in the ledger for ever."""
    with pytest.raises(UsageError) as refused:
        choose(text)
    assert "s3cret" not in refused.value.line()


@pytest.mark.parametrize(
    "text",
    ["journald", "syslog", "syslog:127.0.0.1:514", "syslog:[::1]:514", "otlp:http://[::1]:4318/x"],
)
def test_places_that_are_allowed(text: str) -> None:
    choose(text).close()
