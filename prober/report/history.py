"""The vantages that a Prometheus has heard: records out of exported bounds, sight out of scrapes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, inf
from typing import Final

from prober.judge.records import Gap, GapCause, Onset, Outage, Scope
from prober.ledger_cli import span, when
from prober.report.prometheus import Prometheus, Series
from prober.report.report import LEADING, ORDER, Key, Vantage
from prober.report.spans import Span, union

LOOK_SECONDS: Final = 60.0
"""How closely sight is looked at; more for a long time (LOOKS_MAX)."""
LOOKS_MAX: Final = 130_000
POINTS: Final = 2_000
"""Steps of one query: with a thousand series its answer stays within bounds."""
SILENT_SECONDS: Final = 120.0
"""A vantage that was not heard for so long is gone; the recording rules say the same."""
SKEW_WINDOW_SECONDS: Final = 600.0
"""A scrape's delay looks like a clock that is ahead: the least of so long is taken for the clock's."""
DAY: Final = 86_400.0
BLIP_SECONDS: Final = 60.0
"""What an agent that does not export its setting (`judgement.blip`) calls a blip at most."""

_BOUNDS: Final = ("started_after", "started_by", "ended_after", "ended_by")
_DEGRADED: Final = "degraded_since"
_SECONDS: Final = "seconds"
_BY: Final = "scope, name, entity, vantage"


@dataclass(slots=True)
class _Heard:
    """What was heard of one vantage."""

    scrapes: list[float] = field(default_factory=list)  # their times, in order
    offsets: list[tuple[float, float]] = field(default_factory=list)  # (when, its clock minus Prometheus')
    offline: list[Span] = field(default_factory=list)
    online: bool = True  # what it said last
    blip_seconds: float = BLIP_SECONDS
    seen: dict[Key, list[Span]] = field(default_factory=dict)
    entities: dict[Key, str] = field(default_factory=dict)
    outages: dict[Key, list[Outage]] = field(default_factory=dict)


async def from_prometheus(
    server: Prometheus, *, since: float, until: float, scopes: Collection[Scope] = (), name: str | None = None
) -> tuple[list[Vantage], list[str]]:
    """The vantages as they were heard, and what the reader must know of it. Raises PrometheusError."""
    step = max(LOOK_SECONDS, (until - since) / LOOKS_MAX)
    heard: dict[str, _Heard] = {}
    scopes = [scope for scope in scopes or LEADING if ORDER[scope] < ORDER["target"]]
    matching = _matching(scopes, name)
    await _hear(server, heard, since, until, step)
    if scopes:
        await _ask_blips(server, heard, until)
        await _see(server, heard, matching, since, until, step)
        await _past(server, heard, matching, since, until)
        await _present(server, heard, matching, since, until)
    vantages = [_vantage(vantage, one, step) for vantage, one in sorted(heard.items()) if one.scrapes]
    return vantages, list(_notes(vantages, since, step))


def _matching(scopes: Iterable[Scope], name: str | None) -> str:
    wanted = f'scope=~"{"|".join(scopes)}"'
    # a JSON string is one of PromQL's: whatever the name, it stays one
    return wanted if name is None else f"{wanted}, name={json.dumps(name, ensure_ascii=False)}"


async def _chunks(server: Prometheus, query: str, since: float, until: float, step: float) -> AsyncIterator[Series]:
    """The query's series at every step; the last one is `until` itself, so that nothing newer is missed."""
    begin = until - step * ceil(max(0.0, until - since) / step - 1e-9)
    while begin <= until:
        end = min(until, begin + step * (POINTS - 1))
        for series in await server.over(query, begin, end, step):
            yield series
        begin += step * POINTS


# -- when it could see -------------------------------------------------------------------------------------------------


async def _hear(server: Prometheus, heard: dict[str, _Heard], since: float, until: float, step: float) -> None:
    clock = "prober_clock_timestamp_seconds"
    async for series in _chunks(server, f"max by (vantage) (timestamp({clock}))", since, until, step):
        one = heard.setdefault(series.labels.get("vantage", ""), _Heard())
        one.scrapes += sorted({at for _, at in series.samples} - set(one.scrapes[-1:]))
    async for series in _chunks(server, f"max by (vantage) ({clock} - timestamp({clock}))", since, until, step):
        heard.setdefault(series.labels.get("vantage", ""), _Heard()).offsets += series.samples
    async for series in _chunks(server, "min by (vantage) (prober_observer_up)", since, until, step):
        one = heard.setdefault(series.labels.get("vantage", ""), _Heard())
        one.offline += _held(((at, value == 0) for at, value in series.samples), step)
        one.online = series.samples[-1][1] != 0 if series.samples else one.online


async def _ask_blips(server: Prometheus, heard: dict[str, _Heard], until: float) -> None:
    """What each agent calls a blip, as it said last."""
    for series in await server.instant("max by (vantage) (last_over_time(prober_blip_seconds[1d]))", until):
        one = heard.get(series.labels.get("vantage", ""))
        if one is not None and series.samples:
            one.blip_seconds = series.samples[-1][1]


async def _see(
    server: Prometheus, heard: dict[str, _Heard], matching: str, since: float, until: float, step: float
) -> None:
    query = f"min by ({_BY}) (prober_observed{{{matching}}})"
    async for series in _chunks(server, query, since, until, step):
        if (found := _place(series, heard)) is None:
            continue
        one, key = found
        one.entities[key] = series.labels.get("entity", "")
        one.seen.setdefault(key, []).extend(_held(((at, value == 1) for at, value in series.samples), step))


def _place(series: Series, heard: Mapping[str, _Heard]) -> tuple[_Heard, Key] | None:
    one, scope = heard.get(series.labels.get("vantage", "")), series.labels.get("scope")
    name = series.labels.get("name")
    if one is None or name is None:
        return None
    known = next((word for word in ORDER if word == scope), None)
    return None if known is None else (one, (known, name))


def _held(samples: Iterable[tuple[float, bool]], step: float) -> list[Span]:
    """When it was so: what was seen at a step holds to the next one."""
    return list(union((at, at + step) for at, so in samples if so))


def _vantage(name: str, heard: _Heard, step: float) -> Vantage:
    scrapes = heard.scrapes
    silent = max(SILENT_SECONDS, 2.5 * step)
    first, last = scrapes[0], scrapes[-1]
    gaps = [
        Gap(f"stopped:{earlier:.0f}", name, earlier, later, GapCause.STOPPED)
        for earlier, later in pairwise(scrapes)
        if later - earlier > silent
    ]
    gaps += _islands(name, heard)
    outages = [outage for records in heard.outages.values() for outage in _once(records)]
    return Vantage(
        name,
        tuple(sorted(outages, key=lambda one: (one.start, one.id))),
        tuple(gaps),
        first,
        last,
        _skew(heard.offsets),
        {key: union(spans) for key, spans in heard.seen.items()},
        heard.entities,
    )


def _islands(name: str, heard: _Heard) -> Iterator[Gap]:
    """When its references were silent. The last time goes on only if that was its last word."""
    first, last = heard.scrapes[0], heard.scrapes[-1]
    spans = union(heard.offline)
    for begin, end in spans:
        goes_on = not heard.online and end == spans[-1][1]
        if goes_on or (begin < last and end > first):
            shown = None if goes_on else min(end, last)
            yield Gap(f"offline:{begin:.0f}", name, min(max(first, begin), last), shown, GapCause.OFFLINE)


def _skew(offsets: Sequence[tuple[float, float]]) -> float:
    """How far its clock was off at most, in windows of which each counts with its least."""
    least: dict[int, float] = {}
    for at, offset in offsets:
        window = int(at // SKEW_WINDOW_SECONDS)
        least[window] = min(least.get(window, inf), abs(offset))
    # finer than a millisecond nothing is exported
    return ceil(max(least.values(), default=0.0) * 1000) / 1000


# -- what it recorded --------------------------------------------------------------------------------------------------


async def _past(server: Prometheus, heard: dict[str, _Heard], matching: str, since: float, until: float) -> None:
    found: dict[tuple[str, Key, str], dict[str, tuple[float, float]]] = {}
    metrics = {bound: f"prober_past_outage_{bound}_timestamp_seconds" for bound in (*_BOUNDS, _DEGRADED)}
    for bound, metric in (metrics | {_SECONDS: "prober_past_outage_seconds"}).items():
        query = f"max by ({_BY}, outage) (last_over_time({metric}{{{matching}}}[1d]))"
        # each step looks a day back; the last one is `until` itself
        begin = until - DAY * ceil(max(0.0, until - since) / DAY - 1e-9) + DAY if until > since else until
        async for series in _chunks(server, query, min(begin, until), until, DAY):
            place, label = _place(series, heard), series.labels.get("outage", "")
            if place is None or not series.samples:
                continue
            _, key = place
            record = found.setdefault((series.labels["vantage"], key, label), {"entity": (0.0, 0.0)})
            heard[series.labels["vantage"]].entities.setdefault(key, series.labels.get("entity", ""))
            at, value = series.samples[-1]
            if bound not in record or record[bound][0] <= at:
                record[bound] = at, value
    for (vantage, key, label), record in found.items():
        outage = _ended(vantage, key, label, {name: value for name, (_, value) in record.items()}, heard[vantage])
        if outage is not None:
            heard[vantage].outages.setdefault(key, []).append(outage)


def _ended(vantage: str, key: Key, label: str, bounds: Mapping[str, float], heard: _Heard) -> Outage | None:
    after, by = bounds.get("started_after", 0.0) or None, bounds.get("started_by", 0.0)
    low, high = bounds.get("ended_after", 0.0), bounds.get("ended_by", 0.0) or None
    if by <= 0 or low <= 0:
        return None
    degraded = bounds.get(_DEGRADED, 0.0) or None
    start = _moment(label, by if after is None else (after + by) / 2)
    end = None
    if high is not None:  # without a headline the middle of the bounds has to do
        end = start + bounds[_SECONDS] if bounds.get(_SECONDS) else (low + high) / 2
    return Outage(
        id=f"{vantage}:{key[0]}:{key[1]}:{label}",
        vantage=vantage,
        scope=key[0],
        name=key[1],
        entity=heard.entities.get(key, ""),
        started_after=after,
        started_by=by,
        start=start,
        detected_at=by,
        ended_after=low,
        ended_by=high,
        end=end,
        ongoing=False,
        # blips are not exported: whatever its setting was then, the agent called this an outage
        blip_seconds=min(heard.blip_seconds, max(0.0, low - by)),
        onset=Onset.ABRUPT if degraded is None else Onset.PROGRESSIVE,
        degraded_since=degraded,
    )


def _moment(label: str, otherwise: float) -> float:
    from datetime import datetime

    try:
        return datetime.fromisoformat(label).timestamp()
    except (ValueError, OverflowError):
        return otherwise


def _once(records: Sequence[Outage]) -> list[Outage]:
    """A record that a clock step moved was exported under two starts: of those that overlap, the last one."""
    kept: list[Outage] = []
    for outage in sorted(records, key=lambda one: (one.start, one.id)):
        if kept and outage.started_by < kept[-1].ended_after:
            kept.pop()
        kept.append(outage)
    return kept


async def _present(server: Prometheus, heard: dict[str, _Heard], matching: str, since: float, until: float) -> None:
    """What goes on at `until`, also at a vantage that has not been heard for a while."""
    newest: dict[tuple[str, Key], dict[str, tuple[float, float]]] = {}
    for bound in (*_BOUNDS[:2], _DEGRADED):
        metric = f"prober_outage_{bound}_timestamp_seconds{{{matching}}}"
        begin = until - DAY * ceil(max(0.0, until - since) / DAY - 1e-9) + DAY if until > since else until
        query = f"max by ({_BY}) (last_over_time({metric}[1d]))"
        async for series in _chunks(server, query, min(begin, until), until, DAY):
            place = _place(series, heard)
            if place is not None and series.samples:
                newest.setdefault((series.labels["vantage"], place[1]), {})[bound] = series.samples[-1]
    starts = await _starts(server, heard, matching, until)
    for (vantage, key), bounds in newest.items():
        by = bounds.get("started_by", (0.0, 0.0))[1]
        if by <= 0:
            continue
        one = heard[vantage]
        if any(known.started_by == by for known in one.outages.get(key, ())):
            continue  # it ended while the vantage was not heard
        after, degraded = bounds.get("started_after", (0.0, 0.0))[1] or None, bounds.get(_DEGRADED, (0.0, 0.0))[1]
        certain = await _certain(server, vantage, key, by, min(until, one.scrapes[-1] if one.scrapes else until))
        outage = Outage(
            id=f"{vantage}:{key[0]}:{key[1]}:ongoing",
            vantage=vantage,
            scope=key[0],
            name=key[1],
            entity=one.entities.get(key, ""),
            started_after=after,
            started_by=by,
            start=_within(starts.get((vantage, key)), after, by),
            detected_at=by,
            ended_after=by + certain,
            blip_seconds=one.blip_seconds,
            onset=Onset.PROGRESSIVE if degraded else Onset.ABRUPT,
            degraded_since=degraded or None,
        )
        one.outages.setdefault(key, []).append(outage)


async def _starts(
    server: Prometheus, heard: Mapping[str, _Heard], matching: str, until: float
) -> dict[tuple[str, Key], float]:
    """The headlines of what goes on: the scrape's time less what it said, put right by how far the clock is off."""
    lasting = f"prober_outage_seconds{{{matching}}}"
    query = f"max by ({_BY}) ((timestamp({lasting}) - {lasting}) and ({lasting} > 0))"
    found: dict[tuple[str, Key], float] = {}
    for series in await server.instant(query, until):
        place = _place(series, heard)
        if place is not None and series.samples:
            off = place[0].offsets[-1][1] if place[0].offsets else 0.0
            found[series.labels["vantage"], place[1]] = series.samples[-1][1] + off
    return found


def _within(start: float | None, after: float | None, by: float) -> float:
    """A headline within its bounds; their middle where none is known."""
    if start is None:
        return by if after is None else (after + by) / 2
    return min(by, start if after is None else max(after, start))


async def _certain(server: Prometheus, vantage: str, key: Key, begin: float, now: float) -> float:
    """Seconds of the ongoing outage that are certain: what the total has grown by since its start; 0: not known."""
    labels = {"vantage": vantage, "scope": key[0], "name": key[1]}
    matching = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items())
    query = f"max(prober_outage_seconds_total{{{matching}}})"
    values = [await server.instant(query, at) for at in (begin, now)]
    if not all(found and found[0].samples for found in values):
        return 0.0
    before, after = (found[0].samples[0][1] for found in values)
    return max(0.0, min(after - before, now - begin))


def _notes(vantages: Sequence[Vantage], since: float, step: float) -> Iterable[str]:
    yield (
        "from what agents export of their outages: of entities, networks and sites the newest 20 of each, and no blips."
    )
    yield f"when a vantage could not see is known to {span(step)}."
    if vantages and (first := min(one.first for one in vantages)) > since + 2 * step:
        yield (
            f"the data reach back to {when(first)} UTC only (Prometheus' retention, or its start): "
            "what was before is not in this report."
        )
