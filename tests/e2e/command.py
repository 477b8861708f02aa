"""`prober probe` as a process, in a pipe and in a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.e2e.agent import CODE
from tests.lab import Namespace

COMMAND = (sys.executable, "-m", "prober", "probe")


class Ended(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.out)
        return parsed


async def probe(*arguments: str, host: Namespace | None = None, env: Mapping[str, str] | None = None) -> Ended:
    """`prober probe` in a pipe."""
    command = [*COMMAND, "--timeout", "2s", *arguments]
    process = await asyncio.create_subprocess_exec(
        *(host.command(*command) if host else command),
        cwd=CODE,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def in_terminal(*arguments: str, **env: str) -> str:
    """What a terminal is sent."""
    master, slave = pty.openpty()
    shown = bytearray()
    loop = asyncio.get_running_loop()

    def read() -> None:
        with contextlib.suppress(OSError):  # EIO: the command has ended
            shown.extend(os.read(master, 65536))

    try:
        loop.add_reader(master, read)
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            cwd=CODE,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **env},
        )
        await process.wait()
        loop.remove_reader(master)
        os.set_blocking(master, False)
        read()
        return shown.decode()
    finally:
        os.close(master)
        os.close(slave)
