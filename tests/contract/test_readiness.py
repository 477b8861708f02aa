"""Waiting for many sockets with one epoll."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from types import SimpleNamespace

import pytest

from prober.contract import Attempt, Io, ProbeFailure
from prober.failures import Side, side_of
from prober.net import readiness
from prober.net.dial import Connection
from prober.net.readiness import ONCE, READ, WRITE, of_loop
from prober.probes.tcp import KIND, TcpOptions
from tests.fakes import NoPinger, NoResolver, probe_as_runner
from tests.leaks import assert_no_leaks


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        ours.setblocking(False)
        yield ours, theirs


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_told_as_often_as_there_is_something(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    heard: list[bytes] = []
    async with assert_no_leaks():
        of_loop().watch(ours.fileno(), READ, lambda: heard.append(ours.recv(1)))
        await turns()
        assert heard == []
        theirs.send(b"abc")
        await turns()
        assert heard == [b"a", b"b", b"c"]
        of_loop().forget(ours.fileno())
        theirs.send(b"d")
        await turns()
        assert heard == [b"a", b"b", b"c"]


async def test_told_once_and_watched_again(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _theirs = pair
    told: list[str] = []
    readiness = of_loop()
    readiness.watch(ours.fileno(), WRITE | ONCE, lambda: told.append("first"))
    await turns()
    assert told == ["first"]
    readiness.watch(ours.fileno(), WRITE | ONCE, lambda: told.append("second"))
    await turns()
    assert told == ["first", "second"]
    readiness.forget(ours.fileno())
    readiness.close_idle()


async def test_a_closed_end_and_an_error_make_ready(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    told = asyncio.Event()
    of_loop().watch(ours.fileno(), READ | ONCE, told.set)
    theirs.close()
    await asyncio.wait_for(told.wait(), 5)
    of_loop().forget(ours.fileno())


async def test_a_number_that_is_another_sockets_now_hears_nothing_of_the_old_one() -> None:
    """Two are ready at once; the first to be told closes both, and a new socket gets the second one's number."""
    readiness = of_loop()
    a, a_peer = socket.socketpair()
    b, b_peer = socket.socketpair()
    ends = [a, b]
    told: list[str] = []
    fresh: list[socket.socket] = []

    def swap(mine: socket.socket, name: str) -> None:
        told.append(name)
        for end in ends:
            if end.fileno() >= 0:
                number = end.fileno()
                readiness.forget(number)
                end.close()
                made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                if made.fileno() != number:
                    os.dup2(made.fileno(), number)
                    made.close()
                    made = socket.socket(fileno=number)
                fresh.append(made)
                readiness.watch(number, READ, lambda: told.append("the new one"))

    readiness.watch(a.fileno(), READ, lambda: swap(a, "old"))
    readiness.watch(b.fileno(), READ, lambda: swap(b, "old"))
    a_peer.send(b"x")
    b_peer.send(b"x")
    await turns()
    assert told == ["old"]
    for end in (*fresh, a_peer, b_peer):
        readiness.forget(end.fileno())
        end.close()
    readiness.close_idle()


async def test_a_defect_of_one_costs_no_other_its_turn(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    told: list[str] = []
    defects: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: defects.append(context["exception"]))
    readiness = of_loop()
    for end in (ours, theirs):
        readiness.watch(end.fileno(), WRITE | ONCE, lambda: told.append("told") or [][0])  # type: ignore[func-returns-value]
    await turns()
    assert told == ["told", "told"]
    assert [type(error) for error in defects] == [IndexError, IndexError]
    for end in (ours, theirs):
        readiness.forget(end.fileno())
    readiness.close_idle()


async def test_a_socket_that_was_closed_unforgotten_is_no_hindrance(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    told: list[str] = []
    readiness = of_loop()
    lost = socket.socket()
    number = lost.fileno()
    readiness.watch(number, READ, lambda: told.append("lost"))
    lost.close()
    os.dup2(ours.fileno(), number)
    readiness.watch(number, READ | ONCE, lambda: told.append("found"))
    theirs.send(b"x")
    await turns()
    assert told == ["found"]
    readiness.forget(number)
    os.close(number)
    readiness.close_idle()


async def test_nothing_is_left_open_when_idle(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prober.net.readiness.IDLE_SECONDS", 0.0)
    ours, _theirs = pair
    before = set(os.listdir("/proc/self/fd"))
    readiness = of_loop()
    readiness.watch(ours.fileno(), WRITE | ONCE, lambda: None)
    await turns()
    assert set(os.listdir("/proc/self/fd")) > before
    readiness.forget(ours.fileno())
    await turns()
    assert set(os.listdir("/proc/self/fd")) == before
    told = asyncio.Event()
    readiness.watch(ours.fileno(), WRITE | ONCE, told.set)  # and it opens again
    await asyncio.wait_for(told.wait(), 5)
    readiness.forget(ours.fileno())


async def test_a_kernel_that_watches_no_more_is_our_own_side_and_costs_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_self: object, _descriptor: int, _events: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        options = TcpOptions(address=f"127.0.0.1:{server.getsockname()[1]}")
        of_loop().close_idle()
        async with assert_no_leaks():
            monkeypatch.setattr(
                readiness.Readiness, "_open", lambda _self: SimpleNamespace(register=partial(full, None))
            )
            with pytest.raises(ProbeFailure) as caught:
                await probe_as_runner(KIND, options, Attempt(1.0), Io(NoResolver(), NoPinger(), "test"))
    assert side_of(caught.value.failure) is Side.OURS


async def test_a_defect_in_a_probe_that_waits_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(_self: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Connection, "read_tcp_info", defect)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        options = TcpOptions(address=f"127.0.0.1:{server.getsockname()[1]}")
        async with assert_no_leaks():
            with pytest.raises(RuntimeError):
                await probe_as_runner(KIND, options, Attempt(1.0), Io(NoResolver(), NoPinger(), "test"))
