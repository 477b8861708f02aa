"""Vantages out of a Prometheus' answers: islands to the last sample, an agent's own word on classes and starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

import pytest

from prober.judge.records import GapCause
from prober.report.history import from_prometheus
from prober.report.prometheus import Prometheus, Series
from prober.report.report import Vantage, report
from tests.ledgers import BEGIN

SCRAPE = 15.0
HOUR = 3600.0
LABELS = {"scope": "network", "name": "n", "entity": "e", "vantage": "hanover"}
PAST = {"outage": "2014-12-22T16:15:00Z"}


class Server:
    """A Prometheus that was told these values of metrics, from BEGIN on at every scrape; `offline`: from, to."""

    def __init__(
        self,
        values: Mapping[str, float],
        *,
        offline: tuple[float, float] = (0.0, 0.0),
        clock_off: float = 0.0,
        started: float = 0.0,
    ) -> None:
        self._values, self._offline, self._off, self._started = values, offline, clock_off, started

    async def instant(self, query: str, at: float) -> list[Series]:
        return await self.over(query, at, at, 1.0)

    async def over(self, query: str, begin: float, end: float, step: float) -> list[Series]:
        samples, moment = [], begin
        while moment <= end:
            value = self._value(query, moment)
            if moment >= BEGIN and value is not None:
                samples.append((moment, value))
            moment += step
        labels = LABELS | (PAST if "past" in query else {})
        return [Series(labels, tuple(samples))] if samples else []

    def _value(self, query: str, moment: float) -> float | None:
        scraped = moment - (moment - BEGIN) % SCRAPE
        if "timestamp(prober_outage_seconds{" in query:
            return self._started - self._off if self._started else None
        if "prober_clock" in query:
            return self._off if " - " in query else scraped
        if "prober_observer_up" in query:
            return float(not self._offline[0] <= scraped < self._offline[1])
        if "prober_observed" in query:
            return 1.0
        found = re.search(r"prober_\w+", query)
        assert found is not None
        return self._values.get(found[0])


async def told(server: Server, since: float, until: float) -> Vantage:
    ((vantage,), _notes) = await from_prometheus(cast(Prometheus, server), since=since, until=until)
    return vantage


@pytest.mark.parametrize("aside", [0.0, 13.0, 47.0, 59.0])
async def test_an_island_is_over_when_the_last_sample_says_so(aside: float) -> None:
    """It ended 47 s before the report was asked: less than a step."""
    until = BEGIN + HOUR + aside
    server = Server({}, offline=(BEGIN + HOUR - 900, until - 47.0 - SCRAPE))
    (gap,) = (await told(server, BEGIN, until)).gaps
    assert gap.cause is GapCause.OFFLINE
    assert gap.end is not None
    assert until - 120 <= gap.end <= until


@pytest.mark.parametrize("aside", [0.0, 13.0, 47.0])
async def test_an_island_goes_on_when_the_last_sample_says_so(aside: float) -> None:
    until = BEGIN + HOUR + aside
    (gap,) = (await told(Server({}, offline=(until - 40.0, until + 1)), BEGIN, until)).gaps
    assert gap.end is None


def past(seconds: float) -> dict[str, float]:
    """An outage of so many seconds that are certain, as it is exported when it has ended."""
    bounds = {
        "started_after": BEGIN - 30,
        "started_by": BEGIN + 30,
        "ended_after": BEGIN + 30 + seconds,
        "ended_by": BEGIN + 60 + seconds,
    }
    return {f"prober_past_outage_{bound}_timestamp_seconds": at for bound, at in bounds.items()}


@pytest.mark.parametrize("blip", [None, 20.0, 60.0])
@pytest.mark.parametrize("clock_off", [0.0, 2.0])
async def test_what_is_exported_as_past_is_an_outage(blip: float | None, clock_off: float) -> None:
    """Agents export no blips: whatever the setting is now, this was none, also with a clock that is off."""
    values = past(40.0) | ({} if blip is None else {"prober_blip_seconds": blip})
    vantage = await told(Server(values, clock_off=clock_off), BEGIN, BEGIN + HOUR)
    assert vantage.skew_seconds == clock_off
    (record,) = report([vantage], since=BEGIN - 60, until=BEGIN + HOUR).records
    assert record.fused.outage_class == "outage"


@pytest.mark.parametrize(("blip", "known_as"), [(20.0, "outage"), (None, "blip"), (60.0, "blip")])
async def test_what_goes_on_is_what_the_agent_calls_it(blip: float | None, known_as: str) -> None:
    values = {
        "prober_outage_started_after_timestamp_seconds": BEGIN + 10.0,
        "prober_outage_started_by_timestamp_seconds": BEGIN + 60.0,
    }
    if blip is not None:
        values["prober_blip_seconds"] = blip

    class Growing(Server):
        def _value(self, query: str, moment: float) -> float | None:
            if "prober_outage_seconds_total" in query:
                return max(0.0, moment - BEGIN - 60.0)
            return super()._value(query, moment)

    vantage = await told(Growing(values), BEGIN, BEGIN + 105)
    (outage,) = vantage.outages
    assert (outage.ongoing, outage.duration_min_seconds, outage.outage_class) == (True, 45.0, known_as)
    assert outage.start == BEGIN + 35.0  # nothing says better


@pytest.mark.parametrize(("clock_off", "started"), [(0.0, 22.0), (3.0, 22.0), (0.0, 5.0), (0.0, 90.0)])
async def test_what_goes_on_began_when_the_agent_says(clock_off: float, started: float) -> None:
    values = {
        "prober_outage_started_after_timestamp_seconds": BEGIN + 10.0,
        "prober_outage_started_by_timestamp_seconds": BEGIN + 60.0,
    }
    vantage = await told(Server(values, clock_off=clock_off, started=BEGIN + started), BEGIN, BEGIN + HOUR)
    (outage,) = vantage.outages
    assert outage.start == BEGIN + min(60.0, max(10.0, started))
