"""The rules that others use, on the same simulated world: a probe sent at the same moment meets the same fate.

Each is dated as kindly as its data allow: from its first failed sample to the first good one after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from prober.replay.score import Record

Answered = Callable[[float], bool]

TIMEOUT_SECONDS: Final = 5.0
SAMPLE_SECONDS: Final = 15.0
FOR_SECONDS: Final = 300.0
ROUND_SECONDS: Final = 660.0
ADAPTIVE_SECONDS: Final = 3.0
ADAPTIVE_MOST: Final = 14
STRAY: Final = 0.01  # P(answer | down) of a single host; the published (1-l)/|b| never decides there
DOWN_BELOW, UP_ABOVE = 0.1, 0.9


@dataclass(slots=True)
class Rule:
    """What a rule says of one check: its records, and what it sent."""

    records: list[Record]
    probes: float


def in_a_row(answered: Answered, phase: float, interval: float, until: float, enough: int, wait: float) -> Rule:
    """Down at the `enough`-th failure in a row, `wait` seconds after it was sent.

    Of `enough` samples in a row one has an index divisible by `enough`: the others are looked at only beside a failure.
    """
    count = int((until - phase) / interval)
    records = []
    index = enough - 1
    while index < count:
        if answered(phase + index * interval):
            index += enough
            continue
        first = last = index
        while first > 0 and not answered(phase + (first - 1) * interval):
            first -= 1
        while last + 1 < count and not answered(phase + (last + 1) * interval):
            last += 1
        if last - first + 1 >= enough:
            detected = phase + (first + enough - 1) * interval + wait
            ended = phase + (last + 1) * interval if last + 1 < count else inf
            records.append(_record(phase + first * interval, detected, ended, interval))
        index = last + enough + 1  # one success lies between
    return Rule(records, float(count))


def _record(first: float, detected: float, ended: float, interval: float) -> Record:
    return Record(
        after=first - interval,
        started_by=first,
        start=first,
        detected_at=detected,
        ended_after=ended - interval if ended < inf else first,
        ended_by=ended,
        end=ended if ended < inf else None,
        long=True,
    )


def one_failure(answered: Answered, phase: float, until: float) -> Rule:
    """A failed probe is an outage."""
    return in_a_row(answered, phase, 60.0, until, 1, TIMEOUT_SECONDS)


def three_in_a_row(answered: Answered, phase: float, until: float) -> Rule:
    """As uptime-kuma with two retries and gatus with its default failure threshold."""
    return in_a_row(answered, phase, 60.0, until, 3, TIMEOUT_SECONDS)


def for_five_minutes(answered: Answered, phase: float, until: float) -> Rule:
    """blackbox_exporter scraped every 15 s, an alert on `probe_success == 0` with `for: 5m`."""
    samples = int(FOR_SECONDS / SAMPLE_SECONDS) + 1
    return in_a_row(answered, phase % SAMPLE_SECONDS, SAMPLE_SECONDS, until, samples, TIMEOUT_SECONDS)


def trinocular(answered: Answered, phase: float, until: float, availability: float) -> Rule:
    """Rounds of 11 minutes, up to 15 probes in each, a belief between 0.01 and 0.99."""
    rule = Rule([], 0.0)
    belief = 0.99
    good = phase - ROUND_SECONDS  # the last answer
    first: float | None = None  # the first failure after it
    down: tuple[float, float, float] | None = None  # these two, and when it was said
    back: float | None = None  # the first answer since
    begin = phase
    while begin < until:
        for number in range(1 + ADAPTIVE_MOST):
            at = begin + number * ADAPTIVE_SECONDS
            reply = answered(at)
            rule.probes += 1
            belief = _believe(belief, availability, reply)
            if down is None and reply:
                good, first = at, None
            elif down is None:
                first = at if first is None else first
                if belief < DOWN_BELOW:
                    down, back = (good, first, at + TIMEOUT_SECONDS), None
            else:
                back = None if not reply else at if back is None else back
                if back is not None and belief > UP_ABOVE:
                    rule.records.append(_round_record(*down, back))
                    down, good, first = None, at, None
            if not DOWN_BELOW <= belief <= UP_ABOVE:
                break
        begin += ROUND_SECONDS
    if down is not None:
        rule.records.append(_round_record(*down, inf))
    return rule


def _believe(belief: float, availability: float, reply: bool) -> float:
    up = availability if reply else 1.0 - availability
    gone = STRAY if reply else 1.0 - STRAY
    return min(0.99, max(0.01, up * belief / (up * belief + gone * (1.0 - belief))))


def _round_record(good: float, first: float, detected: float, ended: float) -> Record:
    return replace(_record(first, detected, ended, ROUND_SECONDS), after=good)
