"""Round trips and loss of the last day, per check, for the small curves on the page: in memory, and small.

A check takes 1.1 kB once it has been probed for five minutes; 10,000 of them 11 MB. They begin anew with the agent.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, isnan, log, nan
from typing import Final

from prober.model import Observation

BUCKET_SECONDS: Final = 300
BUCKETS: Final = 288
SAMPLES_MAX: Final = 15
"""Round trips of a bucket that its median is made of: the last ones of a check that is probed every second."""
TOGETHER_MAX: Final = 24
"""Checks that one curve is made of."""

_NONE: Final = 255
_STEPS: Final = 3_000
"""Round trips are kept in 16 bits, as logarithms: to 0.02 %, from a microsecond to half an hour; 0: none."""


@dataclass(frozen=True, slots=True)
class Course:
    """The last day, oldest first: BUCKETS values each, None where nothing was probed (or nothing answered)."""

    rtt_seconds: tuple[float | None, ...]
    loss: tuple[float | None, ...]  # share

    @property
    def last_rtt(self) -> float | None:
        """The newest round trip."""
        return next((value for value in reversed(self.rtt_seconds) if value is not None), None)

    @property
    def mean_loss(self) -> float | None:
        """Over all buckets in which something was probed."""
        known = [value for value in self.loss if value is not None]
        return sum(known) / len(known) if known else None


class Ring:
    """One check."""

    __slots__ = ("bucket", "loss", "lost", "probes", "rtt", "samples")

    def __init__(self, bucket: int) -> None:
        self.bucket = bucket  # the one under way, since 1970
        self.probes = self.lost = 0
        self.samples = array("f")
        self.rtt: array[int] | None = None
        self.loss: bytearray | None = None  # percent

    def turn(self, bucket: int) -> None:
        """Put the bucket under way among the others and begin `bucket`."""
        if self.rtt is None or self.loss is None:
            self.rtt, self.loss = array("H", [0]) * BUCKETS, bytearray([_NONE]) * BUCKETS
        place = self.bucket % BUCKETS
        self.rtt[place] = _code(_median(self.samples))
        self.loss[place] = round(100 * self.lost / self.probes) if self.probes else _NONE
        for skipped in range(self.bucket + 1, min(bucket, self.bucket + BUCKETS)):
            self.rtt[skipped % BUCKETS], self.loss[skipped % BUCKETS] = 0, _NONE
        self.bucket, self.probes, self.lost = bucket, 0, 0
        self.samples = array("f")

    def values(self, bucket: int) -> tuple[float, int]:
        """Round trip (NaN: none) and loss in percent (255: none) of a bucket of the last day."""
        if bucket == self.bucket:
            return _median(self.samples), round(100 * self.lost / self.probes) if self.probes else _NONE
        if self.rtt is None or self.loss is None or not self.bucket - BUCKETS < bucket < self.bucket:
            return nan, _NONE
        return _seconds(self.rtt[bucket % BUCKETS]), self.loss[bucket % BUCKETS]


class Rings:
    """All checks. `observe` is a sink of the runner."""

    def __init__(self) -> None:
        self._rings: dict[str, Ring] = {}

    def observe(self, observation: Observation) -> None:
        """Take in an observation. Confirmations would count an outage's losses many times over: they are left out."""
        if observation.reason != "regular":
            return
        key, bucket = observation.check.key, int(observation.utc) // BUCKET_SECONDS
        ring = self._rings.get(key)
        if ring is None:
            ring = self._rings[key] = Ring(bucket)
        if bucket > ring.bucket:
            ring.turn(bucket)
        ring.probes += 1
        if not observation.success:
            ring.lost += 1
            return
        rtt = observation.phases.get("rtt", observation.duration_seconds)
        if len(ring.samples) < SAMPLES_MAX:
            ring.samples.append(rtt)
        else:
            ring.samples[ring.probes % SAMPLES_MAX] = rtt

    def forget(self, keys: Iterable[str]) -> None:
        """These checks are no longer configured."""
        for key in keys:
            self._rings.pop(key, None)

    def course(self, keys: Sequence[str], now: float) -> Course | None:
        """Of these checks (the first TOGETHER_MAX) together: the median round trip, the mean loss."""
        rings = [ring for key in keys[:TOGETHER_MAX] if (ring := self._rings.get(key)) is not None]
        if not rings:
            return None
        last = int(now) // BUCKET_SECONDS
        trips: list[float | None] = []
        losses: list[float | None] = []
        for bucket in range(last - BUCKETS + 1, last + 1):
            values = [ring.values(bucket) for ring in rings]
            answered = _median([rtt for rtt, _ in values if not isnan(rtt)])
            lost = [percent for _, percent in values if percent != _NONE]
            trips.append(None if isnan(answered) else answered)
            losses.append(sum(lost) / len(lost) / 100 if lost else None)
        return Course(tuple(trips), tuple(losses))


def _code(seconds: float) -> int:
    return 0 if isnan(seconds) else min(65_535, 1 + round(_STEPS * log(max(seconds, 1e-6) / 1e-6)))


def _seconds(code: int) -> float:
    return 1e-6 * exp((code - 1) / _STEPS) if code else nan


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else nan
