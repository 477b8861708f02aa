"""`prober probe`: one probe of a target or a URL, now, shown with its phases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prober.blackbox.kind import KINDS
from prober.clock import SystemClock
from prober.config import ConfigError, options_of
from prober.contract import Io
from prober.deadline import StallMeter
from prober.failures import FAILURES, Side
from prober.hints import HINTS
from prober.live import seconds_text
from prober.model import Check, Entity, Observation
from prober.printable import printable
from prober.probes import PROBES
from prober.runner import Runner
from prober.schedule import Budgets

BAR_WIDTH: Final = 40
BAR_WIDTH_MIN: Final = 8
BESIDE_BAR: Final = 42
"""Columns for the name and the time of a phase, and what stands behind its bar."""


class NothingToProbe(ValueError):
    """What was asked for is no target, URL or address; the text says what would be."""


def checks_of(text: str, kind: str | None, timeout_seconds: float, entities: tuple[Entity, ...]) -> list[Check]:
    """The checks that `prober probe TEXT [--kind]` asks for: a configured target's, or one made of a URL or address.

    Raises NothingToProbe with one line that says what is wrong.
    """
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise NothingToProbe(f"{printable(text)!r} is not UTF-8; write what is not ASCII percent-encoded")
    for entity in entities:
        for target in entity.targets:
            if target.name == text:
                checks = [check for check in target.checks if kind in (None, check.kind)]
                if not checks:
                    raise NothingToProbe(f"target {text} has no {kind} check")
                return checks
    for name, probe_kind in PROBES.items():
        if kind not in (None, name) or probe_kind.from_url is None:
            continue
        # A URL of another kind is no host or name of this one.
        for candidate in (text,) if kind is None or "://" in text else (text, f"{name}:{text}", f"{name}://{text}"):
            options = probe_kind.from_url(candidate)
            if options is not None:
                return [_check(name, text, options, timeout_seconds)]
    if kind is None and _is_host(text):
        return [_check("icmp", text, {"address": text}, timeout_seconds)]
    what = f"{printable(text)!r} is no configured target, no URL and no address"
    raise NothingToProbe(f"{what}; write for instance https://example.org/, icmp://192.0.2.1 or tcp://example.org:22")


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        labels = text.rstrip(".").split(".")
        return len(labels) > 1 and all(
            0 < len(label) <= 63 and label.replace("-", "").replace("_", "").isalnum() for label in labels
        )
    return True


def _check(kind: str, text: str, options: Mapping[str, object], timeout_seconds: float) -> Check:
    try:
        made = options_of(PROBES[kind], options, printable(text))
    except ConfigError as error:
        raise NothingToProbe(str(error.problems[0])) from error
    return Check(
        target=text, name=kind, kind=kind, interval_seconds=60.0, timeout_seconds=timeout_seconds, options=made
    )


async def probe_once(checks: list[Check], io: Io) -> list[Observation]:
    """Probe each check once, one after the other."""
    meter = StallMeter()
    meter.start()
    runner = Runner(
        clock=SystemClock(),
        io=io,
        kinds=KINDS,
        budgets=Budgets(packets_per_second=500, per_prefix_per_second=2),
        concurrency=1,
        meter=meter,
        sinks=(),
    )
    try:
        return [await runner.execute(check, "once") for check in checks]
    finally:
        meter.stop()
        await asyncio.sleep(0)


def as_json(observation: Observation) -> dict[str, Any]:
    """An observation as `--json` prints it. Durations in seconds, the time in RFC 3339 UTC."""
    sent = datetime.fromtimestamp(observation.utc, UTC).isoformat(timespec="milliseconds")
    return {
        "target": observation.check.target,
        "check": observation.check.name,
        "kind": observation.check.kind,
        "sent_at": sent.replace("+00:00", "Z"),
        "success": observation.success,
        "address": observation.address,
        "duration_seconds": observation.duration_seconds,
        "phases": dict(observation.phases),
        "facts": dict(observation.facts),
        "operation": observation.operation,
        "failure": observation.failure,
        "side": FAILURES[observation.failure][0] if observation.failure else None,
        "detail": observation.detail,
    }


def show(observation: Observation, console: Console) -> None:
    """Draw an observation: what came out and what to look at next, each phase as a bar, and what else was learned."""
    check = observation.check
    where = f" at {observation.address}" if observation.address and observation.address != check.target else ""
    head = Text.assemble((printable(check.target), "bold"), f"{where}  {printable(check.name)}: ")
    took = seconds_text(observation.duration_seconds)
    if observation.failure is None:
        head.append(f"answered in {took}", style="green")
    else:
        side, meaning = FAILURES[observation.failure]
        head.append(f"{observation.failure} during {observation.operation} after {took}", style="red")
        whose = {Side.OURS: "our own side", Side.RESOLVER: "resolver or name servers", Side.TARGET: "target or path"}
        head.append(f"\n  {meaning} ({whose[side]})")
        if observation.detail:
            head.append(f"\n  {printable(observation.detail)}", style="dim")
        head.append(f"\n  hint: {HINTS[observation.failure]}")
    console.print(head, soft_wrap=True)
    table = Table(box=None, show_header=False, pad_edge=True, padding=(0, 1))
    for row in _phases(observation, max(BAR_WIDTH_MIN, min(BAR_WIDTH, console.width - BESIDE_BAR))):
        table.add_row(*row)
    for key, fact in observation.facts.items():
        value = printable(fact) if isinstance(fact, str) else f"{fact:.10g}"
        table.add_row(
            Text(printable(key).replace("_", " "), style="dim"), Text(value, style="dim", justify="right"), ""
        )
    if table.row_count:
        console.print(table)


def _phases(observation: Observation, width: int) -> Iterator[tuple[Text, Text, Text]]:
    """Name, time and bar of each phase, one behind the other; the last is the one in which it failed."""
    whole = max(sum(observation.phases.values()), observation.duration_seconds) or 1.0

    def bar(begin: float, end: float, character: str) -> str:
        start = min(round(width * begin / whole), width - 1)
        return " " * start + character * max(1, min(round(width * end / whole), width) - start)

    before = 0.0
    for name, seconds in observation.phases.items():
        drawn = Text(bar(before, before + seconds, "\N{FULL BLOCK}"), style="cyan")
        yield Text(name), Text(seconds_text(seconds), justify="right"), drawn
        before += seconds
    if observation.failure is not None:
        rest = max(0.0, observation.duration_seconds - before)
        drawn = Text(bar(before, before + rest, "\N{LIGHT SHADE}") + " failed here", style="red")
        yield Text(str(observation.operation), style="red"), Text(seconds_text(rest), justify="right"), drawn
