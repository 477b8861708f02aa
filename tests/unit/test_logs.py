"""Log lines: one per record, whatever it holds; once per cause; never in the way."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shlex
import threading
import warnings

import pytest

from prober import logs
from prober.logs import OncePerCause, json_line, logfmt_line, logging_to

HOSTILE = 'x\nts=2026-01-01T00:00:00.000Z level=info msg="all is well"\r\x1b[2J\x00\x7f\x85\u2028\u202e\udc80 "q" \\'


def record(message: str = "hello", /, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "prober.test", "levelname": "INFO", "msg": message, **extra})
    made.created = 1767323045.678
    return made


def failure() -> logging.LogRecord:
    def inner() -> None:
        raise ValueError("bad\nvalue")

    try:
        inner()
    except ValueError as error:
        return record("failed", exc_info=(ValueError, error, error.__traceback__))
    raise AssertionError


@pytest.fixture
def logger() -> logging.Logger:
    return logging.getLogger("prober.test")


def test_a_logfmt_line() -> None:
    line = logfmt_line(record("two words", address="127.0.0.1:9911", count=3, ratio=0.5, ok=True, none=None, empty=""))
    assert line == (
        'ts=2026-01-02T03:04:05.678Z level=info logger=prober.test msg="two words" '
        'address=127.0.0.1:9911 count=3 ratio=0.5 ok=true none="" empty=""'
    )


def test_a_json_line() -> None:
    line = json_line(record("two words", count=3, ratio=0.5, ok=True, none=None, nan=float("nan"), name_="조선"))
    assert json.loads(line) == {
        "ts": "2026-01-02T03:04:05.678Z",
        "level": "info",
        "logger": "prober.test",
        "msg": "two words",
        "count": 3,
        "ratio": 0.5,
        "ok": True,
        "none": None,
        "nan": "nan",
        "name_": "조선",
    }
    assert "조선" in line  # people read these too


@pytest.mark.parametrize("line", [logfmt_line, json_line])
@pytest.mark.parametrize("where", ["msg", "detail"])
def test_hostile_text_stays_on_its_line_and_in_its_value(line: object, where: str) -> None:
    assert callable(line)
    text = line(record(**{"detail": HOSTILE}) if where == "detail" else record(HOSTILE))
    assert text.isprintable()
    text.encode("utf-8")  # no lone surrogates
    if line is json_line:
        assert json.loads(text)[where] == HOSTILE
    else:
        assert [part.partition("=")[0] for part in shlex.split(text)][:4] == ["ts", "level", "logger", "msg"]
        assert len(re.findall(r"(?:^| )level=", re.sub(r'"(?:[^"\\]|\\.)*"', '""', text))) == 1


def test_a_control_character_alone_is_escaped_too() -> None:
    assert logfmt_line(record("x", detail="a\x1bb\u202ec")).endswith('detail="a\\u001bb\\u202ec"')


def test_a_key_cannot_forge_a_pair() -> None:
    assert logfmt_line(record(**{"a b=c": 1})).endswith(" a_b_c=1")


def test_long_values_are_cut_and_say_so() -> None:
    assert logfmt_line(record("m" * 2000, detail="d" * 501)).endswith("d...(+1)")
    assert len(logfmt_line(record("m" * 2000))) < 600


def test_an_error_is_one_line_with_its_place() -> None:
    found = json.loads(json_line(failure()))
    assert found["error"] == "ValueError: bad\nvalue"
    assert re.fullmatch(
        r"tests/unit/test_logs\.py:\d+ inner < tests/unit/test_logs\.py:\d+ failure", found["trace"][-79:]
    )
    assert "\n" not in logfmt_line(failure())


def test_what_cannot_be_formatted_does_not_cost_the_line() -> None:
    class Nasty:
        def __str__(self) -> str:
            raise RuntimeError

    assert 'msg="%d probes" thing=<Nasty>' in logfmt_line(record("%d probes", args=("x",), thing=Nasty()))


def test_logging_to_a_stream(logger: logging.Logger) -> None:
    stream = io.StringIO()
    root_before = logging.getLogger().handlers[:]
    with logging_to(stream):
        logger.debug("quiet")
        logger.info("told", extra={"n": 1})
        logging.getLogger("aiohttp.server").info("chatter")
        logging.getLogger("aiohttp.server").warning("trouble")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old\nway", DeprecationWarning, stacklevel=1)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("level=info logger=prober.test msg=told n=1")
    assert lines[1].endswith("level=warning logger=aiohttp.server msg=trouble")
    assert "DeprecationWarning: old\\nway" in lines[2]
    assert logging.getLogger().handlers == root_before
    assert "log-writer" not in {thread.name for thread in threading.enumerate()}


def test_debug_level_and_json(logger: logging.Logger) -> None:
    stream = io.StringIO()
    with logging_to(stream, "json", "DEBUG"):
        logger.debug("loud")
    assert json.loads(stream.getvalue())["msg"] == "loud"


def test_a_pipe_that_nobody_reads_does_not_block(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "QUEUE_LINES_MAX", 10)
    read: list[str] = []
    reader, writer = os.pipe()
    with open(reader, encoding="utf-8") as end, open(writer, "w", encoding="utf-8") as stream, logging_to(stream):
        for number in range(5_000):  # a pipe holds 64 KiB
            logger.info("line %d", number)
        reading = threading.Thread(target=lambda: read.extend(end))
        reading.start()
        logging.getLogger().handlers[0].close()
        stream.close()
        reading.join(5)
    lost = [int(line.rpartition("lines=")[2]) for line in read if "lines were lost" in line]
    assert "line 0" in read[0]
    assert sum(lost) > 1000
    assert len(read) - len(lost) + sum(lost) == 5_000


def test_a_reader_that_went_away_is_no_error(logger: logging.Logger) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = open(writer, "w", encoding="utf-8")  # noqa: SIM115
    with logging_to(stream):
        logger.info("to nobody")
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_each_cause_is_logged_once(logger: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    once = OncePerCause(logger, remembered=2)
    for _ in range(3):
        once.error("a", "broken", error=ValueError("x"), where="here", name="clash")
    once.warning("b", "odd")
    assert [r.getMessage() for r in caplog.records] == ["broken", "odd"]
    assert [r.levelname for r in caplog.records] == ["ERROR", "WARNING"]
    assert 'name_=clash error="ValueError: x"' in logfmt_line(caplog.records[0])
    assert (once.count("a"), once.count("b"), once.count("c")) == (3, 1, 0)


def test_memory_of_causes_is_bounded(logger: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    once = OncePerCause(logger, remembered=2)
    for cause in ("a", "b", "a", "c", "a", "b"):  # c pushes b out, the least recent; b is news again
        once.warning(cause, cause)
    assert [r.getMessage() for r in caplog.records] == ["a", "b", "c", "b"]
    once.forget("b")
    once.warning("b", "again")
    assert caplog.records[-1].getMessage() == "again"
