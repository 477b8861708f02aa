"""The ledger on real disks: killed, full, read-only, broken, shared."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from prober.judge.records import GapClosed, OutageClosed, OutageOpened, Verdict
from prober.ledger import FILE_NAME, Ledger, LedgerError, Totals, read_gaps, read_outages
from prober.ledger.schema import VERSION
from tests.contract.ledger_agent import SECONDS
from tests.lab import Process, require_program, require_root, wait_until
from tests.ledgers import BEGIN, ended, gap, opened, outage, state

# -- killed ------------------------------------------------------------------------------------------------------------


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    chance = random.Random(9)
    said: list[str] = []
    first = 0
    for _ in range(20):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.contract.ledger_agent", str(tmp_path), str(first)],
            stdout=subprocess.PIPE,
            text=True,
        ) as agent:
            assert agent.stdout is not None
            heard = [agent.stdout.readline()]  # it has started
            time.sleep(chance.uniform(0.0, 0.2))
            agent.kill()
            heard += agent.stdout.readlines()
        assert heard[0], "the agent did not start"
        said += [line.strip() for line in heard if line.endswith("\n")]
        first = 1 + max(int(line.split()[1]) for line in said if not line.startswith("shown"))
        check_against(tmp_path, said)
    assert first > 20


def check_against(directory: Path, said: list[str]) -> None:
    """The ledger holds what was acknowledged, at most what was attempted, and counts each once."""
    numbers = {word: {int(n) for w, n in map(str.split, said) if w == word} for word in ("opening", "opened", "closed")}
    rows = {round((row.start - BEGIN) / 1000): row for row in read_outages(directory)}
    assert len(rows) == len(read_outages(directory))
    assert numbers["opened"] <= set(rows) <= numbers["opening"]
    assert all(not rows[number].ongoing for number in numbers["closed"])
    with closing(sqlite3.connect(f"file:{directory / FILE_NAME}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        total = connection.execute("SELECT outages, outage_seconds FROM totals WHERE name = 'n'").fetchone()
    over = sum(not row.ongoing for row in rows.values())
    certain = sum(row.duration_min_seconds for row in rows.values())
    assert total == (over, certain)
    shown = [float(line.split()[1]) for line in said if line.startswith("shown")]
    assert shown == sorted(shown)
    assert not shown or total[1] >= shown[-1]
    assert all(row.duration_min_seconds == SECONDS for row in rows.values() if not row.ongoing)
    assert Counter(row.ongoing for row in rows.values())[True] <= 1


# -- one writer --------------------------------------------------------------------------------------------------------


async def test_a_second_agent_is_refused_and_named(tmp_path: Path) -> None:
    agent = Process(
        sys.executable,
        "-m",
        "tests.contract.ledger_agent",
        str(tmp_path),
        "0",
        ready=lambda: (tmp_path / FILE_NAME).exists(),
    )
    try:
        with pytest.raises(LedgerError) as refused:
            await Ledger.open(tmp_path, now=0.0, utc=BEGIN)
    finally:
        agent.popen.kill()
        agent.stop()
    assert str(refused.value) == (
        f"{tmp_path}: the agent with pid {agent.pid} writes its ledger here; stop it, "
        "or give this agent a directory of its own with --data-dir"
    )
    async with opened(tmp_path) as ledger:  # nothing of the lock is left
        assert ledger.writable


async def test_the_directory_is_free_after_close_and_after_a_refusal(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(LedgerError, match=f"pid {os.getpid()} "):
            await Ledger.open(tmp_path, now=0.0, utc=BEGIN)
    (tmp_path / FILE_NAME).write_bytes(b"garbage")
    for _ in range(2):
        with pytest.raises(LedgerError, match="not a readable ledger"):
            await Ledger.open(tmp_path, now=0.0, utc=BEGIN)


# -- broken ------------------------------------------------------------------------------------------------------------


async def sound(directory: Path) -> Path:
    """A ledger with a few pages in it."""
    async with opened(directory) as ledger:
        await ledger.append([OutageClosed(ended(outage("n", BEGIN + 1000 * n), 600)) for n in range(200)])
    return directory / FILE_NAME


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "lock"}


@pytest.mark.parametrize(
    "damage",
    ["garbage", "empty", "text", "truncated", "one page", "half a page", "zeroed page", "page count", "other program"],
)
async def test_a_broken_ledger_is_refused_and_not_touched(tmp_path: Path, damage: str) -> None:
    path = await sound(tmp_path)
    size = path.stat().st_size
    if damage == "other program":
        path.unlink()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE notes (text)")
    elif damage == "page count":  # of the free list: nothing that a restart would stumble over
        with path.open("r+b") as file:
            file.seek(36)
            file.write(b"\x00\x00\x00\x05")
    elif damage == "zeroed page":
        with path.open("r+b") as file:
            file.seek(4096 * 2)
            file.write(bytes(4096 * 3))
    elif damage in ("garbage", "text", "empty"):
        path.write_bytes({"garbage": os.urandom(size), "text": b"outages: none\n", "empty": b""}[damage])
    else:
        os.truncate(path, {"truncated": size // 8192 * 4096, "one page": 4096, "half a page": size - 2048}[damage])
    before = contents(tmp_path)
    with pytest.raises(LedgerError) as refused:
        await Ledger.open(tmp_path, now=0.0, utc=BEGIN)
    assert str(path) in str(refused.value)
    assert "not a readable ledger" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert contents(tmp_path) == before


async def test_a_broken_ledger_with_a_log_keeps_its_log(tmp_path: Path) -> None:
    await sound(tmp_path / "whole")
    async with opened(tmp_path / "whole") as ledger:
        await ledger.append([OutageOpened(outage("late"))])
        shutil.copytree(tmp_path / "whole", tmp_path / "copy")  # as a crash leaves it
    path = tmp_path / "copy" / FILE_NAME
    (tmp_path / "copy" / f"{FILE_NAME}-shm").unlink()
    with path.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xff" * 4096 * 4)
    before = contents(tmp_path / "copy")
    assert before[f"{FILE_NAME}-wal"]
    with pytest.raises(LedgerError, match="not a readable ledger"):
        await Ledger.open(tmp_path / "copy", now=0.0, utc=BEGIN)
    assert contents(tmp_path / "copy") == before


async def test_a_log_without_its_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"{FILE_NAME}-wal").write_bytes(b"x")
    with pytest.raises(LedgerError, match=f"{FILE_NAME}-wal: left without its {FILE_NAME}"):
        await Ledger.open(tmp_path, now=0.0, utc=BEGIN)
    assert contents(tmp_path) == {f"{FILE_NAME}-wal": b"x"}


async def test_a_ledger_of_a_later_prober_is_refused(tmp_path: Path) -> None:
    path = await sound(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    message = f"{path}: written by a later prober (ledger version 99, this one knows {VERSION}); upgrade prober"
    with pytest.raises(LedgerError) as refused:
        await Ledger.open(tmp_path, now=0.0, utc=BEGIN)
    assert str(refused.value) == message
    with pytest.raises(LedgerError) as refused:
        read_outages(tmp_path)
    assert str(refused.value) == message
    assert path.read_bytes() == before


async def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(LedgerError, match=r"data: cannot hold the ledger \(not a directory\)"):
        await Ledger.open(tmp_path / "data", now=0.0, utc=BEGIN)


async def test_half_a_new_ledger_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / f"{FILE_NAME}.new").write_bytes(b"the power went")
    async with opened(tmp_path) as ledger:
        assert ledger.writable
    assert sorted(contents(tmp_path)) == [FILE_NAME]


def test_a_directory_that_may_not_be_entered_is_one_clear_line(tmp_path: Path) -> None:
    require_root()
    command = (
        "import asyncio, sys; from pathlib import Path; from prober.ledger import *; path = Path(sys.argv[1])\n"
        "for ask in lambda: read_outages(path), lambda: asyncio.run(Ledger.open(path, now=0.0, utc=0.0)):\n"
        "    try: ask()\n"
        "    except LedgerError as error: print(error)"
    )
    tmp_path.chmod(0o700)
    nobody = [require_program("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*nobody, sys.executable, "-c", command, str(tmp_path)], capture_output=True, text=True, check=True
    )
    line = f"{tmp_path / FILE_NAME}: may not be read by this user; run this as the agent's user or as root"
    assert done.stdout.splitlines() == [line, line]


def test_no_ledger_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"ledger.sqlite3: there is no ledger; run the agent"):
        read_outages(tmp_path)
    with pytest.raises(LedgerError, match="there is no ledger"):
        read_gaps(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


async def test_reading_a_broken_ledger_is_one_clear_line(tmp_path: Path) -> None:
    path = await sound(tmp_path)
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(LedgerError, match="not a readable ledger"):
        read_outages(tmp_path)


async def test_a_ledger_that_is_removed_is_noticed(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        await ledger.append([OutageOpened(outage("a"))])
        aside = (tmp_path / FILE_NAME).rename(tmp_path / "aside")
        ledger.record([OutageOpened(outage("b"))])
        await until(lambda: not ledger.writable)
        assert "was removed or replaced" in ledger.failing_reason
        assert [one.name for one in ledger.ongoing()] == ["a"]
        aside.rename(tmp_path / FILE_NAME)
        await until(lambda: ledger.writable)
    assert {one.name for one in read_outages(tmp_path)} == {"a", "b"}


# -- full and read-only ------------------------------------------------------------------------------------------------


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("not in time")


@contextmanager
def mounted(*how: str, at: Path) -> Iterator[Path]:
    require_root()
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", *how, str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


def remount(how: str, at: Path) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(at)], check=True)


def fill(directory: Path) -> Path:
    """Use up the last byte."""
    path = directory / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return path


async def test_on_a_full_disk_events_wait_and_are_written_when_there_is_space(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs", at=tmp_path / "disk") as disk:
        async with opened(disk) as ledger:
            before = [outage("a", BEGIN + 1000 * n) for n in range(10)]
            await ledger.append([OutageClosed(ended(one, 600)) for one in before])
            shown = ledger.totals("network", "a")
            filler = fill(disk)
            waiting = [OutageClosed(ended(outage("b", BEGIN + 1000 * n), 600)) for n in range(1000)]
            for event in waiting:
                ledger.record([event])
            ledger.record([OutageOpened(outage("c"))])
            for n in range(5):
                ledger.snapshot({"n": n}, BEGIN + n)
                ledger.heartbeat(1000.0 + n, BEGIN + n)
            await until(lambda: not ledger.writable)
            assert ledger.unwritten == 1001
            assert ledger.failing_since is not None
            assert "full" in ledger.failing_reason
            assert ledger.ongoing() == []  # shown only once it is written
            assert ledger.totals("network", "a") == shown
            assert len(await ledger.outages()) == 10  # reading goes on
            assert len(read_outages(disk)) == 10
            filler.unlink()
            await until(lambda: ledger.writable)
            assert ledger.unwritten == ledger.lost == 0
            assert ledger.ongoing() == [outage("c")]
            assert ledger.totals("network", "b").outages == 1000
            assert len(read_outages(disk)) == 1011
        async with opened(disk) as ledger:
            assert ledger.restore().snapshot == {"n": 4}
    assert caplog.text.count("the ledger cannot be written") == 1
    assert caplog.text.count("the ledger is written again") == 1


async def test_start_on_a_full_disk(tmp_path: Path) -> None:
    with mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs", at=tmp_path / "disk") as disk:
        async with opened(disk) as ledger:
            await ledger.append([OutageOpened(outage("a"))])
        filler = fill(disk)
        async with opened(disk) as ledger:
            assert ledger.ongoing() == [outage("a")]
            ledger.record([OutageClosed(ended(outage("a"), 600))])
            await until(lambda: not ledger.writable)
            assert ledger.ongoing() == [outage("a")]
            assert await ledger.outages() == [outage("a")]
            filler.unlink()
            await until(lambda: ledger.writable)
            assert ledger.ongoing() == []


async def test_first_start_on_a_full_disk(tmp_path: Path) -> None:
    with mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", at=tmp_path / "disk") as disk:
        filler = fill(disk)
        async with opened(disk / "data") as ledger:
            assert not ledger.writable
            ledger.record([OutageOpened(outage("a"))])
            filler.unlink()
            await until(lambda: ledger.writable)
            assert ledger.ongoing() == [outage("a")]
        assert [path.name for path in (disk / "data").iterdir() if "new" in path.name] == []


@pytest.mark.parametrize("crashed", [False, True], ids=["stopped", "crashed"])
async def test_a_read_only_directory(tmp_path: Path, crashed: bool, caplog: pytest.LogCaptureFixture) -> None:
    home = tmp_path / "data"
    async with opened(tmp_path / "origin") as ledger:
        await ledger.append([OutageOpened(outage("a"))])
        if crashed:
            shutil.copytree(tmp_path / "origin", home)
            (home / f"{FILE_NAME}-shm").unlink()
    if not crashed:
        shutil.copytree(tmp_path / "origin", home)
    with mounted("--bind", str(home), at=home):
        remount("ro,bind", home)
        assert read_outages(home) == [outage("a")]
        async with opened(home) as ledger:
            assert not ledger.writable
            assert "read-only" in ledger.failing_reason
            assert ledger.ongoing() == [outage("a")]
            assert await ledger.outages() == [outage("a")]
            ledger.record([OutageOpened(outage("b"))])
            ledger.heartbeat(1001.0, BEGIN + 1)
            await until(lambda: ledger.unwritten == 1)
            remount("rw,bind", home)
            await until(lambda: ledger.writable)
            assert {one.name for one in ledger.ongoing()} == {"a", "b"}
    assert caplog.text.count("the ledger cannot be written") == 1
    assert {one.name for one in read_outages(home)} == {"a", "b"}


async def test_an_empty_read_only_directory(tmp_path: Path) -> None:
    home = tmp_path / "data"
    with mounted("-t", "tmpfs", "-o", "ro", "tmpfs", at=home):
        async with opened(home) as ledger:
            assert not ledger.writable
            ledger.record([OutageOpened(outage("a"))])
            with pytest.raises(LedgerError, match="there is no ledger"):
                await ledger.outages()
            remount("rw", home)
            await until(lambda: ledger.writable)
            assert ledger.ongoing() == [outage("a")]


async def test_events_that_could_not_be_written_before_the_end_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mounted("-t", "tmpfs", "-o", "ro", "tmpfs", at=tmp_path / "data"):
        async with opened(tmp_path / "data") as ledger:
            ledger.record([OutageOpened(outage("a")), GapClosed(gap(end=BEGIN + 1))])
        assert ledger.lost == 2
    assert "events could not be written before the end, they are lost" in caplog.text


@pytest.mark.alone  # how far the writer has come between the two counts
async def test_too_many_waiting_events_cost_the_oldest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with mounted("-t", "tmpfs", "-o", "ro", "tmpfs", at=tmp_path / "data"):
        async with opened(tmp_path / "data", unwritten_max=100) as ledger:
            ledger.record([OutageOpened(outage("open"))])
            ledger.record([OutageClosed(ended(outage("n", BEGIN + 1000 * n), 600)) for n in range(101)])
            lost = ledger.lost
            assert lost in (11, 12)  # the writer may have the first in hand at that moment
            assert ledger.unwritten == 102 - lost
            remount("rw", tmp_path / "data")
            await until(lambda: ledger.writable)
            assert len(ledger.ongoing()) == 1
            assert ledger.totals("network", "n").outages == 101 - lost


# -- beside a running agent, and in bulk -------------------------------------------------------------------------------


async def test_reading_beside_a_running_agent_from_another_process(tmp_path: Path) -> None:
    agent = Process(sys.executable, "-m", "tests.contract.ledger_agent", str(tmp_path), "0")
    try:
        wait_until(lambda: "closed 3" in agent.output())
        counts = [len(read_outages(tmp_path)) for _ in range(50)]
        assert counts == sorted(counts)
        assert counts[0] >= 4
        wait_until(lambda: f"closed {counts[-1] + 1}" in agent.output())  # and the agent was not disturbed
    finally:
        agent.popen.kill()
        agent.stop()


@pytest.mark.alone
async def test_ten_thousand_events_at_once(tmp_path: Path) -> None:
    events = [OutageOpened(outage(f"n{n}", scope="check")) for n in range(10_000)]
    async with opened(tmp_path) as ledger:
        began = time.monotonic()
        await ledger.append(events)
        assert time.monotonic() - began < 20.0
        assert len(ledger.ongoing()) == 10_000
        began = time.monotonic()
        ledger.track([state(f"n{n}", Verdict.DOWN, 0.0) for n in range(10_000)], 1000.0)
        await ledger.append([OutageClosed(ended(event.outage, 600)) for event in events])
        assert time.monotonic() - began < 20.0
        assert ledger.totals("check", "n77") == Totals(outages=1, outage_seconds=540.0)
