"""The errno table, and the helper that finds what a test left behind."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from prober.failures import FAILURES, Failure, Side
from prober.net.errors import failure_of_oserror
from tests.leaks import assert_no_leaks

TABLE = [
    # errno, raised by our own call, reported by the network
    (errno.ENETUNREACH, Failure.NETWORK_UNREACHABLE, Failure.UNREACHABLE),
    (errno.EHOSTUNREACH, Failure.NETWORK_UNREACHABLE, Failure.UNREACHABLE),
    (errno.EACCES, Failure.PERMISSION_DENIED, Failure.PROHIBITED),
    (errno.EMSGSIZE, Failure.MESSAGE_TOO_LONG, Failure.FRAGMENTATION_NEEDED),
    (errno.EINVAL, Failure.NETWORK_UNREACHABLE, Failure.INTERNAL_ERROR),
    (errno.EPERM, Failure.PERMISSION_DENIED, Failure.PERMISSION_DENIED),
    (errno.EMFILE, Failure.DESCRIPTORS_EXHAUSTED, Failure.DESCRIPTORS_EXHAUSTED),
    (errno.ENFILE, Failure.DESCRIPTORS_EXHAUSTED, Failure.DESCRIPTORS_EXHAUSTED),
    (errno.ENOBUFS, Failure.BUFFERS_EXHAUSTED, Failure.BUFFERS_EXHAUSTED),
    (errno.ENOMEM, Failure.BUFFERS_EXHAUSTED, Failure.BUFFERS_EXHAUSTED),
    (errno.EAGAIN, Failure.BUFFERS_EXHAUSTED, Failure.BUFFERS_EXHAUSTED),
    (errno.EADDRNOTAVAIL, Failure.ADDRESS_UNAVAILABLE, Failure.ADDRESS_UNAVAILABLE),
    (errno.EADDRINUSE, Failure.ADDRESS_UNAVAILABLE, Failure.ADDRESS_UNAVAILABLE),
    (errno.EAFNOSUPPORT, Failure.FAMILY_UNAVAILABLE, Failure.FAMILY_UNAVAILABLE),
    (errno.EPFNOSUPPORT, Failure.FAMILY_UNAVAILABLE, Failure.FAMILY_UNAVAILABLE),
    (errno.EPROTONOSUPPORT, Failure.FAMILY_UNAVAILABLE, Failure.FAMILY_UNAVAILABLE),
    (errno.ENETDOWN, Failure.NETWORK_UNREACHABLE, Failure.NETWORK_UNREACHABLE),
    (errno.ENODEV, Failure.NETWORK_UNREACHABLE, Failure.NETWORK_UNREACHABLE),
    (errno.ECONNREFUSED, Failure.REFUSED, Failure.REFUSED),
    (errno.ECONNRESET, Failure.RESET, Failure.RESET),
    (errno.EPIPE, Failure.RESET, Failure.RESET),
    (errno.ETIMEDOUT, Failure.TIMEOUT, Failure.TIMEOUT),
    (errno.EPROTO, Failure.PARAMETER_PROBLEM, Failure.PARAMETER_PROBLEM),
    (errno.ENOPROTOOPT, Failure.UNREACHABLE, Failure.UNREACHABLE),
    (errno.EHOSTDOWN, Failure.UNREACHABLE, Failure.UNREACHABLE),
    (errno.EXDEV, Failure.INTERNAL_ERROR, Failure.INTERNAL_ERROR),  # nonsense for a socket
]


@pytest.mark.parametrize(("number", "local", "remote"), TABLE, ids=[errno.errorcode[row[0]] for row in TABLE])
def test_errno(number: int, local: Failure, remote: Failure) -> None:
    assert failure_of_oserror(OSError(number, "x"), local=True) is local
    assert failure_of_oserror(OSError(number, "x"), local=False) is remote


def test_an_error_without_number_is_a_timeout_only_if_it_is_one() -> None:
    assert failure_of_oserror(TimeoutError(), local=False) is Failure.TIMEOUT
    assert failure_of_oserror(OSError("x"), local=False) is Failure.INTERNAL_ERROR


def test_a_zone_that_names_no_interface() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock, pytest.raises(OSError) as raised:  # noqa: PT011
        sock.connect(("fe80::1%nosuch0", 53))
    assert failure_of_oserror(raised.value, local=True) is Failure.NETWORK_UNREACHABLE


def test_what_our_own_call_raises_is_never_the_targets_fault_unless_only_the_target_can_cause_it() -> None:
    theirs = {Failure.REFUSED, Failure.RESET, Failure.TIMEOUT, Failure.PARAMETER_PROBLEM, Failure.UNREACHABLE}
    for number in errno.errorcode:
        failure = failure_of_oserror(OSError(number, "x"), local=True)
        assert FAILURES[failure][0] is Side.OURS or failure in theirs


def test_a_left_descriptor_is_found() -> None:
    left = None
    with pytest.raises(AssertionError, match="socket:"), assert_no_leaks():
        left = socket.socket()
    assert left is not None
    left.close()
    with assert_no_leaks(), socket.socket():
        pass


async def test_a_left_task_is_found() -> None:
    task = None
    with pytest.raises(AssertionError, match="Task pending"):
        async with assert_no_leaks():
            task = asyncio.create_task(asyncio.sleep(60))
    assert task is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with assert_no_leaks():
        await asyncio.create_task(asyncio.sleep(0))


def test_the_blocks_own_error_comes_first() -> None:
    leaks = assert_no_leaks()
    leaks.__enter__()
    with socket.socket():
        leaks.__exit__(ZeroDivisionError, ZeroDivisionError(), None)  # raises nothing of its own
        with pytest.raises(AssertionError):
            leaks.__exit__(None, None, None)
