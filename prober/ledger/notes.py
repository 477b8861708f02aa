"""Notes: dated remarks from outside (a report of an attack, a maintenance window), beside what was measured.

They are written by people, with `prober note` or over the API, into a table of their own: no measurement, verdict or
duration ever depends on one. The command writes beside a running agent, whose file this is: a transaction of a
millisecond on a second connection, which SQLite's log (WAL) is made for; the agent sees it with its next heartbeat.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from prober.judge.records import rfc3339
from prober.ledger.files import (
    DirectoryLock,
    LedgerError,
    broken,
    exists,
    forbidden,
    ledger_file,
    open_writing,
    passing,
    primary_code,
    reading,
    version_of,
)
from prober.ledger.schema import NOTES_SINCE, VERSION, columns, migrate

TEXT_MAX: Final = 2_000
"""Characters of a note's text."""
SOURCE_MAX: Final = 200
LINK_MAX: Final = 1_000
ENTITY_MAX: Final = 200
NOTES_MAX: Final = 10_000
"""Notes in one ledger; retention does not remove them."""
LATEST: Final = 20
"""So many of the newest are on the metrics."""
_FORBIDDEN: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
_AT_MAX: Final = 253_402_300_799.0
"""The end of the year 9999."""

T = TypeVar("T")


class BadNote(ValueError):
    """A note that is not taken; the text is one line that says what to change."""


@dataclass(frozen=True, slots=True)
class Note:
    """A remark about a moment, or a time. Times are Unix seconds."""

    id: str
    at: float
    until: float | None  # None: it is about a moment
    entity: str  # "": about all of them
    text: str
    source: str  # who says so
    link: str  # where: http or https, or empty
    added_at: float

    def to_json(self) -> dict[str, Any]:
        """The note as API and command line print it; times RFC 3339 in UTC."""
        return {
            "id": self.id,
            "at": rfc3339(self.at),
            "until": rfc3339(self.until),
            "entity": self.entity,
            "text": self.text,
            "source": self.source,
            "link": self.link,
            "added_at": rfc3339(self.added_at),
        }


NOTE_COLUMNS: Final = tuple(field.name for field in fields(Note))


def make_note(
    text: str,
    *,
    now: float,
    at: float | None = None,
    until: float | None = None,
    entity: str = "",
    source: str = "",
    link: str = "",
) -> Note:
    """A new note, of now unless `at` says otherwise. White space is made one blank. Raises BadNote.

    What else stands in it stays as it is, and is made harmless where it is shown.
    """
    text, source = _line("text", text, TEXT_MAX), _line("source", source, SOURCE_MAX)
    entity, link = _line("entity", entity, ENTITY_MAX), _link(link)
    if not text:
        raise BadNote("a note needs a text")
    at = _moment("at", now if at is None else at)
    if until is not None and _moment("until", until) < at:
        raise BadNote("until is before at: exchange the two")
    return Note(secrets.token_hex(4), at, until, entity, text, source, link, now)


def _line(key: str, text: str, length_max: int) -> str:
    text = " ".join(text.split())
    if len(text) > length_max:
        raise BadNote(f"{key} has {len(text)} characters, at most {length_max} are kept: shorten it, or use a link")
    if not _is_unicode(text):
        raise BadNote(f"{key} is not UTF-8")
    return text


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _link(link: str) -> str:
    link = link.strip()
    try:
        parts = urlsplit(link)
        good = not link or (parts.scheme in ("http", "https") and bool(parts.hostname))
    except ValueError:
        good = False
    if not good or not link.isprintable() or " " in link or len(link) > LINK_MAX:
        raise BadNote(f"link is no http: or https: URL of at most {LINK_MAX} characters")
    if "@" in parts.netloc:
        raise BadNote("link has a user in it, which everybody would read: leave it out")
    return link


def _moment(key: str, at: float) -> float:
    if not 0 <= at <= _AT_MAX:  # nor NaN
        raise BadNote(f"{key} is not between the years 1970 and 9999")
    return at


# -- reading -----------------------------------------------------------------------------------------------------------


def read_notes(
    connection: sqlite3.Connection,
    since: float | None = None,
    until: float | None = None,
    *,
    entity: str | None = None,
    limit: int | None = None,
) -> list[Note]:
    """Notes about the time from `since` to `until` (Unix seconds; None: open), newest first.

    `entity`: those about it or about all. A ledger from before there were notes has none. Raises sqlite3.Error, and
    ValueError for a row that no prober wrote.
    """
    if connection.execute("PRAGMA user_version").fetchone()[0] < NOTES_SINCE:
        return []
    conditions: list[tuple[str, tuple[Any, ...]]] = []
    if since is not None:
        conditions.append(('coalesce("until", "at") >= ?', (since,)))
    if until is not None:
        conditions.append(('"at" <= ?', (until,)))
    if entity is not None:
        conditions.append(("\"entity\" IN ('', ?)", (entity,)))
    where = f" WHERE {' AND '.join(text for text, _ in conditions)}" if conditions else ""
    values = [value for _, several in conditions for value in several]
    found = connection.execute(
        f'SELECT {columns(NOTE_COLUMNS)} FROM notes{where} ORDER BY "at" DESC, "id" DESC LIMIT ?',
        (*values, -1 if limit is None else limit),
    )
    return [_note_of(row) for row in found.fetchall()]


def _note_of(row: Sequence[Any]) -> Note:
    name, at, until, entity, text, source, link, added_at = row
    times = [float(at), float(at if until is None else until), float(added_at)]
    if not all(0 <= time <= _AT_MAX for time in times):
        raise ValueError("a time that is none")
    begin, end, added = times
    texts = str(entity), str(text), str(source), str(link)
    return Note(str(name), begin, None if until is None else end, *texts, added)


def notes_of(path: Path, **filters: Any) -> list[Note]:
    """`read_notes` of the ledger in directory (or file) `path`. Raises LedgerError."""
    file = ledger_file(path)
    return notes_in(file, partial(reading, file), **filters)


def notes_in(
    file: Path, opener: Callable[[], AbstractContextManager[sqlite3.Connection]], **filters: Any
) -> list[Note]:
    """`read_notes` over a connection that `opener` makes. Raises LedgerError."""
    with _told(file, "read"), opener() as connection:
        version_of(connection, file)
        return read_notes(connection, **filters)


def known_entities(path: Path) -> list[str]:
    """The entities that the ledger in directory (or file) `path` has anything about, sorted. Raises LedgerError."""
    file = ledger_file(path)
    with _told(file, "read"), reading(file) as connection:
        version_of(connection, file)
        rows = connection.execute(
            'SELECT "name" FROM totals WHERE "scope" = \'entity\' UNION SELECT "entity" FROM outages ORDER BY 1'
        )
        return [row[0] for row in rows if row[0]]


class NoteWatch:
    """The newest notes over one connection, read anew only when another connection has written."""

    def __init__(self) -> None:
        self._version: int | None = None

    def changed(self, connection: sqlite3.Connection) -> tuple[Note, ...] | None:
        """The newest LATEST notes; None if nobody else has written since."""
        try:
            version = connection.execute("PRAGMA data_version").fetchone()[0]
            if version == self._version:
                return None
            self._version = version
            return tuple(read_notes(connection, limit=LATEST))
        except (sqlite3.Error, ValueError):
            # Events were written just now; a remark must not keep the next ones from it. Who lists the notes is told.
            return None


# -- writing -----------------------------------------------------------------------------------------------------------


def add_note(path: Path, note: Note) -> None:
    """Write a note into the ledger in directory (or file) `path`, whether its agent runs or not.

    It is on the disk on return. Raises LedgerError, and BadNote if there are too many.
    """

    def insert(connection: sqlite3.Connection) -> None:
        if connection.execute("SELECT count(*) FROM notes").fetchone()[0] >= NOTES_MAX:
            raise BadNote(f"there are {NOTES_MAX} notes already: remove some")
        marks = ", ".join("?" * len(NOTE_COLUMNS))
        row = [getattr(note, name) for name in NOTE_COLUMNS]
        connection.execute(f"INSERT INTO notes ({columns(NOTE_COLUMNS)}) VALUES ({marks})", row)

    _write(ledger_file(path), insert)


def remove_note(path: Path, name: str) -> bool:
    """Remove the note with this id; False: there is none. Raises LedgerError."""

    def delete(connection: sqlite3.Connection) -> bool:
        return connection.execute('DELETE FROM notes WHERE "id" = ?', (name,)).rowcount > 0

    return _write(ledger_file(path), delete)


def _write(file: Path, change: Callable[[sqlite3.Connection], T]) -> T:
    if not exists(file):
        raise LedgerError(f"{file}: there is no ledger; run the agent with this directory, or name its with --data-dir")
    with _told(file, "written"):
        _upgrade(file)
        with closing(open_writing(file)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                done = change(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return done


def _upgrade(file: Path) -> None:
    """Bring an older ledger to this version; not under an agent of an older prober, which is still writing it."""
    with reading(file) as connection:
        if version_of(connection, file) == VERSION:
            return
    lock = DirectoryLock(file.parent)
    lock.acquire()
    try:
        with closing(open_writing(file)) as connection:
            migrate(connection)
    finally:
        lock.release()


@contextmanager
def _told(file: Path, how: str) -> Iterator[None]:
    """Errors of SQLite and of the system as LedgerError."""
    try:
        yield
    except sqlite3.Error as error:
        if not passing(error):
            raise broken(file, error) from None
        hint = "; run this as the agent's user or as root" if primary_code(error) in _FORBIDDEN else ""
        raise LedgerError(f"{file}: cannot be {how} ({error}){hint}") from None
    except BadNote:
        raise
    except ValueError as error:
        raise broken(file, f"a row that no ledger has: {error}") from None
    except PermissionError:
        raise forbidden(file) from None
    except OSError as error:
        raise LedgerError(f"{file}: cannot be {how} ({error.strerror or error})") from None
