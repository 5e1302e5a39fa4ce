"""Which system calls to allow: those observed, and those that the code can reach and that could
matter when something happens that the exercise did not show (calls.toml). Pure."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Collection, Iterable, Mapping
from importlib import resources

import msgspec

from ringfence.model.need import leaves

NEVER = "clone3"
"""Has its flags in memory, out of a filter's sight: answered as missing, upon which the C library
uses clone (seccomp.py)."""
START = "start"
"""The phase of a trace until the service is up."""


class CallList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One list of calls.toml."""

    why: str
    calls: tuple[str, ...]


@functools.cache
def lists() -> dict[str, CallList]:
    """All lists, by name."""
    text = resources.files("ringfence.harden.policy").joinpath("calls.toml").read_text()
    return {name: msgspec.convert(row, CallList) for name, row in tomllib.loads(text).items()}


@functools.cache
def closed() -> dict[str, str]:
    """Call -> why it is not allowed on the word of the code alone."""
    from ringfence.knowledge.loader import load

    found = {
        call: lists()[name].why
        for name in ("powerless", "realtime", "daemon", "vdso", "replaced", "others")
        for call in lists()[name].calls
    }
    for family in load().families.values():
        for leaf in leaves(family.needs):
            if leaf.startswith("syscall:") and "[" not in leaf:
                found.setdefault(leaf.removeprefix("syscall:"), f"opens {family.id}")
    return found


def allowed(
    observed: Mapping[str, Iterable[str]],
    reachable: Mapping[str, str],
    extra: Iterable[str] = (),
    needed: tuple[str, ...] = ("engine",),
) -> dict[str, str]:
    """Call -> why it is allowed. `observed` maps calls to phases, `reachable` to the function
    that makes them; `extra` are the user's, `needed` the lists that hold beside `always`. What is
    `NEVER` allowed is not among them, whoever was seen to make it."""
    found = dict.fromkeys(extra, "asked for with --allow")
    found.update(
        {call: f"observed ({', '.join(sorted(phases))})" for call, phases in observed.items()}
    )
    for name in ("always", *needed):
        for call in lists()[name].calls:
            found.setdefault(call, lists()[name].why)
    for call, place in reachable.items():
        if call not in closed() and not _superseded(call, observed):
            found.setdefault(call, f"within reach of the code: {place}")
    found.pop(NEVER, None)
    return dict(sorted(found.items()))


def _superseded(call: str, observed: Mapping[str, Iterable[str]]) -> bool:
    """Whether an older call was not seen, but the newer one that it stands in for was."""
    pairs = dict(pair.split("=") for pair in lists()["superseded"].calls)
    return call not in observed and pairs.get(call) in observed


def serving(
    observed: Mapping[str, Iterable[str]],
    reachable: Mapping[str, str],
    extra: Iterable[str] = (),
    *,
    further: tuple[str, ...] = (),
    own: Collection[str] = (),
) -> dict[str, str]:
    """As `allowed`, for the time after the service has come up. `further` names lists that hold
    beside `serving`: threads, scripts. `own` are calls of the program's own code: those that are
    harmless stay, since a command or a request may ask for them at any time. Where no code could
    be followed, those that it was seen to make at the start; of some calls always."""
    later = {call: phases for call, phases in observed.items() if set(phases) - {START}}
    ordinary = frozenset(call for name in ("serving", *further) for call in lists()[name].calls)
    ordinary |= {call for call in lists()["harmless"].calls if call in own or not reachable}
    ordinary |= {call for call in lists()["shown"].calls if call in observed}
    known = {**reachable, **dict.fromkeys(observed, "observed when starting")}
    wanted = {
        call: why
        for call, why in known.items()
        if call in ordinary and not _superseded(call, observed)
    }
    found = allowed(later, wanted, extra, ())
    if EXECUTES not in later:
        found.pop(EXECUTES, None)
    return found


EXECUTES = "execve"
