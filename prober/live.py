"""What `prober run` shows in a terminal: one line per check, failures first, as many as fit."""

from __future__ import annotations

import asyncio
import io
import queue
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from prober.duration import format_duration
from prober.failures import Side, side_of
from prober.printable import printable
from prober.state import CheckState, State

REFRESH_SECONDS: Final = 1.0
CHROME_LINES: Final = 6  # title, header, rules and footer of the table


def seconds_text(seconds: float) -> str:
    """A duration with three significant digits and a unit that fits: 0.31 ms, 27.4 ms, 1.20 s."""
    if seconds < 0.001:
        return f"{seconds * 1000:.3f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.2f} s"


def verdict_of(state: CheckState) -> tuple[str, str]:
    """The last result in words and its style. Not a judgement: one probe, as it went."""
    last = state.last
    if last is None:
        return "waiting", "dim"
    if last.success:
        return "answered", "green"
    words = f"{last.failure} during {last.operation}".replace("_", " ")
    ours = last.failure is not None and side_of(last.failure) is Side.OURS
    return (f"{words} (our side)", "yellow") if ours else (words, "red")


def table_of(state: State, now: float, lines: int, title: str) -> Table:
    """A snapshot of the checks as a table of at most `lines` rows, what failed first."""
    states = sorted(state, key=lambda s: (s.last is None, s.last is not None and s.last.success))
    answered = sum(1 for s in states if s.last is not None and s.last.success)
    failed = sum(1 for s in states if s.last is not None and not s.last.success)
    table = Table(title=title, title_justify="left", expand=True, box=None, header_style="bold", pad_edge=False)
    table.caption = f"{answered} answered, {failed} failed, {len(states) - answered - failed} waiting"
    if len(states) > lines:
        table.caption += f"; {len(states) - lines} more not shown"
    table.caption_justify = "left"
    table.add_column("target", no_wrap=True, ratio=3)
    table.add_column("check", no_wrap=True, ratio=1)
    table.add_column("last result", no_wrap=True, ratio=4)
    for name, width in (("took", 9), ("loss", 5), ("ago", 5)):
        table.add_column(name, justify="right", no_wrap=True, width=width)
    for one in states[:lines]:
        words, style = verdict_of(one)
        last, loss = one.last, one.loss_ratio
        table.add_row(
            Text(printable(one.check.target)),
            Text(printable(one.check.name)),
            Text(words, style=style),
            seconds_text(last.duration_seconds) if last else "",
            f"{loss:.0%}" if loss is not None else "",
            format_duration(max(0, round(now - last.utc))) if last else "",
        )
    return table


class AboveTable(io.TextIOBase):
    """A stream for log lines. While the table is drawn they wait for its next stroke: two threads would tear it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.waits = False

    def write(self, text: str) -> int:
        if line := text.strip("\n"):
            self._lines.put(line)
        if not self.waits:
            self.print()
        return len(text)

    def print(self) -> None:
        """Print what waits."""
        with suppress(queue.Empty):
            while True:
                self._console.print(Text(self._lines.get_nowait()), soft_wrap=True)


class LiveTable:
    """Redraws the table once a second, in a thread: drawing takes milliseconds that no measurement shall see."""

    def __init__(self, state: State, console: Console, above: AboveTable, title: Callable[[], str]) -> None:
        self._state = state
        self._console = console
        self._above = above
        self._title = title
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    async def run(self) -> None:
        """Draw until cancelled."""
        self._above.waits = True
        try:
            with self._live:
                while True:
                    lines = max(3, self._console.size.height - CHROME_LINES)
                    table = table_of(self._state, time.time(), lines, self._title())
                    stroke = asyncio.ensure_future(asyncio.to_thread(self._stroke, table))
                    try:
                        await asyncio.shield(stroke)
                    except asyncio.CancelledError:
                        await stroke  # the terminal is put in order behind the last stroke, not in the middle of it
                        raise
                    await asyncio.sleep(REFRESH_SECONDS)
        finally:
            self._console.line()
            self._above.waits = False
            self._above.print()

    def _stroke(self, table: Table) -> None:
        self._above.print()
        self._live.update(table, refresh=True)
