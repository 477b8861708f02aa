"""The kind http without a task: the same as with one, which it gets where it needs it. Real servers in this process."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from dataclasses import dataclass, replace
from typing import Any

import pytest

from prober.contract import Attempt, Direct, Family, Io, Kind, ProbeFailure
from prober.failures import Failure, Operation
from prober.net.drive import Drive
from prober.probes.http import KIND, direct
from prober.probes.http_options import HttpOptions
from tests.fakes import NoPinger, NoResolver, probe_as_runner
from tests.leaks import assert_no_leaks
from tests.streams import (
    TIMEOUT,
    Names,
    Script,
    cancel_during,
    hang,
    recording,
    redirecting,
    reset,
    run,
    saying,
    serving,
)

PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n\r\nKCNA"
LARGE = 8_000_000  # octets, more than the kernel's buffers hold
IO = Io(NoResolver(), NoPinger(), "test")


def directly(url: str, **options: object) -> Direct | None:
    return direct(HttpOptions.model_validate_json(json.dumps({"url": url, **options})), IO)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://192.0.2.1/", {}),
        ("http://[2001:db8::1]:8080/", {"method": "POST", "body": "x"}),
        ("http://www.kcna.kp/", {"address": "192.0.2.1"}),
    ],
)
def test_an_address_without_tls_needs_no_task(url: str, options: dict[str, object]) -> None:
    assert directly(url, **options) is not None


@pytest.mark.parametrize("url", ["http://www.kcna.kp/", "https://192.0.2.1/"])
def test_a_name_and_tls_need_one(url: str) -> None:
    assert directly(url) is None


async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hear the large request to its end before saying a word."""
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(LARGE)
    writer.write(PAGE)


SCRIPTS: dict[str, tuple[Script, dict[str, object]]] = {
    "a page": (saying(PAGE), {}),
    "piece by piece": (saying(*(PAGE[n : n + 7] for n in range(0, len(PAGE), 7)), pause=0.001), {}),
    "chunks": (saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\nKCNA\r\n0\r\n\r\n"), {}),
    "a large request": (patient, {"method": "POST", "body": "x" * LARGE}),
    "the wrong answer": (saying(PAGE), {"expect": {"body": "Rodong"}}),
    "in circles": (redirecting(b"/again"), {"redirects": 2}),
    "silence": (hang, {}),
    "half a head": (saying(PAGE[:20], then=hang), {}),
    "half a body": (saying(PAGE[:-2], then=hang), {}),
    "closed early": (saying(PAGE[:20]), {}),
    "reset": (reset, {}),
    "garbage": (saying(b"SSH-2.0-OpenSSH_9.2p1\r\n"), {}),
}


@pytest.mark.parametrize("what", SCRIPTS)
async def test_it_sees_what_a_task_sees(what: str) -> None:
    script, options = SCRIPTS[what]
    seen = []
    for kind in (KIND, replace(KIND, direct=None)):
        async with assert_no_leaks(), serving(script) as address:
            timeout = TIMEOUT if script is hang or what.startswith("half") else 5.0
            outcome = await run(kind, {"url": f"http://{address}/", **options}, timeout=timeout)
        facts = {key: value for key, value in outcome.attempt.facts.items() if not key.startswith("tcp_")}
        seen.append((outcome.failed, facts, set(outcome.attempt.phases), outcome.attempt.address))
    assert seen[0] == seen[1]
    assert what != "a large request" or seen[0][0] is None


@dataclass(frozen=True)
class Asking(Names):
    """A resolver that needs a task, and says that it had one."""

    tasks: tuple[list[object], ...] = ()

    async def resolve(self, name: str, family: Family) -> str:
        self.tasks[0].append(asyncio.current_task())
        async with asyncio.timeout(5.0):
            await asyncio.sleep(0)
        return await super().resolve(name, family)


async def test_a_redirect_to_a_name_gets_a_task_and_goes_on() -> None:
    tasks: list[object] = []
    heard: list[bytes] = []
    names = Asking({"elsewhere.example": "127.0.0.1"}, tasks=(tasks,))
    async with assert_no_leaks(), serving(recording(heard, PAGE)) as other:
        moved = redirecting(b"http://elsewhere.example:%d/there" % int(other.rpartition(":")[2]))
        async with serving(moved) as address:
            outcome = await run(KIND, {"url": f"http://{address}/here"}, names=names)
    assert outcome.failed is None, outcome.detail
    assert outcome.attempt.facts["redirects"] == 1
    assert outcome.attempt.address == "127.0.0.1"
    assert len(tasks) == len(heard) == 1
    assert tasks[0] not in (None, asyncio.current_task())


async def test_a_redirect_that_becomes_overdue_before_its_task_goes_on_is_our_own_delay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    became: list[Operation] = []
    become = Drive._become_task

    def noting(drive: Drive) -> None:
        became.append(drive._attempt.operation)
        become(drive)

    monkeypatch.setattr(Drive, "_become_task", noting)
    async with assert_no_leaks(), serving(redirecting(b"http://elsewhere.example/")) as address:
        outcome = await run(KIND, {"url": f"http://{address}/"}, names=Names({}))
    assert outcome.failed is not None
    assert became == [Operation.PREPARE]


def test_a_large_body_is_not_kept_beside_the_options() -> None:
    options = HttpOptions(url="http://192.0.2.1/", method="POST", body="x" * LARGE)
    tracemalloc.start()
    try:
        begin = direct(options, IO)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert begin is not None
    assert kept < LARGE / 8


async def test_a_redirect_that_is_given_up_while_resolving_leaves_nothing() -> None:
    async with assert_no_leaks(), serving(redirecting(b"http://elsewhere.example/")) as address:
        await cancel_during(Operation.RESOLVE, KIND, {"url": f"http://{address}/"}, names=Names({}, silent=True))


async def test_a_page_makes_no_task_and_sends_the_same_again() -> None:
    heard: list[bytes] = []
    made: list[str] = []
    async with assert_no_leaks(), serving(recording(heard, PAGE)) as address:
        loop = asyncio.get_running_loop()
        over = [loop.create_future() for _ in range(3)]
        again = directly(f"http://{address}/", headers={"X-Asked": "yes"})
        assert again is not None

        def note(loop: asyncio.AbstractEventLoop, work: Any, **rest: Any) -> asyncio.Task[Any]:
            made.append(work.__qualname__)
            return asyncio.Task(work, loop=loop, **rest)

        loop.set_task_factory(note)
        for future in over:
            again(Attempt(5.0), future.set_result)
            assert await future is None
        loop.set_task_factory(None)
    assert len(heard) == 3
    assert len(set(heard)) == 1
    assert heard[0].startswith(b"GET / HTTP/1.1\r\nHost: " + address.encode() + b"\r\nUser-Agent: test\r\n")
    assert {name.partition(".")[0] for name in made} <= {"BaseSelectorEventLoop", "serving"}, made  # the server's


async def test_it_ends_in_time_by_itself() -> None:
    async with assert_no_leaks(), serving(hang) as address:
        over: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        begin = directly(f"http://{address}/")
        assert begin is not None
        begin(Attempt(TIMEOUT), over.set_result)
        failure = await asyncio.wait_for(over, 5.0)
    assert isinstance(failure, ProbeFailure)
    assert (failure.operation, failure.failure) == (Operation.RECEIVE, Failure.TIMEOUT)


@pytest.mark.parametrize(
    ("url", "options", "refused"),
    [
        ("http://127.0.0.1:{}/", {}, "127.0.0.1"),
        ("http://www.kcna.kp:{}/", {"address": "127.0.0.1"}, "127.0.0.1"),
        ("http://www.kcna.kp:{}/", {"address": "127.0.0.1"}, "www.kcna.kp"),
        ("http://[0:0:0:0:0:0:0:1]:{}/", {}, "::1"),
    ],
)
@pytest.mark.parametrize("kind", [KIND, replace(KIND, direct=None)], ids=["without a task", "with a task"])
async def test_opted_out_nothing_is_sent(kind: Kind, url: str, options: dict[str, object], refused: str) -> None:
    heard: list[bytes] = []
    asked: list[str] = []

    def permit(host: str) -> bool:
        asked.append(host)
        return host != refused

    async with assert_no_leaks(), serving(recording(heard, PAGE)) as address:
        parsed = KIND.options(url=url.format(address.rpartition(":")[2]), **options)
        with pytest.raises(ProbeFailure) as caught:
            await probe_as_runner(kind, parsed, Attempt(5.0), replace(IO, permit=permit))
    assert (caught.value.operation, caught.value.failure) == (Operation.PREPARE, Failure.OPTED_OUT)
    assert heard == []
    assert asked.count(refused) == 1  # once is enough
