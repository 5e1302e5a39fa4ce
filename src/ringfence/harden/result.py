"""The result directory: all of it, or nothing (docs/measure.md, *Names in the JSON*)."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ringfence import __version__
from ringfence.errors import InputError
from ringfence.harden.build import Fenced, Minimal, Observed
from ringfence.harden.image.oci import ImageConfiguration, write_image
from ringfence.harden.image.sbom import write_sbom
from ringfence.harden.layout import LOGS
from ringfence.harden.markdown import write_markdown
from ringfence.harden.measured import counts, measurement
from ringfence.harden.observe.isolation import is_mount_point
from ringfence.harden.policy.languages import LANGUAGES
from ringfence.harden.policy.needs import Needs
from ringfence.harden.record import SCHEMA, BeforeAndAfter, KeptFile, Report
from ringfence.harden.retest import retests
from ringfence.harden.vm.pack import CMDLINE, INITRD
from ringfence.harden.wishes import Wishes
from ringfence.knowledge.records import Knowledge
from ringfence.report.json_format import encoded
from ringfence.run.result import MEMORY_PROGRAMS, PHASES
from ringfence.untrusted import Undecodable, decode_json, regular_file

IMAGE, REPORT, LEFT_OUT = "image.oci.tar", "report.json", "left-out.txt"
OURS = frozenset((IMAGE, REPORT, LEFT_OUT, "report.md", "sbom.cdx.json", "policy", INITRD, CMDLINE))
"""All that a result directory holds: one with something else in it is not replaced."""
MOST_REPORT = 256 << 20
"""Bytes of a report: it has a line for every file of the image."""
REMEDY = "ringfence harden writes it"


class _Schema(msgspec.Struct, frozen=True):
    """Of a report, what tells that it is one."""

    schema: str


def check_output(output: Path) -> None:
    """Before any work: whether the result can be put there. Raises InputError."""
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise InputError("is not a directory", where=str(output))
    if is_mount_point(output):
        raise InputError(
            "is a mount point, which cannot be replaced", where=str(output),
            remedy="name a directory in it",
        )  # fmt: skip
    foreign = _foreign(output) if output.is_dir() else None
    if foreign is not None:
        raise InputError(
            f"holds something that is no result of ours: {foreign}", where=str(output),
            remedy="name an empty or a new directory",
        )  # fmt: skip
    parent = output.absolute().parent
    if not parent.is_dir():
        raise InputError("there is no such directory", where=str(parent))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError("may not be written to", where=str(parent))


def _foreign(output: Path) -> str | None:
    """The name of something in a directory that we did not write, None where there is nothing."""
    names = sorted(path.name for path in output.iterdir())
    folder = output / "policy"
    policies = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    odd = [name for name in names
           if name not in OURS or (output / name).is_dir() != (name == "policy")]  # fmt: skip
    odd += [f"policy/{name}" for name in policies if name not in LANGUAGES]
    if odd or not names:
        return odd[0] if odd else None
    try:
        said = decode_json(regular_file(output / REPORT, MOST_REPORT, REMEDY), _Schema)
    except (InputError, Undecodable):
        return REPORT if REPORT in names else names[0]
    return None if said.schema.startswith(SCHEMA.rstrip("0123456789")) else REPORT


def image_of(needs: Needs, made: Minimal, wishes: Wishes) -> tuple[bytes, str]:
    """The image archive, and its digest."""
    service = needs.service
    config = ImageConfiguration(
        command=service.command,
        environment=service.environment,
        folder=service.folder,
        user=f"{needs.who.uid}:{needs.who.gid}",
        ports=tuple(f"{port}/tcp" for port in needs.ports),
        volumes=tuple(item.path for item in needs.writable),
        signal=service.signal,
        labels={
            "org.opencontainers.image.title": needs.name,
            "org.opencontainers.image.description": "Made by ringfence harden",
            "io.ringfence.version": __version__,
            PHASES: "yes" if wishes.phases else "no",
            MEMORY_PROGRAMS: "yes" if needs.memory_programs else "no",
        },
    )
    buffer = io.BytesIO()
    name = f"ringfence/{needs.name}:latest"
    digest = write_image(made.layer, config, name, wishes.base_time, buffer)
    return buffer.getvalue(), digest


def report_of(
    seen: Observed, made: Minimal, needs: Needs, inside: Fenced, digest: str, knowledge: Knowledge
) -> Report:
    """Everything that there is to tell."""
    plain = seen.source.kind == "command"
    before = counts(seen.before)
    return Report(
        schema=SCHEMA,
        name=needs.name,
        digest=digest,
        user=f"{needs.who.uid}:{needs.who.gid}",
        before=measurement(seen.before, knowledge, plain=plain),
        after=measurement(inside.after, knowledge),
        files=tuple(
            KeptFile(entry.path, _reason(entry.path, made))
            for entry in made.entries
            if entry.kind != "folder" or entry.path in made.kept.reasons
        ),
        counts=BeforeAndAfter(before, counts(inside.after, inside.starting, len(needs.serving))),
        retest=retests(seen, inside.run),
        calls=needs.calls,
        serving=needs.serving,
        taken=needs.taken,
        writable=tuple(f"/{item.path}" for item in needs.writable),
        volumes=tuple(f"/{item.path}" for item in needs.writable if item.state),
        ports=needs.ports,
        refused=inside.refused,
        notes=inside.notes,
    )


def _reason(path: str, made: Minimal) -> str:
    reason = made.kept.reasons.get(path)
    if reason is not None and path not in made.changes.logs:
        return reason
    if path in made.changes.logs:
        return f"a log of the service, on its standard output or error ({LOGS.pattern})"
    if path.startswith(("var/lib/dpkg/", "lib/apk/", "usr/lib/apk/")):
        return "tells scanners which package the remaining files come from"
    if any(path == item.path for item in made.changes.writable):
        return "the service writes here"
    return "state of the service, in a folder that it writes"


def left_out_of(seen: Observed, made: Minimal) -> tuple[str, ...] | None:
    """Files of the tree that the image does not have, sorted; None where the tree is this host's,
    which is not listed."""
    if seen.source.kind == "command":
        return None
    kept = {entry.path for entry in made.entries}
    return tuple(sorted(path for path in seen.tree.below("") if path not in kept))


def read_left_out(folder: Path) -> frozenset[str] | None:
    """What `left_out_of` said of a result. Raises InputError."""
    path = folder / LEFT_OUT
    if not path.exists():
        return None
    data = regular_file(path, MOST_REPORT, REMEDY)
    names = data.decode("utf-8", "surrogateescape").split("\n")  # they may have other line ends
    return frozenset(names) - {""}


def write_result(
    output: Path,
    report: Report,
    needs: Needs,
    made: Minimal,
    wishes: Wishes,
    image: bytes,
    left_out: tuple[str, ...] | None,
    further: Mapping[str, bytes] | None = None,
) -> None:
    """Write the directory beside its place, then move it there; `further` are more files of it,
    by name. Raises InputError."""
    output = output.absolute()
    try:
        folder = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    except OSError as error:
        raise _unwritable(output, error) from None
    try:
        _fill(folder, report, needs, made, wishes, image)
        for name, content in (further or {}).items():
            (folder / name).write_bytes(content)
        if left_out is not None:
            text = "".join(f"{path}\n" for path in left_out if "\n" not in path)
            (folder / LEFT_OUT).write_text(text, "utf-8", "surrogateescape")
        folder.chmod(0o755)
        _move(folder, output)
    except OSError as error:
        raise _unwritable(output, error) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fill(
    folder: Path, report: Report, needs: Needs, made: Minimal, wishes: Wishes, image: bytes
) -> None:
    (folder / IMAGE).write_bytes(image)
    body = msgspec.json.format(encoded(report), indent=1)
    (folder / REPORT).write_bytes(body + b"\n")
    (folder / "report.md").write_text(write_markdown(report, needs), "utf-8")
    bill = write_sbom(needs.name, report.digest, made.owners, wishes.base_time)
    (folder / "sbom.cdx.json").write_text(bill, "utf-8")
    (folder / "policy").mkdir()
    for name, write in LANGUAGES.items():
        (folder / "policy" / name).write_text(write(needs), "utf-8", "surrogateescape")


def _move(folder: Path, output: Path) -> None:
    """A former result of ours goes only once the new one stands ready. Raises InputError for
    what somebody put there in the meantime."""
    if not output.exists():
        folder.rename(output)
        return
    check_output(output)
    former = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.old."))
    try:
        output.rename(former / "result")
    except OSError:
        former.rmdir()
        raise
    folder.rename(output)
    shutil.rmtree(former, ignore_errors=True)


def _unwritable(output: Path, error: OSError) -> InputError:
    return InputError(f"cannot be written: {error.strerror}", where=str(output))


def read_report(folder: Path) -> Report:
    """The report of a result directory. Raises InputError."""
    path = folder / REPORT
    try:
        return decode_json(regular_file(path, MOST_REPORT, REMEDY), Report)
    except Undecodable as error:
        raise InputError(f"is not a report: {error}", where=str(path), remedy=REMEDY) from None
