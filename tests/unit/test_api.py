"""What /api/v1 says, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from prober.api import Api, BadRequest, parse_since
from prober.judge.records import Settings
from prober.judging import Judging
from prober.ledger import Ledger
from prober.model import Entity, Network, Site, Target
from prober.probes import PROBES
from tests.fakes import VirtualClock, VirtualLoop, on_virtual_time
from tests.unit.test_judging import CHECK, Hands, probe

ENTITY = Entity(
    "lab",
    title="Lab",
    country="KP",
    networks=(Network("net", "lab", "192.0.2.0/24"),),
    sites=(Site("site", "lab"),),
    targets=(Target("host", "lab", (CHECK,), network="net", site="site", hosted_in="KP"),),
    references=(),
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2014-12-22T16:15:00Z", 1_419_264_900.0),
        ("2014-12-22T16:15:00", 1_419_264_900.0),
        ("2014-12-23T01:15:00+09:00", 1_419_264_900.0),
        ("2014-12-22", 1_419_206_400.0),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_since(text) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "2014-13-01", "2014-12-22T25:00Z", "9" * 50])
def test_what_is_no_time_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 2014-12-22"):
        parse_since(text)


async def settled(ledger: Ledger) -> None:
    """Until the writer has written everything (it is a thread: real time)."""
    await ledger.append([])
    for _ in range(200):
        if not ledger.unwritten:
            break
        await asyncio.to_thread(lambda: None)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"scope": "planet"}, "scope is one of"),
        ({"limit": "0"}, "limit is a number"),
        ({"limit": "x"}, "limit is a number"),
        ({"limit": "9" * 5000}, "limit is a number"),
        ({"since": "soon"}, "no time"),
        ({"ongoing": "maybe"}, "true or false"),
        ({"cursor": "!!"}, "cursor"),
        ({"colour": "red"}, "unknown parameter"),
    ],
)
def test_bad_questions_are_told_in_one_line(query: Mapping[str, str], says: str, tmp_path: Path) -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        ledger = await Ledger.open(tmp_path, now=clock.now(), utc=clock.utc())
        try:
            with pytest.raises(BadRequest, match=says) as refused:
                await made(clock, ledger).outages(query)
            assert "\n" not in str(refused.value)
        finally:
            await ledger.close()

    on_virtual_time(scenario)


def made(clock: VirtualClock, ledger: Ledger) -> Api:
    return Api("here", judging(clock, ledger), lambda: (ENTITY,))


def judging(clock: VirtualClock, ledger: Ledger) -> Judging:
    return Judging(
        vantage="here",
        settings=Settings(),
        kinds=PROBES,
        entities=[ENTITY],
        references=[],
        clock=clock,
        ledger=ledger,
    )


def test_status_and_pages_of_outages(tmp_path: Path) -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        ledger = await Ledger.open(tmp_path, now=clock.now(), utc=clock.utc())
        bench = judging(clock, ledger)
        api = Api("here", bench, lambda: (ENTITY,))
        await bench.restore()
        bench.start(Hands())
        assert api.status()["entities"][0]["verdict"] == "unknown"
        await probe(bench, clock, True, 100, 60.0)
        await probe(bench, clock, False, 80, 2.0)
        await settled(ledger)
        status = api.status()
        entity = status["entities"][0]
        assert (entity["verdict"], entity["vouched"]) == ("dark", False)
        assert entity["networks"][0]["verdict"] == "down"
        assert entity["sites"][0]["last_known"] == "down"
        assert entity["targets"][0]["checks"] == [{"name": "icmp", "verdict": "down", "last_known": "down"}]
        assert status["observer"] == {"up": True, "references": 0, "gaps": []}
        assert status["clock"].endswith("Z")
        assert {one["scope"] for one in status["ongoing"]} == {"check", "target", "network", "site", "entity"}

        first = await api.outages({"limit": "2"})
        second = await api.outages({"limit": "2", "cursor": first["next"]})
        third = await api.outages({"limit": "2", "cursor": second["next"]})
        assert third["next"] is None
        pages = [one["scope"] for page in (first, second, third) for one in page["outages"]]
        assert sorted(pages) == ["check", "entity", "network", "site", "target"]
        assert len((await api.outages({"scope": "site", "ongoing": "true"}))["outages"]) == 1
        assert (await api.outages({"name": "nobody"}))["outages"] == []
        await bench.stop()
        await ledger.close()

    on_virtual_time(scenario)
