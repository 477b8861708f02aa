"""Outages for other programs: Atom (RFC 4287), iCalendar (RFC 5545), a badge (SVG). CSV: `prober.ledger_cli`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from math import isfinite
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from prober.judge.records import Outage, rfc3339
from prober.ledger_cli import duration, when
from prober.page.events import bounds, notes_beside
from prober.page.source import Note
from prober.page.words import LOOKS, TEXT_MAX, WORDS, clean, moment, quoted, reasons
from prober.scopes import Standing

FOLD_OCTETS: Final = 75
"""Longest line of a calendar (RFC 5545 section 3.1)."""

_COLOURS: Final = {"up": "#1a7f37", "partial": "#9a6700", "down": "#b42318", "unknown": "#59636e"}


def title(outage: Outage, name: str) -> str:
    """`North Korea: dark for 9 h 31 min (±30 s)`."""
    word = "dark" if outage.scope == "entity" else "not reachable"
    if outage.ongoing:
        return f"{name}: {word} since {moment(outage.start)} UTC"
    return f"{name}: {word} for {duration(outage)}"


def summary(outage: Outage, notes: Iterable[Note] = ()) -> list[str]:
    """What is to be said of an outage, line by line."""
    lines = [f"{outage.scope} {clean(outage.name)}, as seen by {clean(outage.vantage)}", bounds(outage) + " (UTC)"]
    if outage.degraded_since is not None:
        lines.append(f"onset progressive: degraded since {when(outage.degraded_since)} UTC")
    else:
        lines.append("onset abrupt")
    if outage.failures:
        lines.append(f"failures: {reasons(outage.failures.items())}")
    if outage.note:
        lines.append(f"remark: {clean(outage.note, TEXT_MAX)}")
    for note in notes:
        source = f" ({clean(note.source)})" if note.source else ""
        lines.append(f"note from outside, {moment(note.at)} UTC: {clean(note.text, TEXT_MAX)}{source}")
    return lines


def uid(outage: Outage) -> str:
    """The same for the same outage, whoever asks."""
    return str(uuid5(NAMESPACE_URL, f"prober:outage:{outage.id}".encode("utf-8", "replace").decode()))


def changed(outage: Outage, notes: Iterable[Note] = ()) -> float:
    """When what is on record of it, and the notes beside it, became so."""
    last = max([outage.detected_at, *(note.added_at for note in notes)])
    if outage.ongoing:
        return last
    ended = outage.ended_after if outage.ended_by is None else outage.ended_by
    return max(last, ended, outage.restored_full or 0.0)


def atom(
    outages: Sequence[Outage], names: Sequence[str], *, vantage: str, now: float, query: str, notes: Sequence[Note] = ()
) -> str:
    """A feed of these outages, called by these names, newest first. Links are relative to the feed's own address."""
    beside = [
        notes_beside(notes, one.entity, one.start - 86_400, (now if one.ended_by is None else one.ended_by) + 3_600)
        for one in outages
    ]
    dates = [changed(one, its) for one, its in zip(outages, beside, strict=True)]
    updated = max(dates, default=now)
    # No reader has an address of ours to make an id from; the vantage's name must do (RFC 4287 section 4.2.6).
    feed = uuid5(NAMESPACE_URL, f"prober:feed:{vantage}:{query}".encode("utf-8", "replace").decode())
    parts = [
        '<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">\n',
        f"<title>Outages seen by {_xml(vantage)}</title>\n<id>urn:uuid:{feed}</id>\n",
        f"<updated>{rfc3339(updated)}</updated>\n<author><name>prober, {_xml(vantage)}</name></author>\n",
        f'<link rel="self" type="application/atom+xml" href="outages.atom{escape(query)}"/>\n'
        '<link rel="alternate" type="text/html" href="outages"/>\n<generator>prober</generator>\n',
    ]
    for outage, name, its, date in zip(outages, names, beside, dates, strict=True):
        kind = "ongoing" if outage.ongoing else outage.outage_class
        lines = summary(outage, its)
        parts.append(
            f"<entry>\n<title>{_xml(title(outage, name))}</title>\n<id>urn:uuid:{uid(outage)}</id>\n"
            f"<published>{rfc3339(outage.detected_at)}</published>\n<updated>{rfc3339(date)}</updated>\n"
            f'<link href="outages/{quoted(outage.id)}"/>\n'
            f'<category term="{outage.scope}"/><category term="{kind}"/>\n'
            f'<content type="text">{_xml(chr(10).join(lines), 8_000)}</content>\n</entry>\n'
        )
    parts.append("</feed>\n")
    return "".join(parts)


def _xml(text: str, most: int = TEXT_MAX) -> str:
    """A text in XML: no character in it that XML 1.0 forbids, nothing that is markup."""
    return escape("\n".join(clean(line, most) for line in text.split("\n")), quote=True)


def calendar(
    outages: Sequence[Outage], names: Sequence[str], *, vantage: str, now: float, notes: Sequence[Note] = ()
) -> str:
    """The same as a calendar; what goes on lasts until now."""
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//prober//outages//EN",
        "CALSCALE:GREGORIAN",
        "METHOD:PUBLISH",
        f"X-WR-CALNAME:{_ics(f'Outages seen by {vantage}')}",
    ]
    for outage, name in zip(outages, names, strict=True):
        end = now if outage.ongoing else outage.ended_after if outage.end is None else outage.end
        beside = notes_beside(notes, outage.entity, outage.start - 86_400, end + 3_600)
        lines += [
            "BEGIN:VEVENT",
            f"UID:{uid(outage)}@prober",
            f"DTSTAMP:{_stamp(changed(outage, beside))}",
            f"DTSTART:{_stamp(outage.start)}",
            f"DTEND:{_stamp(max(end, outage.start + 1))}",
            f"SUMMARY:{_ics(title(outage, name))}",
            f"DESCRIPTION:{_ics(chr(10).join(summary(outage, beside)))}",
            f"CATEGORIES:{outage.scope.upper()}",
            "TRANSP:TRANSPARENT",
            "END:VEVENT",
        ]
    lines.append("END:VCALENDAR")
    return "".join(f"{_folded(line)}\r\n" for line in lines)


def _stamp(utc: float) -> str:
    moment = datetime.fromtimestamp(round(utc) if isfinite(utc) else 0, UTC)
    return f"{moment:%Y%m%dT%H%M%SZ}"


def _ics(text: str) -> str:
    """TEXT of RFC 5545 section 3.3.11."""
    safe = "\n".join(clean(line, TEXT_MAX) for line in text.split("\n"))
    return safe.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,").replace("\n", "\\n")


def _folded(line: str) -> str:
    """At most FOLD_OCTETS to a line, no character cut in two."""
    folded: list[str] = []
    current, size = "", 0
    for character in line:
        octets = len(character.encode("utf-8", "replace"))
        if size + octets > FOLD_OCTETS:
            folded.append(current)
            current, size = " ", 1
        current += character
        size += octets
    return "\r\n".join([*folded, current])


def badge(label: str, known: Standing | None) -> str:
    """A small picture that says how an entity is; None: there is no such entity."""
    word = "no such entity" if known is None else WORDS[known.verdict]
    look = "unknown" if known is None else LOOKS[known.verdict]
    label = clean(label, 40)
    left, right = _width(label) + 12, _width(word) + 28
    whole = left + right
    shape = {
        "up": f'<circle cx="{left + 12}" cy="10" r="4.5" fill="#fff"/>',
        "down": f'<path d="M{left + 8} 6l8 8m0-8l-8 8" stroke="#fff" stroke-width="2"/>',
        "partial": f'<path d="M{left + 12} 5a5 5 0 0 1 0 10z" fill="#fff"/>'
        f'<circle cx="{left + 12}" cy="10" r="4.5" fill="none" stroke="#fff"/>',
        "unknown": f'<circle cx="{left + 12}" cy="10" r="4.5" fill="none" stroke="#fff" stroke-dasharray="2 2"/>',
    }[look]
    text = escape(f"{label}: {word}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="20" role="img" aria-label="{text}">'
        f"<title>{text}</title>"
        f'<clipPath id="r"><rect width="{whole}" height="20" rx="3"/></clipPath><g clip-path="url(#r)">'
        f'<rect width="{left}" height="20" fill="#343a40"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{_COLOURS[look]}"/></g>{shape}'
        '<g fill="#fff" font-family="system-ui,sans-serif" font-size="11">'
        f'<text x="6" y="14">{escape(label)}</text><text x="{left + 21}" y="14">{word}</text></g></svg>\n'
    )


def _width(text: str) -> int:
    """About how wide a text of 11 pixels is."""
    return round(
        sum(11.5 if ord(c) > 0x2E80 else 3.6 if c in "iljtf.,:;|I1 " else 9.5 if c in "mwMW@" else 6.6 for c in text)
    )
