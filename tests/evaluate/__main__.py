"""`make evaluate`: runs the fixed worlds and writes docs/evaluation.md.

The figures are the same on every run; only the line of the time taken is not. `--quick` runs small worlds and writes to
standard output, for a look at a change, and so do `--worlds loss-20 three` (these alone) and `--target-years 1`.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from tests.evaluate.expectation import LOSSES, Expected, expect
from tests.evaluate.measure import RULES, Found, fused, ours, theirs
from tests.evaluate.page import Results, page
from tests.evaluate.worlds import CASES

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"
TARGET_YEARS = 5.0
QUICK_TARGET_YEARS = 0.025
CROWD_LEAST = 0.05
BATCHES, BATCH_YEARS = 5, 6
QUICK_BATCH_YEARS = 1


def evaluate(target_years: float, names: Sequence[str], progress: Progress | None = None) -> Results:
    """Run everything, on all processors. The order in which pieces end plays no part."""
    quick = target_years < 1.0
    years = {name: max(target_years, CROWD_LEAST) if name.startswith("entity") else target_years for name in names}
    jobs: dict[tuple[str, str, int], Callable[[], Any]] = {}
    for name in names:
        for index in range(CASES[name].vantages):
            jobs["ours", name, index] = partial(ours, name, years[name], index)
            jobs["theirs", name, index] = partial(theirs, name, years[name], index)
    batch_years = QUICK_BATCH_YEARS if quick else BATCH_YEARS
    for name in LOSSES:
        for batch in range(1 if quick else BATCHES):
            jobs["expected", name, batch] = partial(expect, name, batch_years, batch)
    done: dict[tuple[str, str, int], Any] = {}
    bar = progress.add_task("evaluating", total=len(jobs)) if progress else None
    with ProcessPoolExecutor(max_workers=len(os.sched_getaffinity(0)), initializer=_prepare) as pool:
        running = {pool.submit(job): key for key, job in jobs.items()}
        for future in as_completed(running):
            done[running[future]] = future.result()
            if progress is not None and bar is not None:
                progress.update(bar, advance=1, description=" ".join(map(str, running[future])))
    return gather(names, years, done)


def _prepare() -> None:
    """Of a process that lives for the evaluation alone: no log of thousands of outages, few garbage collections."""
    logging.getLogger("prober").setLevel(logging.ERROR)
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)


def gather(names: Sequence[str], years: dict[str, float], done: dict[tuple[str, str, int], Any]) -> Results:
    """Put the pieces together, in the order of the list."""
    results = Results(years=years)
    for name in names:
        mine, others = Found(), {rule: Found() for rule in RULES}
        for index in range(CASES[name].vantages):
            mine.add(done["ours", name, index])
            results.by_vantage[name, index] = done["ours", name, index]
            for rule, found in done["theirs", name, index].items():
                others[rule].add(found)
        results.ours[name], results.theirs[name] = mine, others
    if "three" in names:
        results.fused = fused(years["three"], results.ours["three"].outages)
    for name in LOSSES:
        parts = [done[key] for key in sorted(done) if key[:2] == ("expected", name)]
        results.expected[name] = Expected(tuple(batch for part in parts for batch in part.batches))
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for usage."""
    parser = argparse.ArgumentParser(prog="make evaluate", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small worlds, in less than a minute, to standard output")
    parser.add_argument("--target-years", type=float, default=TARGET_YEARS, metavar="N", help="of each world")
    parser.add_argument("--worlds", nargs="+", choices=list(CASES), default=list(CASES), metavar="WORLD")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    target_years = QUICK_TARGET_YEARS if given.quick else given.target_years
    whole = target_years >= TARGET_YEARS and list(given.worlds) == list(CASES)
    console = Console(stderr=True)
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console) as progress:
        results = evaluate(target_years, given.worlds, progress)
    minutes = (time.monotonic() - began) / 60.0
    text = page(results, f"{minutes:.1f} minutes on {len(os.sched_getaffinity(0))} processors")
    if whole:
        PAGE.write_text(text)
        console.print(f"written: {PAGE.relative_to(Path.cwd()) if PAGE.is_relative_to(Path.cwd()) else PAGE}")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
