"""The scopes of a configuration, and what metrics show of them: verdict, ongoing outage, what the ledger counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from prober.judge.records import Outage, Scope, StateChanged
from prober.judging import Judging
from prober.ledger.totals import NEVER, NOTHING, Counted, ScopeState
from prober.model import Entity
from prober.textformat import Labels, label


@dataclass(slots=True)
class Moment:
    """When the scopes are looked at: the same for all of them."""

    now: float = 0.0  # Unix time
    elapsed: float = 0.0  # on the ledger's own clock, of the last written heartbeat: state seconds are counted up to it

    def take(self, now: float, elapsed: float) -> None:
        """This moment. What is counted must not go back, should another scrape have been ahead; the clock may."""
        self.now, self.elapsed = now, max(elapsed, self.elapsed)


@dataclass(slots=True)
class ScopeView:
    """One scope, brought up to date by `look` at each scrape. What moves with time alone is in `moment`."""

    key: tuple[Scope, str]
    moment: Moment
    title: str = ""
    state: StateChanged | None = None  # None: not shown yet
    ongoing: Outage | None = None
    counted: Counted = NOTHING
    seconds: ScopeState = NEVER
    past: Sequence[Outage] = ()
    changes: int = 0
    """How often `look` found something new."""


def look(judging: Judging, views: Sequence[ScopeView]) -> None:
    """Bring views up to date."""
    keys = [view.key for view in views]
    ledger = judging.ledger
    found = zip(
        views,
        map(judging.shown.get, keys),
        judging.ongoing_at(keys),
        ledger.counted(keys),
        ledger.states(keys),
        strict=True,
    )
    for view, state, ongoing, counted, seconds in found:
        # What was not replaced has not changed: all of them are frozen.
        if (
            view.state is not state
            or view.ongoing is not ongoing
            or view.counted is not counted
            or view.seconds is not seconds
        ):
            view.state, view.ongoing, view.counted, view.seconds = state, ongoing, counted, seconds
            view.changes += 1


def look_back(judging: Judging, views: Sequence[ScopeView]) -> None:
    """The same for their past outages, which the ledger shows of `PAST_SCOPES` alone."""
    for view in views:
        past = judging.ledger.past(*view.key)
        if past != view.past:
            view.past = past
            view.changes += 1


def scope_rows(entities: Iterable[Entity]) -> Iterator[tuple[Scope, str, Labels]]:
    """Every scope with its labels: what rules and inhibition need to tell the parts from the whole."""

    def row(scope: Scope, name: str, common: Labels) -> tuple[Scope, str, Labels]:
        return scope, name, f'scope="{scope}",{label("name", name)}{common}'

    for entity in entities:
        common = label("entity", entity.name) + (label("country", entity.country) if entity.country else "")
        yield row("entity", entity.name, common)
        for network in entity.networks:
            yield row("network", network.name, common + label("network", network.name))
        for site in entity.sites:
            yield row("site", site.name, common + label("site", site.name))
        for target in entity.targets:
            own = common + _place_labels(target.network, target.site, target.hosted_in)
            yield row("target", target.name, own)
            for check in target.checks:
                yield row("check", check.key, own)


@lru_cache(maxsize=4096)  # many targets stand in few places
def _place_labels(network: str | None, site: str | None, hosted_in: str | None) -> Labels:
    pairs = {"network": network, "site": site, "hosted_in": hosted_in}
    return "".join(label(key, value) for key, value in pairs.items() if value)


def scope_labels(entities: Iterable[Entity]) -> dict[tuple[Scope, str], Labels]:
    """The labels of every scope."""
    return {(scope, name): labels for scope, name, labels in scope_rows(entities)}


def scope_titles(entities: Iterable[Entity]) -> dict[tuple[Scope, str], str]:
    """What people call the scopes that have a title: entities, networks, sites, targets."""
    found: dict[tuple[Scope, str], str] = {}
    for entity in entities:
        found["entity", entity.name] = entity.title
        found |= {("network", network.name): network.title for network in entity.networks}
        found |= {("site", site.name): site.title for site in entity.sites}
        found |= {("target", target.name): target.title for target in entity.targets if target.title}
    return found
