"""Durations as people write them in YAML: `30s`, `5m`, `1h30m`, `500ms`, `2d`.

The grammar is that of Prometheus without weeks and years (whole numbers, each unit at most once, largest first), so
that a duration looks the same in a targets file, in a Prometheus rule and in a Grafana panel.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

DURATION_PATTERN: Final = r"^(?=[0-9])([0-9]{1,9}d)?([0-9]{1,9}h)?([0-9]{1,9}m(?!s))?([0-9]{1,9}s)?([0-9]{1,9}ms)?$"
"""ECMA 262 as well as Python: the JSON schema carries it. Nine digits keep every sum exact in a float."""

_PARTS: Final = re.compile(DURATION_PATTERN.removesuffix("$") + r"\Z")
_UNIT_MILLISECONDS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_EXAMPLES: Final = "write it like 500ms, 30s, 5m, 1h30m or 2d"
_QUOTED_MAX: Final = 40
"""Characters of a refused text that an error repeats."""


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `1h30m`. Raises ValueError with a message that says how to write it."""
    match = _PARTS.match(text)
    if match is None:
        raise ValueError(f'"{text[:_QUOTED_MAX]}" is not a duration; {_remedy(text)}')
    milliseconds = 0
    for part, (unit, size) in zip(match.groups(), _UNIT_MILLISECONDS.items(), strict=True):
        if part is not None:
            milliseconds += int(part.removesuffix(unit)) * size
    return milliseconds / 1000


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` turns back into `seconds`, to the millisecond: 5400.0 is `1h30m`.

    Raises ValueError for a negative or infinite number, which no duration is.
    """
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{seconds} is not a duration in seconds")
    rest = round(seconds * 1000)
    if rest == 0:
        return "0s"
    parts = []
    for unit, size in _UNIT_MILLISECONDS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def _remedy(text: str) -> str:
    """How to write what was probably meant."""
    try:
        return _unit_remedy(float(text))
    except ValueError:
        return f"{_EXAMPLES} (whole numbers, the largest unit first)"


def _unit_remedy(number: float) -> str:
    if 0 <= number < 1e9:
        seconds = f"{number:.0f}s" if number == int(number) else format_duration(number)
        return f"give it a unit: write {seconds} if it counts seconds"
    return _EXAMPLES


def _from_yaml(value: object) -> float:
    """A duration out of a file. A bare number is refused: nobody can see whether it counts seconds or milliseconds."""
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError as error:
            reason = str(error)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        reason = f"a number without a unit; {_unit_remedy(value)}"
    else:
        reason = f"not a duration; {_EXAMPLES}"
    raise PydanticCustomError("duration", "{reason}", {"reason": reason})


Duration = Annotated[
    float,
    BeforeValidator(_from_yaml, json_schema_input_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": DURATION_PATTERN,
            "description": "A duration such as 500ms, 30s, 5m, 1h30m or 2d.",
            "examples": ["30s", "5m", "1h30m"],
        }
    ),
]
"""A field that is written as `30s` and held as a float in seconds. Bounds: `Annotated[Duration, Field(gt=0)]`."""
