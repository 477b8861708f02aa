"""The verdict on an entity in one sentence, as page, command line and API say it. Pure; times are Unix seconds.

    North Korea: reachable. 4 of 4 networks up. Last outage 9 h 31 min (±30 s), 22 December 2014.

Titles go in as they are: whoever shows the sentence escapes it for the place where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from prober.judge.records import Outage, Verdict
from prober.ledger_cli import duration, span

_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DOWN: Final = (Verdict.DOWN, Verdict.DARK)


@dataclass(frozen=True, slots=True)
class Parts:
    """What an entity is judged by: its networks, else its sites, else its targets."""

    noun: str  # of one: "network"
    up: int = 0
    down: int = 0
    unknown: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.up + self.down + self.unknown


def day(utc: float) -> str:
    """`22 December 2014`, UTC, in English whatever the locale."""
    moment = datetime.fromtimestamp(utc, UTC)
    return f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}"


def moment(utc: float) -> str:
    """`22 December 2014, 16:15 UTC`."""
    return f"{day(utc)}, {datetime.fromtimestamp(utc, UTC):%H:%M} UTC"


def verdict_sentence(
    title: str,
    verdict: Verdict,
    *,
    held: bool | None = None,
    parts: Parts | None = None,
    ongoing: Outage | None = None,
    last: Outage | None = None,
    now: float = 0.0,
) -> str:
    """What is known of an entity now, of its parts, and of its last outage that ended.

    `held`: the last verdict, while nothing is known. `ongoing` is counted up to `now`.
    """
    said = [f"{title}: {verdict_words(verdict, held=held, ongoing=ongoing, now=now)}."]
    if parts is not None and parts.total:
        said.append(f"{parts_words(parts)}.")
    said.append(f"{last_words(last, ongoing=ongoing is not None)}.")
    return " ".join(said)


def verdict_words(
    verdict: Verdict, *, held: bool | None = None, ongoing: Outage | None = None, now: float = 0.0
) -> str:
    """`reachable`, `not reachable since 22 December 2014, 16:15 UTC (3 h 12 min so far)`, `not known now, ...`."""
    since = ""
    if ongoing is not None:
        since = f" since {moment(ongoing.start)} ({so_far(now - ongoing.start)} so far)"
    if verdict in _DOWN:
        return f"not reachable{since}"
    if verdict is Verdict.PARTIAL:
        return "partly reachable"
    if verdict is Verdict.UP:
        return "reachable"
    if held is None:
        return "not known yet"
    return "not known now, last known reachable" if held else f"not known now, last known not reachable{since}"


def so_far(seconds: float) -> str:
    """How long something has lasted, rounded down: `45 s`, `12 min 5 s`, `3 h 12 min`."""
    size = 60 if seconds >= 3_600 else 1
    return span(max(0.0, seconds) // size * size)


def parts_words(parts: Parts) -> str:
    """`4 of 4 networks up`, `1 of 4 networks up, 1 not known`."""
    noun = parts.noun if parts.total == 1 else f"{parts.noun}s"
    return f"{parts.up} of {parts.total} {noun} up" + (f", {parts.unknown} not known" if parts.unknown else "")


def last_words(last: Outage | None, *, ongoing: bool = False) -> str:
    """`Last outage 9 h 31 min (±30 s), 22 December 2014`; of the one before while another goes on."""
    if last is None:
        return "No earlier outage on record" if ongoing else "No outage on record"
    return f"{'Outage before it' if ongoing else 'Last outage'} {duration(last)}, {day(last.start)}"
