"""All kinds of knowledge applied in turn, until none of them adds a file."""

from __future__ import annotations

from ringfence.errors import InputError
from ringfence.harden.keep.application import keep_application
from ringfence.harden.keep.conffiles import keep_conffiles
from ringfence.harden.keep.configuration import keep_named, keep_words
from ringfence.harden.keep.elf import Libraries, keep_libraries
from ringfence.harden.keep.kept import Kept
from ringfence.harden.keep.libc import keep_library_files
from ringfence.harden.keep.named import keep_named_by_programs
from ringfence.harden.keep.node import keep_node
from ringfence.harden.keep.observed import keep_observed
from ringfence.harden.keep.python import keep_modules
from ringfence.harden.keep.shell import keep_scripts, with_interpreters
from ringfence.harden.observe.trace import Trace
from ringfence.harden.packages import Packages
from ringfence.harden.service import Service, program_of
from ringfence.harden.tree import Tree

MOST_ROUNDS = 20


def keep_everything(
    tree: Tree,
    service: Service,
    trace: Trace,
    packages: Packages,
    *,
    wanted: tuple[str, ...] = (),
    dropped: tuple[str, ...] = (),
    shell: bool = False,
) -> Kept:
    """The files that the service needs. `wanted` and `dropped` are paths of the user's. Raises
    InputError where the service's own program is among those to drop."""
    kept = Kept(tree)
    program = program_of(service, tree)
    ran = with_interpreters(tree, (program, *trace.programs))
    asked = {tree.resolve(path)[0] for path in (*wanted, *(("bin/sh",) if shell else ()))}
    kept.dropped = tuple(path.strip("/") for path in dropped)
    kept.tools = frozenset((*ran, *asked))
    real = tree.resolve(program)[0]
    if kept.is_dropped(real):
        raise InputError("is the service's own program, or holds it", where=f"--drop of /{real}",
                         remedy="it cannot run without: leave it out of --drop")  # fmt: skip
    for path in wanted:
        kept.add_below(path, "asked for with --keep")
    if shell:
        kept.add("bin/sh", "asked for with --keep-shell")
    kept.add(program, "the service's program")
    keep_words(kept, service.command[1:], service.folder)
    keep_observed(kept, trace)
    keep_application(kept, service, program)
    _close(kept, service, packages, sorted(ran))
    return kept


def _close(kept: Kept, service: Service, packages: Packages, programs: list[str]) -> None:
    libraries = Libraries(kept.tree)
    fresh = kept.files()
    roots = tuple(_folders_named(service))
    for _ in range(MOST_ROUNDS):
        if not fresh:
            return
        added = keep_libraries(kept, libraries, fresh)
        added += keep_library_files(kept, [*fresh, *added])
        added += keep_named(kept, fresh, roots)
        added += keep_scripts(kept, fresh, service.search())
        added += keep_named_by_programs(
            kept, [path for path in programs if path in fresh], packages
        )
        added += keep_modules(kept)
        added += keep_node(kept)
        added += keep_conffiles(kept, packages)
        fresh = list(dict.fromkeys(added))


def _folders_named(service: Service) -> list[str]:
    """Folders among the words of the command: prefixes of relative names in configuration."""
    return [word.strip("/") for word in service.command[1:] if word.startswith("/")]
