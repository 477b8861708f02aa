"""The last probes of /probe, and the last that failed, which stay longer: what /logs shows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

REMEMBERED_MAX: Final = 100
"""Probes, as in the original; and as many failed ones beside them."""
LOG_CHARACTERS_MAX: Final = 16_000
"""Of one probe's log."""


@dataclass(frozen=True, slots=True)
class Report:
    """What `debug=true` shows of a probe, its texts bounded."""

    log: str
    metrics: str
    module: str

    def __str__(self) -> str:
        return (
            f"Logs for the probe:\n{self.log}\n\n\n"
            f"Metrics that would have been returned:\n{self.metrics}\n\n\n"
            f"Module configuration:\n{self.module}"
        )


@dataclass(frozen=True, slots=True)
class Past:
    """One probe that was made, or refused."""

    number: int
    utc: float
    """When it was asked for, Unix time."""
    module: str
    target: str
    success: bool
    seconds: float
    reason: str
    """Why it failed, in one line; empty if it did not."""
    report: Report


def bounded(lines: list[str]) -> str:
    """A log as text, cut where it is too long."""
    kept, left = [], LOG_CHARACTERS_MAX
    for number, line in enumerate(lines):
        left -= len(line)
        if left < 0:
            kept.append(f"... and {len(lines) - number} more lines")
            break
        kept.append(line)
    return "\n".join(kept)


class History:
    """Remembers REMEMBERED_MAX probes, and of those that it forgets the last REMEMBERED_MAX that failed."""

    def __init__(self) -> None:
        self._recent: OrderedDict[int, Past] = OrderedDict()
        self._failed: OrderedDict[int, Past] = OrderedDict()
        self._next = 0

    def number(self) -> int:
        """The number of the next probe, from 0."""
        self._next += 1
        return self._next - 1

    def add(self, past: Past) -> None:
        """Remember a probe that is over."""
        self._recent[past.number] = past
        if len(self._recent) > REMEMBERED_MAX:
            _, oldest = self._recent.popitem(last=False)
            if not oldest.success:
                self._failed[oldest.number] = oldest
                if len(self._failed) > REMEMBERED_MAX:
                    self._failed.popitem(last=False)

    def __iter__(self) -> Iterator[Past]:
        """The newest first."""
        return chain(reversed(self._recent.values()), reversed(self._failed.values()))

    def by_number(self, number: int) -> Past | None:
        """A probe by its number, None if it is forgotten."""
        return self._recent.get(number) or self._failed.get(number)

    def by_target(self, target: str) -> Past | None:
        """The newest probe of a target, None if none is remembered."""
        return next((past for past in self if past.target == target), None)
