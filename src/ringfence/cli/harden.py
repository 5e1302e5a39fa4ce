"""`ringfence harden TARGET -o DIR [-- COMMAND...]`"""

from __future__ import annotations

import os
import re
import signal
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ringfence.cli.delivery import deliver, put, say, width
from ringfence.cli.ending import unwind_on
from ringfence.cli.ledgered import ledgered, recording
from ringfence.cli.options import finite
from ringfence.cli.progress import progress
from ringfence.errors import InputError, UsageError
from ringfence.untrusted import decode_json, read_toml

if TYPE_CHECKING:
    from ringfence.harden.policy.needs import Needs
    from ringfence.harden.record import Report
    from ringfence.harden.tree import Tree
    from ringfence.harden.vm.pack import Parts
    from ringfence.harden.wishes import Wishes

WIDTH = 120
LAST_SECOND = 253402300799
"""Of the year 9999, the last that RFC 3339 can write."""
CONFIG = "ringfence.toml"
TABLE = "harden"
_WORDS = {
    **dict.fromkeys(("target", "output", "engine", "name", "as", "kernel", "modules"), "text"),
    **dict.fromkeys(
        ("command", "http", "exercise", "keep", "drop", "writable", "allow", "env"), "list of text"
    ),
    **dict.fromkeys(("keep-shell", "phases"), "truth value"),
    "port": "list of whole numbers", "base-time": "whole number", "wait": "number",
    "user": "text or whole number",
}  # fmt: skip
"""Word of the configuration file -> what its value must be."""
_TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,), "truth value": (bool,), "whole number": (int,), "number": (int, float),
    "text or whole number": (str, int), "list of text": (str,), "list of whole numbers": (int,),
}  # fmt: skip
_PARAMETERS = {"as": "form"}
"""Words that are no names in Python."""


class WithCommand(click.Command):
    """A command whose words after `--` are another command's, and kept apart."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Cut at the first `--`; read the configuration file's words as defaults."""
        own, tail = args, []
        if "--" in args:
            place = args.index("--")
            own, tail = args[:place], args[place + 1 :]
        ctx.obj = tuple(tail)
        ctx.default_map = configured(own)
        return super().parse_args(ctx, own)


def configured(args: list[str]) -> dict[str, Any]:
    """The table [harden] of the file after --config, or of ./ringfence.toml where there is one.

    Raises InputError that names the file and the word.
    """
    stated = [
        word.partition("=")[2] if "=" in word else after
        for word, after in pairwise([*args, ""])
        if word.partition("=")[0] == "--config"
    ]
    given = stated[-1] if stated and stated[-1] else None
    path = Path(given or CONFIG)
    if given is None and not path.is_file():
        return {}
    document = read_toml(path, remedy="see --config in docs/cli.md")
    _check_tables(document, str(path))
    table = document.get("harden", {})
    if not isinstance(table, dict):
        raise InputError("harden is no table", where=str(path), remedy="begin it with [harden]")
    odd = sorted(set(table) - set(_WORDS))
    if odd:
        near = get_close_matches(odd[0], _WORDS, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"use {', '.join(sorted(_WORDS))}"
        raise InputError(f"unknown word {odd[0]!r} in [harden]", where=str(path), remedy=remedy)
    for name, value in table.items():
        _check_word(name, value, str(path))
    return {_PARAMETERS.get(name, name.replace("-", "_")): value for name, value in table.items()}


def _check_tables(document: dict[str, Any], where: str) -> None:
    """[harden] is the only table that there is: what stands elsewhere would be heard by nobody."""
    odd = sorted(set(document) - {TABLE})
    if not odd:
        return
    if odd[0] in _WORDS:
        what = f"the word {odd[0]!r} stands before any table"
        raise InputError(what, where=where, remedy=f"begin with [{TABLE}]")
    kind = "table" if isinstance(document[odd[0]], dict | list) else "word"
    near = get_close_matches(odd[0].lower(), [TABLE], n=1)
    remedy = f"did you mean [{TABLE}]?" if near else f"[{TABLE}] is the only one"
    raise InputError(f"unknown {kind} {odd[0]!r}", where=where, remedy=remedy)


def _check_word(name: str, value: object, where: str) -> None:
    """Of the very types: to Python, true is a number."""
    kind = _WORDS[name]
    several = kind.startswith("list")
    parts = value if several and isinstance(value, list) else [value]
    fitting = isinstance(value, list) == several and all(
        type(part) in _TYPES[kind] for part in parts
    )
    if not fitting:
        raise InputError(f"{name} in [harden] must be a {kind}", where=where)
    if any(isinstance(part, str) and "\0" in part for part in parts):
        raise InputError(f"{name} in [harden] holds a zero byte", where=where)


@click.command("harden", cls=WithCommand)
@click.argument("target", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The result directory.")
@click.option("--http", multiple=True, metavar="URL", help="Ask this of the service. Repeatable.")
@click.option(
    "--exercise",
    multiple=True,
    metavar="CMD",
    help="A command that drives the service. Repeatable.",
)
@click.option("--keep", multiple=True, metavar="PATH", help="Keep this file or folder. Repeatable.")
@click.option(
    "--drop", multiple=True, metavar="PATH", help="Leave this out, whatever needs it. Repeatable."
)
@click.option(
    "--writable", multiple=True, metavar="PATH", help="A folder that it may write. Repeatable."
)
@click.option("--allow", multiple=True, metavar="CALL", help="Allow this system call. Repeatable.")
@click.option("--keep-shell", is_flag=True, help="Keep /bin/sh.")
@click.option(
    "--env", multiple=True, metavar="NAME=VALUE", help="A variable for the service. Repeatable."
)
@click.option("--phases", is_flag=True, help="A narrower filter once the service answers.")
@click.option("--user", default="", help="Run as this user (number or name).")
@click.option(
    "--port", multiple=True, type=click.IntRange(1, 65535), help="A port it listens on. Repeatable."
)
@click.option(
    "--base-time",
    type=click.IntRange(0, LAST_SECOND),
    help="Date of all files, seconds since 1970. Default: SOURCE_DATE_EPOCH, else 0.",
)
@click.option("--wait", type=click.FloatRange(0, 3600), default=30.0, callback=finite,
              help="Seconds for the service to come up.")  # fmt: skip
@click.option("--name", default="", help="Name of the image. Default: the program's.")
@click.option("--engine", default="", help="runc or crun.")
@click.option("--as", "form", type=click.Choice(["container", "vm"]), default="container",
              show_default=True, help="vm: also an initial RAM disk for a kernel.")  # fmt: skip
@click.option("--kernel", type=click.Path(path_type=Path), metavar="FILE",
              help="The Linux boot image of --as vm.")  # fmt: skip
@click.option("--modules", type=click.Path(path_type=Path), metavar="DIR",
              help="Has lib/modules of that kernel. Default: beside it.")  # fmt: skip
@click.option("--config", "config", help=f"A file with the same words. Default: {CONFIG}.")
@click.option("--why", metavar="PATH", help="Why PATH is in the result that -o names.")
@ledgered
@click.pass_context
def command(ctx: click.Context, /, **words: Any) -> None:
    """The smallest unprivileged container that still does the whole job, with policies.

    TARGET is a root file system (folder or tar) or an image archive; without one, the command
    after -- is run from this host's own files. Observes the service in an isolated copy, keeps
    what it uses or could use, and checks the result against the original before it is written.
    """
    # A plain end would leave the service running on this host, unfenced, and its tree mounted.
    unwind_on(signal.SIGTERM, signal.SIGHUP)
    output: Path | None = words.pop("output")
    if output is None:
        raise UsageError("no result directory", remedy="give -o DIR")
    why, target, _ = words.pop("why"), words.pop("target"), words.pop("config")
    if why is not None:
        put(_why(output, why))
        return
    machine = _machine(words.pop("form"), words.pop("kernel"), words.pop("modules"))
    kept = words.pop("ledger"), words.pop("key"), words.pop("sinks")
    with recording(*kept) as record:
        report = _harden(
            target or "", tuple(ctx.obj or _command(ctx)), output, _wishes(words), machine
        )
        record("policy", report.name, {
            "event": "hardened", "digest": report.digest, "user": report.user,
            "calls": sorted(report.calls), "serving": sorted(report.serving),
            "ports": list(report.ports), "writable": list(report.writable),
        })  # fmt: skip


def _machine(form: str, kernel: Path | None, modules: Path | None) -> Parts | None:
    """What a virtual machine is made of beside the service, if one is wanted."""
    if form != "vm":
        if kernel or modules:
            raise UsageError(
                "--kernel and --modules are for virtual machines", remedy="add --as vm"
            )
        return None
    if kernel is None:
        raise UsageError("--as vm needs a kernel", remedy="give --kernel /boot/vmlinuz-VERSION")
    from ringfence.harden.vm.pack import parts

    return parts(kernel, modules)


def _command(ctx: click.Context) -> tuple[str, ...]:
    stated = (ctx.default_map or {}).get("command", ())
    return tuple(stated) if isinstance(stated, list) else ()


def _wishes(words: dict[str, Any]) -> Wishes:
    from ringfence.collect.seccomp.question import parse
    from ringfence.collect.seccomp.tables import native_calls
    from ringfence.harden.policy.seccomp import FILTERED
    from ringfence.harden.wishes import Wishes

    for text in words["allow"]:
        question = parse(text)
        if question.call not in native_calls():
            raise UsageError(f"no system call {question.call!r}", remedy="names as in syscalls(2)")
        if text != question.call and question.call not in FILTERED:
            raise UsageError(f"the arguments of {question.call} are not looked at",
                             remedy=f"--allow {question.call}")  # fmt: skip
    if words["base_time"] is None:
        words["base_time"] = _epoch(os.environ.get("SOURCE_DATE_EPOCH") or "0")
    return Wishes(ports=words.pop("port"), **words)


def _epoch(stamp: str) -> int:
    """The date that a build is to have (https://reproducible-builds.org/specs/source-date-epoch/).
    Raises UsageError."""
    if not re.fullmatch("[0-9]{1,12}", stamp) or int(stamp) > LAST_SECOND:
        raise UsageError("is no date in seconds since 1970", where="SOURCE_DATE_EPOCH",
                         remedy="unset it, or give --base-time")  # fmt: skip
    return int(stamp)


def _why(output: Path, path: str) -> str:
    from ringfence.harden.result import LEFT_OUT, read_left_out, read_report
    from ringfence.report.json_format import encoded

    wanted = path.strip("/")
    told = decode_json(encoded(wanted))  # as the report has a name that is not UTF-8
    for file in read_report(output).files:
        if file.path == told:
            return f"{path}: {file.reason}\n"
    left_out = read_left_out(output)
    if left_out is not None and not _among(left_out, wanted):
        raise InputError(
            "is neither in the image nor among what was left out", where=path,
            remedy=f"{output / LEFT_OUT} has the names",
        )  # fmt: skip
    raise InputError("is not in the image", where=path, remedy=f"keep it with --keep {path}")


def _among(left_out: frozenset[str], wanted: str) -> bool:
    """Whether a file of that name, or one below it, was left out; /bin may be a link to /usr/bin,
    so a longer name counts, too."""
    return any(f"/{wanted}/" in f"/{path}/" for path in left_out)


def _harden(
    target: str, words: tuple[str, ...], output: Path, wishes: Wishes, machine: Parts | None
) -> Report:
    from ringfence.harden.build import (
        absent_of,
        fenced,
        minimize,
        needs_of,
        notes_of,
        observe,
        workshop,
    )
    from ringfence.harden.entrance import admitted, check_name
    from ringfence.harden.markdown import summary
    from ringfence.harden.observe.isolation import isolated
    from ringfence.harden.result import (
        check_output,
        image_of,
        left_out_of,
        report_of,
        write_result,
    )
    from ringfence.harden.retest import compared
    from ringfence.harden.source import open_source, with_environment
    from ringfence.knowledge.loader import load
    from ringfence.report.words import printable

    check_name(wishes.name)
    check_output(output)
    isolated()
    knowledge = load()
    with workshop(wishes.engine) as shop:
        with progress("reading"):
            source = with_environment(open_source(target, words, shop.place()), wishes.env)
            source, wishes = admitted(source, wishes)
        absent = absent_of(source, wishes)
        for note in absent:
            say(printable(note))
        with progress("observing the service as it is"):
            seen = observe(source, wishes, shop, knowledge)
        with progress("finding what it can do without"):
            made = minimize(seen, wishes, shop)
        with progress("writing policies"):
            needs, found = needs_of(seen, made, wishes)
            notes = (*absent, *notes_of(seen, made, found))
            image, digest = image_of(needs, made, wishes)
        with progress("testing inside the fence"):
            inside = fenced(seen, made, needs, shop, knowledge, notes, phases=wishes.phases)
            report = report_of(seen, made, needs, inside, digest, knowledge)
            report = compared(report, seen, made, needs, shop)
        left_out = left_out_of(seen, made)
        further = _packed(machine, needs, seen.tree, wishes.base_time)
        write_result(output, report, needs, made, wishes, image, left_out, further)
    deliver(summary(report, width(WIDTH)) + _how_to_boot(machine, further, output), None)
    return report


def _packed(machine: Parts | None, needs: Needs, tree: Tree, base_time: int) -> dict[str, bytes]:
    if machine is None:
        return {}
    from ringfence.harden.vm.pack import packed

    with progress("packing the virtual machine"):
        return packed(machine, needs, tree, base_time)


def _how_to_boot(machine: Parts | None, further: dict[str, bytes], output: Path) -> str:
    """Lines for the person: the machine's size, and the command that examines it."""
    if machine is None:
        return ""
    drivers = ("no modules found: it has a network only if its drivers are built in, "
               "or with --modules DIR")  # fmt: skip
    if machine.modules is not None:
        names = ", ".join(module.name for module in machine.modules)
        drivers = f"modules {names}" if names else "its drivers built in"
    size = sum(map(len, further.values()))
    return (
        f"\nvirtual machine: {size / 1e6:.1f} MB for Linux {machine.release}, {drivers}\n"
        f'  ringfence guest --initrd {output}/vm.initrd --append "$(cat {output}/vm.cmdline)" '
        "KERNEL --port PORT\n"
    )
