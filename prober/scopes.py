"""What Prometheus is told of scopes: verdicts, outages with their bounds, totals. Views of what the ledger holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prober.judge.records import Outage, Scope, StateChanged, Verdict, rfc3339
from prober.judging import Judging
from prober.metrics import SLICE, Labels, label, number
from prober.model import Entity, Target
from prober.printable import printable


@dataclass(frozen=True, slots=True)
class ScopeView:
    """One scope, as metrics see it."""

    scope: Scope
    name: str
    labels: Labels
    state: StateChanged | None  # None: not shown yet
    ongoing: Outage | None
    now: float  # Unix time
    title: str = ""


@dataclass(frozen=True, slots=True)
class ScopeFamily:
    """A metric with series per scope."""

    name: str
    type: str
    help: str
    read: Callable[[Judging, ScopeView], Iterable[tuple[Labels, float]]]
    labels: tuple[str, ...] = ()  # that it adds to those of the scope


def _up(_judging: Judging, view: ScopeView) -> Iterable[tuple[Labels, float]]:
    if view.state is None or view.state.up is None:
        return ()
    return (("", 1.0 if view.state.up else 0.0),)


def _observed(_judging: Judging, view: ScopeView) -> Iterable[tuple[Labels, float]]:
    known = view.state is not None and view.state.verdict is not Verdict.UNKNOWN
    return (("", 1.0 if known else 0.0),)


def _info(_judging: Judging, view: ScopeView) -> Iterable[tuple[Labels, float]]:
    return ((label("title", view.title), 1.0),) if view.title else ()


def _state_seconds(judging: Judging, view: ScopeView) -> Iterable[tuple[Labels, float]]:
    totals = judging.ledger.totals(view.scope, view.name)
    return (
        ('state="up",', totals.up_seconds),
        ('state="down",', totals.down_seconds),
        ('state="unknown",', totals.unknown_seconds),
    )


def _outages(judging: Judging, view: ScopeView) -> Iterable[tuple[Labels, float]]:
    totals = judging.ledger.totals(view.scope, view.name)
    return (('class="outage",', float(totals.outages)), ('class="blip",', float(totals.blips)))


def _outage_seconds_total(judging: Judging, view: ScopeView) -> Iterable[tuple[Labels, float]]:
    return (("", judging.ledger.totals(view.scope, view.name).outage_seconds),)


def _outage_seconds(_judging: Judging, view: ScopeView) -> Iterable[tuple[Labels, float]]:
    return (("", max(0.0, view.now - view.ongoing.start) if view.ongoing is not None else 0.0),)


def _started_after(_judging: Judging, view: ScopeView) -> Iterable[tuple[Labels, float]]:
    return (("", (view.ongoing.started_after or 0.0) if view.ongoing is not None else 0.0),)


def _started_by(_judging: Judging, view: ScopeView) -> Iterable[tuple[Labels, float]]:
    return (("", view.ongoing.started_by if view.ongoing is not None else 0.0),)


def _degraded_since(_judging: Judging, view: ScopeView) -> Iterable[tuple[Labels, float]]:
    return (("", (view.ongoing.degraded_since or 0.0) if view.ongoing is not None else 0.0),)


def _past(bound: str) -> Callable[[Judging, ScopeView], Iterable[tuple[Labels, float]]]:
    def read(judging: Judging, view: ScopeView) -> Iterator[tuple[Labels, float]]:
        for outage in judging.ledger.past(view.scope, view.name):
            value = getattr(outage, bound)
            yield label("outage", rfc3339(outage.start) or ""), value if value is not None else 0.0

    return read


def _past_seconds(judging: Judging, view: ScopeView) -> Iterator[tuple[Labels, float]]:
    for outage in judging.ledger.past(view.scope, view.name):
        yield label("outage", rfc3339(outage.start) or ""), outage.duration_seconds or 0.0


SCOPE_FAMILIES: Final[tuple[ScopeFamily, ...]] = (
    ScopeFamily("prober_up", "gauge", "The last verdict: 1 up, 0 down; held while nothing is known", _up),
    ScopeFamily("prober_observed", "gauge", "Whether anything is known now; 0 while unknown", _observed),
    ScopeFamily(
        "prober_scope_info", "gauge", "What a scope is called in the targets file, if it has a title", _info, ("title",)
    ),
    ScopeFamily("prober_state_seconds_total", "counter", "Time in each state", _state_seconds, ("state",)),
    ScopeFamily("prober_outages_total", "counter", "Outages that have ended, by class", _outages, ("class",)),
    ScopeFamily(
        "prober_outage_seconds_total",
        "counter",
        "Time of outages that is certain: from their latest possible start to the last failed probe",
        _outage_seconds_total,
    ),
    ScopeFamily(
        "prober_outage_seconds", "gauge", "How long the ongoing outage has lasted (headline); 0: none", _outage_seconds
    ),
    ScopeFamily(
        "prober_outage_started_after_timestamp_seconds",
        "gauge",
        "Earliest possible start of the ongoing outage; 0: none, or not known",
        _started_after,
    ),
    ScopeFamily(
        "prober_outage_started_by_timestamp_seconds",
        "gauge",
        "Latest possible start of the ongoing outage; 0: none",
        _started_by,
    ),
    ScopeFamily(
        "prober_outage_degraded_since_timestamp_seconds",
        "gauge",
        "Since when loss or round trips had risen before the ongoing outage (onset progressive); 0: none, or abrupt",
        _degraded_since,
    ),
    *(
        ScopeFamily(
            f"prober_past_outage_{bound}_timestamp_seconds",
            "gauge",
            f"Of the newest 20 outages that have ended, of entities, networks and sites: {words}; 0: not known",
            _past(bound),
            ("outage",),
        )
        for bound, words in (
            ("started_after", "earliest possible start"),
            ("started_by", "latest possible start"),
            ("ended_after", "earliest possible end"),
            ("ended_by", "latest possible end"),
        )
    ),
    ScopeFamily(
        "prober_past_outage_degraded_since_timestamp_seconds",
        "gauge",
        "Of the same outages: since when loss or round trips had risen before (onset progressive); 0: abrupt",
        _past("degraded_since"),
        ("outage",),
    ),
    ScopeFamily(
        "prober_past_outage_seconds",
        "gauge",
        "Of the same outages: how long it lasted (headline, from the start that the label says); 0: not known",
        _past_seconds,
        ("outage",),
    ),
)


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


def scope_labels(entities: Iterable[Entity]) -> dict[tuple[Scope, str], Labels]:
    """The labels of every scope: what rules and inhibition need to tell the parts from the whole."""
    found: dict[tuple[Scope, str], Labels] = {}

    def add(scope: Scope, name: str, entity: Entity, target: Target | None = None, **further: str | None) -> None:
        pairs = {"scope": scope, "name": name, "entity": entity.name, "country": entity.country, **further}
        if target is not None:
            pairs |= {"network": target.network, "site": target.site, "hosted_in": target.hosted_in}
        found[scope, name] = "".join(label(key, value) for key, value in pairs.items() if value)

    for entity in entities:
        add("entity", entity.name, entity)
        for network in entity.networks:
            add("network", network.name, entity, network=network.name)
        for site in entity.sites:
            add("site", site.name, entity, site=site.name)
        for target in entity.targets:
            add("target", target.name, entity, target)
            for check in target.checks:
                add("check", check.key, entity, target)
    return found


def scope_titles(entities: Iterable[Entity]) -> dict[tuple[Scope, str], str]:
    """What people call the scopes that have a title: entities, networks, sites, targets."""
    found: dict[tuple[Scope, str], str] = {}
    for entity in entities:
        found["entity", entity.name] = entity.title
        found |= {("network", network.name): network.title for network in entity.networks}
        found |= {("site", site.name): site.title for site in entity.sites}
        found |= {("target", target.name): target.title for target in entity.targets}
    return found


class ScopeExposition:
    """Renders the scopes' families after those of the checks."""

    def __init__(self, vantage: str, judging: Judging, entities: Callable[[], tuple[Entity, ...]]) -> None:
        self._vantage = label("vantage", vantage)
        self._judging = judging
        self._entities = entities
        self._of: tuple[Entity, ...] | None = None
        self._labels: dict[tuple[Scope, str], Labels] = {}
        self._titles: dict[tuple[Scope, str], str] = {}

    async def render(self) -> AsyncIterator[bytes]:
        """The families in pieces, each of at most SLICE scopes."""
        entities = self._entities()
        if entities is not self._of:
            self._of, self._labels, self._titles = entities, scope_labels(entities), scope_titles(entities)
        judging = self._judging
        ongoing = {(outage.scope, outage.name): outage for outage in judging.ongoing()}
        now = judging.utc()
        views = []
        for place, ((scope, name), labels) in enumerate(self._labels.items()):
            state = judging.shown.get((scope, name))
            title = self._titles.get((scope, name), "")
            views.append(ScopeView(scope, name, self._vantage + labels, state, ongoing.get((scope, name)), now, title))
            if place % SLICE == 0:
                await asyncio.sleep(0)
        for family in SCOPE_FAMILIES:
            lines = [f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.type}\n"]
            found = False
            for start in range(0, len(views), SLICE):
                for view in views[start : start + SLICE]:
                    for further, value in family.read(judging, view):
                        lines.append(f"{family.name}{{{(view.labels + further)[:-1]}}} {number(value)}\n")
                        found = True
                if found:
                    yield "".join(lines).encode()
                    lines.clear()
                await asyncio.sleep(0)
        yield "".join((*self._networks(entities), *self._vantage_lines(), *self._notes())).encode()

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


def state_word(state: StateChanged | None) -> str:
    """`up`, `down` or `unknown`."""
    if state is None or state.verdict is Verdict.UNKNOWN or state.up is None:
        return "unknown"
    return "up" if state.up else "down"
