"""A day of round trips and loss as a small curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prober.page.rings import Course
from prober.page.shapes import Curve
from prober.page.words import milliseconds

COLUMNS: Final = 96
"""Width of the box that a curve is drawn in; its height is 20."""


def curve(course: Course | None) -> Curve | None:
    """A day as a small curve: the round trip as a line, loss as bars."""
    if course is None:
        return None
    size = max(1, len(course.rtt_seconds) // COLUMNS)
    trips = [_mean(course.rtt_seconds[at : at + size]) for at in range(0, len(course.rtt_seconds), size)]
    losses = [_mean(course.loss[at : at + size]) for at in range(0, len(course.loss), size)]
    known = [trip for trip in trips if trip is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    reach = max(high - low, 0.2 * high, 1e-6)  # a flat line stays flat
    path, pen = [], "M"
    for column, trip in enumerate(trips):
        if trip is None:
            pen = "M"
            continue
        path.append(f"{pen}{column} {18 - 16 * (trip - low) / reach:.1f}h1")
        pen = "L"
    mean, last = course.mean_loss, course.last_rtt
    rtt = milliseconds(last) if last is not None else ""
    loss = f"{100 * mean:.1f} %" if mean is not None else ""
    words = f"round trip {rtt or 'not known'}"
    if known and high > low:
        words += f", {milliseconds(low)} to {milliseconds(high)} in the last 24 hours"
    if loss:
        words += f"; loss {loss} in the last 24 hours"
    bars = tuple((column, 20 * loss_) for column, loss_ in enumerate(losses) if loss_ and loss_ >= 0.02)
    return Curve("".join(path), bars, rtt, loss, words)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
