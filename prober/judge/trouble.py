"""What the checks of an entity say of each other while some are in trouble: how much proof another one needs, and whose
turn it is to be confirmed.

It is kept from one decision to the next: in an outage of thousands nearly nothing of it changes with a probe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf

from prober.judge.detector import Detector
from prober.judge.rollup import Node
from prober.judge.watch import Watch


class Summary:
    """What the checks of a scope say together."""

    __slots__ = ("answered", "certain", "leader", "leaves")

    def __init__(self, node: Node) -> None:
        self.leaves = node.leaves()
        self.answered = -inf  # the newest answer of any
        self.certain = -inf  # since then some check of it was certainly down
        for leaf in self.leaves:
            last_ok = leaf.last_ok
            if last_ok is not None and last_ok > self.answered:
                self.answered = last_ok
            if leaf.down and leaf.start[1] > self.certain:
                self.certain = leaf.start[1]
        self.leader: Detector | None = None  # as `find_leader` found it

    def find_leader(self) -> None:
        """Of those that may be down, the one with the most failures."""
        near = [leaf for leaf in self.leaves if leaf.run is not None and not leaf.down and leaf.potential()]
        self.leader = min(near, key=_place, default=None)


def _place(leaf: Detector) -> tuple[int, str]:
    return -leaf.potential(), leaf.key


class Trouble:
    """That of one entity."""

    __slots__ = ("held", "summaries")

    def __init__(self) -> None:
        self.held: dict[str, int] = {}  # checks that wait for another one, and how many failures they might have had
        self.summaries: dict[Node, Summary] = {}


class Troubles:
    """Those of all entities."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._led_by: set[Summary] = set()  # whose leader was found in this pass
        self._contradicted: set[str] = set()  # entities whose checks may wait for nothing
        self.by_entity: dict[str, Trouble] = {}

    def shared(self, detector: Detector) -> bool:
        """Another check of one of its scopes is down, and since that was certain nobody in that scope has answered."""
        return any(one.certain > one.answered for one in self._summaries(detector))

    def holds(self, detector: Detector, potential: int) -> bool:
        """Does it wait for another one, with so many failures that might count? If so it is among the `freed` as soon
        as something speaks against that.
        """
        held = self._trouble(detector).held
        if held.get(detector.key) == potential:
            return True  # still
        if self.shared(detector) or self._led(detector):
            held[detector.key] = potential
            return True
        held.pop(detector.key, None)
        return False

    def contradict(self, detector: Detector) -> None:
        """It answered, or a probe of it that might have failed did not: others of its entity may wait for nothing."""
        entity = self._watch.leaf(detector.key).entity
        trouble = self.by_entity.get(entity)
        if trouble is None:
            return
        if trouble.held:
            trouble.summaries.clear()
            self._contradicted.add(entity)
        else:
            del self.by_entity[entity]

    def gained(self, detector: Detector) -> None:
        """It may have one failure more, and lead now: do others still wait for the one that leads?"""
        trouble = self.by_entity.get(self._watch.leaf(detector.key).entity)
        if trouble is None or not trouble.held or detector.run is None or detector.down:
            return
        for one in self._summaries(detector):
            if one.leader is not None and one.leader is not detector and _place(detector) < _place(one.leader):
                one.leader = detector
                if detector.run.first_at <= one.answered:
                    self.contradict(detector)
                    return

    def regrouped(self, entity: str) -> None:
        """The record of one of its scopes ended: other members may count."""
        if entity in self.by_entity:
            self._contradicted.add(entity)

    def opened(self, entity: str) -> None:
        """A check of it is down. All that waited is to be looked at again now."""
        self.by_entity.pop(entity, None)

    def freed(self, entities: Iterable[str] = ()) -> set[str]:
        """Checks that waited and are to be looked at again: what was contradicted, and those of `entities`, of which
        nothing that was kept may hold any more.
        """
        found: set[str] = set()
        for entity in self._contradicted.union(entities):
            if (trouble := self.by_entity.pop(entity, None)) is not None:
                found.update(trouble.held)
        self._contradicted.clear()
        return found

    def new_pass(self) -> None:
        """The number of failures that a check may have changes between passes, and with it who leads."""
        self._led_by.clear()

    def _led(self, detector: Detector) -> bool:
        """Another check of one of its scopes is nearer to a verdict, and nobody there has answered since its trouble
        began. Then that one is confirmed first: if it is down, k failures of each other will do.
        """
        for one in self._summaries(detector):
            if one not in self._led_by:
                self._led_by.add(one)
                one.find_leader()
            leader = one.leader
            if leader is None or leader is detector or leader.run is None:
                continue
            if leader.run.first_at > one.answered:
                return True
        return False

    def _trouble(self, detector: Detector) -> Trouble:
        entity = self._watch.leaf(detector.key).entity
        trouble = self.by_entity.get(entity)
        if trouble is None:
            trouble = self.by_entity[entity] = Trouble()
        return trouble

    def _summaries(self, detector: Detector) -> Iterator[Summary]:
        """Of the scopes that it is not alone in."""
        known = self._trouble(detector).summaries
        todo = list(self._watch.leaf(detector.key).parents)
        while todo:
            node = todo.pop()
            todo += node.parents
            if node.scope is not None:
                summary = known.get(node)
                if summary is None:
                    summary = known[node] = Summary(node)
                if len(summary.leaves) > 1 or detector not in summary.leaves:
                    yield summary
