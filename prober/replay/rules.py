"""The series that the shipped recording rules (deploy/prometheus/rules/fused.yml) would have recorded.

One evaluation a scrape, in the order of the rules; a rule that reads its own series reads the evaluation before. It is
the same arithmetic over the same changes, so that a replay can be looked at without a Prometheus that evaluates; a test
has a real one evaluate the rules and compares. Left out is what is made of alerts, which nobody evaluates here, and of
targets and checks, of which there are many, what no panel asks for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prober.judge.records import Scope
from prober.replay.scrape import SCRAPE_SECONDS, Change, Tape

FORGET_SECONDS: Final = 604_800.0
BLIP_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 120.0
PENINSULA_SECONDS: Final = 300.0
"""A peninsula that has lasted for so long is held for a witness that has lost its sight."""
SEES, OFFLINE, GONE = 1.0, 2.0, 0.0

STATE: Final = "scope:prober_state:quorum"
SINCE: Final = "scope:prober_state_since_timestamp_seconds:quorum"
SEEN: Final = "scope:prober_seen_timestamp_seconds:max"
ONGOING: Final = "scope:prober_outage_seconds:quorum"


class VantageHistory:
    """One vantage's tape, asked for a moment after the other."""

    def __init__(self, tape: Tape) -> None:
        self.name = tape.vantage
        self.tape = tape
        self._begins = [begin for begin, _ in tape.heard]
        self._observed_at = [at for at, _ in tape.observer]

    def state(self, at: float) -> tuple[float, float] | None:
        """(state, when it was heard last); None: not known, or forgotten."""
        life = bisect_right(self._begins, at) - 1
        if life < 0:
            return None
        last = self.tape.heard[life][1]
        if at <= last:
            place = bisect_right(self._observed_at, at) - 1
            online = place < 0 or self.tape.observer[place][1]
            return (SEES if online else OFFLINE), at
        return (GONE, last) if at - last < FORGET_SECONDS else None

    def moments(self) -> Iterator[float]:
        """When its state changes."""
        for begin, last in self.tape.heard:
            yield from (begin, last, last + SCRAPE_SECONDS)
        yield from self._observed_at


@dataclass(slots=True)
class Vote:
    """What a vantage says of a scope at an evaluation. `change` None: it is gone."""

    change: Change | None

    @property
    def current(self) -> bool | None:
        """True: reaches it; None: no vote."""
        return None if self.change is None or not self.change.observed else self.change.up


@dataclass(slots=True)
class ScopeRules:
    """The rules of one scope, with what they remember."""

    scope: Scope
    verdict: int | None = None
    shape: int | None = None
    since: float | None = None
    seen: float = 0.0
    seeing: bool = False
    noticed: float = 0.0
    last_started_after: float = 0.0
    last_started_by: float = 0.0
    last_start: float = 0.0
    last_ended_after: float | None = None
    last_ended_by: float | None = None
    last_seconds: float | None = None
    started_after: float = 0.0
    started_by: float = 0.0
    start: float = 0.0
    last_votes: dict[str, bool] = field(default_factory=dict)
    counts: tuple[int, int, int] = (0, 0, 0)  # vantages, up, down

    def vote(self, votes: Mapping[str, Vote], at: float) -> None:
        """The rules up to `scope:prober_up:quorum`."""
        self.last_votes = {name: value for name, value in self.last_votes.items() if name in votes}
        said = {name: vote.current for name, vote in votes.items()}
        self.last_votes |= {name: value for name, value in said.items() if value is not None}
        up = sum(value is True for value in said.values())
        down = sum(value is False for value in said.values())
        self.counts = len(votes), up, down
        if up + down:
            self.seen = at
        elif self.seeing:
            self.seen = at - SCRAPE_SECONDS  # as the evaluation before said
        self.seeing = bool(up + down)
        if up:
            self.verdict = 2 if down else 1
        elif self._witness_is_lost(said, at):
            self.verdict = 2
        elif down:
            self.verdict = 0

    def _witness_is_lost(self, said: Mapping[str, bool | None], at: float) -> bool:
        """Who reached it cannot see any more, after it had been a peninsula for long enough."""
        if self.verdict != 2 or self.since is None or self.since > at - PENINSULA_SECONDS:
            return False
        return any(value for name, value in self.last_votes.items() if said[name] is None)

    @property
    def up(self) -> int | None:
        return None if self.verdict is None else int(self.verdict > 0)

    def conclude(self, votes: Mapping[str, Vote], at: float, some_network_down: bool) -> None:
        """The rules after it."""
        before = self.shape
        self.shape = 3 if self.scope == "entity" and self.verdict == 1 and some_network_down else self.verdict
        if self.shape is not None and (self.since is None or self.shape != before):
            self.since = at
        if self.up is None:
            return
        if self.up and 0 < self.started_by <= at - BLIP_SECONDS:
            self.noticed = at
            self.last_started_after, self.last_started_by = self.started_after, self.started_by
            self.last_start = self.start
        self._ended(votes, at)
        opening = [vote.change for vote in votes.values() if vote.current is False and vote.change is not None]
        if self.up:
            self.started_after = self.started_by = self.start = 0.0
        elif self.started_by <= 0:
            self.started_after = max((change.started_after for change in opening), default=0.0)
            agreeing = [change.started_by for change in opening if change.started_by > self.started_after]
            self.started_by = min(agreeing, default=0.0)
            middle = (self.started_by + (self.started_after or self.started_by)) / 2
            likely = [change.start for change in opening if self.started_after < change.start <= self.started_by]
            self.start = _mean(likely, middle)

    def _ended(self, votes: Mapping[str, Vote], at: float) -> None:
        settled = self.noticed <= at - SETTLE_SECONDS
        heard = [vote.change for vote in votes.values() if vote.change is not None]
        mine = [change for change in heard if change.ended_by > self.last_started_by > 0]
        if self.last_ended_by is None or not settled:
            self.last_ended_by = min((change.ended_by for change in mine), default=self.noticed)
        if self.last_ended_after is None or not settled:
            before = [change.ended_after for change in mine if change.ended_after < self.last_ended_by]
            self.last_ended_after = max(before, default=0.0)
        if self.last_seconds is None or not settled:
            after, by = self.last_ended_after, self.last_ended_by
            least, most = after - self.last_started_by, by - self.last_started_after
            said = [
                seconds
                for change in heard
                for ended_by, seconds in change.past
                if ended_by > self.last_started_by > 0 and least <= seconds <= most
            ]
            self.last_seconds = _mean(said, (by + (after or by)) / 2 - self.last_start)

    def settles(self, at: float) -> bool:
        """Whether an evaluation may differ from the one before though nothing has changed."""
        return self.noticed > at - SETTLE_SECONDS - 2 * SCRAPE_SECONDS

    def series(self, at: float) -> Iterator[tuple[str, float]]:
        """What is recorded of it."""
        vantages, up, down = self.counts
        if not vantages:
            return
        yield "scope:prober_vantages:count", vantages
        yield "scope:prober_votes:count", up + down
        yield "scope:prober_votes_up:count", up
        yield "scope:prober_votes_down:count", down
        yield SEEN, self.seen
        if self.verdict is None or self.up is None or self.shape is None or self.since is None:
            yield STATE, 6
            return
        yield STATE, self.shape if up + down else 5 - self.up
        yield "scope:prober_verdict:quorum", self.verdict
        yield "scope:prober_shape:quorum", self.shape
        yield "scope:prober_up:quorum", self.up
        yield SINCE, self.since
        yield "scope:prober_outage_started_after_timestamp_seconds:max", self.started_after
        yield "scope:prober_outage_started_by_timestamp_seconds:min", self.started_by
        yield "scope:prober_outage_start_timestamp_seconds:avg", self.start
        yield ONGOING, at - self.start if self.start > 0 else 0.0
        by, after, seconds = self.last_ended_by or 0.0, self.last_ended_after or 0.0, self.last_seconds or 0.0
        yield "scope:prober_last_outage_noticed_timestamp_seconds:max", self.noticed
        yield "scope:prober_last_outage_started_after_timestamp_seconds:max", self.last_started_after
        yield "scope:prober_last_outage_started_by_timestamp_seconds:min", self.last_started_by
        yield "scope:prober_last_outage_start_timestamp_seconds:avg", self.last_start
        yield "scope:prober_last_outage_ended_by_timestamp_seconds:min", by
        yield "scope:prober_last_outage_ended_after_timestamp_seconds:max", after
        yield "scope:prober_last_outage_seconds:quorum", seconds
        if after > 0 and self.last_started_after > 0:
            least, most = after - self.last_started_by, by - self.last_started_after
            yield "scope:prober_last_outage_margin_seconds:quorum", max(most - seconds, seconds - least)


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
