"""What an exposition keeps from scrape to scrape is never old: it says what one that is made afresh says."""

from __future__ import annotations

import asyncio
import gzip
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from prober import metrics, scopes, textformat
from prober.failures import Failure, Operation
from prober.gzipparts import GzipMember, pack
from prober.judge.records import Outage, OutageClosed, OutageOpened, Settings, Verdict
from prober.judging import Judging
from prober.ledger import Ledger
from prober.metrics import Exposition
from prober.model import Check, Entity, Network, Observation, Site, Target
from prober.probes import PROBES
from prober.schedule import phase_seconds
from prober.scopes import ScopeExposition
from prober.scopeviews import scope_rows
from prober.state import CheckState, State
from prober.textformat import Column, Family, Rows, Turns, Values, Writer, label
from tests.ledgers import BEGIN, ended, outage, state

SMALL: Final = 4


@contextmanager
def small_blocks() -> Iterator[None]:
    """Blocks of a few rows, and a turn of the loop after each piece of work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textformat, "BLOCK", SMALL)
        patch.setattr(metrics, "BLOCK", SMALL)
        patch.setattr(textformat, "TURN_SECONDS", 0.0)
        yield


@pytest.fixture
def small() -> Iterator[None]:
    with small_blocks():
        yield


async def all_of(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


# -- rows --------------------------------------------------------------------------------------------------------------


class Row:
    def __init__(self, value: float) -> None:
        self.value = value
        self.changes = 0

    def change(self, value: float) -> None:
        self.value, self.changes = value, self.changes + 1


class Counting:
    """A family that notes which rows it was asked for."""

    def __init__(self, name: str, moves: bool = False) -> None:
        self.asked: list[Row] = []
        self.family = Family(name, "gauge", "help", (Column(label("l", "x"), self._values),), moves=moves)

    def _values(self, rows: Sequence[Row]) -> Values:
        self.asked += rows
        return [row.value for row in rows]

    def taken(self) -> list[Row]:
        asked, self.asked = self.asked, []
        return asked


async def written(rows: Rows[Row], families: Sequence[Family[Row]], compressed: bool = True) -> str:
    writer = Writer(gzip=compressed)
    await writer.read(rows, families)
    pieces = [writer.begin()]
    for family in families:
        pieces += [piece async for piece in writer.family((family, rows))]
    whole = b"".join([*pieces, writer.end()])
    return (gzip.decompress(whole) if compressed else whole).decode()


async def test_a_block_to_which_nothing_happened_is_not_read_again(small: None) -> None:
    items = [Row(float(number)) for number in range(3 * SMALL)]
    still, clock = Counting("still"), Counting("clock", moves=True)
    rows = Rows(((item, f'n="{place}",') for place, item in enumerate(items)), happened=lambda row: row.changes)
    families = [still.family, clock.family]
    first = await written(rows, families)
    assert (still.taken(), clock.taken()) == (items, items)

    assert await written(rows, families) == first
    assert (still.taken(), clock.taken()) == ([], items), "what moves with time is read at each scrape"

    items[SMALL].change(0.5)
    changed = await written(rows, families)
    assert still.taken() == items[SMALL : 2 * SMALL]
    assert changed == first.replace(f'n="{SMALL}",l="x"}} {SMALL}\n', f'n="{SMALL}",l="x"}} 0.5\n') != first
    assert changed == await written(rows, families, compressed=False)


async def test_what_happens_while_a_block_is_read_is_seen_at_the_next_scrape() -> None:
    row = Row(1.0)
    first = Counting("first")

    def change(rows: Sequence[Row]) -> Values:
        if row.changes == 0:
            row.change(2.0)
        return [row.value]

    families = [first.family, Family("second", "gauge", "help", (Column("", change),))]
    rows = Rows([(row, 'n="0",')], happened=lambda one: one.changes)
    assert 'first{n="0",l="x"} 1\n' in await written(rows, families)
    assert 'first{n="0",l="x"} 2\n' in await written(rows, families)


async def test_rows_of_which_nobody_says_what_happened_are_read_at_each_scrape(small: None) -> None:
    items = [Row(1.0) for _ in range(SMALL + 1)]
    family = Counting("m")
    rows = Rows((item, f'n="{place}",') for place, item in enumerate(items))
    for value in (2.0, 3.0):
        items[-1].value = value
        assert f" {value:g}\n" in await written(rows, [family.family])
        assert family.taken() == items


@pytest.mark.parametrize("sizes", [(1023, 1024, 1025), (70_000, 0, 70_001), (3 * 1024 * 1024 + 5, 7)])
def test_parts_of_any_size_make_one_gzip_member(sizes: tuple[int, ...]) -> None:
    parts = [bytes([65 + place]) * size for place, size in enumerate(sizes)]
    member = GzipMember()
    whole = member.HEADER + b"".join(member.add(pack(part)) for part in parts) + member.end()
    assert gzip.decompress(whole) == b"".join(parts)


# -- checks ------------------------------------------------------------------------------------------------------------

KINDS: Final = ("icmp", "dns", "http")


def many(count: int, interval: float = 60.0) -> State:
    targets = [
        Target(f"t{number}", "e", tuple(Check(f"t{number}", kind, kind, interval, 5.0, None) for kind in KINDS))
        for number in range(count)
    ]
    return State((Entity("e", targets=tuple(targets)),))


def seen(check: Check, value: float, failed: bool, address: str | None = "192.0.2.1") -> Observation:
    kind = PROBES[check.kind]
    facts: dict[str, float | str] = {} if failed else {spec.key: value for spec in kind.facts if spec.label is None}
    facts |= {spec.key: f"text {value}" for spec in kind.facts if spec.label is not None}
    phases = {} if failed else dict.fromkeys(kind.phases, value)
    return Observation(
        check,
        value,
        BEGIN + value,
        not failed,
        value,
        phases,
        facts,
        Operation.CONNECT if failed else None,
        Failure.TIMEOUT if failed else None,
        address=address,
    )


def exposition(of: State) -> Exposition:
    return Exposition("v", of, PROBES, CollectorRegistry())


PROBED: Final = st.tuples(
    st.integers(0, 3 * 8 - 1),
    st.sampled_from([0.0, 0.5, 1.0, -1.0, -2.0]),
    st.booleans(),
    st.sampled_from([None, "192.0.2.1", "2001:db8::1"]),
)


@given(st.integers(1, 8), st.lists(st.lists(PROBED, max_size=4), max_size=5))
@settings(deadline=None, max_examples=40)
def test_what_was_kept_of_checks_says_what_is_so(count: int, scrapes: list[list[tuple[int, float, bool, Any]]]) -> None:
    async def play() -> None:
        of = many(count)
        states = list(of)
        kept = exposition(of)
        for probed in [[], *scrapes]:
            for place, value, failed, address in probed:
                of.observe(seen(states[place % len(states)].check, value, failed, address))
            packed = gzip.decompress(await all_of(kept.render(gzip=True)))
            assert packed == await all_of(exposition(of).render())
            assert packed == await all_of(kept.render())

    with small_blocks():
        asyncio.run(play())


class Watched:
    """A state that notes of which checks the last observation is looked at."""

    def __init__(self, state: State) -> None:
        self.entities = state.entities
        self.looked_at: set[str] = set()
        self._members = [_Member(one, self.looked_at) for one in state]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members)


class _Member:
    def __init__(self, inner: CheckState, looked_at: set[str]) -> None:
        self._inner = inner
        self._looked_at = looked_at

    def __getattr__(self, name: str) -> Any:
        if name == "last":
            self._looked_at.add(self._inner.check.key)
        return getattr(self._inner, name)


async def test_only_blocks_in_which_a_check_was_probed_are_read(small: None) -> None:
    of = many(8)
    watched = Watched(of)
    kept = exposition(watched)  # type: ignore[arg-type]
    await all_of(kept.render(gzip=True))
    assert len(watched.looked_at) == len(of)

    watched.looked_at.clear()
    again = gzip.decompress(await all_of(kept.render(gzip=True)))
    assert watched.looked_at == set()

    probed = next(iter(of)).check
    of.observe(seen(probed, 0.25, failed=False))
    changed = gzip.decompress(await all_of(kept.render(gzip=True)))
    assert probed.key in watched.looked_at
    assert len(watched.looked_at) <= SMALL
    assert changed != again


async def test_a_quarter_of_the_interval_leaves_most_blocks_unread(small: None) -> None:
    of = many(200)
    watched = Watched(of)
    kept = exposition(watched)  # type: ignore[arg-type]
    await all_of(kept.render(gzip=True))
    watched.looked_at.clear()
    due = {one.check.key for one in of if phase_seconds(one.check.key, 60.0) < 15.0}
    for one in of:
        if one.check.key in due:
            of.observe(seen(one.check, 0.25, failed=False))
    await all_of(kept.render(gzip=True))
    assert due <= watched.looked_at
    assert len(watched.looked_at) < 0.4 * len(of)


@pytest.mark.parametrize("few", [True, False])
async def test_few_checks_stand_in_the_order_of_the_files(few: bool) -> None:
    of = many(5)
    for one in of:
        of.observe(seen(one.check, 0.25, failed=False))
    with nullcontext() if few else small_blocks():
        text = (await all_of(exposition(of).render())).decode()
    order = [line for line in text.splitlines() if line.startswith("probe_success{")]
    wanted = [f'target="{one.check.target}",check="{one.check.name}"' for one in of]
    assert len(order) == len(wanted)
    assert all(part in line for part, line in zip(wanted, order, strict=True)) == few


async def test_scrapes_at_once_disturb_one_another_as_little_as_probes_do(small: None) -> None:
    of = many(20)
    states = list(of)
    kept = exposition(of)
    ended = False

    async def probe() -> None:
        number = 0
        while not ended:
            of.observe(seen(states[number % len(states)].check, float(number), failed=number % 3 == 0))
            number += 7
            await asyncio.sleep(0)

    beside = asyncio.create_task(probe())
    for whole in await asyncio.gather(*(all_of(kept.render(gzip=True)) for _ in range(3))):
        series = [line.rpartition(b" ")[0] for line in gzip.decompress(whole).splitlines() if line[:1] != b"#"]
        assert series
        assert [one for one, times in Counter(series).items() if times > 1] == []
    ended = True
    await beside
    assert gzip.decompress(await all_of(kept.render(gzip=True))) == await all_of(exposition(of).render())


# -- scopes ------------------------------------------------------------------------------------------------------------

COUNTRY: Final = "north-korea"


def country() -> Entity:
    networks = tuple(Network(f"n{number}", COUNTRY, f"192.0.{number}.0/24") for number in range(3))
    targets = [
        Target(f"t{number}", COUNTRY, (Check(f"t{number}", "icmp", "icmp", 60.0, 5.0, None),), network=f"n{number % 3}")
        for number in range(6)
    ]
    return Entity(COUNTRY, "North Korea", networks=networks, sites=(Site("s", COUNTRY),), targets=tuple(targets))


class Clock:
    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> float:
        return 1000.0 + self.passed

    def utc(self) -> float:
        return BEGIN + self.passed


class OurLedger(Ledger):
    """Whether it can be written is the test's to say."""

    def _well(self) -> None: ...


class Life:
    """A judging with a real ledger, to which things happen by the number of a scope."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.clock = clock
        self.entities = (country(),)
        self.scopes = [(scope, name) for scope, name, _ in scope_rows(self.entities)]
        self.ledger = ledger
        self.judging = Judging(
            vantage="v",
            settings=Settings(),
            kinds=PROBES,
            entities=self.entities,
            references=(),
            clock=clock,  # type: ignore[arg-type]
            ledger=ledger,
        )
        self.open: dict[int, Outage] = {}

    async def happen(self, what: str, number: int, seconds: float) -> None:
        self.clock.passed += seconds
        place = number % len(self.scopes)
        scope, name = self.scopes[place]
        if what == "open" and place not in self.open:
            self.open[place] = outage(name, self.clock.utc(), scope, entity=COUNTRY)
            await self.ledger.append([OutageOpened(self.open[place])])
        elif what == "close" and place in self.open:
            opened = self.open.pop(place)
            await self.ledger.append([OutageClosed(ended(opened, max(1.0, self.clock.utc() - opened.start)))])
        elif what == "prune":
            await self.ledger.prune(self.clock.utc() - seconds)
        elif what == "disk":
            self.ledger.writable = not self.ledger.writable
        elif what == "beat":
            grown = [replace(one, ended_after=max(one.ended_after, self.clock.utc())) for one in self.open.values()]
            self.ledger.heartbeat(self.clock.now(), self.clock.utc(), grown)
            await self.ledger.append([])
        elif what in ("up", "down", "unknown"):
            change = state(name, Verdict(what), self.clock.now(), held=True, scope=scope)
            await self.ledger.append([change])
            self.judging._show([change])

    def exposition(self) -> ScopeExposition:
        return ScopeExposition("v", self.judging, lambda: self.entities)

    async def scraped(self, of: ScopeExposition, compressed: bool = True) -> str:
        writer = Writer(gzip=compressed)
        whole = writer.begin() + await all_of(of.render(writer)) + writer.end()
        return (gzip.decompress(whole) if compressed else whole).decode()


HAPPENING: Final = st.tuples(
    st.sampled_from(["open", "close", "prune", "disk", "beat", "up", "down", "unknown"]),
    st.integers(0, 15),
    st.sampled_from([0.0, 5.0, 400.0]),
)


async def alive(play: Callable[[Life], Awaitable[None]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        clock = Clock()
        ledger = await OurLedger.open(Path(directory), now=clock.now(), utc=clock.utc())
        try:
            await play(Life(ledger, clock))
        finally:
            await ledger.close()


def test_counters_are_counted_up_to_the_moment_of_what_was_read() -> None:
    """A scrape that begins while another is under way must not count on what that one read before."""

    async def play(life: Life) -> None:
        layout = scopes._Layout()
        seen: list[float] = []

        class Spy(Turns):
            async def take(self) -> None:
                seen.append(layout.moment.elapsed)

        await layout.fill(life.entities, "", Turns())
        await life.happen("beat", 0, 5.0)
        await layout.look(life.judging, Turns())
        before = layout.moment.elapsed
        await life.happen("down", 0, 5.0)
        await life.happen("beat", 0, 5.0)
        await layout.look(life.judging, Spy())
        assert set(seen) == {before}
        assert layout.moment.elapsed == before + 10.0

    asyncio.run(alive(play))


@given(st.lists(st.lists(HAPPENING, max_size=4), min_size=1, max_size=6))
@settings(deadline=None, max_examples=30)
def test_what_was_kept_of_scopes_says_what_is_so(scrapes: list[list[tuple[str, int, float]]]) -> None:
    async def play(life: Life) -> None:
        kept = life.exposition()
        for happening in [[], *scrapes]:
            for what in happening:
                await life.happen(*what)
            packed = await life.scraped(kept)
            assert packed == await life.scraped(life.exposition(), compressed=False)
            assert packed == await life.scraped(kept, compressed=False)

    with small_blocks():
        asyncio.run(alive(play))


async def test_every_change_of_a_scope_is_in_the_next_scrape(small: None) -> None:
    async def play(life: Life) -> None:
        kept = life.exposition()
        scope, name = life.scopes[1]
        assert scope == "network"
        of = f'{{vantage="v",scope="network",name="{name}",entity="{COUNTRY}",network="{name}"'

        async def says(line: str) -> None:
            assert line in await life.scraped(kept)

        await says(f"prober_observed{of}}} 0\n")
        await life.happen("up", 1, 0.0)
        await says(f"prober_up{of}}} 1\n")
        await life.happen("beat", 0, 5.0)
        await says(f'prober_state_seconds_total{of},state="up"}} 5.000\n')
        await life.happen("beat", 0, 5.0)
        await says(f'prober_state_seconds_total{of},state="up"}} 10.000\n')
        await life.happen("open", 1, 0.0)
        await says(f"prober_outage_started_by_timestamp_seconds{of}}} {BEGIN + 40:.0f}\n")
        life.clock.passed += 7.0
        await says(f"prober_outage_seconds{of}}} 7\n")
        await life.happen("disk", 1, 0.0)  # cannot be written: now the judge is asked, who knows of none
        await says(f"prober_outage_seconds{of}}} 0\n")
        await says(f"prober_outage_started_by_timestamp_seconds{of}}} 0\n")
        await life.happen("disk", 1, 0.0)
        await says(f"prober_outage_seconds{of}}} 7\n")
        await says(f"prober_outage_started_by_timestamp_seconds{of}}} {BEGIN + 40:.0f}\n")
        await life.happen("close", 1, 600.0)
        await says(f"prober_outage_seconds{of}}} 0\n")
        await says(f'prober_outages_total{of},class="outage"}} 1\n')
        await says(f'prober_past_outage_seconds{of},outage="2014-12-22T16:15:10Z"}} 607\n')
        life.clock.passed += 3.0
        await life.ledger.append([state(name, Verdict.DOWN, life.clock.now(), scope=scope)])  # written, not yet shown
        await life.happen("beat", 0, 4.0)
        await says(f'prober_state_seconds_total{of},state="down"}} 4\n')
        await life.happen("prune", 0, 0.0)
        life.clock.passed += 3600.0
        await life.happen("prune", 0, 0.0)
        assert "prober_past_outage_seconds" not in await life.scraped(kept)

    await alive(play)


async def test_first_scrapes_at_once_leave_nothing_unseen(small: None) -> None:
    async def play(life: Life) -> None:
        for number in range(len(life.scopes)):
            await life.happen("up", number, 0.0)
        kept = life.exposition()
        await asyncio.gather(*(life.scraped(kept) for _ in range(3)))
        assert await life.scraped(kept) == await life.scraped(life.exposition(), compressed=False)

    await alive(play)
