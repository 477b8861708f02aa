"""What /api/v1 answers: the agent's state and its outages, as plain values that become JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, cast, get_args

from prober.judge.records import Outage, Scope, StateChanged, Verdict, rfc3339
from prober.judging import Judging
from prober.ledger import BadNote, LedgerError, cursor_after, make_note
from prober.model import Entity, Network, Site, Target
from prober.printable import printable
from prober.scopes import Standing, state_word
from prober.sentence import Parts, verdict_sentence

PAGE: Final = 100
PAGE_MAX: Final = 1_000
_PARAMETERS: Final = ("since", "scope", "name", "entity", "ongoing", "limit", "cursor")
_NOTE_PARAMETERS: Final = ("since", "until", "entity", "limit")
_NOTE_KEYS: Final = ("text", "at", "until", "entity", "source", "link")


class BadRequest(ValueError):
    """The question cannot be answered; the text is one line that says why."""


class NotFound(LookupError):
    """There is no such thing; the text is one line."""


class NotAvailable(RuntimeError):
    """It cannot be answered now; the text is one line."""


def parse_since(text: str) -> float:
    """A time in RFC 3339 (`2014-12-22`, `2014-12-22T16:15:00Z`; UTC unless it says otherwise) as Unix seconds.

    Raises ValueError with a message that says how to write it.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = datetime.fromisoformat(text + ("+00:00" if "T" in text else "T00:00:00+00:00"))
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise ValueError(
            f'"{printable(text, 40)}" is no time; write it like 2014-12-22 or 2014-12-22T16:15:00Z'
        ) from None


class Api:
    """Answers for the HTTP face."""

    def __init__(self, vantage: str, judging: Judging, entities: Callable[[], tuple[Entity, ...]]) -> None:
        self._vantage = vantage
        self._judging = judging
        self._entities = entities

    def status(self) -> dict[str, Any]:
        """What is known now: the vantage, every entity with its parts, and what is ongoing."""
        judging = self._judging
        ledger = judging.ledger
        now, ongoing = judging.utc(), judging.ongoing()
        whole = {outage.name: outage for outage in ongoing if outage.scope == "entity"}
        return {
            "clock": rfc3339(now),
            "vantage": self._vantage,
            "observer": {
                "up": judging.judge.observer_up,
                "references": judging.reference_count,
                "gaps": [gap.to_json() for gap in ledger.open_gaps()],
            },
            "ledger": {
                "writable": ledger.writable,
                "unwritten": ledger.unwritten,
                "failing_since": rfc3339(ledger.failing_since),
                "reason": ledger.failing_reason,
            },
            "entities": [self._entity(entity, now, whole.get(entity.name)) for entity in self._entities()],
            "ongoing": [outage.to_json() for outage in ongoing],
        }

    def _entity(self, entity: Entity, now: float, ongoing: Outage | None) -> dict[str, Any]:
        past = self._judging.ledger.past("entity", entity.name)
        last = past[0] if past else None
        state = self._judging.shown.get(("entity", entity.name))
        return {
            "name": entity.name,
            "title": entity.title,
            "sentence": verdict_sentence(
                entity.title or entity.name,
                Verdict.UNKNOWN if state is None else state.verdict,
                held=None if state is None else state.up,
                parts=parts_of(entity, self._judging.shown),
                ongoing=ongoing,
                last=last,
                now=now,
            ),
            "last_outage": None if last is None else last.to_json(),
            "country": entity.country,
            "vouched": not isinstance(entity.references, tuple) or bool(entity.references),
            **self._state("entity", entity.name),
            "networks": [
                {"name": n.name, "title": n.title, "prefix": n.prefix, **self._state("network", n.name)}
                for n in entity.networks
            ],
            "sites": [
                {"name": site.name, "title": site.title, **self._state("site", site.name)} for site in entity.sites
            ],
            "targets": [
                {
                    "name": target.name,
                    "network": target.network,
                    "site": target.site,
                    "hosted_in": target.hosted_in,
                    **self._state("target", target.name),
                    "checks": [{"name": check.name, **self._state("check", check.key)} for check in target.checks],
                }
                for target in entity.targets
            ],
        }

    def _state(self, scope: Scope, name: str) -> dict[str, Any]:
        state: StateChanged | None = self._judging.shown.get((scope, name))
        verdict = "unknown" if state is None else str(state.verdict)
        held = None if state is None or state.up is None else ("up" if state.up else "down")
        return {"verdict": verdict, "last_known": held}

    async def outages(self, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of outages, newest first. Raises BadRequest and NotAvailable."""
        filters, limit = _filters(query)
        try:
            page = await self._judging.ledger.outages(limit=limit + 1, **filters)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        except LedgerError as error:
            raise NotAvailable(str(error)) from error
        more, page = len(page) > limit, page[:limit]
        # An ongoing outage as far as it has come by now.
        current = {outage.id: outage for outage in self._judging.ongoing()}
        return {
            "clock": rfc3339(self._judging.utc()),
            "vantage": self._vantage,
            "outages": [current.get(outage.id, outage).to_json() for outage in page],
            "next": cursor_after(page[-1]) if more else None,
        }

    # -- notes ---------------------------------------------------------------------------------------------------------

    async def notes(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Notes, newest first. Raises BadRequest and NotAvailable."""
        _only(query, _NOTE_PARAMETERS)
        filters: dict[str, Any] = {key: _time(query, key) for key in ("since", "until") if key in query}
        if "entity" in query:
            filters["entity"] = query["entity"]
        try:
            found = await self._judging.ledger.notes(limit=_limit(query), **filters)
        except LedgerError as error:
            raise NotAvailable(str(error)) from error
        return {
            "clock": rfc3339(self._judging.utc()),
            "vantage": self._vantage,
            "notes": [note.to_json() for note in found],
        }

    async def add_note(self, given: object) -> dict[str, Any]:
        """Write the note that this JSON describes, and return it as it is kept. Raises BadRequest and NotAvailable."""
        if not isinstance(given, dict):
            raise BadRequest('write an object: {"text": "...", "at": "2014-12-22T18:00:00Z"}')
        _only(given, _NOTE_KEYS)
        for key, value in given.items():
            if not isinstance(value, str) and not (key == "until" and value is None):
                raise BadRequest(f"{key} is no text")
        known = {entity.name for entity in self._entities()}
        entity = given.get("entity", "")
        if entity and entity not in known:
            raise BadRequest(f"there is no entity {printable(entity, 60)}; known: {', '.join(sorted(known)) or 'none'}")
        try:
            note = make_note(
                given.get("text", ""),
                now=self._judging.utc(),
                at=_time(given, "at") if "at" in given else None,
                until=_time(given, "until") if given.get("until") is not None else None,
                entity=entity,
                source=given.get("source", ""),
                link=given.get("link", ""),
            )
            await self._judging.ledger.add_note(note)
        except BadNote as error:
            raise BadRequest(str(error)) from error
        except LedgerError as error:
            raise NotAvailable(str(error)) from error
        return note.to_json()

    async def remove_note(self, name: str) -> bool:
        """Remove the note with this id; False: there is none. Raises NotAvailable."""
        try:
            return await self._judging.ledger.remove_note(name)
        except LedgerError as error:
            raise NotAvailable(str(error)) from error


def judged_by(entity: Entity) -> tuple[Scope, list[str]]:
    """What an entity is judged by, by name: its networks, else its sites, else its targets."""
    scope: Scope = "network" if entity.networks else "site" if entity.sites else "target"
    parts: Iterable[Network | Site | Target] = entity.networks or entity.sites or entity.targets
    return scope, [part.name for part in parts]


def parts_of(entity: Entity, shown: Mapping[tuple[Scope, str], Standing]) -> Parts:
    """The same, counted."""
    scope, names = judged_by(entity)
    counts = Counter(state_word(shown.get((scope, name))) for name in names)
    return Parts(scope, counts["up"], counts["down"], counts["unknown"])


def _only(given: Mapping[str, Any], known: Collection[str]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise BadRequest(f'unknown parameter "{printable(unknown[0], 40)}"; known: {", ".join(known)}')


def _time(given: Mapping[str, str], key: str) -> float:
    try:
        return parse_since(given[key].replace(" ", "+"))
    except ValueError as error:
        raise BadRequest(str(error)) from error


def _limit(query: Mapping[str, str]) -> int:
    limit = query.get("limit", str(PAGE))
    if not limit.isascii() or not limit.isdigit() or len(limit) > 9 or not 1 <= int(limit) <= PAGE_MAX:
        raise BadRequest(f"limit is a number from 1 to {PAGE_MAX}")
    return int(limit)


def _filters(query: Mapping[str, str]) -> tuple[dict[str, Any], int]:
    _only(query, _PARAMETERS)
    filters: dict[str, Any] = {key: query[key] for key in ("name", "entity") if key in query}
    if "scope" in query:
        if query["scope"] not in get_args(Scope):
            raise BadRequest(f"scope is one of {', '.join(get_args(Scope))}")
        filters["scope"] = cast(Scope, query["scope"])
    if "since" in query:
        filters["since"] = _time(query, "since")
    if "ongoing" in query:
        if query["ongoing"] not in ("", "1", "true", "0", "false"):
            raise BadRequest("ongoing is true or false")
        filters["ongoing"] = query["ongoing"] in ("", "1", "true")
    if "cursor" in query:
        filters["after"] = query["cursor"]
    return filters, _limit(query)
