"""How much /probe may cost: requests a second, probes at one time, a queue with an end, and what the packet budgets of
the agent leave over. Who has to wait, waits; who would wait in vain is told so at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Final

from prober.config.settings import ProbeEndpoint
from prober.net.names import client_key
from prober.schedule import Bucket, Budgets

CLIENTS_MAX: Final = 1_000
"""Clients whose rate is remembered; the one that was away longest is forgotten first."""
BUDGET_POLL_SECONDS: Final = 0.05
"""At the least: others may have taken what was free."""

ROUNDING_SECONDS: Final = 1e-6


class Overloaded(Exception):
    """The request cannot be served now; the text is one line for the client. `status` is that of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Admission:
    """The gate. `now` is a clock in seconds that nobody sets."""

    def __init__(self, budgets: Budgets, now: Callable[[], float], limits: ProbeEndpoint) -> None:
        self._budgets = budgets
        self._now = now
        self._limits = limits
        self._all = Bucket(0.0, 0.0)
        self._clients: OrderedDict[Hashable, Bucket] = OrderedDict()
        self._queue: deque[asyncio.Future[None]] = deque()  # for a place
        self.in_flight = 0
        self.waiting = 0
        self.change(limits)

    def change(self, limits: ProbeEndpoint) -> None:
        """Other limits from now on; who waits goes on waiting."""
        self._limits = limits
        rate = limits.requests_per_second
        self._all = Bucket(rate, max(1.0, rate), self._all.free_at)
        self._clients.clear()
        self._next()

    def heed_rate(self, client: str) -> None:
        """Count a request. Raises Overloaded (429)."""
        now, key = self._now(), client_key(client)
        bucket = self._clients.get(key)
        if bucket is None:
            rate = self._limits.requests_per_second_per_client
            bucket = self._clients[key] = Bucket(rate, max(1.0, rate))
            if len(self._clients) > CLIENTS_MAX:
                self._clients.popitem(last=False)
        self._clients.move_to_end(key)
        if bucket.earliest(now, 1.0) > now + ROUNDING_SECONDS:
            limit = self._limits.requests_per_second_per_client
            raise Overloaded(
                429, f"more than {limit:g} requests a second: probe_endpoint.requests_per_second_per_client"
            )
        if self._all.earliest(now, 1.0) > now + ROUNDING_SECONDS:
            limit = self._limits.requests_per_second
            raise Overloaded(429, f"more than {limit:g} requests a second: probe_endpoint.requests_per_second")
        bucket.take(now, 1.0)
        self._all.take(now, 1.0)

    @asynccontextmanager
    async def waiting_room(self) -> AsyncIterator[None]:
        """While a request waits, for whatever. Raises Overloaded (503) if there is no room."""
        if self.waiting >= self._limits.queue + max(0, self._limits.concurrency - self.in_flight):
            raise Overloaded(503, f"{self.waiting} requests wait already: probe_endpoint.queue")
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    async def budget(self, key: Hashable, packets: float, until: float) -> None:
        """Wait until the packet budgets have room to spare. Raises Overloaded (503) if they have none by `until`."""
        while (at := self._budgets.spare(self._now(), key, packets)) > (now := self._now()):
            if at >= until or now >= until:
                raise Overloaded(
                    503, f"limits.packets_per_second or limits.per_prefix_per_second leave no room for {key} in time"
                )
            await asyncio.sleep(max(BUDGET_POLL_SECONDS, at - now))

    def charge_if_spare(self, key: Hashable, packets: float) -> None:
        """Account for packets to another prefix than the one that was waited for, as far as there is room."""
        self._budgets.spare(self._now(), key, packets)

    async def take_place(self, until: float) -> None:
        """Wait for one of the places; `leave_place` gives it back. Raises Overloaded (503)."""
        if self.in_flight < self._limits.concurrency and not self._queue:
            self.in_flight += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(max(0.0, until - self._now())):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it was given to us at the same moment
                self.leave_place()
            elif turn in self._queue:
                self._queue.remove(turn)
            if isinstance(error, TimeoutError):
                limit = self._limits.concurrency
                raise Overloaded(503, f"{limit} probes are under way: probe_endpoint.concurrency") from None
            raise

    def leave_place(self) -> None:
        """Give a place back."""
        self.in_flight -= 1
        self._next()

    def _next(self) -> None:
        while self._queue and self.in_flight < self._limits.concurrency:
            turn = self._queue.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)
