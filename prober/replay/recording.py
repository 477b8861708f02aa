"""What Prometheus would have scraped from the agents of a replay, as OpenMetrics text.

    prober replay WORLD.yml --openmetrics F
    promtool tsdb create-blocks-from openmetrics F DATA_DIR

The lines are those of the agents' own expositions. A value that stays is written every KEEP_SECONDS only: Prometheus
looks back 5 minutes. What cannot be written are staleness markers: a series that ends is seen for 5 minutes more.
"""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TextIO, TypeAlias

from prometheus_client import CollectorRegistry

from prober.judging import Judging
from prober.metrics import Exposition, label, number
from prober.model import Entity
from prober.probes import PROBES
from prober.scopes import ScopeExposition
from prober.state import State

SCRAPE_SECONDS: Final = 60.0
KEEP_SECONDS: Final = 240.0
"""Less than the 5 minutes for which Prometheus takes a sample for the present value."""

GROWING: Final = frozenset(
    {
        "prober_state_seconds_total",
        "prober_outage_seconds_total",
        "prober_outage_seconds",
        "prober_probes_total",
        "prober_check_last_run_timestamp_seconds",
        "prober_clock_timestamp_seconds",
    }
)
"""Families that are different at every scrape: every KEEP_SECONDS is enough, and at once when they fall back."""

OF_WHOLES: Final = frozenset(
    {
        "prober_state_seconds_total",
        "prober_outages_total",
        "prober_outage_seconds_total",
        "prober_outage_degraded_since_timestamp_seconds",
    }
)
"""Families of which targets and checks are left out: half of the file, and no dashboard shows them."""

SPOOL: Final = "samples"
Samples: TypeAlias = "dict[str, dict[str, tuple[array[float], array[float]]]]"  # family, series: times, values


class Recording:
    """What one vantage's agent exposes, scrape after scrape."""

    def __init__(self, vantage: str, entities: tuple[Entity, ...]) -> None:
        self._vantage = vantage
        self._entities = entities
        self._origin = label("instance", vantage) + label("job", "prober")
        self._samples: Samples = {}

    def of_life(self, judging: Judging) -> tuple[State, Exposition]:
        """The state of a new life of the agent, to be fed with observations, and its exposition."""
        state = State(self._entities)
        scopes = ScopeExposition(self._vantage, judging, lambda: self._entities)
        return state, Exposition(self._vantage, state, PROBES, CollectorRegistry(), scopes.render)

    async def scrape(self, exposition: Exposition, utc: float) -> None:
        """Take down what is exposed at `utc` (Unix seconds)."""
        text = b"".join([piece async for piece in exposition.render()]).decode()
        for line in text.splitlines():
            if line and not line.startswith("#"):
                series, _, value = line.rpartition(" ")
                self._add(series, utc, float(value))
        self._add(f"prober_clock_timestamp_seconds{{{label('vantage', self._vantage)[:-1]}}}", utc, utc)

    def _add(self, series: str, utc: float, value: float) -> None:
        name = series.partition("{")[0]
        if name in OF_WHOLES and ('scope="check"' in series or 'scope="target"' in series):
            return
        times, values = self._samples.setdefault(name, {}).setdefault(series, (array("d"), array("d")))
        if times:
            if utc <= times[-1]:
                return  # the host's clock was set back: Prometheus would refuse the sample too
            same = value >= values[-1] if name in GROWING else value == values[-1]
            if same and utc - times[-1] < KEEP_SECONDS - 1.0:
                return
        times.append(utc)
        values.append(value)

    def save(self, directory: Path) -> None:
        """Leave all of it in `directory` for `write`. Raises OSError."""
        with (directory / SPOOL).open("wb") as file:
            pickle.dump((self._origin, self._samples), file, protocol=pickle.HIGHEST_PROTOCOL)


def write(directories: Iterable[Path], file: TextIO, progress: Callable[[float], None] | None = None) -> None:
    """Write what the vantages' recordings left in `directories`, family by family. Raises OSError."""
    spools: list[tuple[str, Samples]] = []
    for directory in directories:
        with (directory / SPOOL).open("rb") as spool:
            spools.append(pickle.load(spool))  # ours, from a directory that only we can write to
    families = sorted({family for _origin, samples in spools for family in samples})
    for done, family in enumerate(families):
        file.write(f"# TYPE {family} unknown\n")
        for origin, samples in spools:
            for series, (times, values) in samples.get(family, {}).items():
                head = series.replace("{", "{" + origin, 1) if "{" in series else f"{series}{{{origin[:-1]}}}"
                file.writelines(f"{head} {number(value)} {utc:.3f}\n" for utc, value in zip(times, values, strict=True))
        if progress is not None:
            progress((done + 1) / len(families))
    file.write("# EOF\n")
