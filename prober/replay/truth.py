"""What is true of a world, and what a probe sees of it. Pure: times are seconds since the world's start.

Chance is a function of what it is about and not of the order of asking: the same seed, check, vantage and send time
give the same fate, whoever else was probed before. Runs of loss (bursts) are the target's own: every vantage that
loses as much of it meets the same runs.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import inf, log
from typing import Final, NamedTuple, TypeAlias

from prober.config.worlds import ConditionEntry, World, concerns
from prober.failures import Failure, Operation, Side, side_of
from prober.model import Check, Reference

Span: TypeAlias = tuple[float, float]
"""From (inclusive), to (exclusive)."""

RTT_SPREAD: Final = 0.1
STEP_SECONDS: Final = 60.0  # a ramp of loss is a staircase with steps this wide to the bursts
MOST_BURST_LOSS: Final = 0.995

_OPERATIONS: Final = {
    Side.OURS: Operation.PREPARE,
    Side.RESOLVER: Operation.RESOLVE,
}
_ANSWERS: Final = ("http_", "dns_")
_TLS: Final = ("certificate_", "tls_")
_CONNECTING: Final = frozenset({"tcp", "http"})


class Fate(NamedTuple):
    """What a probe sees, and after how long. No failure: it is answered."""

    took: float
    operation: Operation | None = None
    failure: Failure | None = None


class Segment(NamedTuple):
    """A stretch of time in which nothing changes but along a ramp."""

    begin: float
    down: bool = False
    failure: Failure | None = None  # of everything
    lost_as: Failure | None = None  # of what is lost
    loss: float = 0.0  # at `begin`
    loss_slope: float = 0.0  # a second
    rtt: float = 0.0
    rtt_slope: float = 0.0


class CheckTruth:
    """One check, as one vantage may see it."""

    def __init__(self, check: Check, segments: Sequence[Segment], seed: int, path: str, burst_seconds: float) -> None:
        self.check = check
        self.segments = segments
        self._begins = [segment.begin for segment in segments]
        self._chance = blake2b(f"{seed}/{path}/{check.key}".encode(), digest_size=8)
        lossy = any(segment.loss or segment.loss_slope for segment in segments)
        self.bursts = Bursts(segments, seed, check.key, burst_seconds) if burst_seconds > 0 and lossy else None
        self._silence = Operation.CONNECT if check.kind in _CONNECTING else Operation.RECEIVE

    def segment(self, at: float) -> Segment:
        """What holds at `at`."""
        return self.segments[max(0, bisect_right(self._begins, at) - 1)]

    def loss(self, at: float) -> float:
        """The share of the probes that is lost then."""
        segment = self.segment(at)
        return segment.loss + segment.loss_slope * (at - segment.begin)

    def fate(self, at: float) -> Fate:
        """Of a probe that is sent at `at`."""
        chance = self._chance.copy()
        chance.update(round(at * 1e9).to_bytes(8, "big"))
        drawn = chance.digest()
        segment = self.segments[max(0, bisect_right(self._begins, at) - 1)]
        since = at - segment.begin
        rtt = segment.rtt + segment.rtt_slope * since
        rtt *= 1.0 + RTT_SPREAD * (drawn[7] / 127.5 - 1.0)
        if segment.failure is not None:
            return self._failed(segment.failure, rtt)
        if segment.down:
            return self._failed(Failure.TIMEOUT, rtt)
        if self.bursts is not None:
            lost = self.bursts.lost(at)
        else:
            loss = segment.loss + segment.loss_slope * since
            lost = loss > 0.0 and int.from_bytes(drawn[:7], "big") < loss * 2**56
        if lost:
            return self._failed(segment.lost_as or Failure.TIMEOUT, rtt)
        if rtt >= self.check.timeout_seconds:
            return self.silence()
        return Fate(rtt)

    def silence(self) -> Fate:
        """No answer in time."""
        return Fate(self.check.timeout_seconds, self._silence, Failure.TIMEOUT)

    def _failed(self, failure: Failure, rtt: float) -> Fate:
        if failure is Failure.TIMEOUT:
            return self.silence()
        side = side_of(failure)
        operation = _OPERATIONS.get(side, self._silence)
        if failure.startswith(_ANSWERS):
            operation = Operation.VALIDATE
        elif failure.startswith(_TLS):
            operation = Operation.TLS
        if failure is Failure.RESOLVER_TIMEOUT:
            return Fate(self.check.timeout_seconds, operation, failure)
        return Fate(0.001 if side is Side.OURS else min(rtt, self.check.timeout_seconds), operation, failure)

    def down(self, until: float) -> list[Span]:
        """When it is down, from 0 to `until`: what the world says, its runs of total loss, and no answer in time."""
        spans: list[Span] = []
        for segment, end in zip(self.segments, [*self._begins[1:], inf], strict=True):
            if segment.begin < until:
                spans += [(segment.begin, end)] if segment.down else self._too_slow(segment, min(end, until))
        runs = self.bursts.runs(until) if self.bursts is not None else []
        return clip(union([spans, runs]), 0.0, until)

    def _too_slow(self, segment: Segment, end: float) -> list[Span]:
        """When the round-trip time is beyond the timeout."""
        slowest, slope = self.check.timeout_seconds, segment.rtt_slope
        if segment.failure is not None or max(segment.rtt, segment.rtt + slope * (end - segment.begin)) < slowest:
            return []
        if not slope:
            return [(segment.begin, end)]
        crossing = segment.begin + (slowest - segment.rtt) / slope
        return clip([(crossing, inf) if slope > 0 else (-inf, crossing)], segment.begin, end)


class Bursts:
    """A check's runs of total loss: a Markov chain of two states in continuous time, made as far as it is asked for.

    The mean run lasts `mean`; in between it stays good for mean * (1 - loss) / loss, so that `loss` is lost in all.
    """

    def __init__(self, segments: Sequence[Segment], seed: int, key: str, mean: float) -> None:
        self._segments = segments
        self._begins = [segment.begin for segment in segments]
        self._mean = mean
        self._seed = f"{seed}/bursts/{key}".encode()
        self._drawn = 0
        self._from: list[float] = []
        self._to: list[float] = []
        self._known_until = 0.0
        if self._draw() < self._loss(0.0):
            self._add(0.0)

    def lost(self, at: float) -> bool:
        """Is `at` in a run of loss?"""
        self._extend(at)
        index = bisect_right(self._from, at) - 1
        return index >= 0 and at < self._to[index]

    def runs(self, until: float) -> list[Span]:
        """All runs that begin before `until`."""
        self._extend(until)
        return list(zip(self._from, self._to, strict=True))[: bisect_right(self._from, until)]

    def _draw(self) -> float:
        """The next number of this check's own sequence, in [0, 1)."""
        self._drawn += 1
        digest = blake2b(self._seed + self._drawn.to_bytes(8, "big"), digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 11) / 2**53

    def _add(self, begin: float) -> None:
        end = begin - self._mean * log(1.0 - self._draw())
        self._from.append(begin)
        self._to.append(end)
        self._known_until = end

    def _loss(self, at: float) -> float:
        segment = self._segments[max(0, bisect_right(self._begins, at) - 1)]
        return min(MOST_BURST_LOSS, segment.loss + segment.loss_slope * (at - segment.begin))

    def _extend(self, until: float) -> None:
        while self._known_until <= until:
            need = -log(1.0 - self._draw())  # the next run begins when the hazard has added up to this
            at = self._known_until
            while at < inf:
                index = max(0, bisect_right(self._begins, at) - 1)
                segment = self._segments[index]
                end = self._begins[index + 1] if index + 1 < len(self._begins) else inf
                if segment.loss_slope:
                    end = min(end, at + STEP_SECONDS)
                    loss = self._loss((at + end) / 2)
                else:
                    loss = min(MOST_BURST_LOSS, segment.loss)
                rate = loss / (1.0 - loss) / self._mean
                if rate > 0.0 and rate * (end - at) >= need:
                    self._add(at + need / rate)
                    break
                need -= rate * (end - at) if rate > 0.0 else 0.0
                at = end
            else:
                self._known_until = inf


class Truth:
    """A world as one vantage may see it."""

    def __init__(self, world: World, vantage: str, seed: int) -> None:
        self.world = world
        self.until = world.end - world.start
        self.offline = union(
            [(row.begin - world.start, row.end - world.start)]
            for row in world.observer
            if row.offline
            and row.begin is not None
            and row.end is not None
            and (row.vantage is None or vantage in row.vantage)
        )
        self._offline_from = [begin for begin, _ in self.offline]
        self.checks: dict[str, CheckTruth] = {}
        for owner, check in world.checks():
            rows = [row for row in world.conditions if concerns(row.match, owner, check, vantage)]
            background = 0.0 if isinstance(owner, Reference) else world.loss
            segments = _segments(world, rows, background)
            self.checks[check.key] = CheckTruth(check, segments, seed, vantage, world.burst_seconds)

    def fate(self, key: str, at: float) -> Fate:
        """Of a probe of the check `key` that is sent at `at`."""
        truth = self.checks[key]
        if self.offline:
            index = bisect_right(self._offline_from, at) - 1
            if index >= 0 and at < self.offline[index][1]:
                return truth.silence()
        return truth.fate(at)


@dataclass(slots=True)
class _State:
    """What holds at a moment, as the rows are gone through."""

    down: bool = False
    failure: Failure | None = None
    lost_as: Failure | None = None
    loss: tuple[float, float] = (0.0, 0.0)
    rtt: tuple[float, float] = (0.0, 0.0)


def _segments(world: World, rows: Sequence[ConditionEntry], background: float) -> list[Segment]:
    begin = world.start
    edges = {begin, *(row.begin for row in rows), *(row.end for row in rows)}
    coming = sorted(range(len(rows)), key=lambda number: rows[number].begin, reverse=True)
    holding: list[int] = []  # rows by number: later rows win
    segments = []
    for edge in sorted(at for at in edges if at < world.end):
        while coming and rows[coming[-1]].begin <= edge:
            insort(holding, coming.pop())
        holding = [number for number in holding if rows[number].end > edge]
        if edge < begin:
            continue
        state = _State(loss=(background, 0.0), rtt=(world.rtt_seconds, 0.0))
        for number in holding:
            _apply(state, rows[number], edge)
        segments.append(
            Segment(edge - begin, state.down, state.failure, state.lost_as, *state.loss, *state.rtt),
        )
    return segments


def _apply(state: _State, row: ConditionEntry, at: float) -> None:
    """Let a row that holds at `at` have its say: for each thing that it speaks of, it has the last word so far."""
    if row.loss is not None:
        state.loss = _along(row.loss, row, at)
        state.lost_as = row.failure
    if row.rtt is not None:
        state.rtt = _along(row.rtt, row, at)
    if row.down is not None:
        state.down = row.down
        state.failure = row.failure if row.down else None
    elif row.failure is not None and row.loss is None:
        state.down = side_of(row.failure) is not Side.OURS  # our own trouble is nothing that a target suffers
        state.failure = row.failure


def _along(ramp: tuple[float, float], row: ConditionEntry, at: float) -> tuple[float, float]:
    """Value and slope of a ramp at `at`."""
    first, last = ramp
    slope = (last - first) / (row.end - row.begin)
    return first + slope * (at - row.begin), slope


# -- spans -------------------------------------------------------------------------------------------------------------


def union(several: Iterable[Iterable[Span]]) -> list[Span]:
    """The times that are in any of them; spans that touch are one."""
    found: list[Span] = []
    for begin, end in sorted(span for spans in several for span in spans):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        elif begin < end:
            found.append((begin, end))
    return found


def intersection(several: Sequence[Sequence[Span]]) -> list[Span]:
    """The times that are in all of them."""
    if not several:
        return []
    common = list(several[0])
    for spans in several[1:]:
        common = list(_both(common, spans))
    return common


def _both(some: Sequence[Span], others: Sequence[Span]) -> Iterator[Span]:
    first = second = 0
    while first < len(some) and second < len(others):
        begin = max(some[first][0], others[second][0])
        end = min(some[first][1], others[second][1])
        if begin < end:
            yield begin, end
        if some[first][1] <= others[second][1]:
            first += 1
        else:
            second += 1


def clip(spans: Iterable[Span], begin: float, end: float) -> list[Span]:
    """What of them lies between `begin` and `end`."""
    return [(max(begin, low), min(end, high)) for low, high in spans if low < end and high > begin]


def overlap(spans: Sequence[Span], begin: float, end: float) -> float:
    """Seconds of them between `begin` and `end`."""
    at = max(0, bisect_right(spans, (begin, inf)) - 1)
    seconds = 0.0
    for low, high in spans[at:]:
        if low >= end:
            break
        seconds += max(0.0, min(high, end) - max(low, begin))
    return seconds
