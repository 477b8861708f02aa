"""Verdicts, dates and names as people read them. Nothing that is shown came from elsewhere unchecked."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from prober.api import parts_of
from prober.judge.records import Outage, Verdict
from prober.ledger_cli import duration, span, when
from prober.model import Entity
from prober.page.source import Facts
from prober.printable import printable
from prober.sentence import parts_words, so_far

NAME_MAX: Final = 120
TEXT_MAX: Final = 600

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

WORDS: Final = {
    Verdict.UP: "reachable",
    Verdict.DOWN: "not reachable",
    Verdict.PARTIAL: "partly reachable",
    Verdict.DARK: "dark",
    Verdict.UNKNOWN: "not known",
}
LOOKS: Final = {
    Verdict.UP: "up",
    Verdict.DOWN: "down",
    Verdict.PARTIAL: "partial",
    Verdict.DARK: "down",
    Verdict.UNKNOWN: "unknown",
}
"""What a verdict looks like: a colour, and a sign that does without."""


def clean(text: str, most: int = NAME_MAX) -> str:
    """A text from outside: at most so long, with what could steer or forge made visible."""
    return printable(text, most)


def quoted(text: str) -> str:
    """One part of a path, or a value of a query."""
    return quote(text, safe="", errors="replace")


def moment(utc: float) -> str:
    """`22 Dec 2014, 16:15:00`."""
    at = datetime.fromtimestamp(round(utc), UTC)
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}, {at:%H:%M:%S}"


def brief(utc: float) -> str:
    """`21 Dec 16:08`."""
    at = datetime.fromtimestamp(round(utc), UTC)
    return f"{at.day} {_MONTHS[at.month - 1]} {at:%H:%M}"


def exact(utc: float) -> str:
    """`21 Dec 16:08:31`, where the year is known."""
    at = datetime.fromtimestamp(round(utc), UTC)
    return f"{at.day} {_MONTHS[at.month - 1]} {at:%H:%M:%S}"


def clock(seconds: float) -> str:
    """`2:13:05`, `3 d 2:13:05`: how long something has been going on. The page's script counts it on."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86_400)
    text = f"{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days} d {text}" if days else text


def titled(title: str, name: str) -> str:
    """What people call it."""
    return clean(title or name)


def counted(count: int, one: str, many: str = "") -> str:
    """`1 outage`, `3 outages`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def standing(facts: Facts, entity: Entity) -> str:
    """`4 of 4 networks up.`"""
    parts = parts_of(entity, facts.states)
    return f"{parts_words(parts)}." if parts.total else ""


def lasting(outage: Outage, now: float) -> str:
    """Its duration with bounds; while it goes on, what the clock beside it says, as `prober status` does."""
    return f"{so_far(now - outage.start)} so far" if outage.ongoing else duration(outage)


def blindness(facts: Facts) -> str:
    """Why nothing is known; empty if this vantage can see."""
    gap = next(iter(facts.open_gaps), None)
    if gap is None and facts.observer_up is not False:
        return ""
    since = f" since {when(gap.begin)} UTC" if gap is not None else ""
    return f"This vantage cannot see{since}: its references do not answer either. Nothing is known."


def reasons(failures: Iterable[tuple[str, int]], most: int = 3) -> str:
    """`connect/timeout 74,259, receive/timeout 15,443`: the most frequent ones."""
    found = sorted(failures, key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{clean(label, 60)} {count:,}" for label, count in found[:most])
    return shown + (f", {counted(len(found) - most, 'other')}" if len(found) > most else "")


def milliseconds(seconds: float) -> str:
    """`0.4 ms`, `330 ms`, `1.5 s`."""
    if seconds >= 1:
        return span(seconds)
    return f"{seconds * 1000:.{1 if seconds < 0.00995 else 0}f} ms"
