"""A small SVG of a cost by the number of checks, both axes logarithmic. Grey and blue: readable dark and light."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil, floor, log10
from typing import Final

WIDTH, HEIGHT = 652, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 32, 36, 48  # room for half of the widest number
_GREY: Final = "#808080"
_LINE: Final = "#2a7fff"


def svg(points: Mapping[int, float], title: str, unit: str) -> str:
    """The plot of `points` (checks -> value)."""
    return "\n".join(_lines(points, title, unit)) + "\n"


def _lines(points: Mapping[int, float], title: str, unit: str) -> Iterator[str]:
    low_x, high_x = log10(min(points)), log10(max(points))
    low_y, high_y = floor(log10(min(points.values()))), ceil(log10(max(points.values())))
    high_x, high_y = max(high_x, low_x + 1), max(high_y, low_y + 1)

    def x(checks: float) -> float:
        return LEFT + (log10(checks) - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (log10(value) - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM)

    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{title}" font-family="sans-serif" font-size="12" fill="{_GREY}">'
    )
    yield f'<text x="{LEFT}" y="20" font-size="14">{title}</text>'
    for power in range(low_y, high_y + 1):
        at = y(10.0**power)
        yield f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="{_GREY}" opacity="0.4"/>'
        yield f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g} {unit}</text>'
    for checks in points:
        yield f'<text x="{x(checks):.1f}" y="{HEIGHT - 26}" text-anchor="middle">{checks:,}</text>'
    yield f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">checks</text>'
    path = " ".join(f"{x(checks):.1f},{y(value):.1f}" for checks, value in sorted(points.items()))
    yield f'<polyline points="{path}" fill="none" stroke="{_LINE}" stroke-width="2"/>'
    for checks, value in points.items():
        yield f'<circle cx="{x(checks):.1f}" cy="{y(value):.1f}" r="4" fill="{_LINE}"/>'
        yield f'<text x="{x(checks):.1f}" y="{y(value) - 10:.1f}" text-anchor="middle">{value:.3g}</text>'
    yield "</svg>"
