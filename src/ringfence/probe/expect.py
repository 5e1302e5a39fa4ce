"""What configuration says of each attempt: the needs of a probe, decided for this one process."""

from __future__ import annotations

from ringfence.knowledge.loader import expanded_need, parse_need
from ringfence.knowledge.questions import call_questions
from ringfence.knowledge.records import Knowledge
from ringfence.measure.conditions.registry import decide_condition
from ringfence.measure.conditions.scene import Scene, is_admin, scene
from ringfence.model.facts import Facts
from ringfence.model.need import All, Any, Leaf, Need, State, leaves
from ringfence.model.position import Level
from ringfence.probe.definition import Probe

OPENING = "opening:"


def questions(probes: tuple[Probe, ...], knowledge: Knowledge) -> tuple[str, ...]:
    """What filters must be asked, with arguments, for all probes' needs to be decided."""
    found = dict.fromkeys(call_questions(knowledge))
    for probe in probes:
        for leaf in leaves(need_of(probe, knowledge)):
            if leaf.startswith("syscall:") and "[" in leaf:
                found[leaf.removeprefix("syscall:")] = None
    return tuple(found)


def need_of(probe: Probe, knowledge: Knowledge) -> Need:
    """A probe's needs as a formula; `opening:ID` stands for the needs of that opening."""
    parts: list[Need] = []
    for word in probe.needs:
        if isinstance(word, str) and word.startswith(OPENING):
            name = word.removeprefix(OPENING)
            parts.append((knowledge.families.get(name) or knowledge.vectors[name]).needs)
        else:
            need = parse_need(word, probe.id)
            parts.append(expanded_need(need, knowledge.formulas, probe.id))
    return All(tuple(parts))


class Expectations:
    """Decides what configuration says of one process of a target."""

    def __init__(self, facts: Facts, knowledge: Knowledge) -> None:
        """`facts` holds the one process alone."""
        self._knowledge = knowledge
        self._scene: Scene = scene(facts, knowledge)
        admin = is_admin(facts.processes[0], facts.container)
        self.level = Level.ADMIN if admin else Level.USER
        self._states: dict[str, State] = {}

    def of(self, probe: Probe) -> State:
        """open, closed, or unknown where configuration does not tell."""
        if not probe.needs:
            return State.UNKNOWN
        return self._decided(need_of(probe, self._knowledge))

    def _decided(self, need: Need) -> State:
        if isinstance(need, Leaf):
            return self._condition(need.condition)
        states = [self._decided(part) for part in need.parts]
        if isinstance(need, Any):
            order = (State.OPEN, State.UNKNOWN, State.CLOSED)
        else:
            order = (State.CLOSED, State.UNKNOWN, State.OPEN)
        return min(states, key=order.index, default=order[-1])

    def _condition(self, name: str) -> State:
        if name not in self._states:
            self._states[name] = decide_condition(name, self._scene, self.level).state
        return self._states[name]
