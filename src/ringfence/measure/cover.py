"""Minimum-cost set cover, solved exactly by HiGHS (https://highs.dev), a mixed-integer solver.

Imported only where a plan is made: the solver and numpy take a good part of a tenth of a second.
"""

from __future__ import annotations

import highspy


class _Silent(highspy.Highs):
    """A solver that prints nothing: standard output is the result's alone."""

    def enableCallbacks(self) -> None:  # noqa: N802 - the library's name
        # The library calls this while it is being made, and prints its banner from here.
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()  # type: ignore[no-untyped-call]


def cheapest_cover(costs: dict[str, int], cuts: list[frozenset[str]]) -> frozenset[str]:
    """The cheapest set of names that has at least one of each cut. Costs are positive integers."""
    solver = _Silent()  # type: ignore[no-untyped-call]
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.setOptionValue("mip_abs_gap", 0.5)
    switches = {name: solver.addBinary(obj=cost) for name, cost in costs.items()}
    for cut in cuts:
        solver.addConstr(sum(switches[name] for name in sorted(cut)) >= 1)
    solver.run()
    return frozenset(name for name, switch in switches.items() if solver.val(switch) > 0.5)
