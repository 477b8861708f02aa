"""When to probe, pure: phases, rounds and packet budgets. Time is an argument; nothing here reads a clock.

Rounds of a check lie on a grid of its own, `phase + n * interval` in Unix time. The phase is a hash of the check's
key, so checks are spread out, a restart keeps the schedule, and several vantages can be staggered to the second. The
runner begins each round with the slot of 50 ms that follows its point of the grid.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final

LEAST_ROOM: Final = 8


def phase_seconds(key: str, interval_seconds: float, stagger: float = 0.0) -> float:
    """Where in its interval the check `key` is probed, in [0, interval).

    `stagger` shifts it by that share of the interval: vantage `index` of `of` uses index/of, so that together they look
    at a target `of` times per interval, evenly spread.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    phase = (share + stagger) % 1.0 * interval_seconds
    return phase if phase < interval_seconds else 0.0  # the product may round up to the interval itself


def next_round(after: float, phase: float, interval_seconds: float) -> float:
    """The first point of the grid that is later than `after` (same time scale as the phase's)."""
    rounds = math.floor((after - phase) / interval_seconds) + 1
    due = phase + rounds * interval_seconds
    return due if due > after else phase + (rounds + 1) * interval_seconds  # rounding may land on `after`


def following_round(due: float, now: float, phase: float, interval_seconds: float) -> tuple[float, int]:
    """The round after the one due at `due`, and how many rounds are to be given up because they are too late.

    A round that is late by more than half an interval is given up, so that rounds are never bunched: after a suspend
    all checks go on at their next point of the grid. The next round is never sooner than half an interval after
    `due`, so that a grid moved by a clock step doubles none either.
    """
    if now - due <= interval_seconds / 2:
        return next_round(due + interval_seconds / 2, phase, interval_seconds), 0
    return next_round(now, phase, interval_seconds), 1 + math.floor((now - due) / interval_seconds)


def first_round(now: float, phase: float, interval_seconds: float, timeout_seconds: float) -> float:
    """When a check that was just loaded is probed first: on its grid, squeezed so that its result is there in time.

    Every check has a result within one interval from the start, even one that times out: the wait of at most an
    interval is scaled to at most interval - timeout, but never to less than half, so that long timeouts do not bunch
    the start. The next round is on the grid again, at least half an interval later.
    """
    wait = next_round(now, phase, interval_seconds) - now
    return now + wait * max(0.5, 1.0 - timeout_seconds / interval_seconds)


def budget_key(host: str) -> str:
    """Whose budget a probe of `host` is charged to: the /24 or /48 (IPv6) of an address, else the name itself.

    Only a prefix has a slash in it.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower().rstrip(".")
    # as text: the hash of a network is computed anew each time, and there is one for every probe
    if address.version == 4:
        return f"{str(address).rpartition('.')[0]}.0/24"
    return str(ip_network((address, 48), strict=False))


@dataclass(slots=True)
class Bucket:
    """A packet budget as a virtual schedule (the generic cell rate algorithm, ITU-T I.371 annex A).

    `rate` packets a second; up to `burst` packets may go at once.
    """

    rate: float
    burst: float
    free_at: float = field(default=-math.inf)  # the theoretical arrival time of the next packet

    def earliest(self, now: float, packets: float) -> float:
        """When `packets` may be sent, `now` at the soonest. A probe of more than the burst counts as the burst."""
        need = min(packets, self.burst) / self.rate
        return max(now, self.free_at + need - self.burst / self.rate)

    def spare(self, now: float, packets: float) -> float:
        """When `packets` may be sent so that half of the burst is left to others, `now` at the soonest."""
        half = self.burst / 2
        return max(now, self.free_at + (min(packets, half) - half) / self.rate)

    def take(self, at: float, packets: float) -> None:
        """Charge `packets` sent at `at`."""
        self.free_at = max(self.free_at, at) + packets / self.rate

    def reserve(self, now: float, packets: float) -> float:
        """`earliest`, then `take` for that moment: what every probe asks for, in one go."""
        rate, burst, free_at = self.rate, self.burst, self.free_at
        at = free_at + (packets if packets < burst else burst) / rate - burst / rate
        if at < now:
            at = now
        self.free_at = (free_at if free_at > at else at) + packets / rate
        return at


class Budgets:
    """The agent's packet budgets: one for all packets, and one for each prefix.

    A probe first waits for its prefix, then for the whole; what it takes is charged when it goes. The number of
    remembered prefixes is bounded by those that were charged recently: an idle one is as good as new.
    """

    def __init__(self, packets_per_second: float, per_prefix_per_second: float, burst_seconds: float = 1.0) -> None:
        self._prefix_rate = per_prefix_per_second
        # One probe may always go at once, however small the rate.
        self._prefix_burst = max(1.0, per_prefix_per_second * burst_seconds)
        self._whole = Bucket(packets_per_second, max(1.0, packets_per_second * burst_seconds))
        self._prefixes: dict[Hashable, Bucket] = {}
        self._room = LEAST_ROOM  # so many prefixes are remembered before the idle ones are looked for

    def change(self, packets_per_second: float, per_prefix_per_second: float, burst_seconds: float = 1.0) -> None:
        """Other rates from now on. What was charged stays charged: a reload must not be a way around the budgets."""
        fresh = Budgets(packets_per_second, per_prefix_per_second, burst_seconds)
        fresh._whole.free_at = self._whole.free_at
        self._prefix_rate, self._prefix_burst, self._whole = fresh._prefix_rate, fresh._prefix_burst, fresh._whole
        for bucket in self._prefixes.values():
            bucket.rate, bucket.burst = self._prefix_rate, self._prefix_burst

    def reserve(self, now: float, key: Hashable, packets: float) -> float:
        """The moment at which a probe of `packets` packets may go; it is charged for that moment.

        Reservations are honoured in the order in which they are made.
        """
        bucket = self._prefixes.get(key)
        if bucket is None:
            bucket = self._bucket(now, key)
        return bucket.reserve(now, packets)

    def reserve_whole(self, now: float, packets: float) -> float:
        """The same for the budget of the whole agent, asked when the prefix's moment has come."""
        return self._whole.reserve(now, packets)

    def at_once(self, now: float, key: Hashable, packets: float) -> bool:
        """Both in one go, for what is so of nearly every probe: True if it may go now, and is charged. False: nothing
        is charged, `reserve` knows more.
        """
        bucket, whole = self._prefixes.get(key), self._whole
        if bucket is None:
            return False
        ahead, whole_ahead = bucket.free_at - now, whole.free_at - now
        if ahead * bucket.rate + packets > bucket.burst or whole_ahead * whole.rate + packets > whole.burst:
            return False
        bucket.free_at = (bucket.free_at if ahead > 0.0 else now) + packets / bucket.rate
        whole.free_at = (whole.free_at if whole_ahead > 0.0 else now) + packets / whole.rate
        return True

    def charge(self, now: float, key: Hashable, packets: float) -> None:
        """Charge a probe that goes at once, whatever the budgets say: others wait the longer."""
        self._bucket(now, key).take(now, packets)
        self._whole.take(now, packets)

    def spare(self, now: float, key: Hashable, packets: float) -> float:
        """For probes that must not be in the way of the others: `now` if what they leave is room for this one, and it
        is charged; else when to ask again, and nothing is charged.
        """
        bucket = self._prefixes.get(key)
        at = self._whole.spare(now, packets)
        if bucket is not None:
            at = max(at, bucket.spare(now, packets))
        if at <= now:
            self.charge(now, key, packets)
        return at

    def _bucket(self, now: float, key: Hashable) -> Bucket:
        bucket = self._prefixes.get(key)
        if bucket is None:
            if len(self._prefixes) >= self._room:
                self._forget_idle(now)
            bucket = self._prefixes[key] = Bucket(self._prefix_rate, self._prefix_burst)
        return bucket

    def _forget_idle(self, now: float) -> None:
        """Look through all prefixes, which is done only when they have doubled since the last time."""
        idle_since = now - self._prefix_burst / self._prefix_rate
        self._prefixes = {key: bucket for key, bucket in self._prefixes.items() if bucket.free_at > idle_since}
        self._room = max(LEAST_ROOM, 2 * len(self._prefixes))
