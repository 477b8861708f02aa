"""What /api/v1 answers: the agent's state and its outages, as plain values that become JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, cast, get_args

from prober.judge.records import Scope, StateChanged, rfc3339
from prober.judging import Judging
from prober.ledger import LedgerError, cursor_after
from prober.model import Entity

PAGE: Final = 100
PAGE_MAX: Final = 1_000
_PARAMETERS: Final = ("since", "scope", "name", "entity", "ongoing", "limit", "cursor")


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
        raise ValueError(f'"{text[:40]}" is no time; write it like 2014-12-22 or 2014-12-22T16:15:00Z') from None


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
        return {
            "clock": rfc3339(judging.utc()),
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
            "entities": [self._entity(entity) for entity in self._entities()],
            "ongoing": [outage.to_json() for outage in judging.ongoing()],
        }

    def _entity(self, entity: Entity) -> dict[str, Any]:
        return {
            "name": entity.name,
            "title": entity.title,
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


def _filters(query: Mapping[str, str]) -> tuple[dict[str, Any], int]:
    unknown = sorted(set(query) - set(_PARAMETERS))
    if unknown:
        raise BadRequest(f'unknown parameter "{unknown[0][:40]}"; known: {", ".join(_PARAMETERS)}')
    filters: dict[str, Any] = {key: query[key] for key in ("name", "entity") if key in query}
    if "scope" in query:
        if query["scope"] not in get_args(Scope):
            raise BadRequest(f"scope is one of {', '.join(get_args(Scope))}")
        filters["scope"] = cast(Scope, query["scope"])
    if "since" in query:
        try:
            filters["since"] = parse_since(query["since"].replace(" ", "+"))
        except ValueError as error:
            raise BadRequest(str(error)) from error
    if "ongoing" in query:
        if query["ongoing"] not in ("", "1", "true", "0", "false"):
            raise BadRequest("ongoing is true or false")
        filters["ongoing"] = query["ongoing"] in ("", "1", "true")
    if "cursor" in query:
        filters["after"] = query["cursor"]
    limit = query.get("limit", str(PAGE))
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= PAGE_MAX:
        raise BadRequest(f"limit is a number from 1 to {PAGE_MAX}")
    return filters, int(limit[:9])
