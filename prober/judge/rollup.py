"""From checks to what they stand for: target, network, site, entity. Three-valued throughout.

A node is down only if every member that counts is known to be. Members that were never seen up do not count; a
country is not judged by a single known network of several.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import inf
from typing import Literal

from prober.judge.detector import Detector
from prober.judge.records import Scope, Verdict
from prober.model import Entity, Target


class Node:
    """A scope, or a mirror of a site (`scope` is None: it has no outages of its own)."""

    __slots__ = (
        "_value",
        "children",
        "counted",
        "downs",
        "entity",
        "frozen",
        "held",
        "leaf",
        "level",
        "name",
        "parents",
        "quorum",
        "rule",
        "scope",
        "shown",
    )

    def __init__(
        self,
        scope: Scope | None,
        name: str,
        entity: str,
        *,
        children: Sequence[Node] = (),
        rule: Literal["any", "all"] = "any",
        leaf: Detector | None = None,
        quorum: int = 1,
    ) -> None:
        self.scope = scope
        self.name = name
        self.entity = entity
        self.rule = rule  # of the members that count, for this to be up
        self.leaf = leaf
        self.quorum = quorum  # so many members must count before it can be down
        self.children = list(children)
        self.parents: list[Node] = []
        for child in self.children:
            child.parents.append(self)
        self.level: int = 1 + max(child.level for child in self.children) if self.children else 1
        self._value: bool | None = None
        self.downs = 0  # children whose value is down
        self.held: bool | None = None  # the last value that was known
        self.counted = False
        self.frozen: list[Node] = []  # the members of the open outage
        self.shown = Verdict.UNKNOWN

    @property
    def value(self) -> bool | None:
        """Up, down, unknown."""
        return self._value

    @value.setter
    def value(self, value: bool | None) -> None:
        change = (value is False) - (self._value is False)
        self._value = value
        if change:
            for parent in self.parents:
                parent.downs += change

    @property
    def counts(self) -> bool:
        """Something of it was seen up. Once it was, that stays so."""
        if not self.counted:
            self.counted = self.leaf.ever_up if self.leaf is not None else any(child.counts for child in self.children)
        return self.counted

    def members(self) -> list[Node]:
        """The members that it is judged by: frozen while an outage is open."""
        return self.frozen or [child for child in self.children if child.counts]

    def evaluate(self) -> bool | None:
        """Up, down or unknown, from the members' values."""
        if self.leaf is not None:
            leaf = self.leaf
            return None if not (leaf.ever_up and leaf.observed) else not leaf.down
        if self.rule == "any" and any(
            child.value is True and (self.frozen or child.counts) for child in self.frozen or self.children
        ):
            return True  # in a scope of thousands, of which most are up, the first tells
        members = self.members()
        values = {child.value for child in members}
        if self.rule == "any":
            return False if values == {False} and len(members) >= self.quorum else None
        if False in values:
            return False
        return True if values == {True} else None

    def verdict(self) -> Verdict:
        """The word for its value."""
        if self.value is None:
            return Verdict.UNKNOWN
        if self.scope != "entity":
            return Verdict.UP if self.value else Verdict.DOWN
        if not self.value:
            return Verdict.DARK
        if not self.downs:
            return Verdict.UP  # a country of thousands, none of which is down, is not looked through at each change
        down = (child for child in self.frozen or self.children if child.value is False)
        return Verdict.PARTIAL if any(self.frozen or child.counts for child in down) else Verdict.UP

    def tally(self) -> dict[str, int]:
        """How many members are up, down and unknown (a check is its own member)."""
        members = self.members() if self.leaf is None else [self]
        counts = {"up": 0, "down": 0, "unknown": 0}
        for child in members:
            counts["unknown" if child.value is None else "up" if child.value else "down"] += 1
        return counts

    def leaves(self) -> list[Detector]:
        """Every check below that counts, once per path."""
        found: list[Detector] = []
        self._gather(found)
        return found

    def _gather(self, found: list[Detector]) -> None:
        # The judge's innermost loop when thousands are down at once: no generators, and no property where a flag tells.
        if self.leaf is not None:
            found.append(self.leaf)
        elif self.frozen:
            for child in self.frozen:
                child._gather(found)
        else:
            for child in self.children:
                if child.counted or child.counts:
                    child._gather(found)

    # bounds

    def started(self) -> tuple[float | None, float, float]:
        """(after, by, next failure) of a node that is down: it went down in (after, by], by send time."""
        if self.leaf is not None:
            return self.leaf.start
        after, by = self._start_bounds()
        first = inf
        for leaf in self.leaves():
            if leaf.down and (leaf.start[0] is None or leaf.start[0] <= after <= leaf.start[1]):
                failures = leaf.first_failures()
                at = bisect_right(failures, after)
                if at < len(failures):
                    first = min(first, failures[at])
        return (None if after == -inf else after), by, min(first, by)

    def _start_bounds(self) -> tuple[float, float]:
        if self.leaf is not None:
            after, by, _ = self.leaf.start
            return (-inf if after is None else after), by
        bounds = [child._start_bounds() for child in self.members() if child.value is False or child.held is False]
        pick = max if self.rule == "any" else min
        return pick((after for after, _ in bounds), default=-inf), pick((by for _, by in bounds), default=-inf)

    def ended(self) -> tuple[float, float, float]:
        """(after, by, last failure before) of a node that has just come up, or (after, inf, ...) if it has not."""
        after, by = self._end_bounds()
        last = after
        for leaf in self.leaves():
            low, high = leaf_end(leaf)
            if low < by <= high:
                failures = leaf.run.tail if leaf.run is not None and leaf.down else leaf.ended_tail
                at = bisect_left(failures, by)
                if at:
                    last = max(last, failures[at - 1])
        return after, by, last

    def _end_bounds(self) -> tuple[float, float]:
        if self.leaf is not None:
            return leaf_end(self.leaf)
        bounds = [child._end_bounds() for child in self.members()]
        bounds = [(after, by) for after, by in bounds if after != -inf]
        pick = min if self.rule == "any" else max
        return pick((after for after, _ in bounds), default=-inf), pick((by for _, by in bounds), default=inf)


def leaf_end(leaf: Detector) -> tuple[float, float]:
    """The bounds of a check's last end; (certain so far, inf) if it is down; (-inf, inf) if it never was."""
    if leaf.down:
        return leaf.certain_until(), inf
    return leaf.end if leaf.end[1] > -inf else (-inf, inf)


def build(entity: Entity, detectors: dict[str, Detector]) -> list[Node]:
    """Every node of an entity, members before what they are members of."""
    nodes: list[Node] = []
    targets: dict[str, Node] = {}
    checks: dict[str, list[tuple[str, Node]]] = {}
    for target in entity.targets:
        leaves = [Node("check", check.key, entity.name, leaf=detectors[check.key]) for check in target.checks]
        checks[target.name] = [(check.speaks, leaf) for check, leaf in zip(target.checks, leaves, strict=True)]
        node = Node("target", target.name, entity.name, children=leaves, rule=target.require)
        targets[target.name] = node
        nodes += [*leaves, node]

    def standing(belongs: list[Target]) -> list[Node]:
        return [targets[target.name] for target in belongs]

    networks = [
        Node(
            "network",
            network.name,
            entity.name,
            children=standing([target for target in entity.targets if target.network == network.name]),
        )
        for network in entity.networks
    ]
    sites = []
    for site in entity.sites:
        mirrors = []
        for target in entity.targets:
            if target.site == site.name:
                leaves = [leaf for speaks, leaf in checks[target.name] if speaks == "http"]
                leaves = leaves or [leaf for _, leaf in checks[target.name]]
                mirrors.append(Node(None, target.name, entity.name, children=leaves, rule="all"))
        nodes += mirrors
        sites.append(Node("site", site.name, entity.name, children=mirrors))
    nodes += [*networks, *sites]
    if networks:
        # a declared network counts in the total even if nothing in it is probed: it is unknown
        top = Node("entity", entity.name, entity.name, children=networks, quorum=min(2, len(networks)))
    else:
        top = Node("entity", entity.name, entity.name, children=sites or list(targets.values()))
    nodes.append(top)
    return nodes
