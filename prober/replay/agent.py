"""One vantage's agent in a world: the real runner, judge and ledger; only the clock and the probes are exchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import floor
from pathlib import Path
from typing import Final

from prober.config.worlds import World
from prober.contract import EchoReply, Family, Io, Kind, ProbeFailure, SendEcho
from prober.deadline import StallMeter
from prober.failures import Failure, Operation
from prober.judge.records import Gap, GapCause, GapClosed, Outage
from prober.judge.records import Settings as JudgeSettings
from prober.judging import HEARTBEAT_SECONDS, SNAPSHOT_SECONDS, Judging
from prober.ledger import read_gaps, read_outages
from prober.ledger.files import FILE_NAME, reading
from prober.ledger.storage import restore
from prober.ledger.totals import Key, never_up
from prober.model import Observation
from prober.probes import PROBES
from prober.replay.clock import WorldClock
from prober.replay.ledger import StepLedger
from prober.replay.scrape import Scraper, Tape
from prober.replay.truth import Fate, Span, Truth, union
from prober.runner import Runner, _Round
from prober.schedule import Budgets
from prober.scopeviews import scope_labels

CELLS: Final = 100
"""Parts of the world's time for which losses are counted apart, for the timeline."""

LOOK_SECONDS: Final = 9.0
"""How often the clock is looked at where nobody steps it: often enough not to be taken for a standstill."""
PROGRESS_SECONDS: Final = 3600.0


@dataclass(slots=True)
class Sent:
    """What was sent to one check, and what became of it."""

    regular: int = 0
    confirmations: int = 0
    cells: list[list[int]] = field(default_factory=lambda: [[0, 0] for _ in range(CELLS)])  # regular probes, lost


@dataclass(slots=True)
class Witness:
    """What one vantage's agent left: its ledger, and what it sent."""

    vantage: str
    outages: list[Outage]  # oldest first
    gaps: list[Gap]
    blind: list[Span]  # seconds since the world's start in which it could not see, as the world says
    sent: dict[str, Sent]
    clock_errors: dict[str, float]  # by outage: what its times are ahead of the truth
    never_up: frozenset[Key] = frozenset()  # scopes that it never reached: it has no say on them
    references_sent: int = 0
    tape: Tape | None = None  # what was scraped of it, if somebody did


class _Nothing:
    """Resolver and pinger of an agent whose probes are simulated: nobody may ask them."""

    async def resolve(self, name: str, family: Family) -> str:
        raise ProbeFailure(Operation.RESOLVE, Failure.INTERNAL_ERROR, "a replay resolves nothing")

    def server(self) -> tuple[str, int]:
        raise ProbeFailure(Operation.RESOLVE, Failure.INTERNAL_ERROR, "a replay resolves nothing")

    def prepare(self, address: str, **_options: object) -> SendEcho:
        raise ProbeFailure(Operation.SEND, Failure.INTERNAL_ERROR, "a replay sends nothing")

    def echo(self, address: str, **_options: object) -> asyncio.Future[EchoReply]:
        raise ProbeFailure(Operation.SEND, Failure.INTERNAL_ERROR, "a replay sends nothing")


class WorldRunner(Runner):
    """The runner, with probes that see what the world holds for them."""

    truth: Truth
    time: WorldClock
    utc_at_zero: float

    def _launch(self, round_: _Round) -> None:
        # no task: nothing is awaited but time
        at = self.time.now()
        self._begin(round_, at)
        fate = self.truth.fate(round_.entry.check.key, at)
        self.time.call_at(at + fate.took, self._land, round_, at, fate)

    def _find_prefix(self, round_: _Round, host: str) -> None:
        self._located(round_, again=None)  # there is no resolver: the name stands for its prefix

    def _land(self, round_: _Round, at: float, fate: Fate) -> None:
        if not self._running:
            return  # it was killed, or the world has ended
        observation = Observation(
            round_.entry.check,
            at,
            at + self.utc_at_zero,
            fate.failure is None,
            fate.took,
            {"rtt": fate.took} if fate.failure is None and round_.entry.check.kind == "icmp" else _NOTHING,
            _NOTHING,
            fate.operation,
            fate.failure,
            reason=round_.reason,
        )
        self._end(round_, at, observation)


_NOTHING: Final[dict[str, float]] = {}


class WorldAgent:
    """The agent of one vantage, through all its lives in a world."""

    def __init__(
        self,
        world: World,
        index: int,
        seed: int,
        directory: Path,
        progress: Callable[[float], None] | None = None,
        scraper: Scraper | None = None,
    ) -> None:
        """`scraper`: takes down what Prometheus would have scraped."""
        self.world = world
        self.vantage = world.vantages[index]
        self._scraper = scraper
        self.truth = Truth(world, self.vantage, seed)
        self._stagger = index / len(world.vantages)
        self._directory = directory
        self._progress = progress
        mine = [row for row in world.observer if row.vantage is None or self.vantage in row.vantage]
        self._absences = sorted(
            (row.begin - world.start, row.end - world.start)
            for row in mine
            if row.stopped and row.begin is not None and row.end is not None
        )
        self._steps = [
            (row.at - world.start, row.clock_step) for row in mine if row.clock_step is not None and row.at is not None
        ]
        self._kinds: dict[str, Kind] = dict(PROBES)
        self.sent: dict[str, Sent] = {check.key: Sent() for _owner, check in world.checks()}
        self._references_sent = 0
        self._clock_errors: dict[str, float] = {}
        self._began = False

    def run(self) -> Witness:
        """Live through the world. Takes no real time but for computing. Raises LedgerError, OSError, sqlite3.Error."""
        with asyncio.Runner() as runner:
            # not Runner.run: its Ctrl-C cancels the task, which awaits nothing before the world is over
            runner.get_loop().run_until_complete(self._live())
        outages = read_outages(self._directory)
        with reading(self._directory / FILE_NAME) as connection:
            kept = restore(connection)
        tape = None if self._scraper is None else self._scraper.tape
        if tape is not None:
            tape.spool.flush()
        return Witness(
            vantage=self.vantage,
            outages=sorted(outages, key=lambda outage: (outage.start, outage.id)),
            gaps=sorted(read_gaps(self._directory), key=lambda gap: (gap.begin, gap.id)),
            blind=union([self.truth.offline, self._absences]),
            sent=self.sent,
            clock_errors=self._clock_errors,
            references_sent=self._references_sent,
            tape=tape,
            never_up=frozenset(never_up(kept.states) if self._began else scope_labels(self.world.entities)),
        )

    async def _live(self) -> None:
        clock = WorldClock(self.world.start)
        for at, seconds in self._steps:
            clock.call_at(at, clock.step, seconds)
        if self._progress is not None:
            self._report(clock)
        for begin, end, killed in self._lives():
            clock.run(begin)
            self._began = True
            await self._life(clock, end, killed)
        if not self._began:  # stopped all the time: it has seen nothing, and says so
            ledger = StepLedger.opened(self._directory, clock=clock, clock_error=float)
            start, end = self.world.start, self.world.end
            gap = Gap(f"{GapCause.STOPPED}:{round(start * 1000)}", self.vantage, start, end, GapCause.STOPPED)
            ledger.record([GapClosed(gap)])
            await ledger.close()

    def _lives(self) -> Iterator[tuple[float, float, bool]]:
        """(from, to, whether it is killed then) of each life of the agent."""
        begin = 0.0
        for stop, start in self._absences:
            if stop > begin:
                yield begin, min(stop, self.truth.until), stop < self.truth.until
            begin = max(begin, start)
        if begin < self.truth.until:
            yield begin, self.truth.until, False

    async def _life(self, clock: WorldClock, end: float, killed: bool) -> None:
        world = self.world
        judging: Judging | None = None

        def clock_error() -> float:
            return 0.0 if judging is None else judging.judge.utc_offset - world.start

        begin = clock.now()
        ledger = StepLedger.opened(self._directory, clock=clock, clock_error=clock_error)
        judgement = world.judgement
        judging = Judging(
            vantage=self.vantage,
            settings=JudgeSettings(
                false_outages_per_year=judgement.false_outages_per_year,
                confirm_interval_seconds=judgement.confirm_interval,
                blip_seconds=judgement.blip,
                flap_window_seconds=judgement.flap_window,
                onset_look_back_seconds=judgement.onset_look_back,
            ),
            kinds=self._kinds,
            entities=world.entities,
            references=world.references,
            clock=clock,
            ledger=ledger,
        )
        await judging.restore()
        nothing = _Nothing()
        runner = WorldRunner(
            clock=clock,
            io=Io(nothing, nothing, ""),
            kinds=self._kinds,
            budgets=Budgets(world.limits.packets_per_second, world.limits.per_prefix_per_second),
            concurrency=world.limits.concurrency,
            meter=StallMeter(),
            sinks=(self._observe,) if self._scraper is None else (self._observe, self._scraper.observe),
            stagger=self._stagger,
            listener=judging,
            look_seconds=1.0 if self._steps else LOOK_SECONDS,
        )
        runner.truth, runner.time, runner.utc_at_zero = self.truth, clock, world.start
        if self._scraper is not None:
            # a killed agent's last heartbeat is its own
            quiet_from = _last_beat(begin, end, HEARTBEAT_SECONDS) if killed else end
            self._scraper.attend(clock, judging, ledger, runner.figures, end, quiet_from)
        runner.update(
            [check for entity in world.entities for target in entity.targets for check in target.checks],
            references=[check for reference in world.references for check in reference.checks],
        )
        runner.start()
        judging.start(runner, rhythm=False)
        if killed:  # only the last heartbeat and the last snapshot before it matter
            clock.call_at(_last_beat(begin, end, SNAPSHOT_SECONDS), judging.write_snapshot)
            clock.call_at(_last_beat(begin, end, HEARTBEAT_SECONDS), judging.write_heartbeat)
        clock.run(end)
        if killed:
            judging.halt()
        else:
            await judging.stop()
        await ledger.close()
        await runner.stop()
        self._clock_errors |= ledger.errors

    def _observe(self, observation: Observation) -> None:
        """A sink of the runner: count."""
        sent = self.sent[observation.check.key]
        if observation.reason == "regular":
            sent.regular += 1
            cell = sent.cells[min(CELLS - 1, int(observation.sent_at / self.truth.until * CELLS))]
            cell[0] += 1
            cell[1] += not observation.success
        elif observation.reason == "confirmation":
            sent.confirmations += 1
        else:
            self._references_sent += 1

    def _report(self, clock: WorldClock) -> None:
        assert self._progress is not None
        self._progress(min(1.0, clock.now() / self.truth.until))
        clock.call_at(clock.now() + PROGRESS_SECONDS, self._report, clock)


def _last_beat(begin: float, end: float, every: float) -> float:
    """The last time before `end` at which something is done that is done `every` so often from `begin` on."""
    times = floor((end - begin) / every)
    return begin + every * (times if begin + every * times < end else max(0, times - 1))
