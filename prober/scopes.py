"""What Prometheus is told of scopes: verdicts, outages with their bounds, totals. Views of what the ledger holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import attrgetter
from typing import Final, Literal, Protocol

from prober.judge.records import Outage, Verdict, rfc3339
from prober.judging import Judging
from prober.ledger.storage import PAST_SCOPES
from prober.ledger.totals import State
from prober.model import Entity
from prober.printable import printable
from prober.scopeviews import Moment, ScopeView, look, look_back, scope_rows, scope_titles
from prober.textformat import MOMENT, Column, Family, Labels, Rows, Turns, Values, Writer, label, let_go, number

ScopeFamily = Family[ScopeView]


def _plain(values: Callable[[Sequence[ScopeView]], Values]) -> tuple[Column[ScopeView], ...]:
    return (Column("", values),)


def _up(view: ScopeView) -> float | None:
    if view.state is None or view.state.up is None:
        return None
    return 1.0 if view.state.up else 0.0


def _observed(view: ScopeView) -> float:
    known = view.state is not None and view.state.verdict is not Verdict.UNKNOWN
    return 1.0 if known else 0.0


def _info(view: ScopeView) -> Iterable[tuple[Labels, float]]:
    return ((label("title", view.title), 1.0),) if view.title else ()


def _state_seconds(state: State) -> Column[ScopeView]:
    read = attrgetter(f"{state}_seconds")

    def values(views: Sequence[ScopeView]) -> Values:
        elapsed, rows = views[0].moment.elapsed, [view.seconds for view in views]
        return [
            known + elapsed - row.since if row.state == state and elapsed > row.since else known
            for known, row in zip(map(read, rows), rows, strict=True)
        ]

    return Column(label("state", state), values, MOMENT if state == "up" else "")


def _counted(attribute: Literal["blips", "outages", "outage_seconds"], labels: Labels = "") -> Column[ScopeView]:
    read = attrgetter(attribute)
    return Column(labels, lambda views: [float(read(view.counted)) for view in views])


def _of_ongoing(read: Callable[[ScopeView, Outage], float]) -> tuple[Column[ScopeView], ...]:
    return _plain(lambda views: [0.0 if (one := view.ongoing) is None else read(view, one) for view in views])


def _past(bound: str) -> Callable[[ScopeView], Iterable[tuple[Labels, float]]]:
    def read(view: ScopeView) -> Iterator[tuple[Labels, float]]:
        for outage in view.past:
            value = getattr(outage, bound)
            yield label("outage", rfc3339(outage.start) or ""), value if value is not None else 0.0

    return read


def _past_seconds(view: ScopeView) -> Iterator[tuple[Labels, float]]:
    for outage in view.past:
        yield label("outage", rfc3339(outage.start) or ""), outage.duration_seconds or 0.0


SCOPE_FAMILIES: Final[tuple[ScopeFamily, ...]] = (
    Family(
        "prober_up",
        "gauge",
        "The last verdict: 1 up, 0 down; held while nothing is known",
        _plain(lambda views: [_up(view) for view in views]),
    ),
    Family(
        "prober_observed",
        "gauge",
        "Whether anything is known now; 0 while unknown",
        _plain(lambda views: [_observed(view) for view in views]),
    ),
    Family(
        "prober_scope_info",
        "gauge",
        "What a scope is called in the targets file, if it has a title",
        pairs=_info,
        steady=False,
    ),
    Family(
        "prober_state_seconds_total",
        "counter",
        "Time in each state",
        (_state_seconds("up"), _state_seconds("down"), _state_seconds("unknown")),
        moves=True,
    ),
    Family(
        "prober_outages_total",
        "counter",
        "Outages that have ended, by class",
        (_counted("outages", label("class", "outage")), _counted("blips", label("class", "blip"))),
    ),
    Family(
        "prober_outage_seconds_total",
        "counter",
        "Time of outages that is certain: from their latest possible start to the last failed probe",
        (_counted("outage_seconds"),),
    ),
    Family(
        "prober_outage_seconds",
        "gauge",
        "How long the ongoing outage has lasted (headline); 0: none",
        _of_ongoing(lambda view, outage: max(0.0, view.moment.now - outage.start)),
        moves=True,
    ),
    Family(
        "prober_outage_started_after_timestamp_seconds",
        "gauge",
        "Earliest possible start of the ongoing outage; 0: none, or not known",
        _of_ongoing(lambda _view, outage: outage.started_after or 0.0),
    ),
    Family(
        "prober_outage_started_by_timestamp_seconds",
        "gauge",
        "Latest possible start of the ongoing outage; 0: none",
        _of_ongoing(lambda _view, outage: outage.started_by),
    ),
    Family(
        "prober_outage_degraded_since_timestamp_seconds",
        "gauge",
        "Since when loss or round trips had risen before the ongoing outage (onset progressive); 0: none, or abrupt",
        _of_ongoing(lambda _view, outage: outage.degraded_since or 0.0),
    ),
    *(
        Family(
            f"prober_past_outage_{bound}_timestamp_seconds",
            "gauge",
            f"Of the newest 20 outages that have ended, of entities, networks and sites: {words}; 0: not known",
            pairs=_past(bound),
        )
        for bound, words in (
            ("started_after", "earliest possible start"),
            ("started_by", "latest possible start"),
            ("ended_after", "earliest possible end"),
            ("ended_by", "latest possible end"),
        )
    ),
    Family(
        "prober_past_outage_degraded_since_timestamp_seconds",
        "gauge",
        "Of the same outages: since when loss or round trips had risen before (onset progressive); 0: abrupt",
        pairs=_past("degraded_since"),
    ),
    Family(
        "prober_past_outage_seconds",
        "gauge",
        "Of the same outages: how long it lasted (headline, from the start that the label says); 0: not known",
        pairs=_past_seconds,
    ),
)

PAST_FAMILIES: Final = tuple(family for family in SCOPE_FAMILIES if family.name.startswith("prober_past_"))
"""Those that tell of outages that have ended."""

SCOPE_LABELS: Final = {
    "prober_scope_info": ("title",),
    "prober_state_seconds_total": ("state",),
    "prober_outages_total": ("class",),
} | {family.name: ("outage",) for family in PAST_FAMILIES}
"""What families add to the labels of the scope."""


@dataclass(frozen=True, slots=True)
class VantageFamily:
    """A metric of the vantage's own judging: one series."""

    name: str
    type: str
    help: str
    read: Callable[[Judging], float]


VANTAGE_FAMILIES: Final[tuple[VantageFamily, ...]] = (
    VantageFamily(
        "prober_observer_up",
        "gauge",
        "Whether the references say that this vantage is online",
        lambda judging: float(judging.judge.observer_up),
    ),
    VantageFamily(
        "prober_references",
        "gauge",
        "References that can vouch for this vantage; 0: nothing does",
        lambda judging: judging.reference_count,
    ),
    VantageFamily(
        "prober_blip_seconds",
        "gauge",
        "What this agent calls a blip: an outage that was certainly this long is of class outage (judgement.blip)",
        lambda judging: judging.judge.settings.blip_seconds,
    ),
    VantageFamily(
        "prober_ledger_writable",
        "gauge",
        "Whether events reach the ledger's disk",
        lambda judging: float(judging.ledger.writable),
    ),
    VantageFamily(
        "prober_ledger_unwritten_events",
        "gauge",
        "Outages and gaps that wait to be written",
        lambda judging: judging.ledger.unwritten,
    ),
    VantageFamily(
        "prober_ledger_lost_events_total",
        "counter",
        "Outages and gaps that could not be kept until they were written",
        lambda judging: judging.ledger.lost,
    ),
)

NOTES: Final = (
    "prober_note_timestamp_seconds",
    "When what a note is about was: the newest 20 notes, their texts cut to 200 characters",
)
NOTE_TEXT_MAX: Final = 200
"""Characters: a label travels with every sample."""

ENTITY_NETWORKS: Final = ("prober_entity_networks", "Networks of an entity, by state")


SLICE: Final = 100
"""Scopes that are laid out or looked at, and other lines that are written, in one go."""


class _Layout:
    """The scopes of one configuration, and the rows of what is said of them."""

    def __init__(self) -> None:
        self.moment = Moment()
        self.views: list[ScopeView] = []
        self.rows: Rows[ScopeView] = Rows(happened=attrgetter("changes"))
        # The ledger's view has the past of these alone.
        self.leading_views: list[ScopeView] = []
        self.leading: Rows[ScopeView] = Rows(happened=attrgetter("changes"))
        self._seen: tuple[int, int] | None = None  # versions of what the views show

    async def fill(self, entities: tuple[Entity, ...], vantage: Labels, turns: Turns) -> None:
        """Lay out all scopes, in slices."""
        for entity in entities:
            titles = scope_titles((entity,))
            for scope, name, own in scope_rows((entity,)):
                view = ScopeView((scope, name), self.moment, titles.get((scope, name), ""))
                self.views.append(view)
                self.rows.append(view, vantage + own)
                if scope in PAST_SCOPES:
                    self.leading_views.append(view)
                    self.leading.append(view, vantage + own)
                if len(self.views) % SLICE == 0:
                    await turns.take()

    def parts(self) -> list[object]:
        """What it is made of, for `let_go`."""
        return [*self.views, *self.rows.parts(), *self.leading.parts()]

    async def look(self, judging: Judging, turns: Turns) -> None:
        """Bring the views up to date; what has not changed anywhere is not looked at."""
        now, elapsed = judging.utc(), judging.ledger.elapsed
        # While nothing can be written, outages are the judge's own, who keeps no version of them.
        found = (judging.version, judging.ledger.version) if judging.ledger.writable else None
        if found is None or found != self._seen:
            for views, bring in ((self.views, look), (self.leading_views, look_back)):
                for start in range(0, len(views), SLICE):
                    bring(judging, views[start : start + SLICE])
                    await turns.take()
            self._seen = found
        # Last: another scrape that is under way must not count up to this moment what it read before.
        self.moment.take(now, elapsed)


def _gathered(lines: Iterator[str]) -> Iterator[str]:
    while some := "".join(islice(lines, SLICE)):
        yield some


class ScopeExposition:
    """Renders the scopes' families after those of the checks."""

    def __init__(self, vantage: str, judging: Judging, entities: Callable[[], tuple[Entity, ...]]) -> None:
        self._vantage = label("vantage", vantage)
        self._judging = judging
        self._entities = entities
        self._of: tuple[Entity, ...] | None = None
        self._layout = _Layout()

    async def render(self, writer: Writer) -> AsyncIterator[bytes]:
        """The families in pieces."""
        entities = self._entities()
        layout = self._layout
        if entities is not self._of:  # another scrape may begin before this is done, and lays out its own
            layout = _Layout()
            await layout.fill(entities, self._vantage, writer.turns)
            remains = self._layout.parts()
            self._layout, self._of = layout, entities
            await let_go(remains, writer.turns)
        await layout.look(self._judging, writer.turns)
        await writer.read(layout.rows, [family for family in SCOPE_FAMILIES if family not in PAST_FAMILIES])
        await writer.read(layout.leading, PAST_FAMILIES)
        for family in SCOPE_FAMILIES:
            async for piece in writer.family((family, layout.leading if family in PAST_FAMILIES else layout.rows)):
                yield piece
        for lines in _gathered(chain(self._networks(entities), self._vantage_lines(), self._notes())):
            yield writer.plain(lines.encode())
            await writer.turns.take()

    def _vantage_lines(self) -> Iterator[str]:
        for family in VANTAGE_FAMILIES:
            yield f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.type}\n"
            yield f"{family.name}{{{self._vantage[:-1]}}} {number(family.read(self._judging))}\n"

    def _notes(self) -> Iterator[str]:
        """The only texts of people's own in labels: few, short, and of no other metric."""
        name, text = NOTES
        yield f"# HELP {name} {text}\n# TYPE {name} gauge\n"
        found: dict[Labels, float] = {}  # one series twice would spoil the whole exposition
        for note in self._judging.ledger.latest_notes():
            pairs = {"id": note.id, "entity": note.entity, "text": note.text, "source": note.source}
            labels = "".join(label(key, printable(value, NOTE_TEXT_MAX)) for key, value in pairs.items() if value)
            found[self._vantage + labels] = note.at
        for labels, at in found.items():
            yield f"{name}{{{labels[:-1]}}} {number(at)}\n"

    def _networks(self, entities: Iterable[Entity]) -> Iterator[str]:
        name, text = ENTITY_NETWORKS
        yield f"# HELP {name} {text}\n# TYPE {name} gauge\n"
        for entity in entities:
            counts = {"up": 0, "down": 0, "unknown": 0}
            for network in entity.networks:
                counts[state_word(self._judging.shown.get(("network", network.name)))] += 1
            for state, count in counts.items():
                labels = self._vantage + label("entity", entity.name) + label("state", state)
                yield f"{name}{{{labels[:-1]}}} {count}\n"


class Standing(Protocol):
    """What is known of a scope: a `StateChanged` of the judge's, or what a ledger says. `up` is held while unknown."""

    @property
    def verdict(self) -> Verdict: ...
    @property
    def up(self) -> bool | None: ...


def state_word(state: Standing | None) -> str:
    """`up`, `down` or `unknown`."""
    if state is None or state.verdict is Verdict.UNKNOWN or state.up is None:
        return "unknown"
    return "up" if state.up else "down"
