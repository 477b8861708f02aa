"""A replayed world in the terminal: a line for each scope, the outages with their bounds, the score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prober.judge.records import Outage, OutageClass
from prober.ledger_cli import print_outages, span, when
from prober.model import Target
from prober.printable import printable
from prober.replay.agent import CELLS, Sent, Witness
from prober.replay.fused import print_fused
from prober.replay.run import Replayed
from prober.replay.score import Figures

UP, LOSS, BLIP, OUTAGE, UNSEEN, NOTHING = ".", ":", "!", "#", "?", " "
LEGEND: Final = (
    (UP, "up"),
    (LOSS, "a tenth or more of the probes lost"),
    (BLIP, "blip"),
    (OUTAGE, "outage"),
    (UNSEEN, "not seen"),
)
_STYLES: Final = {UP: "green", LOSS: "yellow", BLIP: "magenta", OUTAGE: "bold red", UNSEEN: "dim"}
LOSS_SHARE: Final = 0.1
LEAST_CELLS: Final = 20
_NAME_MAX: Final = 40


@dataclass(frozen=True, slots=True)
class Row:
    """A scope, and the checks below it."""

    scope: str
    name: str
    keys: tuple[str, ...]


def show(replayed: Replayed, figures: Mapping[str, Figures] | None, console: Console) -> None:
    """Everything, for people."""
    world = replayed.world
    console.print(
        Text.assemble(
            (printable(world.title), "bold"),
            f"  {when(world.start)} to {when(world.end)} UTC, seed {replayed.seed}",
        ),
        soft_wrap=not console.is_terminal,
    )
    rows = list(_rows(replayed))
    for witness in replayed.witnesses:
        console.print()
        console.print(Text.assemble("seen from ", (printable(witness.vantage), "bold")))
        for line in timeline(replayed, witness, rows, console.width if console.is_terminal else None):
            console.print(line, soft_wrap=True)
        console.print()
        shown = leading(replayed, witness.outages)
        print_outages(shown, witness.gaps, console)
        if more := len(witness.outages) - len(shown):
            records = "1 record" if more == 1 else f"{more} records"
            console.print(Text(f"{records} of their targets and checks not listed; --json has all", style="dim"))
    if len(replayed.witnesses) > 1:
        console.print()
        console.print(Text("all vantages together", style="bold"))
        print_fused(replayed, console)
    if figures is not None:
        console.print()
        print_score(figures, console)


def timeline(replayed: Replayed, witness: Witness, rows: Sequence[Row], width: int | None) -> Iterator[Text]:
    """The scopes over time, one line each, and what the characters mean."""
    longest = _NAME_MAX if width is None else max(LEAST_CELLS // 2, min(_NAME_MAX, width - LEAST_CELLS))
    names = [f"{row.scope} {row.name}"[: longest - 1] for row in rows]
    margin = max(map(len, names)) + 1
    cells = CELLS if width is None else max(LEAST_CELLS, min(CELLS, width - margin))
    yield Text(" " * margin + _axis(replayed, cells), style="dim")
    for row, name in zip(rows, names, strict=True):
        line = Text(printable(name).ljust(margin))
        for character in _cells(replayed, witness, row, cells):
            line.append(character, style=_STYLES.get(character))
        yield line
    yield from _legend(margin, (replayed.world.end - replayed.world.start) / cells, width)


def _legend(margin: int, each: float, width: int | None) -> Iterator[Text]:
    """What the characters mean, on as many lines as it takes."""
    parts = [Text.assemble((mark, _STYLES[mark]), (f" {meaning}  ", "dim")) for mark, meaning in LEGEND]
    parts.append(Text(f"(each {span(each)})", style="dim"))
    if width is not None and margin + max(len(part.plain.rstrip()) for part in parts) > width:
        margin = 0
    line = Text(" " * margin)
    for part in parts:
        if width is not None and len(line) > margin and len(line) + len(part.plain.rstrip()) > width:
            line.rstrip()
            yield line
            line = Text(" " * margin)
        line.append_text(part)
    yield line


def _axis(replayed: Replayed, cells: int) -> str:
    """The dates (or hours of a short world) over the cells in which they begin."""
    world = replayed.world
    length = world.end - world.start
    step = next((s for s in _TICKS if length / s <= cells / 8), _TICKS[-1])
    form = "%d %b" if step >= 86_400 else "%H:%M"
    axis = [" "] * (cells + 8)
    tick = -(-world.start // step) * step
    while tick < world.end:
        at = int((tick - world.start) / length * cells)
        text = datetime.fromtimestamp(tick, UTC).strftime(form)
        if at + len(text) <= cells:
            axis[at : at + len(text)] = text
        tick += step
    return "".join(axis).rstrip()


_TICKS: Final = (
    60,
    300,
    600,
    1800,
    3600,
    7200,
    14_400,
    21_600,
    43_200,
    *(86_400 * n for n in (1, 2, 7, 14, 30, 90, 365)),
)


def _cells(replayed: Replayed, witness: Witness, row: Row, count: int) -> Iterator[str]:
    world = replayed.world
    width = (world.end - world.start) / count
    spans = []
    for outage in witness.outages:
        if (outage.scope, outage.name) == (row.scope, row.name):
            end = outage.end if outage.end is not None else max(outage.ended_after, outage.start)
            mark = OUTAGE if outage.outage_class is OutageClass.OUTAGE else BLIP
            spans.append((outage.start - world.start, end - world.start, mark))
    gaps = [(gap.begin - world.start, (gap.end or world.end) - world.start) for gap in witness.gaps]
    lost = _losses([witness.sent[key] for key in row.keys], count)
    for index in range(count):
        begin, end = index * width, (index + 1) * width
        marks = {mark for low, high, mark in spans if low < end and high >= begin}
        unseen = sum(max(0.0, min(high, end) - max(low, begin)) for low, high in gaps)
        if OUTAGE in marks:
            yield OUTAGE
        elif BLIP in marks:
            yield BLIP
        elif unseen >= width / 2:
            yield UNSEEN
        else:
            yield lost[index]


def _losses(sent: Iterable[Sent], count: int) -> list[str]:
    """For each cell whether a part of the regular probes was lost."""
    totals = [[0, 0] for _ in range(count)]
    for one in sent:
        for index, (probes, failed) in enumerate(one.cells):
            total = totals[index * count // CELLS]
            total[0] += probes
            total[1] += failed
    return [
        NOTHING if not probes else LOSS if failed > 1 and failed >= LOSS_SHARE * probes else UP
        for probes, failed in totals
    ]


def _rows(replayed: Replayed) -> Iterator[Row]:
    """The scopes in the order of the files; checks only where one had an outage that its target did not have."""
    apart = {outage.name for witness in replayed.witnesses for outage in witness.outages if outage.scope == "check"}
    for entity in replayed.world.entities:
        yield Row("entity", entity.name, _keys(entity.targets))
        for network in entity.networks:
            yield Row("network", network.name, _keys(t for t in entity.targets if t.network == network.name))
        for site in entity.sites:
            yield Row("site", site.name, _keys(t for t in entity.targets if t.site == site.name))
        for target in entity.targets:
            yield Row("target", target.name, _keys([target]))
            for check in target.checks if len(target.checks) > 1 else ():
                if check.key in apart:
                    yield Row("check", check.key, (check.key,))


def _keys(targets: Iterable[Target]) -> tuple[str, ...]:
    return tuple(check.key for target in targets for check in target.checks)


def leading(replayed: Replayed, outages: Iterable[Outage]) -> list[Outage]:
    """The outages that no wider scope's outage at the same time tells of already, newest first."""
    above: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for entity in replayed.world.entities:
        whole = [("entity", entity.name)]
        for target in entity.targets:
            wider = [("network", target.network)] if target.network else []
            wider += [("site", target.site)] if target.site else []
            own = [(scope, name) for scope, name in wider if name is not None]
            above["target", target.name] = own + whole
            for check in target.checks:
                above["check", check.key] = [("target", target.name), *own, *whole]
    found = sorted(outages, key=lambda outage: (outage.start, outage.id), reverse=True)
    by_scope: dict[tuple[str, str], list[Outage]] = {}
    for outage in found:
        by_scope.setdefault((outage.scope, outage.name), []).append(outage)

    def told(outage: Outage) -> bool:
        return any(
            _meet(outage, other)
            for place in above.get((outage.scope, outage.name), ())
            for other in by_scope.get(place, ())
        )

    return [outage for outage in found if not told(outage)]


def _meet(one: Outage, other: Outage) -> bool:
    def end(outage: Outage) -> float:
        return outage.ended_by if outage.ended_by is not None else float("inf")

    return one.start < end(other) and other.start < end(one)


def print_score(figures: Mapping[str, Figures], console: Console) -> None:
    """The score as a table: a column for each kind of scope."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("score", overflow="fold")
    for scope in figures:
        table.add_column(scope, justify="right", overflow="fold")
    columns = [_words(one) for one in figures.values()]
    for line in columns[0] if columns else ():
        table.add_row(line, *(column[line] for column in columns))
    console.print(table)


def _words(figures: Figures) -> dict[str, str]:
    values = figures.to_json()

    def number(value: float | None, form: str = ".4g") -> str:
        return "-" if value is None else format(value, form)

    words = {
        "true outages": str(figures.true_outages),
        "found": str(figures.found),
        "missed": str(figures.missed),
        "false outages": str(figures.false_outages),
        "target-years": number(figures.target_years, ".3g"),
    }
    for title, key in (("detection delay", "detection_delay_seconds"), ("duration error", "duration_error_seconds")):
        for part, value in values[key].items():
            words[f"{title} {part}, s"] = number(value, ".1f")
    words |= {
        "starts within bounds": _percent(values["coverage"]["starts"]),
        "ends within bounds": _percent(values["coverage"]["ends"]),
        "probes a regular round": number(values["probes_per_regular_round"], ".3f"),
    }
    return words


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.4g} %"
