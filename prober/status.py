"""What is known now, for `prober status`: asked of a running agent, else read from a ledger; then shown.

Both give what /api/v1/status says, as far as a ledger knows it, and `source`: "agent" or "ledger".
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
from rich.console import Console
from rich.text import Text

from prober.judge.records import Outage, OutageClass, Scope, Verdict, rfc3339
from prober.ledger import LedgerError, last_word
from prober.ledger.files import ledger_file
from prober.ledger.notes import Note, notes_of
from prober.ledger_cli import print_notes, when
from prober.model import Entity
from prober.printable import printable
from prober.report.ledgers import restored, seen_by
from prober.sentence import Parts, so_far, verdict_sentence

TIMEOUT_SECONDS: Final = 10.0
BODY_MAX: Final = 32 * 1024 * 1024
NOTES_SECONDS: Final = 86_400.0
"""Notes about so much of the past are told, and those about so much that is to come."""
NOTES_MAX: Final = 20
NAME_MAX: Final = 200
LEADING: Final = ("entity", "network", "site")
"""What counts as down; a mere target or check is told of, and no more."""


class NobodyThere(Exception):
    """Nothing listens at the address; the text is one line."""


class NoStatus(Exception):
    """Who listens does not say; the text is one line that says what to do."""


# -- from an agent -----------------------------------------------------------------------------------------------------


def of_agent(url: str, headers: Mapping[str, str], ca_file: Path | None = None) -> dict[str, Any]:
    """What the agent at `url` (without a path) says. Raises NobodyThere and NoStatus."""
    shown = printable(url, NAME_MAX)
    status, listed = asyncio.run(_asked(url, headers, _trust(ca_file)))
    try:
        now = _seconds(status["clock"])
        notes = [_note(note) for note in listed["notes"]]
        wanted = [status["vantage"], status["observer"]["up"], status["ledger"]["writable"], status["ongoing"]]
        wanted += [entity["sentence"] for entity in status["entities"]]
    except (KeyError, TypeError, ValueError):
        raise _no_agent(shown) from None
    near = [note for note in notes if note.at <= now + NOTES_SECONDS and (note.until or note.at) >= now - NOTES_SECONDS]
    return {"source": "agent", "running": True, **status, "notes": [note.to_json() for note in near]}


def _no_agent(shown: str) -> NoStatus:
    return NoStatus(f"{shown}: answers, but not as an agent of this version does; is that its address?")


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise NoStatus(f"{printable(str(ca_file))}: cannot be used as a CA ({error.strerror or error})") from None


async def _asked(url: str, headers: Mapping[str, str], trust: ssl.SSLContext) -> tuple[Any, Any]:
    """The status, and the notes about the days around it."""
    shown = printable(url, NAME_MAX)
    session = aiohttp.ClientSession(
        headers={**headers, "User-Agent": "prober"},
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        connector=aiohttp.TCPConnector(ssl=trust),
    )
    try:
        async with session:
            status = await _get(session, f"{url}/api/v1/status", shown)
            try:
                now = _seconds(status["clock"])
                since, until = rfc3339(now - NOTES_SECONDS), rfc3339(now + NOTES_SECONDS)
            except (KeyError, TypeError, ValueError, OverflowError):
                raise _no_agent(shown) from None
            asked = f"{url}/api/v1/notes?since={since}&until={until}&limit={NOTES_MAX}"
            return status, await _get(session, asked, shown)
    except aiohttp.ClientSSLError as error:
        reason = printable(str(error), NAME_MAX)
        raise NoStatus(f"{shown}: its certificate is not trusted ({reason}); name its CA with --ca-file") from None
    except aiohttp.ClientConnectorError as error:
        # the library's own text repeats the address
        reason = os.strerror(error.os_error.errno) if error.os_error.errno else str(error.os_error)
        reason = printable(reason.lower(), NAME_MAX)
        raise NobodyThere(f"{shown}: cannot be reached ({reason})") from None
    except TimeoutError:
        raise NoStatus(f"{shown}: no answer within {TIMEOUT_SECONDS:.0f} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NoStatus(f"{shown}: {printable(str(error), NAME_MAX) or type(error).__name__}") from None


async def _get(session: aiohttp.ClientSession, url: str, shown: str) -> Any:
    async with session.get(url, allow_redirects=False) as response:
        if response.status in (401, 403):
            raise NoStatus(f"{shown}: wants a login; give --basic-auth-file")
        if response.status != 200:
            raise NoStatus(f"{shown}: answers {response.status}; is that the agent's address?")
        body = await response.content.read(BODY_MAX + 1)
        while len(body) <= BODY_MAX and (more := await response.content.read(BODY_MAX)):
            body += more
    if len(body) > BODY_MAX:
        raise NoStatus(f"{shown}: the answer is longer than 32 MiB")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise NoStatus(f"{shown}: answers, but not with JSON; is that the agent's address?") from None


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _note(given: Mapping[str, Any]) -> Note:
    until = None if given["until"] is None else _seconds(given["until"])
    return Note(
        id=str(given["id"]),
        at=_seconds(given["at"]),
        until=until,
        entity=str(given["entity"]),
        text=str(given["text"]),
        source=str(given["source"]),
        link=str(given["link"]),
        added_at=_seconds(given["added_at"]),
    )


# -- from a ledger -----------------------------------------------------------------------------------------------------


def of_ledger(path: Path, configured: Sequence[Entity], vantage: str | None = None) -> dict[str, Any]:
    """What the ledger in directory (or file) `path` says; of entities that are configured, with their titles.

    `vantage`: whose records, if it has several vantages'; None: the first, by name. What nobody wrote for a few
    heartbeats is not known now. Raises LedgerError.
    """
    file = ledger_file(path)
    kept = restored(file)
    if kept.last_heartbeat is None:
        raise LedgerError(f"{file}: no agent has run on it yet")
    utc = time.time()
    word = last_word(kept.last_heartbeat.utc, utc)
    running, now = word.running, word.now(utc)
    seen = seen_by(file, kept, vantage)
    titles = {entity.name: entity for entity in configured}
    names = sorted(name for scope, name in seen.states if scope == "entity")
    whole = {outage.name: outage for outage in seen.ongoing if outage.scope == "entity"}
    notes = notes_of(path, since=now - NOTES_SECONDS, until=now + NOTES_SECONDS, limit=NOTES_MAX)
    return {
        "source": "ledger",
        "running": running,
        "clock": rfc3339(now),
        "vantage": seen.vantage,
        "vantages": list(seen.vantages),
        "observer": {"up": not seen.gaps, "gaps": [gap.to_json() for gap in seen.gaps]},
        "entities": [
            _entity(name, titles.get(name), seen.states, seen.last(name), whole.get(name), running, now)
            for name in names
        ],
        "ongoing": [outage.to_json() for outage in seen.ongoing],
        "notes": [note.to_json() for note in notes],
    }


def _entity(
    name: str,
    configured: Entity | None,
    states: Mapping[tuple[str, str], str],
    last: Outage | None,
    ongoing: Outage | None,
    running: bool,
    now: float,
) -> dict[str, Any]:
    state = states["entity", name]
    parts = None if configured is None or not running else _parts(configured, states)
    held = {"up": True, "down": False}.get(state)
    verdict = Verdict.UNKNOWN
    if running and held is not None:
        partial = held and parts is not None and parts.down > 0 and parts.noun == "network"
        verdict = Verdict.PARTIAL if partial else Verdict.UP if held else Verdict.DARK
    title = name if configured is None else configured.title or name
    return {
        "name": name,
        "title": title,
        "sentence": verdict_sentence(
            title, verdict, held=held, parts=parts, ongoing=ongoing if held is False else None, last=last, now=now
        ),
        "last_outage": None if last is None else last.to_json(),
        "verdict": str(verdict),
        "last_known": None if held is None else "up" if held else "down",
    }


def _parts(entity: Entity, states: Mapping[tuple[str, str], str]) -> Parts | None:
    """The networks that the ledger knows, else the sites, else the targets."""
    scopes: tuple[tuple[Scope, Iterable[Any]], ...] = (
        ("network", entity.networks),
        ("site", entity.sites),
        ("target", entity.targets),
    )
    for scope, members in scopes:
        counts = Counter(states[scope, one.name] for one in members if (scope, one.name) in states)
        if counts:
            return Parts(scope, counts["up"], counts["down"], counts["unknown"])
    return None


# -- shown -------------------------------------------------------------------------------------------------------------


def chosen(status: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The part of it that is about these entities; all without names. Raises KeyError with a name that it lacks."""
    if not names:
        return dict(status)
    known = {entity["name"]: entity for entity in status["entities"]}
    return {
        **status,
        "entities": [known[name] for name in names],
        "ongoing": [outage for outage in status["ongoing"] if outage["entity"] in names],
        "notes": [note for note in status["notes"] if note["entity"] in ("", *names)],
    }


def all_up(status: Mapping[str, Any]) -> bool:
    """Whether every entity is known to be reachable, and none of its networks and sites is down."""
    return all(entity["verdict"] == Verdict.UP for entity in status["entities"]) and not any(
        outage["scope"] in LEADING for outage in status["ongoing"]
    )


_STYLES: Final = {Verdict.UP: "green", Verdict.PARTIAL: "yellow", Verdict.UNKNOWN: "yellow"}


def show(status: Mapping[str, Any], console: Console) -> None:
    """A sentence for each entity, what is down, how the vantage is."""
    wrap = not console.is_terminal

    def line(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=wrap)

    for entity in status["entities"]:
        line(printable(str(entity["sentence"]), 1_000), _STYLES.get(entity["verdict"], "bold red"))
    if not status["entities"]:
        line("no entity is configured", "yellow")
    now = _seconds(status["clock"])
    leading = [outage for outage in status["ongoing"] if outage["scope"] in LEADING]
    for outage in leading:
        line(f"  ONGOING  {_ongoing(outage, now)}", "red")
    others = Counter(str(outage["scope"]) for outage in status["ongoing"] if outage["scope"] not in LEADING)
    if others:
        listed = ", ".join(f"{count} {scope}{'' if count == 1 else 's'}" for scope, count in sorted(others.items()))
        line(f"  also down: {listed} (prober outages --ongoing)", "dim" if leading else "yellow")
    for text, style in _vantage(status, now):
        line(text, style)
    notes = [_note(note) for note in status["notes"]]
    for title, told in (
        ("Notes from outside, of the last day:", [note for note in notes if note.at <= now]),
        ("Notes from outside, to come within a day:", [note for note in notes if note.at > now]),
    ):
        if told:
            line(title)
            print_notes(told, console)


def _ongoing(outage: Mapping[str, Any], now: float) -> str:
    start = _seconds(outage["start"])
    after = None if outage["started_after"] is None else _seconds(outage["started_after"])
    bounds = f"began by {when(_seconds(outage['started_by']))}"
    if after is not None:
        bounds = f"began between {when(after)} and {when(_seconds(outage['started_by'])).partition(' ')[2]} UTC"
    word = "" if outage["class"] == OutageClass.OUTAGE else ", may be a blip"
    return f"{outage['scope']} {printable(str(outage['name']), NAME_MAX)}: {so_far(now - start)} so far, {bounds}{word}"


def _vantage(status: Mapping[str, Any], now: float) -> list[tuple[str, str]]:
    """Lines on whether what was said can be trusted."""
    name = f"Vantage {printable(str(status['vantage']), NAME_MAX)}" if status["vantage"] else "The vantage"
    if len(several := status.get("vantages", ())) > 1:
        name += f" (of {printable(', '.join(several), NAME_MAX)}: --vantage)"
    said: list[tuple[str, str]] = []
    if not status["running"]:
        ago = so_far(max(0.0, time.time() - now))
        said.append((f"{name}: no agent is running. Its last word was {when(now)} UTC, {ago} ago.", "yellow"))
        return said
    observer = status["observer"]
    if not observer["up"]:
        said.append((f"{name}: cannot see (its references are silent too); what was known last is held.", "yellow"))
    elif observer.get("references") == 0:
        said.append((f"{name}: online, as far as it knows: no reference vouches for it.", "yellow"))
    else:
        said.append((f"{name}: online, {when(now)} UTC.", "dim"))
    ledger = status.get("ledger")
    if ledger is not None and not ledger["writable"]:
        reason = printable(str(ledger.get("reason", "")), NAME_MAX)
        said.append((f"Its ledger cannot be written ({reason}): a restart would lose what it sees now.", "red"))
    return said
