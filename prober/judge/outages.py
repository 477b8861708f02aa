"""The records: what is open, how it is written down, and how it ends. Inside, all times are the runner's clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from math import inf
from statistics import median
from typing import Any, NamedTuple

from prober.judge.detector import Detector, Run
from prober.judge.records import Event, Onset, Outage, OutageClosed, OutageOpened, OutageUpdated, Settings
from prober.judge.rollup import Node
from prober.judge.watch import Watch

ABANDONED = "abandoned: no longer configured"
OTHER_RULE = "abandoned: what counts for this scope was changed while it was down"


def moved(outage: Outage, seconds: float) -> Outage:
    """The same outage with every time shifted: from the runner's clock to UTC, or over a clock step."""

    def at(time: float | None) -> float | None:
        return None if time is None else time + seconds

    return replace(
        outage,
        started_after=at(outage.started_after),
        started_by=outage.started_by + seconds,
        start=outage.start + seconds,
        detected_at=outage.detected_at + seconds,
        ended_after=outage.ended_after + seconds,
        ended_by=at(outage.ended_by),
        end=at(outage.end),
        degraded_since=at(outage.degraded_since),
        restored_full=at(outage.restored_full),
    )


class Standing(NamedTuple):
    """An open outage before a change of what is watched."""

    said: Outage
    frozen: list[str]
    """The members that it was frozen with, as far as some check of them is watched on."""


class Book:
    """The open outages of every scope, and those that are not yet fully restored."""

    def __init__(self, vantage: str, settings: Settings) -> None:
        self.vantage = vantage
        self.settings = settings
        self.ongoing: dict[Node, Outage] = {}
        self.recovering: dict[Node, tuple[Outage, list[Node]]] = {}
        self.blind: dict[str, tuple[float, list[tuple[float, float]]]] = {}  # of open outages: seconds before, and gaps
        self.ends: dict[tuple[str, str], deque[float]] = {}  # of past outages, for flapping and so that none overlap

    def open(self, node: Node, now: float, utc: float, gaps: Iterable[tuple[float, float]] = ()) -> OutageOpened:
        """`node` is down: freeze its members and write down since when. `utc` is what is added for UTC.

        `gaps`: the last in which it was not watched. What lies in one and after the headline's start was not observed.
        """
        assert node.scope is not None
        node.frozen = node.members()
        after, by, first = node.started()
        ends = self.ends.setdefault((node.scope, node.name), deque(maxlen=64))
        if ends and (after is None or after < ends[-1]):
            after = ends[-1]  # of a scope that needs all its members: the next one fell before the last one rose
            by, first = max(by, after), max(first, after)
        leaves = {leaf.key: leaf for leaf in node.leaves() if leaf.down}
        degraded = [leaf.history.degraded_since(leaf.start[2], leaf.learned.long_term_loss) for leaf in leaves.values()]
        since = sorted(at for at in degraded if at is not None)
        progressive = 2 * len(since) > len(degraded)
        failures: dict[str, int] = {}
        for leaf in leaves.values():
            for label, count in leaf.run.failures.items() if leaf.run is not None else ():
                failures[label] = failures.get(label, 0) + count
        outage = Outage(
            id=f"{node.scope}:{node.name}:{round((now + utc) * 1000)}",
            vantage=self.vantage,
            scope=node.scope,
            name=node.name,
            entity=node.entity,
            started_after=after,
            started_by=by,
            start=first if after is None else (after + first) / 2,
            detected_at=now,
            ended_after=max(by, self._certain(node)),
            onset=Onset.PROGRESSIVE if progressive else Onset.ABRUPT,
            degraded_since=median(since) if progressive else None,
            failures=failures,
            members=node.tally(),
            frozen=tuple(child.name for child in node.frozen),
            blip_seconds=self.settings.blip_seconds,
            losses=max((leaf.run.k for leaf in leaves.values() if leaf.run is not None), default=1),
            flaps=sum(1 for end in ends if end >= now - self.settings.flap_window_seconds),
        )
        spans = [(max(begin, outage.start), end) for begin, end in gaps if end > outage.start]
        if spans:
            self.blind[outage.id] = 0.0, spans
            outage = replace(outage, unobserved_seconds=_covered(spans))
        self.ongoing[node] = outage
        self.recovering.pop(node, None)
        return OutageOpened(moved(outage, utc))

    def _certain(self, node: Node) -> float:
        after = node.ended()[0]
        return -inf if after == inf else after

    def current(self, node: Node, utc: float) -> Outage:
        """An ongoing outage as it stands now, in UTC."""
        outage = self.ongoing[node]
        return moved(
            replace(
                outage,
                ended_after=max(outage.ended_after, self._certain(node)),
                failures=self._failures(node),
                members=node.tally(),
            ),
            utc,
        )

    def _failures(self, node: Node) -> dict[str, int]:
        failures: dict[str, int] = {}
        for leaf in {leaf.key: leaf for leaf in node.leaves()}.values():
            counted = leaf.run.failures if leaf.run is not None and leaf.down else leaf.ended_failures
            if leaf.down or leaf.end[1] > self.ongoing[node].started_by:
                for label, count in counted.items():
                    failures[label] = failures.get(label, 0) + count
        return failures

    def close(self, node: Node, utc: float) -> OutageClosed:
        """The first sign of life. Without one (a reload changed what counts) the end is not known."""
        failures = self._failures(node)
        after, by, last = node.ended()
        outage = self.ongoing[node]
        if by == inf or by <= (outage.start if outage.started_after is None else outage.started_after):
            return self.abandon(node, OTHER_RULE, utc)
        del self.ongoing[node]
        before, spans = self.blind.pop(outage.id, (outage.unobserved_seconds, []))
        after = min(by, max(after, -inf if outage.started_after is None else outage.started_after))
        end = max(outage.start, (max(last, after) + by) / 2)
        unobserved = before + _covered((low, min(high, end)) for low, high in spans)  # of the headline's duration
        closed = replace(
            outage,
            ended_after=after,
            ended_by=by,
            end=end,
            unobserved_seconds=unobserved,
            ongoing=False,
            failures=failures,
            members=node.tally(),
        )
        self.ends.setdefault((closed.scope, closed.name), deque(maxlen=64)).append(by)
        frozen, node.frozen = node.frozen, []
        full = self._full(closed, frozen)
        if full is None:
            self.recovering[node] = (closed, frozen)
        return OutageClosed(moved(replace(closed, restored_full=full), utc))

    def _full(self, outage: Outage, frozen: Iterable[Node]) -> float | None:
        """When the last of the members came back; None: not all have."""
        assert outage.ended_by is not None
        full = outage.ended_by
        for child in frozen:
            if child.value is not True:
                return None
            for leaf in child.leaves():
                if not leaf.down and leaf.end[1] > full and leaf.end[0] >= outage.started_by:
                    full = leaf.end[1]
        return full

    def recovered(self, node: Node, utc: float) -> list[OutageUpdated]:
        """After a change below a node that was down: is all of it back?"""
        if node not in self.recovering:
            return []
        outage, frozen = self.recovering[node]
        full = self._full(outage, frozen)
        if full is None:
            return []
        del self.recovering[node]
        return [OutageUpdated(moved(replace(outage, restored_full=full), utc))]

    def standing(self, nodes: Iterable[Node], gone: Collection[Detector]) -> dict[Node, Standing]:
        """What `carry_over` has to know of these from before the change by which some checks are `gone`."""
        return {
            node: Standing(
                self.current(node, 0.0),
                [child.name for child in node.frozen if any(leaf not in gone for leaf in child.leaves())],
            )
            for node in nodes
            if node in self.ongoing
        }

    def carry_over(self, after: Watch, standing: Mapping[Node, Standing], utc: float) -> list[Event]:
        """New targets: open outages go on with what is left of their members, or are abandoned. Those that are not
        `standing` among the others have kept what they stand on.
        """
        events: list[Event] = []
        old, self.ongoing = self.ongoing, {}
        for node, outage in old.items():
            self.ongoing[node] = outage
            if node not in standing:
                continue
            said, frozen = standing[node]
            place = after.scopes.get((outage.scope, outage.name))
            if place is None or not self._adopt(place, outage, frozen, node.leaf):
                events.append(self.abandon(node, ABANDONED, utc, said))
            elif place is not node:
                self.ongoing[place] = self.ongoing.pop(node)
        self.recovering.clear()
        return events

    def _adopt(self, node: Node, outage: Outage, frozen: Iterable[str], leaf: Detector | None) -> bool:
        """Let `node` carry on an open outage with the members named `frozen`. False: nothing is left to carry it."""
        if node.entity != outage.entity:
            return False
        if node.leaf is not None:
            return node.leaf is leaf and node.leaf.down
        names = set(frozen)
        kept = [child for child in node.children if child.name in names and child.counts]
        if kept:  # else the record is still to be closed, by those that it was frozen with
            node.frozen = kept
        return bool(kept)

    def abandon(self, node: Node, note: str, utc: float, said: Outage | None = None) -> OutageClosed:
        """Nobody looks any more: certain up to the last failure, and the end is not known. `said`: as it stood last,
        where its members are others by now.
        """
        current = said or self.current(node, 0.0)
        del self.ongoing[node]
        self.blind.pop(current.id, None)
        node.frozen = []
        after = max(current.ended_after, current.started_by)
        self.ends.setdefault((current.scope, current.name), deque(maxlen=64)).append(after)
        return OutageClosed(moved(replace(current, ended_after=after, ongoing=False, note=note), utc))

    def unobserved(self, nodes: Iterable[Node], begin: float, end: float) -> None:
        """A gap: the open outages of these nodes were not watched in it."""
        for node in nodes:
            outage = self.ongoing.get(node)
            if outage is not None:
                before, spans = self.blind.setdefault(outage.id, (outage.unobserved_seconds, []))
                spans.append((max(begin, outage.started_by), end))
                self.ongoing[node] = replace(outage, unobserved_seconds=before + _covered(spans))

    def snapshot(self) -> dict[str, Any]:
        """Plain values that `restore` takes."""
        return {
            "ongoing": [outage.to_state() for outage in self.ongoing.values()],
            "recovering": [
                [outage.to_state(), [child.name for child in frozen]] for outage, frozen in self.recovering.values()
            ],
            "ends": [[scope, name, list(ends)] for (scope, name), ends in self.ends.items()],
        }

    def restore(
        self,
        state: dict[str, Any] | None,
        shift: float,
        watch: Watch,
        ongoing: list[Outage] | None,
        closed: list[Outage],
        utc: float,
    ) -> list[Event]:
        """Go on from a snapshot, corrected by what the ledger says is open and closed."""
        known: dict[str, Outage] = {}
        if state is not None:
            known = {kept["id"]: moved(Outage.from_state(kept), shift) for kept in state["ongoing"]}
            for scope, name, ends in state["ends"]:
                self.ends[scope, name] = deque((end + shift for end in ends), maxlen=64)
            for kept, names in state["recovering"]:
                node = watch.scopes.get((kept["scope"], kept["name"]))
                if node is not None:
                    frozen = [child for child in node.children if child.name in names]
                    self.recovering[node] = (moved(Outage.from_state(kept), shift), frozen)
        present = list(known.values()) if ongoing is None else [known.get(one.id, one) for one in ongoing]
        for outage in sorted(closed, key=lambda one: one.detected_at):
            self._have_ended(outage, watch)
        open_ids = {outage.id for outage in present}
        for outage in known.values():
            leaf_node = watch.scopes.get((outage.scope, outage.name))
            if outage.id not in open_ids and leaf_node is not None and leaf_node.leaf is not None:
                _settle_up(leaf_node.leaf, None)  # the ledger closed it, however it did
        for outage in present:
            node = watch.scopes.get((outage.scope, outage.name))
            if node is not None and node.leaf is not None and not node.leaf.down:
                _settle_down(node.leaf, outage)
        events: list[Event] = []
        for outage in present:
            node = watch.scopes.get((outage.scope, outage.name))
            if node is not None and self._adopt(node, outage, outage.frozen, node.leaf):
                self.ongoing[node] = outage
                self.recovering.pop(node, None)
                node.held = False
            else:
                ended = replace(outage, ongoing=False, note=ABANDONED)
                events.append(OutageClosed(moved(ended, utc)))
        return events

    def _have_ended(self, outage: Outage, watch: Watch) -> None:
        """An outage that the ledger holds as closed: see that the state agrees."""
        end = outage.ended_after if outage.ended_by is None else outage.ended_by
        ends = self.ends.setdefault((outage.scope, outage.name), deque(maxlen=64))
        if not ends or end > ends[-1]:
            ends.append(end)
        node = watch.scopes.get((outage.scope, outage.name))
        if node is None or node.leaf is None or outage.ended_by is None:
            return
        leaf = node.leaf
        if leaf.last_ok is None or leaf.last_ok < outage.ended_by:
            _settle_up(leaf, outage.ended_by)
            leaf.end = (outage.ended_after, outage.ended_by)
            leaf.ended_failures = dict(outage.failures)


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that lie in any of the spans: gaps of different causes overlap."""
    total, reached = 0.0, -inf
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def _settle_up(leaf: Detector, answered_at: float | None) -> None:
    """It was seen up after the snapshot."""
    leaf.down, leaf.run, leaf.ever_up = False, None, True
    if answered_at is not None:
        leaf.last_ok = answered_at


def _settle_down(leaf: Detector, outage: Outage) -> None:
    """It went down after the snapshot: what its record says is what is known of the run."""
    first = (
        outage.start
        if outage.started_after is None
        else max(outage.started_after, 2 * outage.start - outage.started_after)
    )
    needed, _ = leaf.learned.needed(leaf.threshold)
    run = leaf.run = Run(first, needed, outage.losses)
    run.head = [first, outage.started_by]
    run.tail = [outage.ended_after]
    run.total = sum(outage.failures.values())
    run.failures = dict(outage.failures)
    leaf.down = leaf.ever_up = True
    leaf.start = (outage.started_after, outage.started_by, first)
    leaf.last_ok = outage.started_after
