"""The running kernel: settings, features, security modules, protections. Reads, never tries."""

from __future__ import annotations

import functools
import gzip
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from ringfence.knowledge.questions import settings
from ringfence.knowledge.records import Feature, Knowledge
from ringfence.model.evidence import Evidence, Grade, Seen
from ringfence.model.kernel import Kernel

MOST_CONFIG = 16 << 20


def kernel(knowledge: Knowledge) -> Kernel:
    """The kernel as /proc and /sys show it."""
    return Kernel(
        release=os.uname().release,
        settings={
            name: seen for name in settings(knowledge) if (seen := setting(name)) is not None
        },
        features={entry.id: feature(entry) for entry in knowledge.features.values()},
        lsms=_lsms(),
        protections={name: read() for name, read in _PROTECTIONS.items()},
    )


def setting(name: str) -> Seen[str] | None:
    """A kernel setting's text; None where this kernel has no such setting."""
    source = "/proc/sys/" + name.replace(".", "/")
    try:
        text = Path(source).read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        detail = os.strerror(error.errno or 0).lower()
        return Seen(None, Evidence(Grade.ASSUMED, source, detail))
    return Seen(text, Evidence(Grade.OBSERVED, source, text))


def feature(entry: Feature) -> Seen[bool]:
    """Whether the kernel has a feature built in, loaded or loadable, by the first sign that tells.

    A sign that is present proves the feature. Its absence proves something only where the list
    that was read is complete: the configuration, or a kernel without loadable modules.
    """
    present = _present(entry)
    if present is not None:
        return present
    configuration = config()
    if entry.config and configuration:
        return _by_config(entry, configuration)
    if entry.symbols and symbols():
        return Seen(False, Evidence(Grade.OBSERVED, "/proc/kallsyms", f"no {entry.symbols[0]}"))
    if entry.protocols and not entry.modules:
        detail = f"no {entry.protocols[0]}"
        return Seen(False, Evidence(Grade.OBSERVED, "/proc/net/protocols", detail))
    return Seen(None, Evidence(Grade.ASSUMED, "kernel configuration", "not to be seen here"))


def _present(entry: Feature) -> Seen[bool] | None:
    for names, where, source in (
        (entry.protocols, protocols(), "/proc/net/protocols"),
        (entry.filesystems, filesystems(), "/proc/filesystems"),
        (entry.modules, loaded_modules(), "/proc/modules"),
        (entry.symbols, symbols(), "/proc/kallsyms"),
    ):
        for name in names:
            if name in where:
                return Seen(True, Evidence(Grade.OBSERVED, source, name))
    return None


def _by_config(entry: Feature, configuration: dict[str, str]) -> Seen[bool]:
    source = _config_source()
    for name in entry.config:
        value = configuration.get(name)
        if value == "y":
            return Seen(True, Evidence(Grade.OBSERVED, source, f"{name}=y"))
        if value == "m":
            return _loadable(entry, name, source)
    detail = f"{entry.config[0]} is not set"
    return Seen(False, Evidence(Grade.OBSERVED, source, detail))


def _loadable(entry: Feature, name: str, source: str) -> Seen[bool]:
    closed = setting("kernel.modules_disabled")
    if closed is not None and closed.value == "1":
        return Seen(False, Evidence(Grade.OBSERVED, source, f"{name}=m, module loading is closed"))
    available = modules_on_disk()
    found = [module for module in entry.modules if module in available]
    if available and not found:
        return Seen(False, Evidence(Grade.OBSERVED, source, f"{name}=m, its module is not there"))
    grade = Grade.OBSERVED if found else Grade.ASSUMED
    return Seen(True, Evidence(grade, source, f"{name}=m, loadable on demand"))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []


@functools.cache
def protocols() -> frozenset[str]:
    """Protocols registered with the socket layer, such as ALG or PACKET."""
    return frozenset(line.split()[0] for line in _lines("/proc/net/protocols")[1:] if line.strip())


@functools.cache
def filesystems() -> frozenset[str]:
    """File system types that the kernel knows now."""
    return frozenset(line.split()[-1] for line in _lines("/proc/filesystems") if line.strip())


@functools.cache
def loaded_modules() -> frozenset[str]:
    """Modules that are loaded."""
    return frozenset(line.split()[0] for line in _lines("/proc/modules") if line.strip())


@functools.cache
def modules_on_disk() -> frozenset[str]:
    """Names of the modules installed for the running kernel, dashes as underscores."""
    found = set()
    for line in _lines(f"/lib/modules/{os.uname().release}/modules.dep"):
        name = line.partition(":")[0].rsplit("/", 1)[-1]
        found.add(name.partition(".ko")[0].replace("-", "_"))
    return frozenset(found)


@functools.cache
def symbols() -> frozenset[str]:
    """System calls that the kernel implements, as `sys_bpf`.

    A call that is configured out is a weak symbol (COND_SYSCALL), which kallsyms shows as W.
    """
    pattern = re.compile(r"^\S+ [Tt] __(?:x64|arm64|se)_(sys_\w+)", re.MULTILINE)
    try:
        text = Path("/proc/kallsyms").read_text(errors="replace")
    except OSError:
        return frozenset()
    return frozenset(pattern.findall(text))


@functools.cache
def config() -> dict[str, str]:
    """The kernel's configuration, NAME -> y, m or a value; empty where it cannot be read."""
    source = _config_source()
    if not source:
        return {}
    try:
        with gzip.open(source) if source.endswith(".gz") else Path(source).open("rb") as file:
            text = file.read(MOST_CONFIG).decode("utf-8", "replace")
    except (OSError, EOFError):
        return {}
    pairs = (line.partition("=") for line in text.splitlines() if line.startswith("CONFIG_"))
    return {name: value for name, _, value in pairs}


@functools.cache
def _config_source() -> str:
    release = os.uname().release
    for path in ("/proc/config.gz", f"/boot/config-{release}", f"/lib/modules/{release}/config"):
        if os.access(path, os.R_OK):
            return path
    return ""


SECURITYFS = "/sys/kernel/security"


def _lsms() -> Seen[tuple[str, ...]]:
    source = f"{SECURITYFS}/lsm"
    try:
        names = tuple(Path(source).read_text().strip().split(","))
    except OSError as error:
        return _lsms_by_config(os.strerror(error.errno or 0).lower())
    return Seen(names, Evidence(Grade.OBSERVED, source, ",".join(names)))


def _lsms_by_config(why: str) -> Seen[tuple[str, ...]]:
    """Where securityfs is not mounted: the list that the kernel was built or started with."""
    line = " ".join(_lines("/proc/cmdline"))
    match = re.search(r"(?:^| )lsm=(\S+)", line)
    text = match[1] if match else config().get("CONFIG_LSM", "").strip('"')
    if not text:
        return Seen(None, Evidence(Grade.ASSUMED, f"{SECURITYFS}/lsm", why))
    names = tuple(name for name in text.split(",") if _built(name))
    source = "/proc/cmdline" if match else _config_source()
    return Seen(names, Evidence(Grade.OBSERVED, source, f"lsm={','.join(names)}"))


def _built(name: str) -> bool:
    option = {"bpf": "CONFIG_BPF_LSM", "lockdown": "CONFIG_SECURITY_LOCKDOWN_LSM"}.get(
        name, f"CONFIG_SECURITY_{name.upper()}"
    )
    return name == "capability" or config().get(option) == "y"


def _flag(name: str) -> Callable[[], Seen[bool]]:
    """A processor feature that Linux turns on wherever the processor offers it."""

    def read() -> Seen[bool]:
        flags = next((line for line in _lines("/proc/cpuinfo") if line.startswith("flags")), "")
        if not flags:
            return Seen(None, Evidence(Grade.ASSUMED, "/proc/cpuinfo", "no flags line"))
        there = name in flags.split()
        detail = f"{name} {'is' if there else 'is not'} among the flags"
        return Seen(there, Evidence(Grade.OBSERVED, "/proc/cpuinfo", detail))

    return read


def _lockdown() -> Seen[bool]:
    source = f"{SECURITYFS}/lockdown"
    for line in _lines(source):
        match = re.search(r"\[(\w+)\]", line)
        if match:
            detail = f"lockdown {match[1]}"
            return Seen(match[1] != "none", Evidence(Grade.OBSERVED, source, detail))
    if re.search(r"(?:^| )lockdown=\w", " ".join(_lines("/proc/cmdline"))):
        return Seen(True, Evidence(Grade.OBSERVED, "/proc/cmdline", "lockdown= is given"))
    forced = [name for name in config() if name.startswith("CONFIG_LOCK_DOWN_KERNEL_FORCE_")]
    if config() and config().get("CONFIG_SECURITY_LOCKDOWN_LSM") != "y":
        detail = "CONFIG_SECURITY_LOCKDOWN_LSM is not set"
        return Seen(False, Evidence(Grade.OBSERVED, _config_source(), detail))
    if any(config()[name] == "y" and not name.endswith("NONE") for name in forced):
        return Seen(True, Evidence(Grade.OBSERVED, _config_source(), "lockdown is forced"))
    return Seen(None, Evidence(Grade.ASSUMED, source, "securityfs is not mounted"))


def _mitigations() -> Seen[bool]:
    line = " ".join(_lines("/proc/cmdline"))
    off = bool(re.search(r"(?:^| )(mitigations=off|nopti|nospectre_v2)(?: |$)", line))
    detail = "mitigations are turned off" if off else "no option turns mitigations off"
    return Seen(not off, Evidence(Grade.OBSERVED, "/proc/cmdline", detail))


def _modules_closed() -> Seen[bool]:
    if config() and config().get("CONFIG_MODULES") != "y":
        detail = "CONFIG_MODULES is not set"
        return Seen(True, Evidence(Grade.OBSERVED, _config_source(), detail))
    return _setting_on("kernel.modules_disabled")


def _kexec_closed() -> Seen[bool]:
    if config() and not {config().get("CONFIG_KEXEC"), config().get("CONFIG_KEXEC_FILE")} & {"y"}:
        return Seen(True, Evidence(Grade.OBSERVED, _config_source(), "CONFIG_KEXEC is not set"))
    return _setting_on("kernel.kexec_load_disabled")


def _setting_on(name: str) -> Seen[bool]:
    seen = setting(name)
    if seen is None:
        detail = f"this kernel has no {name}"
        return Seen(False, Evidence(Grade.OBSERVED, "/proc/sys", detail))
    return Seen(None if seen.value is None else seen.value != "0", seen.evidence)


def _module_signing() -> Seen[bool]:
    closed = _modules_closed()
    if closed.value:
        return closed
    source = "/sys/module/module/parameters/sig_enforce"
    for line in _lines(source):
        return Seen(line == "Y", Evidence(Grade.OBSERVED, source, f"sig_enforce {line}"))
    return Seen(None, Evidence(Grade.ASSUMED, source, "not there"))


def _secure_boot() -> Seen[bool]:
    place = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    if not Path("/sys/firmware/efi").exists():
        return Seen(False, Evidence(Grade.OBSERVED, "/sys/firmware/efi", "not booted by EFI"))
    try:
        on = Path(place).read_bytes()[4:5] == b"\x01"
    except OSError as error:
        return Seen(None, Evidence(Grade.ASSUMED, place, os.strerror(error.errno or 0).lower()))
    return Seen(on, Evidence(Grade.OBSERVED, place, "on" if on else "off"))


def _measured_boot() -> Seen[bool]:
    source = "/sys/class/tpm"
    there = _some(Path(source).glob("tpm*"))
    detail = "a TPM is there" if there else "no TPM"
    return Seen(there, Evidence(Grade.OBSERVED, source, detail))


def _some(found: Iterable[object]) -> bool:
    return next(iter(found), None) is not None


_PROTECTIONS: dict[str, Callable[[], Seen[bool]]] = {
    "smep": _flag("smep"),
    "smap": _flag("smap"),
    "umip": _flag("umip"),
    "mitigations": _mitigations,
    "lockdown": _lockdown,
    "module-signing": _module_signing,
    "module-loading-closed": _modules_closed,
    "kexec-closed": _kexec_closed,
    "secure-boot": _secure_boot,
    "measured-boot": _measured_boot,
}
