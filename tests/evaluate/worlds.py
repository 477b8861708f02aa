"""The fixed set of worlds that the judgement is measured on.

A world is 20 hosts of their own, one check each, looked at every 60 s, or an entity of 60. The first letter of a host's
name says what happens to it: `q` nothing but loss, `o` outages too. What follows a dash is its number.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import exp, log
from typing import Any, Final

from prober.config.worlds import ConditionEntry, Match, ObserverEntry, World
from prober.model import Check, Entity, Reference, Target
from prober.probes import PROBES

YEAR: Final = 31_556_952.0
DAY: Final = 86_400.0
HOURS: Final = 3600.0
START: Final = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
HOSTS: Final = 20
MEMBERS: Final = 60
WARM_UP_SECONDS: Final = DAY  # nothing goes down before (a quarter of a short world): what is usual is learned first

SPACING_SECONDS: Final = 50_000.0  # between the outages of a host

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Case:
    """A world by name. `make` gets its seconds."""

    name: str
    title: str
    make: Callable[[float], World]
    vantages: int = 1
    hosts: int = HOSTS

    @property
    def cost(self) -> float:
        """About so many CPU seconds a target-year: the longest piece is begun first."""
        return COSTS.get(self.name, 45.0)

    def seconds(self, target_years: float) -> float:
        """So long must it last for so many target-years over all hosts and vantages."""
        return target_years * YEAR / (self.hosts * self.vantages)


def icmp(name: str, address: str, interval: float = 60.0, timeout: float = 5.0) -> Check:
    """A ping of `address` on the schedule."""
    return Check(name, "icmp", "icmp", interval, timeout, PROBES["icmp"].options.model_validate({"address": address}))


def host(name: str, number: int) -> Entity:
    """An entity of one host, in a prefix of its own."""
    return Entity(name, targets=(Target(name, name, (icmp(name, f"198.18.{number}.1"),)),))


REFERENCES: Final = tuple(
    Reference(f"r{number}", f"AS{64495 + number}", (icmp(f"r{number}", f"203.0.113.{number}", timeout=3.0),))
    for number in (1, 2, 3)
)


def row(target: str | list[str] | None, span: Span, **holds: object) -> ConditionEntry:
    """A condition in seconds since the start. Without a target it is about everything, the references too."""
    match = (
        Match() if target is None else Match.model_construct(target=(target,) if isinstance(target, str) else target)
    )
    if isinstance(holds.get("loss"), float):
        holds["loss"] = (holds["loss"], holds["loss"])
    given: dict[str, Any] = {"match": match, "begin": START + span[0], "end": START + span[1], **holds}
    return ConditionEntry.model_construct(**given)


def outages(chance: random.Random, seconds: float, spacing: float, low: float, high: float) -> Iterator[Span]:
    """Outages of any length between the two, short ones more often (the logarithm is even)."""
    at = min(WARM_UP_SECONDS, seconds / 4)
    while True:
        at += chance.uniform(0.5, 1.5) * spacing
        length = exp(chance.uniform(log(low), log(high)))
        if at + length >= seconds:
            return
        yield at, at + length
        at += length


def runs(chance: random.Random, seconds: float, share: float, mean: float) -> Iterator[Span]:
    """Times that take `share` of all, of this mean length, exponential."""
    at = HOURS
    while True:
        at += chance.expovariate(share / (1.0 - share) / mean)
        length = chance.expovariate(1.0 / mean)
        if at >= seconds:
            return
        yield at, at + length
        at += length


def daily(seconds: float, begin: float, end: float, every: int = 1, first: int = 0) -> Iterator[Span]:
    """From hour `begin` to hour `end` of each day, or of each `every`-th."""
    for day in range(first, int(seconds / DAY) + 1, every):
        yield day * DAY + begin * HOURS, day * DAY + end * HOURS


def hosts_of(kinds: str) -> list[str]:
    """Names of HOSTS hosts, of these kinds in turn."""
    words = kinds.split()
    return [f"{words[number % len(words)]}-{number}" for number in range(HOSTS)]


def world(
    name: str,
    seconds: float,
    names: list[str],
    conditions: list[ConditionEntry],
    *,
    loss: float = 0.0,
    burst: float = 0.0,
    observer: list[ObserverEntry] | None = None,
    vantages: tuple[str, ...] = ("local",),
    entities: tuple[Entity, ...] | None = None,
) -> World:
    """A world of these hosts. Those with `o` in front go down now and then."""
    chance = random.Random(f"{name}/outages")
    for one in names:
        if one.startswith("o"):
            spans = outages(chance, seconds, min(SPACING_SECONDS, max(3000.0, seconds / 10)), 30.0, 7200.0)
            conditions += [row(one, span, down=True) for span in spans]
    return World(
        file=name,
        title=name,
        start=START,
        end=START + seconds,
        seed=1,
        entities=entities or tuple(host(one, number) for number, one in enumerate(names)),
        references=REFERENCES,
        vantages=vantages,
        loss=loss,
        burst_seconds=burst,
        conditions=tuple(conditions),
        observer=tuple(observer or ()),
    )


def lossy(percent: int) -> Case:
    """Independent loss, half of the hosts with outages."""
    name = f"loss-{percent}"
    title = f"{percent} % loss, independent" if percent else "no loss"
    return Case(name, title, lambda seconds: world(name, seconds, hosts_of("q o"), [], loss=percent / 100))


def bursts(mean: int) -> Case:
    """Loss in runs; a quarter of the hosts each with 1, 5, 20 and 30 %."""
    name = f"bursts-{mean}"

    def make(seconds: float) -> World:
        names = hosts_of("q1 q5 q20 q30")
        conditions = [row(one, (0.0, seconds), loss=int(one[1 : one.index("-")]) / 100) for one in names]
        return world(name, seconds, names, conditions, burst=float(mean))

    return Case(name, f"loss in bursts of {mean} s mean (1, 5, 20, 30 %)", make)


def by_the_clock(name: str, title: str, loss: float, begin: float, end: float, every: int) -> Case:
    """1 % loss, and more at some hours."""

    def make(seconds: float) -> World:
        names = hosts_of("q o")
        spans = daily(seconds, begin, end, every, every - 1)
        conditions = [row(names, span, loss=loss) for span in spans]
        return world(name, seconds, names, conditions, loss=0.01)

    return Case(name, title, make)


def _sudden(seconds: float) -> World:
    names = hosts_of("q")
    chance = random.Random("sudden")
    conditions = []
    for one in names:
        at = WARM_UP_SECONDS
        while at < seconds:
            at += chance.uniform(0.5, 1.5) * 4 * DAY
            conditions.append(row(one, (at, at + 3 * HOURS), loss=0.5))
    return world("sudden-50", seconds, names, conditions, loss=0.01)


def _ramps(seconds: float) -> World:
    names = hosts_of("q24 q6")
    conditions = []
    for number, one in enumerate(names):
        hours, low, high = (24, 0.05, 0.6) if one.startswith("q24") else (6, 0.01, 0.6)
        at = WARM_UP_SECONDS + number * DAY / 3
        while at < seconds:
            conditions.append(row(one, (at, at + hours * HOURS), loss=(low, high)))
            at += 7 * DAY
    return world("ramps", seconds, names, conditions, loss=0.01)


def crowd(percent: int) -> Case:
    """An entity of 60 hosts in four prefixes, down as a whole now and then."""
    name = f"entity-{percent}"

    def make(seconds: float) -> World:
        members = [f"m-{number}" for number in range(MEMBERS)]
        land = tuple(
            Target(one, "land", (icmp(one, f"198.18.{number % 4}.{number // 4 + 1}"),))
            for number, one in enumerate(members)
        )
        spans = outages(random.Random(name), seconds, 4000.0, 300.0, 1500.0)
        conditions = [row(members, span, down=True) for span in spans]
        return world(name, seconds, members, conditions, loss=percent / 100, entities=(Entity("land", targets=land),))

    return Case(name, f"an entity of 60 hosts, {percent} % loss", make, hosts=MEMBERS)


def observing(vantage: str, span: Span, **what: bool) -> ObserverEntry:
    """Something that happens to an agent."""
    given: dict[str, Any] = {"vantage": (vantage,), "begin": START + span[0], "end": START + span[1], **what}
    return ObserverEntry.model_construct(**given)


def _offline(seconds: float) -> World:
    means = {"mean-10": 10.0, "mean-60": 60.0, "mean-300": 300.0}
    observer = [
        observing(name, (begin, min(end, seconds)), offline=True)
        for name, mean in means.items()
        for begin, end in runs(random.Random(name), seconds, 0.05, mean)
    ]
    return world("offline", seconds, hosts_of("q o"), [], loss=0.05, observer=observer, vantages=tuple(means))


def _poor_sight(seconds: float) -> World:
    chance = random.Random("flapping")
    observer = [
        observing("flapping", (begin + low, min(begin + high, end)), offline=True)
        for begin, end in daily(seconds, 10, 12)
        for low, high in runs(chance, end - begin + HOURS, 0.5, 30.0)
        if begin + low < min(begin + high, end, seconds)
    ]
    bad = ConditionEntry.model_construct(
        match=Match.model_construct(vantage=("lossy",)), begin=START, end=START + seconds, loss=(0.2, 0.2)
    )
    vantages = ("lossy", "flapping")
    return world("poor-sight", seconds, hosts_of("q o"), [bad], observer=observer, vantages=vantages)


def _troubles(seconds: float) -> World:
    chance = random.Random("references")
    conditions = []
    for reference in REFERENCES:
        match = Match.model_construct(reference=(reference.name,), vantage=("references",))
        for begin, end in outages(chance, seconds, 40_000.0, 60.0, 7200.0):
            conditions.append(
                ConditionEntry.model_construct(match=match, begin=START + begin, end=START + end, down=True)
            )
    observer = [
        observing("restarts", (begin, begin + chance.uniform(1.0, 600.0)), stopped=True)
        for begin, _ in daily(seconds, chance.uniform(0, 23), 24)
        if begin < seconds - HOURS
    ]
    observer += [
        ObserverEntry.model_construct(
            vantage=("clock",), at=START + begin, clock_step=chance.choice((-3600.0, -5.0, 5.0, 3600.0))
        )
        for begin, _ in daily(seconds, 7.3, 24)
        if begin < seconds
    ]
    vantages = ("references", "restarts", "clock")
    return world("troubles", seconds, hosts_of("q o"), conditions, loss=0.05, observer=observer, vantages=vantages)


def _three(seconds: float) -> World:
    return world("three", seconds, hosts_of("o"), [], loss=0.2, vantages=("first", "second", "third"))


COSTS: Final = {
    "sudden-50": 25.0,
    "ramps": 35.0,
    "loss-30": 90.0,
    "bursts-5": 75.0,
    "bursts-10": 110.0,
    "entity-5": 95.0,
    "entity-20": 115.0,
    "offline": 85.0,
    "poor-sight": 80.0,
    "three": 85.0,
}

CASES: Final = {
    case.name: case
    for case in (
        *(lossy(percent) for percent in (0, 1, 5, 20, 30)),
        bursts(5),
        bursts(10),
        by_the_clock("evenings", "evenings (19 to 23 h) of 20 %, else 1 %", 0.2, 19, 23, 1),
        by_the_clock("weekly", "a day of 30 % a week, else 1 %", 0.3, 0, 24, 7),
        Case("sudden-50", "50 % from one moment to the next, for 3 h; else 1 %", _sudden),
        Case("ramps", "ramps: 5 to 60 % in 24 h, 1 to 60 % in 6 h", _ramps),
        crowd(5),
        crowd(20),
        Case("offline", "observers offline 5 % of the time, mean 10, 60, 300 s; 5 % loss", _offline, 3),
        Case("poor-sight", "a lossy observer (20 % of everything); one that flaps two hours a day", _poor_sight, 2),
        Case("troubles", "reference outages; an agent restarted daily; a clock stepped daily; 5 % loss", _troubles, 3),
        Case("three", "three staggered vantages, 20 % loss", _three, 3),
    )
}
