"""Surface by start, evidence coverage, blast radius: small deployments set up both ways."""

from __future__ import annotations

import msgspec
import pytest

from ringfence.knowledge.loader import load
from ringfence.measure.assemble import Asked, choose_start, measure
from ringfence.model.deployment import (
    Asset,
    AssetKind,
    Boundary,
    BoundaryKind,
    Condition,
    Deployment,
    EntryPoint,
    Handler,
    Reach,
    Zone,
)
from ringfence.model.evidence import Evidence, Grade
from ringfence.model.facts import Target
from ringfence.model.measurement import Measurement
from ringfence.model.need import State
from ringfence.model.position import Level

KNOWLEDGE = load()


def deployment(reach: Reach = Reach.INTERNET, grade: Grade = Grade.OBSERVED) -> Deployment:
    """A leak, an execution as a user, and the shared kernel: 1, 5 and 10."""
    seen, said = Evidence(Grade.OBSERVED, "here"), Evidence(grade, "there")
    point = EntryPoint("tcp:80", "tcp", reach, Handler(Level.USER, seen), (seen,))
    return Deployment(
        name="x",
        zones=(Zone("system", (Asset(AssetKind.SERVICE_DATA, "data", Level.DATA),
                               Asset(AssetKind.OTHER_SERVICES, "neighbours"))),),
        kernel_zone="system",
        ring=3,
        boundaries=(Boundary(BoundaryKind.PROCESS, "system"),),
        entry_points=(point,),
        conditions={"kernel:shared": Condition(State.OPEN, (said,))},
        admin_conditions={},
        default=Condition(State.CLOSED, (seen,)),
    )  # fmt: skip


def measured(item: Deployment, start: str = "") -> Measurement:
    asked = Asked(KNOWLEDGE.scales["classic"], start, plan=False)
    return measure(Target("declared", "x"), item, KNOWLEDGE, asked)


@pytest.mark.parametrize(
    ("grade", "observed", "probed"),
    [(Grade.ASSUMED, 6 / 16, 0), (Grade.DECLARED, 6 / 16, 0), (Grade.OBSERVED, 1, 0),
     (Grade.PROBED, 1, 10 / 16)],
)  # fmt: skip
def test_coverage_is_the_share_of_the_surface(grade: Grade, observed: float, probed: float) -> None:
    found = measured(deployment(grade=grade)).evidence_coverage
    assert (found.observed, found.probed) == (round(observed, 4), round(probed, 4))


def test_a_start_that_stands_too_far_away_reaches_nothing() -> None:
    item = deployment(reach=Reach.NEIGHBOUR)
    assert measured(item, "internet").surface.total == 0
    assert measured(item, "internet").zero_days_to_admin.system is None
    for start in ("neighbour", "local"):
        assert measured(item, start).surface.total == 16


@pytest.mark.parametrize(
    ("reach", "start"),
    [(Reach.INTERNET, "internet"), (Reach.ADJACENT, "adjacent"), (Reach.NEIGHBOUR, "neighbour"),
     (Reach.LOCAL, "local"), (Reach.INSIDE, "supply-chain")],
)  # fmt: skip
def test_the_start_is_the_farthest_that_reaches_something(reach: Reach, start: str) -> None:
    assert choose_start((deployment(reach=reach),), KNOWLEDGE) == start


@pytest.mark.parametrize(
    ("reaches", "start"),
    [((Reach.INTERNET, Reach.INTERNET), "internet"),
     ((Reach.INTERNET, Reach.NEIGHBOUR), "neighbour"),
     ((Reach.LOCAL, Reach.ADJACENT, Reach.INTERNET), "local"),
     ((Reach.INTERNET, Reach.INSIDE), "supply-chain")],
)  # fmt: skip
def test_several_deployments_start_where_each_has_something_to_reach(
    reaches: tuple[Reach, ...], start: str
) -> None:
    items = [deployment(reach=reach) for reach in reaches]
    silent = msgspec.structs.replace(deployment(), entry_points=())
    assert choose_start(items, KNOWLEDGE) == start
    assert choose_start([silent, *reversed(items)], KNOWLEDGE) == start


@pytest.mark.parametrize(("supposed", "start"), [(True, "supply-chain"), (False, "internet")])
def test_what_is_only_supposed_moves_no_start(supposed: bool, start: str) -> None:
    (point,) = deployment().entry_points
    alone = msgspec.structs.replace(point, supposed=supposed)
    near = msgspec.structs.replace(point, id="near", reach=Reach.NEIGHBOUR)
    item = msgspec.structs.replace(deployment(), entry_points=(alone,))
    both = msgspec.structs.replace(deployment(), entry_points=(alone, near))
    assert choose_start((item,), KNOWLEDGE) == start
    assert choose_start((both,), KNOWLEDGE) == ("neighbour" if supposed else "internet")
    assert choose_start((item, both), KNOWLEDGE) == ("neighbour" if supposed else "internet")


def test_without_an_entry_point_the_supply_chain_is_left() -> None:
    item = msgspec.structs.replace(deployment(), entry_points=())
    result = measured(item)
    assert result.start == "supply-chain"
    assert result.surface.total == 100
    assert result.zero_days_to_admin.system == 1


def test_what_is_held_at_each_depth() -> None:
    radius = measured(deployment()).blast_radius
    assert radius == ((), ("data",), ("data", "neighbours"), ("data", "neighbours"))


def test_one_bug_of_a_program_is_spent_once_however_many_sockets_it_has() -> None:
    item = deployment()
    twice = msgspec.structs.replace(
        item,
        entry_points=(*item.entry_points, msgspec.structs.replace(item.entry_points[0], id="t2")),
    )
    assert measured(twice).surface.total == 16 + 6
    assert measured(twice).zero_days_to_admin == measured(item).zero_days_to_admin
