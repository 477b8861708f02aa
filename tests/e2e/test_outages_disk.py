"""Disks that are full, read-only or spoiled, and clocks that are set: what is measured does not depend on them."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from prober.judge.records import GapCause, Outage
from prober.ledger import FILE_NAME
from tests.e2e.agent import RUN, open_directory
from tests.e2e.country import ENTITY, SCOPES_OF_NORTH, Moment, Vantage, World, assert_holds, only, scopes, told
from tests.e2e.plays import Plays
from tests.lab import require_program

pytestmark = pytest.mark.timeout(300)

TIMING: Final = "{interval: 1s, timeout: 300ms}"
JUDGEMENT: Final = "{confirm_interval: 100ms, blip: 3s, false_outages_per_year: 1000}"
HOUR: Final = 3600.0


@contextmanager
def tmpfs(directory: Path, size: str) -> Iterator[Path]:
    """A small disk of its own."""
    directory.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def remount(vantage: Vantage, mode: str) -> None:
    """`ro` or `rw`, where the agent sees it: `ip netns exec` has given it mounts of its own."""
    where = ["mount", "-o", f"remount,bind,{mode}", str(vantage.data_dir)]
    subprocess.run([require_program("nsenter"), "-t", str(vantage.agent.process.pid), "-m", *where], check=True)


def fill(disk: Path) -> Path:
    """Use up every byte."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)) > 0:
            pass
    return filler


def an_outage(vantage: Vantage, seconds: float = 8.0) -> tuple[Moment, Moment]:
    """Cut network north off, and look whether the metrics tell of it."""
    cut = vantage.cut_network("north")
    vantage.metrics_when(
        lambda m: m.value("prober_outage_seconds", scope="network", name="north") > 0, 30.0, "the outage is shown"
    )
    vantage.watch(cut.end + seconds - time.time())
    mended = vantage.mend_network()
    vantage.metrics_when(
        lambda m: m.value("prober_outage_seconds", scope="network", name="north") == 0, 30.0, "its end is shown"
    )
    return cut, mended


def disk_full(vantage: Vantage) -> None:
    with tmpfs(vantage.data_dir, "1m") as disk:
        vantage.start()
        vantage.warm_up(13.0)
        filler = fill(disk)
        vantage.metrics_when(lambda m: m.value("prober_ledger_writable") == 0, 30.0, "the metric says so")
        assert len(vantage.agent.log("the ledger cannot be written")) == 1
        probed = sum(s.value for s in vantage.metrics().all("prober_probes_total"))
        cut, mended = an_outage(vantage)
        vantage.watch(2.0)
        assert vantage.verdict("network", "north") == (1.0, 1.0)
        assert sum(s.value for s in vantage.metrics().all("prober_probes_total")) > probed + 50
        assert vantage.outages() == [], told(vantage.outages())
        assert vantage.metrics().value("prober_ledger_unwritten_events") >= len(SCOPES_OF_NORTH)
        filler.unlink()
        vantage.metrics_when(lambda m: m.value("prober_ledger_writable") == 1, 30.0, "space is back")
        _all_written(vantage, cut, mended)
        assert len(vantage.agent.log("the ledger is written again")) == 1
        # and it still is a ledger: killed and started again, nothing is different
        before = vantage.outages()
        vantage.agent.signal(signal.SIGKILL)
        vantage.agent.process.wait()
        vantage.start()
        vantage.watch(2.0)
        assert [one.id for one in vantage.outages()] == [one.id for one in before]
        vantage.agent.process.stop()


def read_only(vantage: Vantage) -> None:
    with tmpfs(vantage.data_dir, "8m"):
        vantage.start()
        vantage.warm_up(13.0)
        vantage.agent.process.stop()
        subprocess.run(["mount", "-o", "remount,bind,ro", str(vantage.data_dir)], check=True)
        vantage.start()
        vantage.watch(3.0)
        vantage.metrics_when(lambda m: m.value("prober_ledger_writable") == 0, 30.0, "the metric says so")
        assert len(vantage.agent.log("the ledger cannot be written")) == 1
        assert vantage.verdict("network", "north") == (1.0, 1.0)
        cut, mended = an_outage(vantage)
        vantage.watch(2.0)
        assert vantage.outages() == []
        remount(vantage, "rw")
        vantage.metrics_when(lambda m: m.value("prober_ledger_writable") == 1, 30.0, "it can be written again")
        _all_written(vantage, cut, mended)
        (gap,) = vantage.gaps()
        assert gap.cause is GapCause.STOPPED
        vantage.agent.process.stop()


def read_only_and_empty(vantage: Vantage) -> None:
    """Not even the file can be made."""
    with tmpfs(vantage.data_dir, "8m"):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(vantage.data_dir)], check=True)
        vantage.start()
        vantage.warm_up(13.0)
        assert vantage.metrics().value("prober_ledger_writable") == 0
        assert len(vantage.agent.log("the ledger cannot be written")) == 1
        cut, mended = an_outage(vantage)
        remount(vantage, "rw")
        vantage.metrics_when(lambda m: m.value("prober_ledger_writable") == 1, 30.0, "it can be written")
        _all_written(vantage, cut, mended)
        vantage.agent.process.stop()


def _all_written(vantage: Vantage, cut: Moment, mended: Moment) -> None:
    vantage.watch(2.0)
    outages = vantage.outages()
    assert scopes(outages) == sorted(SCOPES_OF_NORTH), told(outages)
    for outage in outages:
        assert_holds(outage, cut, mended)
    metrics = vantage.metrics()
    assert metrics.value("prober_ledger_unwritten_events") == 0
    assert metrics.value("prober_ledger_lost_events_total") == 0
    assert sum(s.value for s in metrics.all("prober_outages_total", scope="network", name="north")) == 1


def refused(vantage: Vantage) -> None:
    """A second agent on the same directory, and then a ledger that is spoiled: one line each, exit 2."""
    vantage.start()
    other = vantage.directory / "other.yml"
    other.write_text(vantage.settings.read_text() + "listen: 127.0.0.1:9912\n")
    _refused(vantage, other, vantage.data_dir)
    vantage.watch(2.0)
    assert vantage.verdict("check", "north-1/icmp") == (1.0, 1.0), "the first one goes on"
    vantage.agent.process.stop()
    file = vantage.data_dir / FILE_NAME
    sound = file.read_bytes()
    chance = random.Random(1)
    for spoiled in (
        sound[:1000] + chance.randbytes(len(sound) - 1000),
        chance.randbytes(5000),
        b"not a ledger\n",
        sound[: len(sound) // 2],
    ):
        file.write_bytes(spoiled)
        beside = sorted(vantage.data_dir.iterdir())
        _refused(vantage, other, file)
        assert file.read_bytes() == spoiled, "it is left as it was"
        assert sorted(vantage.data_dir.iterdir()) == beside
    file.write_bytes(sound)
    vantage.start()
    vantage.watch(2.0)
    assert vantage.verdict("check", "north-1/icmp") == (1.0, 1.0)
    vantage.agent.process.stop()


def _refused(vantage: Vantage, settings: Path, named: Path) -> None:
    ended = vantage.host.run(*_run(settings), check=False)
    assert ended.returncode == 2, ended.stderr
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert str(named) in lines[0]


def _run(settings: Path) -> list[str]:
    # from anywhere: the code under test is found by its own place
    return ["env", f"PYTHONPATH={Path(__file__).parents[2]}", *RUN, "--config", str(settings)]


def _stepped(vantage: Vantage, seconds: float) -> None:
    """UTC jumps while network north is down: the outage keeps its length and moves with the clock."""
    clock = vantage.directory / "clock"
    clock.write_text("+0s\n")
    faketime = {
        "LD_PRELOAD": require_program("libfaketime"),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",  # read once a second
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # Its remedy for an old glibc makes waits for CPython's lock end early or never: seconds of standstill.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }
    vantage.start(env=faketime)
    vantage.warm_up(13.0)
    cut = vantage.cut_network("north")
    vantage.outages_when(lambda found: scopes(found) == sorted(SCOPES_OF_NORTH), 30.0, "the outage is found")
    before = {one.id: one for one in vantage.outages()}
    counted = _observed_seconds(vantage)
    clock.write_text(f"{seconds:+.0f}s\n")
    stepped = time.time()
    vantage.watch(5.0)
    asked, since = time.time(), only(list(before.values()), "network", "north").start
    shown = vantage.metrics().value("prober_outage_seconds", scope="network", name="north")
    assert asked - since - 1.5 <= shown <= time.time() - since + 1.5
    for outage in vantage.outages():
        assert outage.ongoing
        assert outage.started_by == pytest.approx(before[outage.id].started_by + seconds, abs=0.2)
    mended = vantage.mend_network()
    vantage.settled()
    vantage.watch(5.0)
    outages = vantage.outages()
    assert scopes(outages) == sorted(SCOPES_OF_NORTH), told(outages)
    for outage in outages:
        assert_holds(_moved(outage, -seconds), cut, mended)
    (gap,) = vantage.gaps()
    assert gap.cause is GapCause.CLOCK_STEP
    assert gap.step_seconds == pytest.approx(seconds, abs=0.2)
    assert gap.begin - seconds == pytest.approx(stepped, abs=5.0)
    assert vantage.verdict("entity", ENTITY) == (1.0, 1.0)
    passed = time.time() - stepped
    assert _observed_seconds(vantage) - counted == pytest.approx(passed, abs=12.0), "time passed as it did"
    rtts = [s.value for s in vantage.metrics().all("probe_icmp_duration_seconds", phase="rtt")]
    assert rtts
    assert max(rtts) < 0.3
    # restarted on the new clock: the agent was away for a moment, not for an hour
    vantage.agent.process.stop()
    vantage.start(env=faketime)
    vantage.watch(3.0)
    stop = vantage.gaps()[-1]
    assert stop.cause is GapCause.STOPPED
    assert stop.end is not None
    assert stop.end - stop.begin < 60.0


def _observed_seconds(vantage: Vantage) -> float:
    return sum(s.value for s in vantage.metrics().all("prober_state_seconds_total", scope="entity", name=ENTITY))


def _moved(outage: Outage, seconds: float) -> Outage:
    assert outage.started_after is not None
    assert outage.ended_by is not None
    assert outage.end is not None
    return replace(
        outage,
        started_after=outage.started_after + seconds,
        started_by=outage.started_by + seconds,
        ended_after=outage.ended_after + seconds,
        ended_by=outage.ended_by + seconds,
        start=outage.start + seconds,
        end=outage.end + seconds,
    )


def stepped_forward(vantage: Vantage) -> None:
    _stepped(vantage, HOUR)


def stepped_back(vantage: Vantage) -> None:
    _stepped(vantage, -HOUR)


SCENARIOS: Final[dict[str, Callable[[Vantage], None]]] = {
    scenario.__name__: scenario
    for scenario in (disk_full, read_only, read_only_and_empty, refused, stepped_forward, stepped_back)
}


@pytest.fixture(scope="module")
def played() -> Iterator[Plays]:
    """All scenarios, under way."""
    require_program("nft")
    require_program("libfaketime")
    with ExitStack() as stack:
        world = World(stack, stack.enter_context(open_directory()))

        def stage(stack: ExitStack, name: str, label: str) -> Callable[[], None]:
            return partial(SCENARIOS[name], Vantage(stack, world, label, timing=TIMING, judgement=JUDGEMENT))

        yield Plays(stack, SCENARIOS, stage)


@pytest.mark.parametrize("name", SCENARIOS)
def test_disk_and_clock(played: Plays, name: str) -> None:
    played.result(name)
