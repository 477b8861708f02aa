"""How figures are written: tables, numbers, shares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tests.evaluate.results import at_least, at_most, percentile


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of Markdown, and an empty one."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "|".join("---" if number == 0 else "--:" for number in range(len(head))) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def number(value: float | None, digits: int = 3) -> str:
    """So many significant digits, without an exponent where that is readable."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def pair(values: Sequence[float]) -> str:
    """Median and 99th percentile, seconds."""
    return " / ".join("-" if (at := percentile(values, share)) is None else f"{at:.1f}" for share in (0.5, 0.99))


def share_of(good: float, all_: float, digits: int = 2) -> str:
    """A share in percent; a dash of nothing."""
    return f"{100 * good / all_:.{digits}f} %" if all_ else "-"


def covered(values: Sequence[bool]) -> str:
    """The share that held, with its confidence interval."""
    cases, good = len(values), sum(values)
    if not cases:
        return "-"
    low, high = 100 * at_least(good, cases), 100 * at_most(good, cases)
    return f"{100 * good / cases:.3f} % ({low:.3f} to {high:.3f})"
