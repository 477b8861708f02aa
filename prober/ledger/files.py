"""The ledger's files: one writer per directory, nothing half made, nothing touched that is broken."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from prober.ledger.schema import APPLICATION_ID, VERSION, migrate

FILE_NAME: Final = "ledger.sqlite3"
LOCK_NAME: Final = "lock"
BUSY_SECONDS: Final = 5.0
"""How long a statement waits for somebody who has the file locked (a person with a database tool)."""

_PASSING_ERRNO: Final = frozenset(
    {errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE}
)
_PASSING_CODES: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
    }
)
_NO_SIDE_FILES: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR})


class LedgerError(Exception):
    """The ledger cannot be used. Its text is one line that names the file or directory and says what to do."""


class NoLedger(LedgerError):
    """There is none at `path`."""

    def __init__(self, path: Path, remedy: str) -> None:
        super().__init__(f"{path}: there is no ledger; {remedy}")
        self.path = path


def passing(error: OSError | sqlite3.Error) -> bool:
    """Whether the condition may go away by itself (a full or read-only disk): worth waiting for."""
    if isinstance(error, OSError):
        return error.errno in _PASSING_ERRNO
    return primary_code(error) in _PASSING_CODES


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without its extension; 0 for an error of the binding's own."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def ledger_file(path: Path) -> Path:
    """The ledger that `path` means: a data directory, or the file itself."""
    try:
        is_directory = path.is_dir() or not path.suffix
    except PermissionError:
        is_directory = not path.suffix
    return path / FILE_NAME if is_directory else path


def broken(path: Path, reason: object) -> LedgerError:
    """What is said of a file that is not a sound ledger."""
    return LedgerError(
        f"{path}: not a readable ledger ({reason}); it was left as it is: move it away or restore a copy"
    )


def exists(path: Path) -> bool:
    """Whether there is something. Raises LedgerError where this user may not even know."""
    try:
        return path.exists()
    except PermissionError:
        raise forbidden(path) from None


def forbidden(path: Path) -> LedgerError:
    """What is said of a file that this user may not open."""
    return LedgerError(f"{path}: may not be read by this user; run this as the agent's user or as root")


# -- one writer --------------------------------------------------------------------------------------------------------


class DirectoryLock:
    """An flock on `data_dir/lock`, held until `release` or the end of the process, however that comes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process has it."""
        return self._descriptor is not None

    def acquire(self) -> None:
        """Raises LedgerError if another process has it, OSError if the file cannot be made. Idempotent."""
        if self.held:
            return
        path = self._directory / LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a lock needs no right to write
            except OSError:
                raise error from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            who = f"the agent with pid {holder}" if holder.isdigit() else "another agent"
            raise LedgerError(
                f"{self._directory}: {who} writes its ledger here; stop it, "
                "or give this agent a directory of its own with --data-dir"
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        with suppress(OSError):  # the pid is a courtesy; a full disk must not cost the lock
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next one in. Idempotent. The file stays: removing it would race with who waits for it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


# -- reading -----------------------------------------------------------------------------------------------------------


@contextmanager
def reading(path: Path, *, beside_writer: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection that reads, also beside a running agent and on a read-only file system.

    Reading needs SQLite's side files. Where they are missing and cannot be made, nobody can be writing either: the file
    is then read as it stands, or through a temporary copy if there is a log (`-wal`) to apply. Not so `beside_writer`,
    in the process that writes: closing a file there would drop SQLite's locks on it (fcntl(2)).
    Raises LedgerError, sqlite3.Error or OSError.
    """
    if not exists(path):
        raise NoLedger(path, "run the agent with this directory, or name its with --data-dir")
    if not os.access(path, os.R_OK):
        raise forbidden(path)
    with (
        _temporary(path) as directory,
        closing(_open_reading(path, None if beside_writer else directory)) as connection,
    ):
        yield connection


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A directory that is only made when it is used."""
    made = Path(_scratch(), f"prober-ledger-{os.getpid()}-{id(path)}-{os.urandom(8).hex()}")
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _scratch() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # a container with a read-only root
        return "/dev/shm"


def _open_reading(path: Path, scratch: Path | None) -> sqlite3.Connection:
    try:
        return _open(path, "mode=ro")
    except sqlite3.OperationalError as error:
        if scratch is None or primary_code(error) not in _NO_SIDE_FILES:
            raise
        log = path.with_name(path.name + "-wal")
        if not log.exists() or log.stat().st_size == 0:
            return _open(path, "mode=ro&immutable=1")
    scratch.mkdir(mode=0o700)
    for file in (path, log):
        shutil.copyfile(file, scratch / file.name)
    return _open(scratch / path.name, "mode=ro")


def _open(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None, timeout=BUSY_SECONDS
    )
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # connecting alone reads nothing
    except BaseException:
        connection.close()
        raise
    return connection


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """The version of an open ledger. Raises LedgerError if it is none, or one of a later prober."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise broken(path, "not written by prober")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise LedgerError(
            f"{path}: written by a later prober (ledger version {version}, this one knows {VERSION}); upgrade prober"
        )
    return version


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What goes wrong while the ledger at `path` is read, as LedgerError."""
    try:
        yield
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read ({error})") from None
    except sqlite3.Error as error:
        if passing(error):
            raise LedgerError(f"{path}: cannot be read ({error})") from None
        raise broken(path, error) from None


@contextmanager
def checked(path: Path) -> Iterator[tuple[sqlite3.Connection, int]]:
    """`reading`, with the whole file checked first, and its version. A broken file is not changed in any byte.

    Raises LedgerError for what is broken, sqlite3.OperationalError or OSError for what may pass.
    """
    before = side_files(path)
    try:
        with reading(path) as connection:
            version = version_of(connection, path)
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise broken(path, str(found).splitlines()[0])
            yield connection, version
    except sqlite3.Error as error:
        _remove_side_files(path, before)
        if passing(error):
            raise
        raise broken(path, error) from None
    except LedgerError:
        _remove_side_files(path, before)
        raise


def side_files(path: Path) -> set[Path]:
    """SQLite's log and its index, where they exist."""
    return {side for end in ("-wal", "-shm") if (side := path.with_name(path.name + end)).exists()}


def _remove_side_files(path: Path, before: set[Path]) -> None:
    """Take back what looking at a broken file has left beside it. The caller has the lock."""
    for side in side_files(path) - before:
        with suppress(OSError):
            side.unlink()


# -- writing -----------------------------------------------------------------------------------------------------------


def create(path: Path) -> None:
    """Make an empty ledger. It appears whole or not at all. Raises LedgerError, sqlite3.Error or OSError."""
    stray = side_files(path)
    if stray:  # SQLite would apply the old log to the new file
        raise LedgerError(f"{min(stray)}: left without its {path.name}; restore that, or move this away")
    fresh = path.with_name(path.name + ".new")
    for left in (fresh, *side_files(fresh)):
        left.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with closing(open_writing(fresh)) as connection:
            migrate(connection)
        fresh.rename(path)
    except BaseException:
        with suppress(OSError):
            for left in (fresh, *side_files(fresh)):
                left.unlink(missing_ok=True)
        raise
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_writing(path: Path) -> sqlite3.Connection:
    """A connection that writes. Raises sqlite3.Error."""
    connection = _open(path, "mode=rw")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 16777216")
    except BaseException:
        connection.close()
        raise
    return connection
