"""Host-wide mechanisms: firewall, audit, logging, integrity tools. Is each really there?"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ringfence.collect.host.ask import asked
from ringfence.collect.host.clouds import led_to
from ringfence.collect.process import procfs
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.kernel import Guard


def guards() -> tuple[Guard, ...]:
    """Every guard that can be decided on this host, with what was seen."""
    running = _running()
    return tuple(Guard(name, read(running)) for name, read in _READERS.items())


Running = dict[str, int]


def _running() -> Running:
    """Names of running programs, each with one of its PIDs."""
    found: Running = {}
    for pid in procfs.pids():
        try:
            name = procfs.read(pid, "comm").decode("utf-8", "replace").strip()
        except (OSError, procfs.Vanished):
            continue
        found.setdefault(name, pid)
    return found


def _program(*names: str) -> Callable[[Running], Seen[bool]]:
    """A guard that is a program which must be running."""

    def read(running: Running) -> Seen[bool]:
        for name in names:
            if name in running:
                detail = f"{name} runs as process {running[name]}"
                return Seen(True, Evidence(Grade.OBSERVED, f"/proc/{running[name]}/comm", detail))
        detail = f"none of {', '.join(names)} runs"
        return Seen(False, Evidence(Grade.OBSERVED, "/proc/*/comm", detail))

    return read


def _files(*patterns: str) -> Callable[[Running], Seen[bool]]:
    """A guard that shows by a file it keeps: a database, a configuration."""

    def read(running: Running) -> Seen[bool]:
        for pattern in patterns:
            found = next(iter(Path("/").glob(pattern.lstrip("/"))), None)
            if found is not None:
                return Seen(True, Evidence(Grade.OBSERVED, str(found), "is there"))
        detail = f"none of {', '.join(patterns)}"
        return Seen(False, Evidence(Grade.OBSERVED, "file system", detail))

    return read


def _setting(pattern: str, *places: str) -> Callable[[Running], Seen[bool]]:
    """A guard that is a line of a configuration file."""

    def read(running: Running) -> Seen[bool]:
        for place in places:
            for path in sorted(Path("/").glob(place.lstrip("/"))):
                try:
                    text = path.read_text(errors="replace")
                except OSError as error:
                    why = os.strerror(error.errno or 0).lower()
                    return Seen(None, Evidence(Grade.ASSUMED, str(path), why))
                match = re.search(pattern, text, re.MULTILINE)
                if match:
                    return Seen(True, Evidence(Grade.OBSERVED, str(path), match[0].strip()))
        detail = f"no line says so in {', '.join(places)}"
        return Seen(False, Evidence(Grade.OBSERVED, places[0], detail))

    return read


def _firewall(hook: str) -> Callable[[Running], Seen[bool]]:
    """Default-deny: a base chain of nftables or iptables on the hook whose policy is drop."""

    def read(running: Running) -> Seen[bool]:
        answer = asked(["nft", "-j", "list", "chains"])
        if isinstance(answer, Evidence):
            return _without_nft(answer)
        for item in _chains(answer):
            if item.get("hook") == hook and item.get("policy") == "drop":
                detail = f"chain {item.get('table')} {item.get('name')} has policy drop"
                return Seen(True, Evidence(Grade.OBSERVED, "nft list chains", detail))
        detail = f"no chain on hook {hook} has policy drop"
        return Seen(False, Evidence(Grade.OBSERVED, "nft list chains", detail))

    return read


def _without_nft(answer: Evidence) -> Seen[bool]:
    """No nft program: an empty list of legacy tables is still an answer, if it can be read."""
    tables = Path("/proc/net/ip_tables_names")
    loaded = Path("/proc/net/netfilter/nf_log")
    try:
        names = tables.read_text().split() if tables.exists() else []
    except OSError:
        return Seen(None, answer)
    if not loaded.exists() and not names:
        detail = "netfilter is not in this kernel"
        return Seen(False, Evidence(Grade.OBSERVED, "/proc/net/netfilter", detail))
    return Seen(None, answer)


def _chains(answer: str) -> list[dict[str, Any]]:
    try:
        rows = json.loads(answer).get("nftables", [])
    except (ValueError, AttributeError):
        return []
    return [row["chain"] for row in rows if isinstance(row, dict) and "chain" in row]


def _audit_immutable(running: Running) -> Seen[bool]:
    answer = asked(["auditctl", "-s"])
    if isinstance(answer, Evidence):
        if "auditd" not in running:
            detail = "auditd does not run"
            return Seen(False, Evidence(Grade.OBSERVED, "/proc/*/comm", detail))
        return Seen(None, answer)
    locked = re.search(r"^enabled 2$", answer, re.MULTILINE) is not None
    detail = "enabled 2" if locked else "the rules can be changed"
    return Seen(locked, Evidence(Grade.OBSERVED, "auditctl -s", detail))


def _ima(running: Running) -> Seen[bool]:
    source = "/sys/kernel/security/ima/policy"
    there = Path(source).exists()
    return Seen(there, Evidence(Grade.OBSERVED, source, "is there" if there else "not there"))


def _evm(running: Running) -> Seen[bool]:
    source = "/sys/kernel/security/evm"
    try:
        value = Path(source).read_text().strip()
    except OSError:
        return Seen(False, Evidence(Grade.OBSERVED, source, "not there"))
    return Seen(value not in ("", "0"), Evidence(Grade.OBSERVED, source, f"evm {value}"))


def _verity(running: Running) -> Seen[bool]:
    """dm-verity under the root: device-mapper names its target in the uuid (CRYPT-VERITY-...)."""
    for place in Path("/sys/block").glob("dm-*/dm/uuid"):
        if "VERITY" in place.read_text(errors="replace"):
            return Seen(True, Evidence(Grade.OBSERVED, str(place), "dm-verity"))
    return Seen(False, Evidence(Grade.OBSERVED, "/sys/block", "no dm-verity device"))


_CLOUDS = (
    "Amazon",
    "Google",
    "Microsoft",
    "OpenStack",
    "DigitalOcean",
    "Alibaba",
    "Hetzner",
    "Oracle",
)


def _no_metadata(running: Running) -> Seen[bool]:
    """Whether no cloud's metadata service is near: no cloud made this machine, or no route."""
    vendor = ""
    for name in ("sys_vendor", "product_name", "chassis_asset_tag"):
        try:
            vendor += Path(f"/sys/class/dmi/id/{name}").read_text(errors="replace") + " "
        except OSError:
            continue
    if not any(cloud in vendor for cloud in _CLOUDS):
        detail = "no cloud is named there"
        return Seen(True, Evidence(Grade.OBSERVED, "/sys/class/dmi/id", detail))
    ways = led_to()
    detail = f"{vendor.strip()}; routes to {', '.join(ways) or 'none of its addresses'}"
    return Seen(not ways, Evidence(Grade.OBSERVED, "/sys/class/dmi/id", detail))


_READERS: dict[str, Callable[[Running], Seen[bool]]] = {
    "firewall-in": _firewall("input"),
    "firewall-out": _firewall("output"),
    "metadata-reachable": _no_metadata,
    "audit": _program("auditd"),
    "audit-immutable": _audit_immutable,
    "logging": _program("systemd-journald", "systemd-journal", "rsyslogd", "syslog-ng"),
    "log-forwarding": _setting(
        r"^\s*(ForwardToSyslog=yes|[^#\n]*@@?[\w.\[]+.*|.*omfwd.*|URL=.+)$",
        "/etc/rsyslog.conf",
        "/etc/rsyslog.d/*.conf",
        "/etc/systemd/journal-upload.conf",
    ),
    "log-sealing": _files("/var/log/journal/*/fss"),
    "log-rotation": _files("/etc/logrotate.d/*", "/etc/systemd/journald.conf"),
    "integrity": _files(
        "/var/lib/aide/aide.db*", "/var/lib/tripwire/*.twd", "/var/lib/samhain/samhain_file"
    ),
    "ima": _ima,
    "evm": _evm,
    "verity": _verity,
    "exec-control": _program("fapolicyd"),
}
