"""`make evaluate`: runs the fixed worlds and writes docs/evaluation.md.

The figures are the same on every run; only the line of the time taken is not. `--quick` runs small worlds and few
cases and writes to standard output, for a look at a change; so do `--worlds loss-20 three` (these end to end, and few
cases) and `--target-years 1`. With `--keep DIR` a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from math import nan
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from tests.evaluate.drive import dense, staggered
from tests.evaluate.expectation import LOSSES, expect
from tests.evaluate.longruns import long_runs
from tests.evaluate.measure import ours, theirs
from tests.evaluate.page import page
from tests.evaluate.results import BURSTS, FUSED_PERCENT, PERCENTS, Results, gather
from tests.evaluate.worlds import CASES

PAGE: Final = Path(__file__).parents[2] / "docs" / "evaluation.md"
TARGET_YEARS: Final = 5.0
QUICK_TARGET_YEARS: Final = 0.025
CROWD_LEAST: Final = 0.05
LINE_SECONDS: Final = 60.0
PROCESSORS: Final = len(os.sched_getaffinity(0))
DECIDING: Final = (
    *("judge/*.py", "judging.py", "replay/*.py", "runner.py", "schedule.py", "model.py", "contract.py", "clock.py"),
    *("config/worlds.py", "ledger/ledger.py", "ledger/storage.py", "ledger/batch.py", "ledger/writer.py"),
)
"""Code that can change a figure; the rest of the package (pages, commands, sockets) is not asked."""
SHOWING: Final = ("page.py", "tables.py", "better.py", "required.py", "results.py", "__main__.py")

Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Amounts:
    """How many batches of what size."""

    loss_years: tuple[int, int]
    outages: tuple[int, int]
    fused: tuple[int, int]
    bursts: tuple[int, int]


FULL: Final = Amounts(loss_years=(5, 6), outages=(5, 2000), fused=(5, 500), bursts=(5, 400))
QUICK: Final = Amounts(loss_years=(1, 1), outages=(1, 250), fused=(1, 60), bursts=(1, 60))


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work for one process, and about how many seconds it takes."""

    work: Callable[..., Any]
    seconds: float
    tells: bool = False  # takes `progress`


def jobs_of(years: dict[str, float], amounts: Amounts) -> dict[Key, Job]:
    """Everything there is to do, the longest first: then all processors are busy until the end."""
    jobs: dict[Key, Job] = {}
    for name, target_years in years.items():
        case = CASES[name]
        for index in range(case.vantages):
            share = target_years / case.vantages
            jobs["ours", name, index] = Job(partial(ours, name, target_years, index), case.cost * share, tells=True)
            jobs["theirs", name, index] = Job(partial(theirs, name, target_years, index), 4.0 * share)
    batches, size = amounts.loss_years
    for name in LOSSES:
        for batch in range(batches):
            jobs["expected", name, batch] = Job(partial(expect, name, size, batch), 0.3 * size)
    batches, size = amounts.outages
    for percent in PERCENTS:
        for batch in range(batches):
            jobs["dense", str(percent), batch] = Job(partial(dense, percent, size, batch), 0.008 * size)
    batches, size = amounts.fused
    for batch in range(batches):
        work = partial(staggered, FUSED_PERCENT, size, batch)
        jobs["staggered", str(FUSED_PERCENT), batch] = Job(work, 0.024 * size)
    batches, size = amounts.bursts
    for mean, percent in BURSTS:
        for batch in range(batches):
            jobs["bursts", f"{mean}/{percent}", batch] = Job(
                partial(long_runs, mean, percent, size, batch), 0.01 * size
            )
    return dict(sorted(jobs.items(), key=lambda item: -item[1].seconds))


@dataclass(frozen=True, slots=True)
class Piece:
    """What came of a job, and the CPU seconds that it took."""

    came: Any
    seconds: float


def evaluate(years: dict[str, float], amounts: Amounts, run: Run) -> Results:
    """Run everything, on all processors. The order in which pieces end plays no part."""
    jobs = jobs_of(years, amounts)
    done = {key: piece for key, job in jobs.items() if (piece := run.kept(key, job)) is not None}
    todo = {key: job for key, job in jobs.items() if key not in done}
    run.again = bool(done)
    total = sum(job.seconds for job in todo.values())
    with (
        tempfile.TemporaryDirectory(prefix="prober-evaluate-") as directory,
        ProcessPoolExecutor(max_workers=PROCESSORS, initializer=_prepare) as pool,
    ):
        marks = {key: Path(directory) / f"{number}" for number, key in enumerate(todo)}
        running: dict[Future[Piece], Key] = {pool.submit(_work, job, marks[key]): key for key, job in todo.items()}
        while running:
            for future in wait(running, timeout=2.0, return_when=FIRST_COMPLETED).done:
                key = running.pop(future)
                done[key] = future.result()
                run.keep(key, todo[key], done[key])
            left = sum(todo[key].seconds * (1.0 - _marked(marks[key])) for key in running.values())
            run.tell(1.0 - left / total)
    run.seconds = sum(piece.seconds for piece in done.values())
    return gather(years, {key: piece.came for key, piece in done.items()})


class Run:
    """Where finished pieces are kept, if anywhere, and who hears how far it is."""

    def __init__(self, directory: Path | None = None, tell: Callable[[float], None] = lambda share: None) -> None:
        self.tell = tell
        self.seconds = 0.0  # of CPU time, in all
        self.again = False  # some of it was done in an earlier run
        self._directory = directory
        self._code = _code() if directory is not None else ""

    def _path(self, key: Key, job: Job) -> Path | None:
        if self._directory is None:
            return None
        name = f"{'-'.join(map(str, key))}.{job.seconds:g}.{self._code}"  # the seconds stand for its size
        return self._directory / name.replace("/", "_")

    def kept(self, key: Key, job: Job) -> Piece | None:
        """What an earlier run of the same code left."""
        path = self._path(key, job)
        if path is None or not path.exists():
            return None
        piece = pickle.loads(path.read_bytes())
        assert isinstance(piece, Piece)
        return piece

    def keep(self, key: Key, job: Job, piece: Piece) -> None:
        """For the next run, should this one be stopped."""
        path = self._path(key, job)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(path.name + ".part")
            beside.write_bytes(pickle.dumps(piece))
            beside.rename(path)


def _code() -> str:
    """The code that the figures come from: another version makes other pieces. How they are shown is none of it."""
    root = PAGE.parents[1]
    digest = blake2b(digest_size=8)
    package = root / "prober"
    ours = [path for part in DECIDING for path in sorted(package.glob(part))]
    for path in sorted([*ours, *Path(__file__).parent.glob("*.py")]):
        if path.name not in SHOWING or path.parent.name != "evaluate":
            digest.update(f"{path.relative_to(root)}".encode() + path.read_bytes())
    return digest.hexdigest()


def _work(job: Job, mark: Path) -> Piece:
    began = time.process_time()
    came = job.work(progress=partial(_mark, mark)) if job.tells else job.work()
    return Piece(came, time.process_time() - began)


def _prepare() -> None:
    """Of a process that lives for the evaluation alone: no log of thousands of outages, few garbage collections."""
    logging.getLogger("prober").setLevel(logging.ERROR)
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)


def _mark(path: Path, share: float) -> None:
    path.write_text(f"{share:.4f}")


def _marked(path: Path) -> float:
    try:
        return float(path.read_text() or 0.0)
    except FileNotFoundError:
        return 0.0


class Teller:
    """Says on standard error how far it is: a bar in a terminal, else a line a minute."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = self._said = time.monotonic()
        self._bar = Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console)
        self._task = self._bar.add_task("evaluating", total=1.0)

    def __enter__(self) -> Teller:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def tell(self, share: float) -> None:
        """So much is done."""
        now = time.monotonic()
        self._bar.update(self._task, completed=share)
        if not self._console.is_terminal and now - self._said >= LINE_SECONDS and share > 0.0:
            self._said = now
            spent = (now - self._began) / 60.0
            left = spent / share - spent
            self._console.print(f"{100 * share:.0f} % in {spent:.0f} minutes, about {left:.0f} minutes left")


def years_of(names: Collection[str], target_years: float) -> dict[str, float]:
    """How long each world is; an entity of many is never too short to go down."""
    return {
        name: max(target_years, CROWD_LEAST) if name.startswith("entity") else target_years
        for name in CASES
        if name in names
    }


def _amount(text: str) -> float:
    """Raises ArgumentTypeError."""
    try:
        amount = float(text)
    except ValueError:
        amount = nan
    if not 0.001 <= amount <= 1000.0:
        raise argparse.ArgumentTypeError(f"{text} is no number of target-years from 0.001 to 1000")
    return amount


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for usage."""
    parser = argparse.ArgumentParser(prog="make evaluate", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small worlds, in about a minute, to standard output")
    parser.add_argument(
        "--target-years", type=_amount, metavar="N", help=f"of each world; {TARGET_YEARS:g} if not given"
    )
    parser.add_argument("--worlds", nargs="+", choices=list(CASES), default=list(CASES), metavar="WORLD")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep finished pieces there, and go on from them")
    given = parser.parse_args(arguments)
    if given.quick and given.target_years is not None:
        parser.error("--quick says how many target-years: leave out one of the two")
    try:
        if given.keep is not None:
            given.keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--keep {given.keep}: {error.strerror}; name a directory that can be written to")
    began = time.monotonic()
    years = years_of(given.worlds, QUICK_TARGET_YEARS if given.quick else given.target_years or TARGET_YEARS)
    whole = list(years) == list(CASES) and min(years.values()) >= TARGET_YEARS
    console = Console(stderr=True)
    with Teller(console) as teller:
        run = Run(given.keep, teller.tell)
        results = evaluate(years, FULL if whole else QUICK, run)
    took = f"{run.seconds / 60.0:.0f} minutes of processor time"
    if not run.again:
        took += f", {(time.monotonic() - began) / 60.0:.0f} minutes on {PROCESSORS} processors"
    text = page(results, took)
    if whole:
        PAGE.write_text(text)
        console.print(f"written: {PAGE.relative_to(Path.cwd()) if PAGE.is_relative_to(Path.cwd()) else PAGE}")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
