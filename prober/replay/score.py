"""What the agents said, against what was true: the figures by which a judgement is known."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType
from typing import Any, Final, get_args

from prober.config.worlds import World
from prober.judge.detector import Detector
from prober.judge.observer import Observer
from prober.judge.records import Outage, OutageClass, Scope, Settings
from prober.judge.responsiveness import SECONDS_PER_YEAR
from prober.judge.rollup import Node, build
from prober.judging import named_references
from prober.model import Entity
from prober.probes import PROBES
from prober.replay.agent import Sent, Witness
from prober.replay.run import Replayed
from prober.replay.truth import Span, Truth, clip, intersection, overlap, union

SHORTEST_SECONDS: Final = 100.0
"""True outages that were in sight for less are not asked for: a round and its confirmations take as long."""
LONG_RUN_SECONDS: Final = 60.0


@dataclass(slots=True)
class Figures:
    """The score of one kind of scope, over all its members and vantages. All times are seconds."""

    true_outages: int = 0
    found: int = 0
    missed: int = 0
    records: int = 0
    false_outages: int = 0
    false_blips: int = 0  # of these
    target_years: float = 0.0
    delays: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    starts: list[bool] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)
    certain_seconds: float = 0.0
    certain_true_seconds: float = 0.0
    long_records: int = 0
    long_records_true: int = 0
    regular: int = 0
    probes: int = 0

    def to_json(self) -> dict[str, Any]:
        """As `prober replay --score --json` prints it; null where there is nothing to count."""
        return {
            "true_outages": self.true_outages,
            "found": self.found,
            "missed": self.missed,
            "records": self.records,
            "false_outages": self.false_outages,
            "false_blips": self.false_blips,
            "target_years": self.target_years,
            "false_outages_per_target_year": self.false_outages / self.target_years if self.target_years else None,
            "detection_delay_seconds": _spread(self.delays),
            "duration_error_seconds": _spread(self.errors),
            "coverage": {"starts": _share(self.starts), "ends": _share(self.ends)},
            "certain_time_true": self.certain_true_seconds / self.certain_seconds if self.certain_seconds else None,
            "outages_with_long_run": self.long_records_true / self.long_records if self.long_records else None,
            "probes_per_regular_round": self.probes / self.regular if self.regular else None,
        }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    ordered = sorted(values)

    def at(share: float) -> float | None:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None

    return {"p50": at(0.5), "p99": at(0.99), "max": at(1.0)}


def _share(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def score(replayed: Replayed, part: Callable[[Node], str | None] | None = None) -> dict[str, Figures]:
    """The figures of each kind of scope that the world has, from check to entity.

    `part`: of each part of the scopes instead, by name; those for which it says None are left out.
    """
    world = replayed.world
    found: dict[str, Figures] = {}
    for witness in replayed.witnesses:
        truth = Truth(world, witness.vantage, replayed.seed)
        records: dict[tuple[str, str], list[Outage]] = {}
        for outage in witness.outages:
            records.setdefault((outage.scope, outage.name), []).append(outage)
        blind = {one.name: union([witness.blind, _unvouched(world, truth, one)]) for one in world.entities}
        for node, down in scope_truth(world, truth, blind):
            if down is None and node.scope is not None and part is None:
                found.setdefault(node.scope, Figures())  # nothing to count, and that is said
            if node.scope is not None and down is not None:
                name = node.scope if part is None else part(node)
                if name is None:
                    continue
                figures = found.setdefault(name, Figures())
                seen = [_relative(world, witness, record) for record in records.get((node.scope, node.name), [])]
                compare(figures, world.end - world.start, blind[node.entity], down, seen)
                _count(figures, node, witness.sent)
    return found if part is not None else {scope: found[scope] for scope in get_args(Scope) if scope in found}


def _unvouched(world: World, truth: Truth, entity: Entity) -> list[Span]:
    """When most networks of the references that an entity trusts are down: no vantage can tell that from being offline.

    A network is down while all its checks that count are. Without references nothing has to vouch.
    """
    trusted = [one for one in world.references if entity.references == "default" or one.name in entity.references]
    networks = Observer(trusted, named_references(trusted, dict(PROBES)), 1.0).reach.networks
    changes: list[tuple[float, int]] = []
    for network in networks:
        for begin, end in intersection([truth.checks[check.key].down(truth.until) for check in network.checks]):
            changes += [(begin, 1), (end, -1)]
    found: list[Span] = []
    since, down = 0.0, 0
    for at, change in sorted(changes):
        if 2 * down > len(networks):
            found.append((since, at))
        since, down = at, down + change
    return union([found])


def scope_truth(
    world: World, truth: Truth, blind: Mapping[str, Sequence[Span]] = MappingProxyType({})
) -> list[tuple[Node, list[Span] | None]]:
    """Every scope with the times in which it is truly down, by the rules of the judgement; None: it never counts.

    A member counts from when it was first up, and could be seen to be; a scope is down while all members that count
    are. `blind`, by entity: when nothing of it could be seen.
    """
    settings = Settings()
    found: list[tuple[Node, list[Span] | None]] = []
    for entity in world.entities:
        detectors = {check.key: Detector(check, settings) for target in entity.targets for check in target.checks}
        known: dict[Node, tuple[list[Span], float]] = {}
        for node in build(entity, detectors):
            known[node] = _of(node, known, truth, blind.get(entity.name, ()))
            down, first_up = known[node]
            found.append((node, down if first_up < truth.until else None))
    return found


def _of(
    node: Node, known: dict[Node, tuple[list[Span], float]], truth: Truth, blind: Sequence[Span]
) -> tuple[list[Span], float]:
    """(when it is down, when it was first seen up) of a node, from those of its members."""
    if node.leaf is not None:
        down = truth.checks[node.leaf.key].down(truth.until)
        unseen = union([down, blind])[:1]
        first_up = unseen[0][1] if unseen and unseen[0][0] <= 0.0 else 0.0
        return clip(down, first_up, truth.until), first_up
    members = [known[child] for child in node.children]
    ups = sorted(up for _down, up in members)
    if len(ups) < node.quorum:
        return [], ups[0] if ups else inf
    counts_from = ups[node.quorum - 1]
    if node.rule == "all":
        down = union(down for down, _up in members)
    else:
        down = intersection([union([down, [(-1.0, up)]]) for down, up in members])
    return clip(down, max(0.0, counts_from), truth.until), ups[0]


def compare(
    figures: Figures, until: float, blind: Sequence[Span], down: Sequence[Span], records: Iterable[Record]
) -> None:
    """Add what was said of one scope, against when it was `down`. `blind`: when its vantage could not see."""
    seen = sorted(records, key=lambda record: record.start)
    figures.target_years += (until - overlap(blind, 0.0, until)) / SECONDS_PER_YEAR
    figures.records += len(seen)
    begins = [begin for begin, _ in down]
    for record in seen:
        _weigh(figures, record, down, begins)
    after = [record.after for record in seen]  # records of one scope follow one another
    over = [record.ended_by for record in seen]
    for begin, end in down:
        if _in_sight(begin, end, blind) < SHORTEST_SECONDS:
            continue
        figures.true_outages += 1
        hits = seen[bisect_right(over, begin) : bisect_left(after, end)]
        if not hits:
            figures.missed += 1
            continue
        figures.found += 1
        first, last = hits[0], hits[-1]
        figures.starts.append(first.after < begin <= first.started_by)
        saw_start = not overlap(blind, begin, first.detected_at)
        if saw_start:
            figures.delays.append(first.detected_at - begin)
        if end < until and last.end is not None:
            figures.ends.append(last.ended_after < end <= last.ended_by)
            if saw_start and not overlap(blind, end, last.ended_by):
                figures.errors.append(abs((last.end - first.start) - (end - begin)))


@dataclass(frozen=True, slots=True)
class Record:
    """An outage in seconds since the world's start, on the world's own clock."""

    after: float
    started_by: float
    start: float
    detected_at: float
    ended_after: float
    ended_by: float
    end: float | None
    long: bool


def _relative(world: World, witness: Witness, outage: Outage) -> Record:
    zero = world.start + witness.clock_errors.get(outage.id, 0.0)
    return Record(
        after=-inf if outage.started_after is None else outage.started_after - zero,
        started_by=outage.started_by - zero,
        start=outage.start - zero,
        detected_at=outage.detected_at - zero,
        ended_after=outage.ended_after - zero,
        ended_by=inf if outage.ended_by is None else outage.ended_by - zero,
        end=None if outage.end is None else outage.end - zero,
        long=outage.outage_class is OutageClass.OUTAGE,
    )


def _weigh(figures: Figures, record: Record, down: Sequence[Span], begins: Sequence[float]) -> None:
    """Is there anything true in a record, and how much?"""
    touched = []
    for index in range(max(0, bisect_right(begins, record.after) - 1), len(down)):
        begin, end = down[index]
        if begin >= record.ended_by:
            break
        if end > record.after:
            touched.append((begin, end))
    if not touched:
        figures.false_outages += 1
        figures.false_blips += not record.long
    if record.ended_after > record.started_by:
        figures.certain_seconds += record.ended_after - record.started_by
        figures.certain_true_seconds += overlap(down, record.started_by, record.ended_after)
    if record.long:
        figures.long_records += 1
        figures.long_records_true += any(end - begin >= LONG_RUN_SECONDS for begin, end in touched)


def _in_sight(begin: float, end: float, blind: Sequence[Span]) -> float:
    """The longest time between `begin` and `end` in which the vantage could see."""
    longest, at = 0.0, begin
    for low, high in clip(blind, begin, end):
        longest = max(longest, low - at)
        at = high
    return max(longest, end - at)


def _count(figures: Figures, node: Node, sent: dict[str, Sent]) -> None:
    for key in set(_keys(node)):
        figures.regular += sent[key].regular
        figures.probes += sent[key].regular + sent[key].confirmations


def _keys(node: Node) -> list[str]:
    if node.leaf is not None:
        return [node.leaf.key]
    return [key for child in node.children for key in _keys(child)]
