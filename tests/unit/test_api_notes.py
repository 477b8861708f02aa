"""What /api/v1/notes says and takes, and what /api/v1/status says in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prober.api import BadRequest, NotAvailable, parts_of
from prober.judge.records import Scope, StateChanged, Verdict
from prober.ledger import Ledger
from prober.model import Entity, Network, Site, Target
from prober.sentence import Parts
from tests.fakes import VirtualClock, VirtualLoop, on_virtual_time
from tests.ledgers import state
from tests.unit.test_api import made


def test_added_listed_removed(tmp_path: Path) -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        ledger = await Ledger.open(tmp_path, now=clock.now(), utc=clock.utc())
        api = made(clock, ledger)
        first = await api.add_note({"text": "a window", "at": "2014-12-22T18:00:00Z", "until": "2014-12-23"})
        second = await api.add_note(
            {"text": "an attack", "at": "2014-12-22T20:00:00+01:00", "entity": "lab", "source": "Dyn", "until": None}
        )
        assert (second["at"], second["entity"], second["until"]) == ("2014-12-22T19:00:00Z", "lab", None)
        found = await api.notes({})
        assert (found["notes"], found["vantage"]) == ([second, first], "here")
        assert (await api.notes({"until": "2014-12-22T18:30:00Z"}))["notes"] == [first]
        assert (await api.notes({"since": "2014-12-22T19:30:00Z"}))["notes"] == [first]
        assert (await api.notes({"entity": "other"}))["notes"] == [first]
        assert (await api.notes({"limit": "1"}))["notes"] == [second]
        assert await api.remove_note(first["id"])
        assert not await api.remove_note(first["id"])
        ledger.writable = False
        with pytest.raises(NotAvailable, match="cannot be written"):
            await api.add_note({"text": "x"})
        ledger.writable = True
        await ledger.close()

    on_virtual_time(scenario)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "write an object"),
        (None, "write an object"),
        ({}, "needs a text"),
        ({"text": 1}, "text is no text"),
        ({"text": None}, "text is no text"),
        ({"text": ["x"]}, "text is no text"),
        ({"text": "x", "at": "soon"}, "is no time"),
        ({"text": "x", "at": "\x1b[2J\ud800"}, "is no time"),
        ({"text": "x", "at": 5}, "at is no text"),
        ({"text": "x", "entity": "nowhere\x1b"}, r"there is no entity nowhere\\u001b; known: lab"),
        ({"text": "x" * 10_240}, "at most 2000"),
        ({"text": "\ud800"}, "not UTF-8"),
        ({"text": "x", "link": "data:text/html,x"}, "no http: or https: URL"),
        ({"text": "x", "colour\n": "red"}, r'unknown parameter "colour\\n"'),
    ],
)
def test_what_is_not_taken_is_told_in_one_line(given: Any, says: str, tmp_path: Path) -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        ledger = await Ledger.open(tmp_path, now=clock.now(), utc=clock.utc())
        try:
            with pytest.raises(BadRequest, match=says) as refused:
                await made(clock, ledger).add_note(given)
            assert str(refused.value).isprintable()
            assert await ledger.notes() == []
        finally:
            await ledger.close()

    on_virtual_time(scenario)


@pytest.mark.parametrize("query", [{"limit": "0"}, {"since": "soon"}, {"scope": "entity"}])
def test_bad_questions(query: dict[str, str], tmp_path: Path) -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        ledger = await Ledger.open(tmp_path, now=clock.now(), utc=clock.utc())
        with pytest.raises(BadRequest):
            await made(clock, ledger).notes(query)
        await ledger.close()

    on_virtual_time(scenario)


def test_a_sentence_for_each_entity(tmp_path: Path) -> None:
    async def scenario(loop: VirtualLoop, clock: VirtualClock) -> None:
        ledger = await Ledger.open(tmp_path, now=clock.now(), utc=clock.utc())
        (entity,) = made(clock, ledger).status()["entities"]
        assert entity["sentence"] == "Lab: not known yet. 0 of 1 network up, 1 not known. No outage on record."
        assert entity["last_outage"] is None
        await ledger.close()

    on_virtual_time(scenario)


def test_what_an_entity_is_judged_by() -> None:
    networks = tuple(Network(name, "e", "192.0.2.0/24") for name in "ab")
    sites, targets = (Site("s", "e"),), (Target("t", "e", ()),)
    shown: dict[tuple[Scope, str], StateChanged] = {
        ("network", "a"): state("a", Verdict.UP, 0.0),
        ("network", "b"): state("b", Verdict.DOWN, 0.0),
        ("site", "s"): state("s", Verdict.UNKNOWN, 0.0, scope="site"),
    }
    assert parts_of(Entity("e", networks=networks, sites=sites, targets=targets), shown) == Parts("network", 1, 1, 0)
    assert parts_of(Entity("e", sites=sites, targets=targets), shown) == Parts("site", 0, 0, 1)
    assert parts_of(Entity("e", targets=targets), shown) == Parts("target", 0, 0, 1)
    assert parts_of(Entity("e"), shown).total == 0
