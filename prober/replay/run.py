"""A world from its start to its end: every vantage's agent, side by side where there are processors for it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final, NamedTuple

from prober.config.worlds import World
from prober.judge.records import Gap, Outage
from prober.ledger.batch import Batch, OutageEntry, Snapshot, write, write_snapshot
from prober.ledger.files import FILE_NAME, LedgerError, create, ledger_file, open_writing, reading
from prober.ledger.schema import APPLICATION_ID
from prober.ledger.storage import restore
from prober.logs import logging_to
from prober.replay.agent import Witness, WorldAgent
from prober.replay.scrape import KEEP_SCRAPES, Scraper

WORTH_A_PROCESS: Final = 200_000
"""Regular rounds in all: starting a process takes as long as some ten thousand probes."""

Progress = Callable[[float], None]


class ReplayFailed(Exception):
    """A replay could not be done; the text is one line."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a world."""

    world: World
    seed: int
    witnesses: tuple[Witness, ...]  # in the order of the world's vantages

    def outages(self) -> list[Outage]:
        """Those of all vantages, oldest first. With several vantages, the id names the vantage too."""
        several = len(self.witnesses) > 1
        found = [
            replace(outage, id=f"{witness.vantage}:{outage.id}") if several else outage
            for witness in self.witnesses
            for outage in witness.outages
        ]
        return sorted(found, key=lambda outage: (outage.start, outage.id))

    def gaps(self) -> list[Gap]:
        """Those of all vantages, oldest first."""
        several = len(self.witnesses) > 1
        found = [
            replace(gap, id=f"{witness.vantage}:{gap.id}") if several else gap
            for witness in self.witnesses
            for gap in witness.gaps
        ]
        return sorted(found, key=lambda gap: (gap.begin, gap.id))


def replay(
    world: World,
    *,
    seed: int | None = None,
    ledger: Path | None = None,
    scrapes: Path | None = None,
    keep_scrapes: int = KEEP_SCRAPES,
    progress: Progress | None = None,
) -> Replayed:
    """Let the world pass. `progress` is told the share that is done, now and then.

    `ledger`: where to leave the ledger, a directory or file that must not hold one yet; one of several vantages has
    the outages and gaps of all, and nothing else. `scrapes`: an empty directory for what is scraped of the agents; each
    then has a tape, with a sample of each series after every change and `keep_scrapes` scrapes. Raises ReplayFailed.
    """
    seen = Scrapes(scrapes, keep_scrapes) if scrapes is not None else None
    seed = world.seed if seed is None else seed
    file = None if ledger is None else _free(ledger)
    try:
        with tempfile.TemporaryDirectory(prefix="prober-replay-") as scratch:
            directories = [Path(scratch, str(number)) for number in range(len(world.vantages))]
            rounds = sum((world.end - world.start) / check.interval_seconds for _owner, check in world.checks())
            if len(directories) > 1 and rounds * len(directories) >= WORTH_A_PROCESS and _processors() > 1:
                witnesses = _side_by_side(world, seed, directories, progress, seen)
            else:
                witnesses = _one_by_one(world, seed, directories, progress, seen)
            replayed = Replayed(world, seed, tuple(witnesses))
            if file is not None:
                _leave(replayed, directories, file)
    except (OSError, sqlite3.Error, LedgerError) as error:
        raise ReplayFailed(f"cannot keep what was replayed: {error}") from error
    return replayed


class Scrapes(NamedTuple):
    """Where the agents' scrapes go, and how closely they are kept."""

    directory: Path
    keep_scrapes: int

    def of(self, world: World, index: int) -> Scraper:
        """The scraper of one vantage."""
        return Scraper(world, world.vantages[index], self.directory / f"{index}.samples", self.keep_scrapes)


def _one_by_one(
    world: World, seed: int, directories: Sequence[Path], progress: Progress | None, scrapes: Scrapes | None
) -> list[Witness]:
    count = len(directories)
    witnesses = []
    for index, directory in enumerate(directories):
        report = None if progress is None else _share_of(progress, index, count)
        scraper = None if scrapes is None else scrapes.of(world, index)
        witnesses.append(WorldAgent(world, index, seed, directory, report, scraper).run())
    return witnesses


def _share_of(progress: Progress, index: int, count: int) -> Progress:
    return lambda share: progress((index + share) / count)


def _processors() -> int:
    return len(os.sched_getaffinity(0))


# -- in processes ------------------------------------------------------------------------------------------------------


def _side_by_side(
    world: World, seed: int, directories: Sequence[Path], progress: Progress | None, scrapes: Scrapes | None
) -> list[Witness]:
    context = multiprocessing.get_context("spawn")
    waiting = list(range(len(directories)))
    running: dict[Connection, tuple[int, SpawnProcess]] = {}
    shares = [0.0] * len(directories)
    witnesses: dict[int, Witness] = {}
    try:
        while waiting or running:
            while waiting and len(running) < _processors():
                index = waiting.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(
                    target=_in_process, args=(theirs, world, index, seed, directories[index], scrapes), daemon=True
                )
                process.start()
                theirs.close()
                running[ours] = index, process
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                index, process = running[ready]
                try:
                    message = ready.recv()
                except EOFError:
                    raise ReplayFailed(f"the agent at {world.vantages[index]} ended without a word") from None
                if isinstance(message, float):
                    shares[index] = message
                    if progress is not None:
                        progress(sum(shares) / len(shares))
                    continue
                if not isinstance(message, Witness):
                    raise ReplayFailed(f"the agent at {world.vantages[index]} failed: {message}")
                witnesses[index] = message
                del running[ready]
                ready.close()
                process.join()
    finally:
        for connection, (_index, process) in running.items():
            process.terminate()
            process.join()
            connection.close()
    return [witnesses[index] for index in range(len(directories))]


def _in_process(
    pipe: Connection, world: World, index: int, seed: int, directory: Path, scrapes: Scrapes | None
) -> None:
    try:
        with logging_to(sys.stderr, level="error"):
            scraper = None if scrapes is None else scrapes.of(world, index)
            pipe.send(WorldAgent(world, index, seed, directory, pipe.send, scraper).run())
    except (OSError, sqlite3.Error, LedgerError) as error:
        pipe.send(str(error))
    except KeyboardInterrupt:
        pass  # the one who started us has heard it too
    finally:
        pipe.close()


# -- the ledger that stays ---------------------------------------------------------------------------------------------


def _free(path: Path) -> Path:
    """The file that the ledger will be. Raises ReplayFailed where it cannot be made, before anything is replayed."""
    try:
        file = ledger_file(path)
        if os.path.lexists(file):
            if _is_ledger(file):
                raise ReplayFailed(f"{file}: there is a ledger already; remove it, or name another file")
            raise ReplayFailed(f"{file}: exists and is no ledger; name a new file, or a directory")
        if file.name != FILE_NAME and not file.parent.is_dir():
            raise ReplayFailed(f"{file.parent}: no such directory; make it first")
        above = file.parent
        while not os.path.lexists(above):
            above = above.parent
        if not above.is_dir():
            raise ReplayFailed(f"{above}: exists and is no directory; name a new file, or a directory")
        with tempfile.TemporaryDirectory(prefix=".prober-replay-", dir=above):
            pass  # something can be made there
    except OSError as error:
        raise ReplayFailed(f"{path}: no ledger can be made there ({error.strerror}); name another place") from error
    return file


def _is_ledger(file: Path) -> bool:
    """By its first bytes, which say what has written it (https://www.sqlite.org/fileformat.html, 1.3)."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        head = opened.read(72)
    return head.startswith(b"SQLite format 3\0") and int.from_bytes(head[68:], "big") == APPLICATION_ID


def _leave(replayed: Replayed, directories: Sequence[Path], file: Path) -> None:
    """Leave the ledger at `file`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if len(directories) == 1:
        shutil.copyfile(directories[0] / FILE_NAME, file)
        return
    create(file)
    batch = Batch()
    # by name, also those who had nothing to record; an agent that is started on this ledger passes it over
    unseen = {one.vantage: sorted(one.never_up) for one in replayed.witnesses}
    batch.snapshot = Snapshot({"vantages": unseen}, replayed.world.end)
    for outage in replayed.outages():
        batch.add_outage(OutageEntry(outage))
    for gap in replayed.gaps():
        batch.add_gap(gap)
    # What was watched, and until when: what a report must know to tell "never down" from "not watched".
    for directory in directories:
        with reading(directory / FILE_NAME) as connection:
            kept = restore(connection)
        batch.heartbeat = kept.last_heartbeat
        batch.states |= {
            key: row for key, row in kept.states.items() if key not in batch.states or row.state in ("up", "down")
        }
    with closing(open_writing(file)) as connection:
        write(connection, batch)
        write_snapshot(connection, batch.snapshot)
