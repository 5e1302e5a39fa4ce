"""What is listed of a workload's surroundings, and in which order."""

from __future__ import annotations

from ringfence.probe.view import MOST_OTHERS, Other, foremost

OWN = 54000


def test_its_own_users_processes_are_tried_among_however_many() -> None:
    many = tuple(Other(number, 0, "sleep") for number in range(2, 2 * MOST_OTHERS))
    late = tuple(Other(90_000 + number, uid, "late") for number, uid in enumerate((7, OWN, OWN)))
    listed = foremost((*many, *late), OWN)
    assert len(listed) == MOST_OTHERS
    assert set(late) <= set(listed)
    assert listed[0].uid == OWN
    assert {other.uid for other in listed[:3]} == {0, 7, OWN}
    assert listed[3].uid == OWN  # its second one, before root's


def test_a_list_that_fits_is_whole() -> None:
    few = (Other(9, 0, "b"), Other(2, 0, "a"), Other(5, OWN, "c"))
    assert [other.pid for other in foremost(few, OWN)] == [5, 2, 9]
