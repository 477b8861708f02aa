"""One piece of the evaluation: a vantage's agent through a world, or the others' rules on one. Runs in any process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from math import inf
from pathlib import Path
from typing import Final

from prober.judge.records import GapCause, Outage
from prober.judge.rollup import Node
from prober.replay.agent import Witness, WorldAgent
from prober.replay.run import Replayed
from prober.replay.score import Figures, compare, score
from prober.replay.truth import Span, Truth, clip, overlap
from prober.report.fuse import Sight, fuse
from prober.schedule import phase_seconds
from tests.evaluate.baselines import Rule, for_five_minutes, one_failure, three_in_a_row, trinocular
from tests.evaluate.worlds import CASES, YEAR

OURS: Final = "prober"
RULES: Final = ("one failure", "three in a row", "15 s, for: 5m", "Trinocular")


@dataclass(slots=True)
class Found:
    """What came of one piece. Parts of a world by name, see `part_of`."""

    figures: dict[str, Figures] = field(default_factory=dict)
    probes: float = 0.0
    gap_seconds: float = 0.0
    blind_seconds: float = 0.0
    gaps: int = 0
    outages: list[Outage] = field(default_factory=list)  # for fusing, where there are several vantages

    def add(self, other: Found) -> None:
        """Add what another piece of the same world found."""
        for name, figures in other.figures.items():
            merge(self.figures.setdefault(name, Figures()), figures)
        self.probes += other.probes
        self.gap_seconds += other.gap_seconds
        self.blind_seconds += other.blind_seconds
        self.gaps += other.gaps
        self.outages += other.outages


def merge(into: Figures, other: Figures) -> None:
    """Add figures: numbers are summed, lists joined."""
    for one in fields(Figures):
        setattr(into, one.name, getattr(into, one.name) + getattr(other, one.name))


def together(several: Iterable[Figures]) -> Figures:
    """The figures of several parts as one."""
    whole = Figures()
    for figures in several:
        merge(whole, figures)
    return whole


def part_of(node: Node) -> str | None:
    """The part of a world that a scope belongs to: hosts by the first word of their name, an entity of many."""
    if node.scope == "check":
        return node.name.split("-")[0]
    return "entity" if node.scope == "entity" and len(node.children) > 1 else None


def ours(name: str, target_years: float, index: int, progress: Callable[[float], None] | None = None) -> Found:
    """The agent at one vantage of a world: the real runner, judge and ledger, as `prober replay` runs them.

    `progress` hears now and then how much of it is done, from 0 to 1.
    """
    case = CASES[name]
    world = case.make(case.seconds(target_years))
    with tempfile.TemporaryDirectory(prefix="prober-evaluate-") as directory:
        witness = WorldAgent(world, index, world.seed, Path(directory), progress).run()
    figures = score(Replayed(world, world.seed, (witness,)), part_of)
    if case.vantages > 1:
        figures = {f"{witness.vantage}/{part}": one for part, one in figures.items()}
    offline = [gap for gap in witness.gaps if gap.cause is GapCause.OFFLINE and gap.end is not None]
    return Found(
        figures,
        probes=sum(sent.regular + sent.confirmations for sent in witness.sent.values()),
        gap_seconds=sum((gap.end or 0.0) - gap.begin for gap in offline),
        blind_seconds=overlap(witness.blind, 0.0, world.end - world.start),
        gaps=len(offline),
        outages=_of_checks(witness) if name == "three" else [],
    )


def _of_checks(witness: Witness) -> list[Outage]:
    return [outage for outage in witness.outages if outage.scope == "check"]


def theirs(name: str, target_years: float, index: int) -> dict[str, Found]:
    """The others' rules, from one vantage of a world, for every host."""
    case = CASES[name]
    world = case.make(case.seconds(target_years))
    vantage = world.vantages[index]
    truth = Truth(world, vantage, world.seed)
    until = world.end - world.start
    found = {rule: Found() for rule in RULES}
    for entity in world.entities:
        for target in entity.targets:
            for check in target.checks:
                phase = phase_seconds(check.key, check.interval_seconds, index / len(world.vantages))
                blind = truth.offline
                down = clip(truth.checks[check.key].down(until), 0.0, until)
                for rule, said in _rules(truth, check.key, phase, until).items():
                    part = check.key.split("-")[0]
                    figures = found[rule].figures.setdefault(part, Figures())
                    compare(figures, until, blind, down, said.records)
                    found[rule].probes += said.probes
    return found


def _rules(truth: Truth, key: str, phase: float, until: float) -> dict[str, Rule]:
    def answered(at: float) -> bool:
        return truth.fate(key, at).failure is None

    said = (
        one_failure(answered, phase, until),
        three_in_a_row(answered, phase, until),
        for_five_minutes(answered, phase, until),
        trinocular(answered, phase, until, _availability(truth, key, until)),
    )
    return dict(zip(RULES, said, strict=True))


def _availability(truth: Truth, key: str, until: float) -> float:
    """A of Trinocular: the share that a long history answers, here as the world has it, hour by hour."""
    check = truth.checks[key]
    hours = max(1, int(until / 3600.0))
    return 1.0 - max(0.01, sum(check.loss((hour + 0.5) * 3600.0) for hour in range(hours)) / hours)


def fused(target_years: float, outages: Iterable[Outage]) -> Figures:
    """Errors and coverage of the outages that all vantages saw, fused as `prober report` does."""
    case = CASES["three"]
    world = case.make(case.seconds(target_years))
    truth = Truth(world, world.vantages[0], world.seed)
    until = world.end - world.start
    records: dict[str, list[Outage]] = {}
    for outage in outages:
        records.setdefault(outage.name, []).append(outage)
    whole = Figures(target_years=case.hosts * until / YEAR)
    for key, found in records.items():
        down = [(begin + world.start, end + world.start) for begin, end in truth.checks[key].down(until)]
        fuse_all(whole, world.vantages, found, down, world.end)
    return whole


def fuse_all(
    whole: Figures, vantages: Sequence[str], outages: Iterable[Outage], down: Iterable[Span], until: float
) -> None:
    """Add what the vantages together say of one check, against when it was `down`. Unix seconds."""
    found = sorted(outages, key=lambda outage: outage.start)
    position = 0
    for begin, end in down:
        whole.true_outages += 1
        while position < len(found) and (found[position].ended_by or inf) <= begin - 3600.0:
            position += 1
        seen = []
        for outage in found[position:]:
            if outage.start > end + 3600.0:
                break
            if (outage.started_after or -inf) < end and (outage.ended_by or inf) > begin:
                seen.append(outage)
        _weigh_fused(whole, vantages, seen, (begin, end), until)


def _weigh_fused(whole: Figures, vantages: Sequence[str], seen: list[Outage], true: Span, until: float) -> None:
    sights = [Sight(vantage, tuple(outage for outage in seen if outage.vantage == vantage)) for vantage in vantages]
    said = [one for one in fuse(sights, until=until) if one.kind == "outage"]
    if not said:
        whole.missed += true[1] - true[0] >= 100.0
        return
    whole.found += 1
    whole.records += len(said)
    first, last = said[0], said[-1]
    whole.starts.append(first.start.after < true[0] <= first.start.by)
    if last.end is not None and true[1] < until:
        whole.ends.append(last.end.after < true[1] <= last.end.by)
        whole.errors.append(abs(last.end.at - first.start.at - (true[1] - true[0])))
