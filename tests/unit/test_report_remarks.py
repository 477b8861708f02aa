"""Notes in a report: those about its time and its entities, each once, from ledgers or from a Prometheus."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from prober.ledger.notes import Note
from prober.report import remarks
from prober.report.prometheus import Prometheus, Series
from prober.report.report import Report, Vantage, report
from tests.ledgers import BEGIN, ended, outage

HOUR = 3_600.0
NOTE = Note("a", BEGIN, None, "north-korea", "an attack", "Dyn", "", BEGIN + 9)


@pytest.fixture
def found() -> Report:
    """From an hour before BEGIN to ten hours after it."""
    return report([Vantage("hanover", (ended(outage(), HOUR),), (), BEGIN - HOUR, BEGIN + 10 * HOUR)])


@pytest.mark.parametrize(
    ("note", "is_about"),
    [
        (NOTE, True),
        (replace(NOTE, entity=""), True),
        (replace(NOTE, entity="elsewhere"), False),
        (replace(NOTE, at=BEGIN - 2 * HOUR), False),
        (replace(NOTE, at=BEGIN - 2 * HOUR, until=BEGIN), True),
        (replace(NOTE, at=BEGIN + 11 * HOUR), False),
        (replace(NOTE, at=BEGIN + 9 * HOUR, until=BEGIN + 99 * HOUR), True),
    ],
)
def test_what_it_is_about(found: Report, note: Note, is_about: bool) -> None:
    assert remarks.about(found, [note]) == ((note,) if is_about else ())


def test_in_order_and_once(found: Report) -> None:
    later = replace(NOTE, at=BEGIN + HOUR)
    window = replace(NOTE, until=BEGIN + HOUR)
    same = replace(NOTE, id="b", added_at=BEGIN + 99)
    assert remarks.about(found, [later, NOTE, window, same]) == (window, same, later)


class Server:
    """A Prometheus that has these series."""

    def __init__(self, *series: Series) -> None:
        self._series = list(series)

    async def instant(self, query: str, at: float) -> list[Series]:
        assert "prober_note_timestamp_seconds" in query
        assert at == BEGIN
        return self._series


async def test_from_a_prometheus() -> None:
    labels: dict[str, Any] = {"entity": "north-korea", "text": "an attack", "source": "Dyn"}
    other = Series({"text": "x"}, ((BEGIN + 5, BEGIN + 1),))
    server = Server(Series(labels, ((BEGIN + 5, BEGIN),)), other, Series({}, ()))
    assert await remarks.of_prometheus(cast(Prometheus, server), BEGIN) == [
        replace(NOTE, id="", added_at=BEGIN),
        Note("", BEGIN + 1, None, "", "x", "", "", BEGIN + 1),
    ]
