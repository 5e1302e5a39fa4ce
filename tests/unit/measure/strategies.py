"""Random deployments over the real knowledge base, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from ringfence.knowledge.loader import load
from ringfence.model.deployment import (
    Asset,
    AssetKind,
    Boundary,
    BoundaryKind,
    Condition,
    Deployment,
    EntryPoint,
    Handler,
    Means,
    Reach,
    Zone,
)
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.need import State
from ringfence.model.position import Level

KNOWLEDGE = load()
SAID = Evidence(Grade.DECLARED, "test")
STACKS = (("system",), ("system", "machine"), ("container", "machine"),
          ("container", "system", "machine"))  # fmt: skip
MEANS = st.sampled_from([None, *Means])


def condition(state: State) -> Condition:
    """A condition in this state."""
    return Condition(state, (SAID,))


@st.composite
def entry_points(draw: st.DrawFn, number: int) -> EntryPoint:
    """One entry point; several may be handled by the same program."""
    handler = Handler(
        draw(st.sampled_from([Level.USER, Level.ADMIN])), SAID, draw(st.sampled_from("ab"))
    )
    return EntryPoint(
        id=f"tcp:{number}",
        kind="tcp",
        reach=draw(st.sampled_from(list(Reach))),
        handler=handler,
        evidence=(SAID,),
        leak=draw(MEANS),
        execution=draw(MEANS),
    )


def zones(names: tuple[str, ...]) -> tuple[Zone, ...]:
    """Zones of a stack: the service's data inside, the host outside."""
    data = Asset(AssetKind.SERVICE_DATA, "data", Level.DATA)
    host = Asset(AssetKind.HOST, "host")
    if len(names) == 1:
        return (Zone(names[0], (data, host)),)
    middle = tuple(Zone(name) for name in names[1:-1])
    return (Zone(names[0], (data,)), *middle, Zone(names[-1], (host,)))


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    """A deployment with any stack of zones and any state of every condition."""
    names = draw(st.sampled_from(STACKS))
    contained = names[0] == "container"
    ring = draw(st.sampled_from([3, 3, 3, 0]))
    kinds = [BoundaryKind.PROCESS, BoundaryKind.KERNEL, BoundaryKind.MACHINE, BoundaryKind.NETWORK]
    if contained:
        kinds.insert(1, BoundaryKind.CONTAINER)
    states = st.sampled_from(list(State))
    chosen = st.lists(st.sampled_from(KNOWLEDGE.conditions), max_size=60, unique=True)
    return Deployment(
        name="random",
        zones=zones(names),
        kernel_zone=names[1] if contained else names[0],
        ring=ring,
        boundaries=tuple(Boundary(kind, names[0]) for kind in kinds),
        entry_points=tuple(draw(entry_points(number)) for number in range(draw(st.integers(0, 3)))),
        conditions={name: condition(draw(states)) for name in draw(chosen)},
        admin_conditions={name: condition(draw(states)) for name in draw(chosen)},
        default=condition(draw(st.sampled_from([State.OPEN, State.CLOSED]))),
    )
