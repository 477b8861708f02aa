"""What one probe says of itself: bounded lines in logfmt, for `debug=true` and for /logs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from prober.printable import printable

Level: TypeAlias = Literal["debug", "info", "warn", "error"]

LINES_MAX: Final = 500
VALUE_LENGTH_MAX: Final = 500
"""Characters of one value; what comes from a target may be long."""


class ProbeLog:
    """The lines of one probe, oldest first. What is logged never holds a secret: callers log targets and facts only."""

    __slots__ = ("_context", "_dropped", "_lines")

    def __init__(self, module: str, target: str) -> None:
        self._context = f"module={_value(module)} target={_value(target)}"
        self._lines: list[str] = []
        self._dropped = 0

    @property
    def lines(self) -> list[str]:
        """All lines, without line breaks; at most LINES_MAX, and one that says how many are missing."""
        if not self._dropped:
            return list(self._lines)
        return [*self._lines, f'level=warn {self._context} msg="lines left out" count={self._dropped}']

    def debug(self, message: str, /, **values: object) -> None:
        """A step."""
        self._write("debug", message, values)

    def info(self, message: str, /, **values: object) -> None:
        """Something of note that is no failure."""
        self._write("info", message, values)

    def error(self, message: str, /, **values: object) -> None:
        """Why the probe fails."""
        self._write("error", message, values)

    def _write(self, level: Level, message: str, values: dict[str, object]) -> None:
        if len(self._lines) >= LINES_MAX:
            self._dropped += 1
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        more = "".join(f" {key}={_value(value)}" for key, value in values.items())
        self._lines.append(f"ts={now} {self._context} level={level} msg={_value(message)}{more}")


def _value(value: object) -> str:
    """A value of logfmt: quoted where it must be, with nothing in it that is not printable."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    if len(text) > VALUE_LENGTH_MAX:
        text = text[:VALUE_LENGTH_MAX] + "..."
    text = printable(text)
    if text and not any(c in ' "=' for c in text):
        return text
    return '"' + text.replace('"', '\\"') + '"'
