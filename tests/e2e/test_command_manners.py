"""The command line among other programs: pipes that close, Ctrl-C, colours, full disks, narrow terminals."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from prober import __main__
from prober.judge.records import OutageClosed, OutageOpened
from tests import ledgers
from tests.e2e.agent import CODE
from tests.ledgers import BEGIN, opened, outage

PROBER = (sys.executable, "-m", "prober")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")


@pytest.fixture
async def ledger(tmp_path: Path) -> Path:
    """Enough to fill a small pipe, as a table too."""
    async with opened(tmp_path / "data") as kept:
        for number in range(60):
            one = outage(f"n{number}", BEGIN + 100.0 * number)
            await kept.append([OutageOpened(one), OutageClosed(ledgers.ended(one, 90))])
    return tmp_path / "data"


async def ended(output: int, *arguments: str) -> tuple[int | None, bytes]:
    """Status, and what it wrote on stderr, with this for its stdout."""
    process = await asyncio.create_subprocess_exec(
        *PROBER, *arguments, cwd=CODE, stdout=output, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    return process.returncode, err


@pytest.mark.parametrize("more", [[], ["--json"]])
async def test_a_reader_who_has_seen_enough(ledger: Path, more: list[str]) -> None:
    """As `prober outages | head -1`."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    running = asyncio.create_task(ended(writing, "outages", "--data-dir", str(ledger), *more))
    await asyncio.to_thread(os.read, reading, 10)
    os.close(reading)
    os.close(writing)
    status, err = await running
    assert (status, err) == (0, b"")


@pytest.mark.parametrize(
    "arguments", ["failures", "failures --json", "--help", "outages --help", "check --schema world"]
)
async def test_a_reader_who_has_gone(arguments: str) -> None:
    """As `prober failures | true`: click, rich and we end alike."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert await ended(writing, *arguments.split()) == (0, b"")
    finally:
        os.close(writing)


async def test_a_disk_that_is_full(ledger: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        found = await ended(full, "report", "--ledger", str(ledger), "--format", "html")
    finally:
        os.close(full)
    assert found == (2, b"prober: cannot write the result: No space left on device\n")


def test_ctrl_c_is_no_traceback(tmp_path: Path) -> None:
    """While it waits for a file that never ends."""
    settings = tmp_path / "settings.yml"
    os.mkfifo(settings)
    with (
        subprocess.Popen(
            [*PROBER, "status", "--config", str(settings)], cwd=CODE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
        settings.open("wb"),
    ):  # goes on when it is opened there, too
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.strip()) == (130, b"", b"")


def test_ctrl_c_while_it_loads_is_none_either(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "prober.cli", Interrupted("prober.cli"))
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 130


def in_terminal(*arguments: str, columns: int = 80, **env: str) -> tuple[int, str]:
    """Status, and what a terminal is sent."""
    master, slave = pty.openpty()
    shown = b""
    try:
        with subprocess.Popen(
            [*PROBER, *arguments],
            cwd=CODE,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **env},
        ) as process:
            os.close(slave)
            with contextlib.suppress(OSError):  # EIO: the other side is closed
                while data := os.read(master, 65536):
                    shown += data
        return process.returncode, shown.decode()
    finally:
        os.close(master)


async def test_colours_are_for_terminals_that_want_them(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as kept:
        await kept.append([OutageOpened(outage("north-korea", scope="entity"))])
        kept.heartbeat(1060.0, BEGIN + 60)
        await kept.append([])
    arguments = ("status", "--data-dir", str(tmp_path / "data"))
    usual, without, dumb = await asyncio.gather(
        asyncio.to_thread(in_terminal, *arguments),
        asyncio.to_thread(in_terminal, *arguments, NO_COLOR="1"),
        asyncio.to_thread(in_terminal, *arguments, TERM="dumb"),
    )
    assert COLOUR.search(usual[1])
    assert not COLOUR.search(without[1])
    assert "\x1b" not in dumb[1]
    plain = [re.sub(r"\x1b\[[\d;]*m", "", text) for _, text in (usual, without, dumb)]
    assert plain[0] == plain[1] == plain[2]
    assert max(map(len, plain[0].splitlines())) <= 80
