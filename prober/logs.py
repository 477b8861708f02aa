"""Log lines on stderr: logfmt or JSON, one line per record whatever it holds, written off the event loop.

    ts=2026-01-02T03:04:05.678Z level=info logger=prober.app msg="listening" address=127.0.0.1:9911

Fields come from `extra`. Text that reached us over the network may stand in any of them: what is not printable is
escaped, so that it can neither forge a line nor steer a terminal, and what is long is cut.
"""

from __future__ import annotations

import json
import logging
import math
import queue
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from traceback import walk_tb
from types import TracebackType
from typing import Final, Literal, TextIO, TypeAlias

from prober.printable import printable

LogFormat: TypeAlias = Literal["logfmt", "json"]
Field: TypeAlias = str | int | float | bool | None

VALUE_LENGTH_MAX: Final = 500
"""Characters of a value; the rest is cut, and how much is said."""
QUEUE_LINES_MAX: Final = 10_000
FRAMES_MAX: Final = 12
_CLOSE_SECONDS: Final = 2.0

_OWN_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN_VALUE: Final = re.compile(r"[^\s\"=\\]+")


def cut(text: str) -> str:
    """`text`, shortened when it is longer than VALUE_LENGTH_MAX."""
    rest = len(text) - VALUE_LENGTH_MAX
    return text if rest <= 0 else f"{text[:VALUE_LENGTH_MAX]}...(+{rest})"


def fields(record: logging.LogRecord) -> dict[str, Field]:
    """What a line says, in order: ts (RFC 3339, UTC, milliseconds), level, logger, msg, the extra fields, the error."""
    try:
        message = record.getMessage()
    except Exception:  # a wrong format string must not cost the line, whatever the arguments' own code raises
        message = str(record.msg)
    found: dict[str, Field] = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "msg": cut(message),
    }
    for key, value in vars(record).items():
        if key not in _OWN_ATTRIBUTES:
            found[key] = _field(value)
    if record.exc_info and record.exc_info[1] is not None:
        _, error, traceback = record.exc_info
        found["error"] = cut(f"{type(error).__name__}: {error}")
        found["trace"] = cut(trace(traceback))
    return found


def _field(value: object) -> Field:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such numbers
    if value is None or type(value) in (bool, int, float):
        return value  # type: ignore[return-value]  # type() and not isinstance: an enum's text is wanted
    try:
        return cut(str(value))
    except Exception:  # whatever an object's own code raises: the line is worth more
        return f"<{type(value).__name__}>"


def trace(traceback: TracebackType | None) -> str:
    """Where an error came from, on one line, innermost first: `prober/net/x.py:12 read < prober/app.py:34 run`."""
    frames = [
        f"{'/'.join(frame.f_code.co_filename.split('/')[-3:])}:{line} {frame.f_code.co_name}"
        for frame, line in walk_tb(traceback)
    ]
    return " < ".join(frames[: -FRAMES_MAX - 1 : -1])


def logfmt_line(record: logging.LogRecord) -> str:
    """A record as `key=value` pairs; values with spaces, quotes or escapes are quoted."""
    return " ".join(f"{_key(key)}={_logfmt_value(value)}" for key, value in fields(record).items())


def _key(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", key)


def _logfmt_value(value: Field) -> str:
    text = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
    if text.isprintable() and _PLAIN_VALUE.fullmatch(text):
        return text
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def json_line(record: logging.LogRecord) -> str:
    """A record as one JSON object. Numbers, booleans and null stay what they are."""
    # Whatever is not printable can only stand inside a text, where \\uXXXX means the same.
    return printable(json.dumps(fields(record), ensure_ascii=False))


_LINES: Final[dict[LogFormat, Callable[[logging.LogRecord], str]]] = {"logfmt": logfmt_line, "json": json_line}


class _Queued(logging.Handler):
    """Formats at once and leaves the writing to a thread: a pipe that nobody reads must not stop the event loop."""

    def __init__(self, line: Callable[[logging.LogRecord], str], stream: TextIO) -> None:
        super().__init__()
        self._line = line
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_LINES_MAX)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="log-writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self._line(record))
        except queue.Full:
            self._dropped += 1  # under the handler's lock

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            self._write(line)
            if self._lines.empty():
                self._tell_losses()
        self._tell_losses()

    def _tell_losses(self) -> None:
        self.acquire()
        dropped, self._dropped = self._dropped, 0
        self.release()
        if dropped:
            told = {"name": __name__, "levelname": "WARNING", "msg": "log lines were lost", "lines": dropped}
            self._write(self._line(logging.makeLogRecord(told)))

    def _write(self, line: str) -> None:
        with suppress(OSError, ValueError):  # the reader is gone, or the stream is closed: nobody is left to be told
            self._stream.write(line + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Write what is left, for _CLOSE_SECONDS at most."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=_CLOSE_SECONDS)
            self._thread.join(_CLOSE_SECONDS)
        super().close()


@contextmanager
def logging_to(stream: TextIO, log_format: LogFormat = "logfmt", level: str = "info") -> Iterator[None]:
    """Within, everything that this process logs goes to `stream`, also Python's warnings and the libraries' records.

    `level` holds for our own records; of the libraries' only warnings and errors are written.
    """
    root, ours = logging.getLogger(), logging.getLogger("prober")
    before = root.handlers[:], root.level, ours.level
    handler = _Queued(_LINES[log_format], stream)
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    ours.setLevel(level.upper())
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])
        handler.close()


class OncePerCause:
    """Logs each cause once. Of causes it remembers the most recent ones only: one that was long away is told again."""

    def __init__(self, logger: logging.Logger, remembered: int = 1_000) -> None:
        self._logger = logger
        self._remembered = remembered
        self._seen: OrderedDict[str, int] = OrderedDict()

    def error(self, cause: str, message: str, *, error: BaseException | None = None, **extra: object) -> None:
        """Log at level error, with where `error` came from."""
        self._log(logging.ERROR, cause, message, error, extra)

    def warning(self, cause: str, message: str, *, error: BaseException | None = None, **extra: object) -> None:
        """Log at level warning."""
        self._log(logging.WARNING, cause, message, error, extra)

    def count(self, cause: str) -> int:
        """How often a cause was met, as far as it is remembered."""
        return self._seen.get(cause, 0)

    def forget(self, cause: str) -> None:
        """The cause is gone: the next time it is news."""
        self._seen.pop(cause, None)

    def _log(self, level: int, cause: str, message: str, error: BaseException | None, extra: dict[str, object]) -> None:
        met = self._seen.pop(cause, 0) + 1
        self._seen[cause] = met  # to the young end
        if len(self._seen) > self._remembered:
            self._seen.popitem(last=False)
        if met == 1:
            # A field named like one of the record's own would be an error while an error is reported.
            safe = {f"{key}_" if key in _OWN_ATTRIBUTES else key: value for key, value in extra.items()}
            self._logger.log(level, message, extra=safe, exc_info=error)
