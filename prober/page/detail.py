"""One outage: its bounds, who saw it, in which order. Times are Unix seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from prober.failures import FAILURES, Failure
from prober.judge.records import Gap, Outage, Scope
from prober.ledger_cli import duration, span, when
from prober.page.events import bounds, notes_beside
from prober.page.history import History
from prober.page.source import Facts, Note
from prober.page.words import clean, clock, counted, exact, lasting, moment, quoted, reasons, titled

MEMBERS_MAX: Final = 400
"""Records of parts that are looked at."""
SHOWN_MAX: Final = 100

_ORDER: Final = {"entity": 0, "network": 1, "site": 2, "target": 3, "check": 4}
_BELOW: Final[dict[Scope, tuple[Scope, ...]]] = {
    "entity": ("network", "site", "target"),
    "network": ("target",),
    "site": ("target",),
    "target": ("check",),
    "check": (),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """An outage in a drawing; shares are percent of its width."""

    doubt: float  # where it may have begun
    sure: float  # from here on it is certain
    sure_until: float
    doubt_until: float


@dataclass(frozen=True, slots=True)
class Member:
    """A part's own outage."""

    href: str
    scope: Scope
    title: str
    last_answer: str
    down_for_sure: str
    down_until: str
    first_answer: str
    duration: str
    reasons: str
    beginning: Bar
    ending: Bar


@dataclass(frozen=True, slots=True)
class Detail:
    """All that is on record of an outage."""

    title: str
    scope: Scope
    sentence: str
    span: str
    look: str
    ongoing: bool
    start: float
    clock: str
    bar: Bar
    ticks: tuple[tuple[float, str], ...]
    facts: tuple[tuple[str, str], ...]
    reasons: tuple[tuple[str, int, str], ...]  # what, probes, meaning
    steps: tuple[tuple[str, str], ...]  # when, what
    members: tuple[Member, ...]
    beginning: tuple[tuple[float, str], ...]  # the axes of their drawings
    ending: tuple[tuple[float, str], ...]  # none: it goes on
    more: int
    gaps: tuple[str, ...]
    notes: tuple[Note, ...]
    entity: str
    entity_href: str


def members_of(outage: Outage, history: History) -> list[Outage]:
    """Outages of its parts, and of theirs, at the same time: in the order in which they began."""
    last = float("inf") if outage.ongoing else outage.ended_after if outage.ended_by is None else outage.ended_by
    found = history.outages(entity=outage.entity, since=outage.started_by, limit=MEMBERS_MAX * 4)
    near = [one for one in found if one.vantage == outage.vantage and one.started_by <= last and one.id != outage.id]
    by_key: dict[tuple[Scope, str], list[Outage]] = {}
    for one in near:
        by_key.setdefault((one.scope, one.name), []).append(one)
    seen: dict[str, Outage] = {}

    def walk(parent: Outage) -> None:
        for name in parent.frozen:
            for scope in _BELOW[parent.scope]:
                for part in by_key.get((scope, name), ()):
                    if part.id not in seen and len(seen) < MEMBERS_MAX:
                        seen[part.id] = part
                        walk(part)

    walk(outage)
    return sorted(seen.values(), key=lambda one: (one.start, _ORDER[one.scope], one.name))


def detail(outage: Outage, history: History, facts: Facts, notes: Sequence[Note]) -> Detail:
    """The page of an outage. Raises LedgerError."""
    found = members_of(outage, history)
    members = [one for one in found if one.scope != "target" or not _says_no_more(one, found)]
    titles = _titles(facts)
    end = facts.now if outage.ongoing else outage.ended_after if outage.ended_by is None else outage.ended_by
    begin = outage.start if outage.started_after is None else outage.started_after
    window = _roomy(begin, end)
    shown = members[:SHOWN_MAX]
    beginning = _roomy(
        min((one.start if one.started_after is None else one.started_after for one in shown), default=begin),
        max((one.started_by for one in shown), default=end),
    )
    ending = _roomy(
        min((one.ended_after for one in shown if not one.ongoing), default=begin),
        max((one.ended_by or one.ended_after for one in shown if not one.ongoing), default=end),
    )
    gaps = [gap for gap in history.gaps(begin) if gap.begin <= end and gap.end != gap.begin]
    title = _title(titles, outage)
    entity = titles.get(("entity", outage.entity)) or clean(outage.entity)
    return Detail(
        title=title,
        scope=outage.scope,
        sentence=_sentence(outage),
        span=_span(outage),
        look="down" if outage.ongoing else str(outage.outage_class),
        ongoing=outage.ongoing,
        start=outage.start,
        clock=clock(facts.now - outage.start),
        bar=_bar(outage, window, facts.now),
        ticks=_ticks(window),
        facts=tuple(_facts(outage)),
        reasons=tuple(_reasons(outage)),
        steps=tuple(_steps(outage, members, titles)),
        members=tuple(_member(one, titles, beginning, ending, facts.now, outage.start) for one in shown),
        beginning=_ticks(beginning, 3),
        ending=_ticks(ending, 3) if any(not one.ongoing for one in shown) else (),
        more=max(0, len(members) - SHOWN_MAX),
        gaps=tuple(_gap(gap) for gap in gaps[:SHOWN_MAX]),
        notes=notes_beside(notes, outage.entity, begin - 86_400, end + 3_600),
        entity=entity,
        entity_href=f"entities/{quoted(outage.entity)}" if ("entity", outage.entity) in titles else "",
    )


def _titles(facts: Facts) -> dict[tuple[str, str], str]:
    found = {}
    for entity in facts.entities:
        found["entity", entity.name] = titled(entity.title, entity.name)
        found |= {("network", one.name): titled(one.title, one.name) for one in entity.networks}
        found |= {("site", one.name): titled(one.title, one.name) for one in entity.sites}
        found |= {("target", one.name): titled(one.title, one.name) for one in entity.targets}
    return found


def _title(titles: dict[tuple[str, str], str], outage: Outage) -> str:
    return titles.get((outage.scope, outage.name)) or clean(outage.name)


def _says_no_more(target: Outage, members: Sequence[Outage]) -> bool:
    """Whether a target's outage is that of its only check."""
    checks = [one for one in members if one.scope == "check" and one.name in target.frozen]
    return len(checks) == 1 and checks[0].started_by == target.started_by and checks[0].ended_by == target.ended_by


def _sentence(outage: Outage) -> str:
    word = "dark" if outage.scope == "entity" else "not reachable"
    return f"{word} now" if outage.ongoing else f"{word} for {duration(outage)}"


def _span(outage: Outage) -> str:
    if outage.ongoing:
        return f"Since {moment(outage.start)} UTC."
    if outage.end is None:
        return f"From {moment(outage.start)} UTC on; then no longer watched."
    return f"{moment(outage.start)} to {moment(outage.end)} UTC."


def _roomy(first: float, last: float) -> tuple[float, float]:
    room = max(last - first, 10.0) * 0.06
    return first - room, last + room


def _facts(outage: Outage) -> Iterable[tuple[str, str]]:
    yield "Class", "ongoing" if outage.ongoing else str(outage.outage_class)
    yield "Bounds", bounds(outage)
    least = span(outage.duration_min_seconds // 1)
    most = outage.duration_max_seconds
    yield "Duration", f"at least {least}" + (f", at most {span(-(-most // 1))}" if most is not None else "")
    if outage.degraded_since is not None:
        yield "Onset", f"progressive: loss or round trips had risen since {when(outage.degraded_since)} UTC"
    else:
        yield "Onset", "abrupt: nothing had changed before"
    yield (
        "Detected",
        f"{when(outage.detected_at)} UTC, {span(max(0.0, outage.detected_at - outage.start))} after it began",
    )
    if outage.members:
        as_recorded = ", ".join(f"{outage.members.get(word, 0)} {word}" for word in ("up", "down", "unknown"))
        yield "Parts, as last recorded", as_recorded
    if outage.restored_full is not None:
        yield "Every part back", f"{when(outage.restored_full)} UTC"
    if outage.unobserved_seconds:
        yield "Not observed meanwhile", span(outage.unobserved_seconds)
    if outage.flaps:
        yield "Flapping", f"{counted(outage.flaps, 'outage')} of the same shortly before"
    yield "Vantage", clean(outage.vantage)
    if outage.note:
        yield "Remark", clean(outage.note, 300)


def _reasons(outage: Outage) -> Iterable[tuple[str, int, str]]:
    for label, count in sorted(outage.failures.items(), key=lambda item: (-item[1], item[0]))[:12]:
        word = label.rpartition("/")[2]
        meaning = FAILURES[Failure(word)][1] if word in {str(one) for one in FAILURES} else ""
        yield clean(label), count, meaning


def _steps(outage: Outage, members: Sequence[Outage], titles: dict[tuple[str, str], str]) -> list[tuple[str, str]]:
    """What was seen, in order: of the checks that were witnesses, else of the outage itself."""
    checks = [one for one in members if one.scope == "check"] or [outage]
    parts = [one for one in members if one.scope in ("network", "site")]
    steps: list[tuple[float, int, str]] = []
    if outage.degraded_since is not None:
        steps.append((outage.degraded_since, 0, "loss or round trips rise above what is usual"))
    answers = [one for one in checks if one.started_after is not None]
    if answers:
        last = max(answers, key=lambda one: one.started_after or 0.0)
        steps.append((last.started_after or 0.0, 1, f"last answer of all ({_title(titles, last)})"))
    first = min(checks, key=lambda one: one.started_by)
    steps.append((first.started_by, 2, f"the first check is certainly down ({_title(titles, first)})"))
    if len(checks) > 1:
        last_down = max(checks, key=lambda one: one.started_by)
        steps.append((last_down.started_by, 2, f"the last of {len(checks)} checks is ({_title(titles, last_down)})"))
    steps.append((outage.detected_at, 3, "detected, written down, shown"))
    back = [one for one in checks if one.ended_by is not None]
    if back:
        first_back = min(back, key=lambda one: one.ended_by or 0.0)
        steps.append((first_back.ended_by or 0.0, 4, f"first answer ({_title(titles, first_back)})"))
    steps += [(one.ended_by, 5, f"{_title(titles, one)} is back") for one in parts if one.ended_by is not None]
    if outage.restored_full is not None:
        steps.append((outage.restored_full, 6, "every part is back"))
    return [(exact(at), text) for at, _, text in sorted(steps)[:40]]


def _member(
    one: Outage,
    titles: dict[tuple[str, str], str],
    beginning: tuple[float, float],
    ending: tuple[float, float],
    now: float,
    start: float,
) -> Member:
    def at(utc: float) -> str:
        return when(utc)[11:] if when(utc)[:10] == when(start)[:10] else exact(utc)

    return Member(
        href=f"outages/{quoted(one.id)}",
        scope=one.scope,
        title=_title(titles, one),
        last_answer=at(one.started_after) if one.started_after is not None else "none",
        down_for_sure=at(one.started_by),
        down_until=at(one.ended_after),
        first_answer=at(one.ended_by) if one.ended_by is not None else "not yet" if one.ongoing else "not known",
        duration=lasting(one, now),
        reasons=reasons(one.failures.items(), 2),
        beginning=_bar(one, beginning, now),
        ending=_bar(one, ending, now),
    )


def _bar(one: Outage, window: tuple[float, float], now: float) -> Bar:
    def share(at: float) -> float:
        return max(0.0, min(100.0, 100 * (at - window[0]) / (window[1] - window[0])))

    until = now if one.ongoing else one.ended_after if one.ended_by is None else one.ended_by
    begin = one.start if one.started_after is None else one.started_after
    sure, sure_until = min(one.started_by, until), max(one.started_by, one.ended_after)
    return Bar(share(begin), share(sure), share(max(sure, min(sure_until, until))), share(until))


def _ticks(window: tuple[float, float], most: int = 6) -> tuple[tuple[float, str], ...]:
    length = window[1] - window[0]
    steps = (10, 30, 60, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400, 7 * 86_400, 30 * 86_400)
    step = next((one for one in steps if length / one <= most), 90 * 86_400)
    at = (int(window[0]) // step + 1) * step
    found = []
    while at < window[1]:
        share = 100 * (at - window[0]) / length
        if 8 <= share <= 92:
            text = when(at)
            found.append((share, text[5:10] if step >= 86_400 else text[11:] if step < 60 else text[11:16]))
        at += step
    return tuple(found)


def _gap(gap: Gap) -> str:
    cause = str(gap.cause).replace("_", " ")
    if gap.end is None:
        return f"{when(gap.begin)} UTC on: {cause}, goes on"
    return f"{when(gap.begin)} to {when(gap.end)} UTC: {cause}, {span(gap.end - gap.begin)}"
