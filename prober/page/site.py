"""From a path to a document: put together in a thread, one at a time, kept for a second, and never more than wanted."""

from __future__ import annotations

import asyncio
import gzip
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, cast, get_args

import jinja2
from markupsafe import Markup

from prober import __version__
from prober.api import BadRequest, NotAvailable, NotFound
from prober.judge.records import Scope, Verdict
from prober.ledger import LedgerError, cursor_after
from prober.ledger_cli import as_csv
from prober.model import Entity
from prober.page import feeds
from prober.page.detail import detail
from prober.page.history import History, NoHistory, asking
from prober.page.source import Facts, Note, Source
from prober.page.timeline import RANGES
from prober.page.views import ENTITIES, EVENT_RECORDS, LEADING, LISTED, PIECES, RECENT, ROWS, TARGETS, Composer
from prober.page.words import clean, moment, quoted, titled
from prober.printable import printable

KEPT_SECONDS: Final = 1.0
"""A document is put together again after this time at the earliest."""
KEPT_MAX: Final = 32
WAITING_MAX: Final = 32
"""Documents that may be waited for; who wants one more is answered 503."""
REST_SECONDS_MAX: Final = 0.5
FEED_ENTRIES: Final = 100
CSV_ROWS: Final = 10_000
HTML: Final = "text/html"

TEMPLATES: Final = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Document:
    """What is sent: `body`, or `packed` to whom can unpack it (gzip)."""

    body: bytes
    content_type: str
    status: int = 200
    filename: str = ""
    packed: bytes = b""

    def __post_init__(self) -> None:
        if not self.packed:
            object.__setattr__(self, "packed", gzip.compress(self.body, 3, mtime=0))


def _shown(value: Any) -> Any:
    """Whatever a template puts out: nothing in it steers, hides or turns the text."""
    if isinstance(value, str) and not isinstance(value, Markup) and not value.isprintable():
        return printable(value)
    return value


def environment() -> jinja2.Environment:
    """The templates."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
        auto_reload=False,
    )
    made.filters["moment"] = moment
    made.filters["clean"] = clean
    made.globals["version"] = __version__
    made.globals["ranges"] = [(key, words) for key, (_, words) in RANGES.items()]
    return made


class Site:
    """All pages and feeds of one source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._templates = environment()
        self._one_at_a_time = asyncio.Lock()
        self._making: dict[tuple[Any, ...], asyncio.Task[Document]] = {}
        self._rest_until = 0.0
        self._kept: OrderedDict[tuple[Any, ...], tuple[float, int, Document]] = OrderedDict()

    @property
    def version(self) -> int:
        """Another one whenever something has changed."""
        return self._source.version

    async def page(self, name: str, argument: str, query: Mapping[str, str]) -> Document:
        """The page or feed `name`. Raises NotFound, BadRequest and NotAvailable."""
        key = name, argument, tuple(sorted(query.items()))
        if (found := self._fresh(key)) is not None:
            return found
        making = self._making.get(key)
        if making is None:
            if len(self._making) >= WAITING_MAX:
                raise NotAvailable("too many ask at once; try again in a second")
            making = self._making[key] = asyncio.create_task(self._made(key, dict(query)))
            making.add_done_callback(partial(self._over, key))
        return await asyncio.shield(making)  # others may wait for the same

    def _over(self, key: tuple[Any, ...], making: asyncio.Task[Document]) -> None:
        del self._making[key]
        if not making.cancelled():
            making.exception()  # whoever waited has it; nobody may have

    async def _made(self, key: tuple[Any, ...], query: dict[str, str]) -> Document:
        async with self._one_at_a_time:
            # The thread and the loop share one interpreter: half of the time is the loop's, whatever happens.
            await asyncio.sleep(max(0.0, self._rest_until - time.monotonic()))
            begin = time.monotonic()
            version = self._source.version
            try:
                facts = replace(self._source.facts(), version=version)
            except LedgerError as error:
                raise NotAvailable(str(error)) from error
            made = await asyncio.to_thread(self._make, key[0], key[1], query, facts)
            end = time.monotonic()
            self._rest_until = end + min(end - begin, REST_SECONDS_MAX)
            self._kept[key] = end, version, made
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
            return made

    def _fresh(self, key: tuple[Any, ...]) -> Document | None:
        kept = self._kept.get(key)
        if kept is None or time.monotonic() - kept[0] > KEPT_SECONDS or kept[1] != self._source.version:
            return None
        return kept[2]

    # -- in a thread ---------------------------------------------------------------------------------------------------

    def _make(self, name: str, argument: str, query: dict[str, str], facts: Facts) -> Document:
        work = {
            "index": self._index,
            "entity": self._entity,
            "outages": self._outages,
            "outage": self._outage,
            "atom": self._atom,
            "ics": self._ics,
            "csv": self._csv,
            "badge": self._badge,
        }[name]
        try:
            with asking(self._source, facts) as history:
                return work(argument, query, facts, history, "")
        except (LedgerError, sqlite3.Error, OSError) as error:
            return work(argument, query, facts, NoHistory(self._source, facts), clean(str(error), 300))

    def _notes(self, since: float, until: float) -> Sequence[Note]:
        return self._source.notes(since, until)

    def _composer(self, query: Mapping[str, str], facts: Facts, history: History) -> Composer:
        reach = query.get("range", "24h")
        if reach not in RANGES:
            raise BadRequest(f"range is one of {', '.join(RANGES)}")
        notes = self._notes(facts.now - RANGES[reach][0] - 86_400, facts.now)
        return Composer(self._source, facts, history, reach, notes)

    def _render(self, template: str, root: str, facts: Facts, status: int = 200, **values: Any) -> Document:
        text = self._templates.get_template(template).render(root=root, facts=facts, **values)
        return Document(text.encode("utf-8", "replace"), HTML, status)

    def _index(self, _argument: str, query: dict[str, str], facts: Facts, history: History, trouble: str) -> Document:
        _only(query, "range", "page")
        composer = self._composer(query, facts, history)
        chosen, pages = _paged(_trouble_first(facts), query, ENTITIES)
        few = sum(len(entity.targets) for entity in chosen) <= TARGETS
        targets = {entity.name: entity.targets if few else () for entity in chosen}
        composer.load([target.name for several in targets.values() for target in several])
        rows = max(6, ROWS // max(1, len(chosen)))
        pieces = _pieces(sum(1 + min(rows, len(e.networks) + len(e.sites)) + len(targets[e.name]) for e in chosen))
        return self._render(
            "index.html",
            "",
            facts,
            composer=composer,
            alarms=[*composer.alarms(), *_unreadable(trouble)],
            entities=[composer.entity(entity, rows, pieces, targets[entity.name]) for entity in chosen],
            pages=pages,
            outages=composer.events(history.outages(scopes=LEADING, limit=RECENT * EVENT_RECORDS)),
            health=composer.health(),
            state=_state(facts),
        )

    def _entity(self, name: str, query: dict[str, str], facts: Facts, history: History, trouble: str) -> Document:
        _only(query, "range", "page")
        entity = next((one for one in facts.entities if one.name == name), None)
        if entity is None:
            raise NotFound("no such entity")
        composer = self._composer(query, facts, history)
        targets, pages = _paged(entity.targets, query, TARGETS)
        composer.load([target.name for target in entity.targets if target.site] + [t.name for t in targets])
        pieces = _pieces(1 + min(ROWS, len(entity.networks) + len(entity.sites)) + len(targets))
        return self._render(
            "entity.html",
            "../",
            facts,
            composer=composer,
            alarms=[*composer.alarms(), *_unreadable(trouble)],
            entity=composer.entity(entity, ROWS, pieces, targets),
            pages=pages,
            outages=composer.events(history.outages(entity=name, scopes=LEADING, limit=RECENT * EVENT_RECORDS)),
            state=_state(facts),
        )

    def _outages(self, _argument: str, query: dict[str, str], facts: Facts, history: History, trouble: str) -> Document:
        filters = _filters(query, "limit")
        composer = Composer(self._source, facts, history, "24h", self._notes(0.0, facts.now))
        try:
            found = history.outages(limit=LISTED + 1, **filters)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        more = len(found) > LISTED
        found = found[:LISTED]
        kept = {key: value for key, value in query.items() if key != "cursor" and value}
        return self._render(
            "outages.html",
            "",
            facts,
            alarms=_unreadable(trouble),
            outages=[composer.outage(one) for one in found],
            older=_query({**kept, "cursor": cursor_after(found[-1])}) if more else "",
            newest=_query(kept) if "cursor" in query else None,
            query=query,
            kept=_query(kept),
            scopes=get_args(Scope),
            state=_state(facts),
        )

    def _outage(self, name: str, query: dict[str, str], facts: Facts, history: History, trouble: str) -> Document:
        _only(query)
        found = history.outages(by_id=name, limit=1) or [one for one in facts.ongoing if one.id == name]
        if not found:
            raise NotFound(trouble or "no such outage")
        notes = self._notes(found[0].start - 2 * 86_400, facts.now)
        shown = detail(found[0], history, facts, notes)
        return self._render(
            "outage.html", "../", facts, alarms=_unreadable(trouble), outage=shown, id=found[0].id, state=_state(facts)
        )

    # -- feeds ---------------------------------------------------------------------------------------------------------

    def _fed(
        self, query: dict[str, str], facts: Facts, history: History
    ) -> tuple[list[Any], list[str], Sequence[Note]]:
        filters = _filters(query, "cursor", "limit")
        if "scope" not in filters:
            filters["scopes"] = LEADING
        found = history.outages(limit=FEED_ENTRIES, **filters)
        composer_names = _names(facts)
        names = [composer_names.get((one.scope, one.name)) or clean(one.name) for one in found]
        notes = self._notes(found[-1].start - 86_400, facts.now) if found else ()
        return found, names, notes

    def _atom(self, _argument: str, query: dict[str, str], facts: Facts, history: History, trouble: str) -> Document:
        found, names, notes = self._fed(query, facts, history)
        text = feeds.atom(found, names, vantage=facts.vantage, now=facts.now, query=_query(query), notes=notes)
        return Document(text.encode("utf-8", "replace"), "application/atom+xml")

    def _ics(self, _argument: str, query: dict[str, str], facts: Facts, history: History, trouble: str) -> Document:
        found, names, notes = self._fed(query, facts, history)
        text = feeds.calendar(found, names, vantage=facts.vantage, now=facts.now, notes=notes)
        return Document(text.encode("utf-8", "replace"), "text/calendar", filename="outages.ics")

    def _csv(self, _argument: str, query: dict[str, str], facts: Facts, history: History, trouble: str) -> Document:
        filters = _filters(query)
        limit = _number(query.get("limit", "1000"), CSV_ROWS)
        if limit is None:
            raise BadRequest(f"limit is a number from 1 to {CSV_ROWS}")
        try:
            found = history.outages(limit=limit, **filters)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        return Document(as_csv(found).encode("utf-8", "replace"), "text/csv", filename="outages.csv")

    def _badge(self, name: str, query: dict[str, str], facts: Facts, history: History, trouble: str) -> Document:
        _only(query)
        entity = next((one for one in facts.entities if one.name == name), None)
        if entity is None:
            return Document(feeds.badge(name, None).encode("utf-8", "replace"), "image/svg+xml", 404)
        text = feeds.badge(titled(entity.title, entity.name), facts.known("entity", name))
        return Document(text.encode("utf-8", "replace"), "image/svg+xml")


def _names(facts: Facts) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for entity in facts.entities:
        found["entity", entity.name] = titled(entity.title, entity.name)
        found |= {("network", one.name): titled(one.title, one.name) for one in entity.networks}
        found |= {("site", one.name): titled(one.title, one.name) for one in entity.sites}
    return found


def _unreadable(trouble: str) -> list[str]:
    return [f"The history cannot be read: {trouble}"] if trouble else []


def _pieces(rows: int) -> int:
    return max(12, PIECES // max(1, rows))


def _state(facts: Facts) -> str:
    """The worst of all entities, for the title and the icon."""
    looks = [str(facts.known("entity", entity.name).verdict) for entity in facts.entities]
    for verdict, look in (("dark", "down"), ("partial", "partial"), ("unknown", "unknown")):
        if verdict in looks:
            return look
    return "up" if looks else "unknown"


def _trouble_first(facts: Facts) -> list[Entity]:
    """The entities, in the order of the files within each degree of trouble."""
    order = {Verdict.DARK: 0, Verdict.DOWN: 0, Verdict.PARTIAL: 1, Verdict.UNKNOWN: 3, Verdict.UP: 3}
    troubled = {outage.entity for outage in facts.ongoing}
    return sorted(
        facts.entities,
        key=lambda entity: min(order[facts.known("entity", entity.name).verdict], 2 if entity.name in troubled else 3),
    )


def _only(query: Mapping[str, str], *known: str) -> None:
    unknown = sorted(set(query) - set(known))
    if unknown:
        raise BadRequest(f'unknown parameter "{clean(unknown[0], 40)}"')


def _paged(things: Sequence[Any], query: Mapping[str, str], size: int) -> tuple[Sequence[Any], tuple[int, int]]:
    """Those of the page that is asked for; which one it is of how many."""
    asked = _number(query.get("page", "1"), 1_000_000)
    if asked is None:
        raise BadRequest("page is a number from 1 on")
    pages = max(1, -(-len(things) // size))
    number = min(asked, pages)
    return things[(number - 1) * size : number * size], (number, pages)


def _number(text: str, most: int) -> int | None:
    """A whole number from 1 to `most`, in at most 9 digits; None: it is none."""
    if len(text) > 9 or not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        return None
    return int(text)


def _filters(query: Mapping[str, str], *never: str) -> dict[str, Any]:
    _only(query, *({"scope", "name", "entity", "ongoing", "cursor", "limit"} - set(never)))
    found: dict[str, Any] = {key: query[key] for key in ("name", "entity") if query.get(key)}
    if query.get("scope"):
        if query["scope"] not in get_args(Scope):
            raise BadRequest(f"scope is one of {', '.join(get_args(Scope))}")
        found["scope"] = cast(Scope, query["scope"])
    if query.get("ongoing") in ("1", "true"):
        found["ongoing"] = True
    elif query.get("ongoing") not in (None, "", "0", "false"):
        raise BadRequest("ongoing is true or false")
    if query.get("cursor"):
        found["after"] = query["cursor"]
    return found


def _query(values: Mapping[str, str]) -> str:
    return "?" + "&".join(f"{quoted(key)}={quoted(value)}" for key, value in values.items()) if values else ""
