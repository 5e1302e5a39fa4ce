"""report.md, and the same in short for the terminal."""

from __future__ import annotations

from ringfence.harden.policy.containers import command_line
from ringfence.harden.policy.needs import Needs
from ringfence.harden.record import Counts, Report
from ringfence.model.measurement import Measurement
from ringfence.report.commonmark import block, code, prose, table
from ringfence.report.words import printable

_COUNTS = (
    ("files", "files"), ("bytes", "bytes"), ("executables", "executables"),
    ("libraries", "libraries"), ("setuid", "setuid programs"), ("shells", "shells"),
    ("system_calls", "system calls allowed"),
    ("system_calls_serving", "system calls allowed while serving"),
    ("capabilities", "capabilities"),
)  # fmt: skip

_OF_FILES = frozenset(("files", "bytes", "executables", "libraries", "setuid", "shells"))


def rows(report: Report) -> list[tuple[str, str, str]]:
    """(what, before, after) of everything that is counted and measured."""
    before, after = report.counts.before, report.counts.after
    found = [(title, _count(before, name), _count(after, name)) for name, title in _COUNTS]
    old, new = report.before, report.after
    found += [
        ("vectors", str(len(old.vectors)), str(len(new.vectors))),
        (
            "surface",
            f"{old.surface.total:g} from {old.start}",
            f"{new.surface.total:g} from {new.start}",
        ),
        ("zero-days to admin of the system", _days(old, "system"), _days(new, "system")),
        ("zero-days to admin of the machine", _days(old, "machine"), _days(new, "machine")),
        ("deepest with 0, 1, 2, 3 zero-days", _profile(old), _profile(new)),
    ]
    return found


def _count(counts: Counts, name: str) -> str:
    """One of the counts. Of files that were not all seen, none seen is not none."""
    value: int | None = getattr(counts, name)
    if value is None:
        return "-"
    if counts.complete or name not in _OF_FILES:
        return f"{value:,}"
    return f"at least {value:,}" if value else "unknown"


def _days(item: Measurement, which: str) -> str:
    value = getattr(item.zero_days_to_admin, which)
    return "none known" if value is None else str(value)


def _profile(item: Measurement) -> str:
    return ", ".join(str(position) for position in item.profile)


def write_markdown(report: Report, needs: Needs) -> str:
    """The whole report."""
    passed = sum(item.expected == item.seen for item in report.retest)
    lines = [
        f"# {prose(report.name)}, fenced",
        "",
        f"Image {code(report.digest)}, user {code(report.user)}. {prose(needs.origin)}.",
        "",
        *table(["", "before", "after"], rows(report)),
        "",
        f"## Retest: {passed} of {len(report.retest)} answers the same inside the fence",
        "",
        *table(
            ["request", "in the exercise", "outside", "inside"],
            [
                (item.request, "yes" if item.exercised else "no", item.expected, item.seen)
                for item in report.retest
            ],
        ),
        "",
        "## To run it",
        "",
        "```",
        "ringfence run .",
        "podman load -i image.oci.tar",
        command_line(needs, "podman", f"ringfence/{needs.name}:latest"),
        "docker load -i image.oci.tar",
        command_line(needs, "docker", f"ringfence/{needs.name}:latest"),
        "```",
        "",
    ]
    lines += _section("Notes", [f"- {block(note)}" for note in report.notes])
    lines += _section(
        "Writable folders",
        [f"- {code(path)}{' (state: give it a volume)' if path in report.volumes else ''}"
         for path in report.writable],
    )  # fmt: skip
    lines += _section(
        f"System calls: {len(report.calls)}, while serving {len(report.serving)}",
        [f"- {code(call)}{'' if call in report.serving else ' (start only)'}: {prose(why)}"
         for call, why in report.calls.items()],
    )  # fmt: skip
    lines += _section(
        "Files", [f"- {code(file.path)}: {prose(file.reason)}" for file in report.files]
    )
    return "\n".join(printable(line) for line in lines)


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""] if lines else []


def summary(report: Report, width: int) -> str:
    """The table of before and after, for a terminal."""
    table = rows(report)
    first = max(len(row[0]) for row in table)
    second = max(len(row[1]) for row in table[:-1])
    lines = [f"{report.name}: user {report.user}, image {report.digest}"]
    lines += [f"  {title:<{first}}  {before:>{second}}  {after}"[:width]
              for title, before, after in table[:-1]]  # fmt: skip
    title, before, after = table[-1]
    lines += [f"  {title}", f"    before  {before}", f"    after   {after}"]
    passed = sum(item.expected == item.seen for item in report.retest)
    beyond = sum(not item.exercised for item in report.retest)
    lines.append(f"  retest: {passed} of {len(report.retest)} answers the same, "
                 f"{beyond} of them not in the exercise")  # fmt: skip
    lines += [f"  refused while retesting: {name}, {count} times (--allow {name})"
              for name, count in report.refused.items()]  # fmt: skip
    lines += [f"  note: {note}" for note in report.notes]
    return "\n".join(printable(line) for line in lines) + "\n"
