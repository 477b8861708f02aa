"""Puts together what the templates show, in its order. Times are Unix seconds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from prober.api import judged_by
from prober.judge.records import Gap, Outage, Scope
from prober.ledger.read import Mark
from prober.ledger_cli import blind_line, span, when
from prober.model import Entity, Target
from prober.page.curves import curve
from prober.page.events import bounds, is_part, notes_beside, parts_of_event
from prober.page.history import History
from prober.page.shapes import EntityView, Group, Health, Ongoing, OutageRow, Row
from prober.page.source import Facts, Key, Note, Source
from prober.page.timeline import RANGES, strip, ticks
from prober.page.words import (
    LOOKS,
    blindness,
    brief,
    clean,
    clock,
    counted,
    lasting,
    moment,
    quoted,
    reasons,
    standing,
    titled,
)
from prober.scopes import Standing
from prober.sentence import last_words, verdict_words

LEADING: Final[tuple[Scope, ...]] = ("entity", "network", "site")
ENTITIES: Final = 20
"""Entities on a page."""
ROWS: Final = 60
"""Networks, sites and mirrors on a page, about."""
PIECES: Final = 1_200
"""Pieces of strips on a page, about: what bounds its size."""
TARGETS: Final = 50
"""Targets on a page of an entity; so many are also unfolded on the first page, if there are no more."""
ONGOING: Final = 8
"""Ongoing outages that are told of an entity."""
RECENT: Final = 15
"""Events on the first page, made of at most so many times EVENT_RECORDS records."""
EVENT_RECORDS: Final = 20
LISTED: Final = 50
GAPS_SHOWN: Final = 8


class Composer:
    """Puts one page together out of facts and history."""

    def __init__(self, source: Source, facts: Facts, history: History, reach: str, notes: Sequence[Note]) -> None:
        self._source = source
        self.facts = facts
        self._history = history
        self.reach = reach
        self.begin = facts.now - RANGES[reach][0]
        self._notes = notes
        self._gaps = history.gaps(self.begin)
        self._marks: dict[Key, list[Mark]] = {}
        self._ongoing_in: dict[str, list[Outage]] = {}
        for one in facts.ongoing:
            self._ongoing_in.setdefault(one.entity, []).append(one)
        self._titles: dict[Key, str] = {}
        for entity in facts.entities:
            self._titles["entity", entity.name] = titled(entity.title, entity.name)
            for scope, parts in (("network", entity.networks), ("site", entity.sites), ("target", entity.targets)):
                for part in parts:
                    self._titles[scope, part.name] = titled(part.title, part.name)  # type: ignore[index]

    # -- parts ---------------------------------------------------------------------------------------------------------

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """The axis of all strips."""
        return ticks(self.begin, self.facts.now)

    def title(self, scope: Scope, name: str) -> str:
        """What people call it."""
        return self._titles.get((scope, name)) or clean(name)

    def load(self, targets: Collection[str] = ()) -> None:
        """Ask for the outages of the strips: all leading scopes, and these targets."""
        of: dict[Scope, Collection[str] | None] = dict.fromkeys(LEADING)
        if targets:
            of["target"] = targets
        for mark in self._history.marks(of, self.begin):
            self._marks.setdefault((mark.scope, mark.name), []).append(mark)

    def _ongoing_of(self, entity: str) -> tuple[tuple[Ongoing, ...], int]:
        """What goes on, the largest scopes first, parts of a dark whole within it; and how much more there is."""
        mine = self._ongoing_in.get(entity, [])
        found = [one for one in mine if one.scope in LEADING] or [one for one in mine if one.scope == "target"] or mine
        whole = next((one for one in found if one.scope == "entity"), None)
        parts = [one for one in found if whole is not None and is_part(one, whole) and one is not whole]
        alone = [one for one in found if one not in parts]
        alone.sort(key=lambda one: (LEADING.index(one.scope) if one.scope in LEADING else 9, one.start, one.name))
        shown = tuple(self._ongoing(one, parts if one is whole else ()) for one in alone[:ONGOING])
        return shown, len(mine) - len(shown)

    def _ongoing(self, outage: Outage, parts: Sequence[Outage]) -> Ongoing:
        certain = (
            f"at least {span(outage.duration_min_seconds // 1)} certain" if outage.duration_min_seconds >= 1 else ""
        )
        onset = "abrupt onset"
        if outage.degraded_since is not None:
            onset = f"degraded since {brief(outage.degraded_since)}"
        with_it = f"with {with_parts}" if (with_parts := parts_of_event(parts)) else ""
        words = (with_it, certain, onset, reasons(outage.failures.items(), 2))
        return Ongoing(
            title=self.title(outage.scope, outage.name),
            scope=outage.scope,
            href=f"outages/{quoted(outage.id)}",
            word="dark" if outage.scope == "entity" else f"{outage.scope} down",
            start=outage.start,
            clock=clock(self.facts.now - outage.start),
            since=f"{moment(outage.start)} UTC",
            facts="; ".join(word for word in words if word),
            notes=notes_beside(self._notes, outage.entity, outage.start - 86_400, self.facts.now),
        )

    def entity(self, entity: Entity, rows: int, pieces: int, targets: Sequence[Target] = ()) -> EntityView:
        """An entity with at most about so many rows; `targets`: those that are shown too."""
        known = self.facts.known("entity", entity.name)
        in_network: dict[str, list[Target]] = {}
        mirrors_of: dict[str, list[Target]] = {}
        for target in entity.targets:
            in_network.setdefault(target.network or "", []).append(target)
            mirrors_of.setdefault(target.site or "", []).append(target)
        networks = [
            self._row(
                "network",
                one.name,
                one.prefix,
                in_network.get(one.name, ()),
                pieces,
            )
            for one in entity.networks[:rows]
        ]
        left = max(4, rows - len(networks))
        sites: list[Row] = []
        shown_sites = 0
        for site in entity.sites:
            if len(sites) >= left:
                break
            mirrors = mirrors_of.get(site.name, [])
            alone = len(mirrors) == 1
            about = _hosted(mirrors[0]) if alone else counted(len(mirrors), "mirror")
            sites.append(self._row("site", site.name, about, mirrors, pieces))
            shown_sites += 1
            if not alone:
                sites += [
                    self._row("target", mirror.name, _hosted(mirror), [mirror], pieces, inner=True)
                    for mirror in mirrors[: max(1, left - len(sites))]
                ]
        groups = (
            Group("Networks", tuple(networks), len(entity.networks) - len(networks)),
            Group("Sites and mirrors", tuple(sites), len(entity.sites) - shown_sites),
        )
        ongoing, more = self._ongoing_of(entity.name)
        word, rest = self._said(entity, known)
        return EntityView(
            name=clean(entity.name),
            title=self.title("entity", entity.name),
            anchor=f"entity-{quoted(entity.name)}",
            path=quoted(entity.name),
            href=f"entities/{quoted(entity.name)}",
            look=LOOKS[known.verdict],
            word=word,
            since=rest.startswith("since "),
            rest=rest,
            whole=self._whole(entity, pieces),
            groups=tuple(group for group in groups if group.rows),
            ongoing=ongoing,
            ongoing_more=more,
            targets=Group("Targets", tuple(self._target(one, pieces) for one in targets)) if targets else None,
            target_count=len(entity.targets),
            notes=notes_beside(self._notes, entity.name, self.begin, self.facts.now),
        )

    def _said(self, entity: Entity, known: Standing) -> tuple[str, str]:
        """The sentence of `prober status`: the verdict, and the rest; only the rest changes with every second."""
        current = next((one for one in self._ongoing_in.get(entity.name, ()) if one.scope == "entity"), None)
        past = self._history.outages(scope="entity", name=entity.name, lasted=True, limit=2)
        last = next((one for one in past if not one.ongoing), None)
        word = verdict_words(known.verdict, held=known.up)
        whole = verdict_words(known.verdict, held=known.up, ongoing=current, now=self.facts.now)
        since = whole.removeprefix(word).strip()
        parts = (
            f"{since}." if since else "",
            standing(self.facts, entity),
            f"{last_words(last, ongoing=current is not None)}.",
        )
        return word, " ".join(part for part in parts if part)

    def _whole(self, entity: Entity, pieces: int) -> Row:
        scope, names = judged_by(entity)
        weak = [mark for name in names for mark in self._marks.get((scope, name), ())]
        known = self.facts.known("entity", entity.name)
        return self._row("entity", entity.name, "", entity.targets, pieces, weak=weak, known=known)

    def _row(
        self,
        scope: Scope,
        name: str,
        about: str,
        targets: Sequence[Target],
        pieces: int,
        *,
        inner: bool = False,
        weak: Sequence[Mark] = (),
        known: Standing | None = None,
    ) -> Row:
        known = known or self.facts.known(scope, name)
        keys = [check.key for target in targets for check in target.checks]
        return Row(
            title=self.title(scope, name),
            about=clean(about),
            look=LOOKS[known.verdict],
            word=verdict_words(known.verdict, held=known.up),
            strip=strip(
                self._marks.get((scope, name), ()),
                self._gaps,
                begin=self.begin,
                now=self.facts.now,
                watched_since=self._since(scope, name),
                weak=weak,
                most=pieces,
            ),
            curve=curve(self._source.course(keys, self.facts.now)) if keys else None,
            inner=inner,
        )

    def _since(self, scope: Scope, name: str) -> float | None:
        since = self.facts.began(scope, name)
        return self.facts.now if since is None else since

    def _target(self, target: Target, pieces: int) -> Row:
        parts = (target.network or "", _hosted(target), ", ".join(check.name for check in target.checks[:6]))
        return self._row("target", target.name, " · ".join(part for part in parts if part), [target], pieces)

    def events(self, outages: Sequence[Outage]) -> list[OutageRow]:
        """Newest first; an entity's outage stands for those of its parts at the same time."""
        wholes = [one for one in outages if one.scope == "entity"]
        parts: dict[str, list[Outage]] = {}
        alone: list[Outage] = []
        for one in outages:
            whole = None if one.scope == "entity" else next((two for two in wholes if is_part(one, two)), None)
            if whole is None:
                alone.append(one)
            else:
                parts.setdefault(whole.id, []).append(one)
        return [self.outage(one, parts.get(one.id, ())) for one in alone[:RECENT]]

    def outage(self, outage: Outage, parts: Sequence[Outage] = ()) -> OutageRow:
        """A line of the table."""
        kind = "ongoing" if outage.ongoing else str(outage.outage_class)
        onset = "abrupt"
        if outage.degraded_since is not None:
            onset = f"progressive, since {brief(outage.degraded_since)}"
        end = self.facts.now if outage.ended_by is None else outage.ended_by
        return OutageRow(
            href=f"outages/{quoted(outage.id)}",
            start=moment(outage.start),
            scope=outage.scope,
            title=self.title(outage.scope, outage.name),
            duration=lasting(outage, self.facts.now),
            look="down" if outage.ongoing else kind,
            kind=kind,
            onset=onset,
            bounds=bounds(outage),
            reasons=reasons(outage.failures.items(), 2),
            notes=notes_beside(self._notes, outage.entity, outage.start, end),
            parts=parts_of_event(parts),
        )

    def health(self) -> Health:
        """How well this vantage sees."""
        facts = self.facts
        gaps = [gap for gap in self._gaps if gap.end != gap.begin]
        if facts.observer_up is None:
            look, word = (
                ("unknown", "Nothing vouches for this vantage.")
                if facts.live
                else ("unknown", f"From the ledger of {clean(facts.vantage)}; nothing is probed here.")
            )
        elif facts.observer_up:
            look, word = "up", "This vantage can see: its references answer."
        else:
            look, word = "down", blindness(facts)
        unwritten = f"Events cannot be written and wait in memory: {clean(facts.ledger_trouble)}."
        return Health(
            look=look,
            word=word,
            witnesses=tuple(
                (
                    "up" if not one.losses else "down" if one.losses >= 3 else "partial",
                    clean(one.name),
                    "answers" if not one.losses else f"{counted(one.losses, 'loss', 'losses')} in a row",
                )
                for one in facts.witnesses
            ),
            gaps=tuple(
                (
                    f"{when(gap.begin)} UTC",
                    span((facts.now if gap.end is None else gap.end) - gap.begin)
                    + (" so far" if gap.end is None else ""),
                    str(gap.cause).replace("_", " "),
                )
                for gap in gaps[:GAPS_SHOWN]
            ),
            gap_line=self._gap_line(gaps),
            ledger=unwritten if facts.ledger_trouble else "Every event is on the disk before it is shown.",
        )

    def _gap_line(self, gaps: Sequence[Gap]) -> str:
        """What it could not see in the time shown, and since when it watches if not all along."""
        line = blind_line(gaps)
        known = [self.facts.began("entity", entity.name) for entity in self.facts.entities]
        since = min((one for one in known if one is not None), default=None)
        if since is not None and since <= self.begin:
            return f"{line}." if line else "No gap in the time shown: it could see all along."
        watches = "since when it watches is not known" if since is None else f"it watches since {moment(since)} UTC"
        return f"{line}; {watches}." if line else f"No gap on record; {watches}."

    def alarms(self) -> list[str]:
        """What must be read before anything else."""
        found = []
        if blind := blindness(self.facts):
            found.append(blind)
        if self.facts.ledger_trouble:
            found.append(f"The ledger cannot be written: {clean(self.facts.ledger_trouble)}. Probing goes on.")
        return found


def _hosted(target: Target) -> str:
    return f"hosted in {target.hosted_in}" if target.hosted_in else ""
