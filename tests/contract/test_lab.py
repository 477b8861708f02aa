"""The lab itself: hosts can be made, joined, cut off, and leave nothing behind."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import lab
from tests.lab import NETNS_DIR, Namespace, Process, Routed, free_port, link, wait_until


def pings(host: Namespace, address: str, count: int = 1) -> int:
    """How many of `count` echo requests were answered. OSError: a router or host reported that it is unreachable."""
    v6 = ":" in address
    host.allow_unprivileged_icmp()
    with (
        host.entered(),
        socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM, 58 if v6 else 1) as sock,
    ):
        sock.setsockopt(socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP, 25 if v6 else 11, 1)  # IP(V6)_RECVERR
        sock.connect((address, 0))
        sock.settimeout(0.2)
        answered = 0
        for sequence in range(count):
            sock.send(bytes([128 if v6 else 8, 0, 0, 0, 0, 0, 0, sequence]))
            try:
                sock.recv(64)
                answered += 1
            except TimeoutError:
                pass
    return answered


def test_a_namespace_is_a_host_of_its_own(namespace: Namespace) -> None:
    assert pings(namespace, "127.0.0.1") == 1
    assert pings(namespace, "::1") == 1
    assert "eth" not in namespace.run("ip", "link").stdout
    with namespace.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(OSError, match="unreachable") as raised:
            sock.connect(("192.0.2.1", 53))
        assert raised.value.errno == errno.ENETUNREACH


def test_entered_moves_only_this_thread_and_back(namespace: Namespace) -> None:
    def here() -> str:
        return os.readlink("/proc/thread-self/ns/net")

    outside, seen = here(), []
    enter, leave = threading.Event(), threading.Event()

    def other() -> None:
        enter.wait(5)
        seen.append(here())
        leave.set()

    thread = threading.Thread(target=other)
    thread.start()
    with namespace.entered():
        inside = here()
        with namespace.entered():
            assert here() == inside
        enter.set()
        leave.wait(5)
    thread.join()
    assert inside != outside
    assert seen == [outside]
    assert here() == outside
    with pytest.raises(ZeroDivisionError), namespace.entered():
        _ = 1 / 0
    assert here() == outside


async def test_asyncio_code_opens_its_sockets_inside(routed: Routed) -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(writer.get_extra_info("peername")[0]).encode())
        writer.close()
        await writer.wait_closed()

    for server_address, client_address in (
        (routed.server_address, routed.client_address),
        (routed.server_address6, routed.client_address6),
    ):
        with routed.server.entered():
            server = await asyncio.start_server(answer, server_address, 8080)
        async with server:
            with routed.client.entered():
                reader, writer = await asyncio.open_connection(server_address, 8080)
            assert await reader.read() == client_address.encode()
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize("address", [Routed.server_address, Routed.server_address6])
def test_drop_reject_and_clear(routed: Routed, address: str) -> None:
    assert pings(routed.client, address) == 1
    routed.server.drop()
    assert pings(routed.client, address) == 0  # silence, for IPv6 too: not "no route to host"
    routed.server.clear_rules()
    assert pings(routed.client, address) == 1
    routed.router.reject(chain="forward")
    with pytest.raises(OSError, match="No route to host"):
        pings(routed.client, address)


def test_reject_with_reset(routed: Routed) -> None:
    routed.server.reject("tcp dport 80", how="with tcp reset")
    with routed.client.entered(), pytest.raises(ConnectionRefusedError):
        socket.create_connection((routed.server_address, 80), timeout=1)


def test_random_loss_is_about_what_was_asked(namespace: Namespace) -> None:
    namespace.lose(50, "icmp type echo-request")
    answered = 0
    namespace.allow_unprivileged_icmp()
    with namespace.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1) as sock:
        sock.connect(("127.0.0.1", 0))
        sock.settimeout(0.002)  # the reply is there when send returns
        for sequence in range(200):
            sock.send(bytes([8, 0, 0, 0, 0, 0, 0, sequence]))
            try:
                sock.recv(64)
                answered += 1
            except TimeoutError:
                pass
    assert 60 < answered < 140  # six standard deviations


def test_icmp_can_be_forbidden(namespace: Namespace) -> None:
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1).close()"
    command = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--no-new-privs",
        sys.executable,
        "-c",
        code,
    ]
    namespace.allow_unprivileged_icmp(False)
    assert "PermissionError" in namespace.run(*command, check=False).stderr
    namespace.allow_unprivileged_icmp()
    assert namespace.run(*command).returncode == 0


def test_resolver_is_the_hosts_own(namespace: Namespace) -> None:
    namespace.resolver("127.0.0.53")
    assert namespace.run("cat", "/etc/resolv.conf").stdout == "nameserver 127.0.0.53\n"
    assert "127.0.0.53" not in Path("/etc/resolv.conf").read_text()


def test_run_reports_what_went_wrong(namespace: Namespace) -> None:
    with pytest.raises(RuntimeError, match=r"no such|cannot access"):
        namespace.run("ls", "/no/such/file")
    assert namespace.run("false", check=False).returncode == 1


def test_close_ends_what_runs_inside(make_namespace: Callable[[str], Namespace]) -> None:
    host = make_namespace("busy")
    known = host.popen("sleep", "60")
    stray = host.run("sh", "-c", "sleep 61 >/dev/null 2>&1 & echo $!").stdout.strip()
    host.close()
    assert known.returncode == -signal.SIGKILL
    wait_until(lambda: not Path("/proc", stray, "exe").exists())
    assert not (NETNS_DIR / host.name).exists()
    host.close()


@pytest.mark.parametrize("end", ["raise KeyboardInterrupt", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_nothing_stays_after_an_interrupted_run(namespace: Namespace, end: str) -> None:
    script = f"""
        import os, signal
        from tests.lab import Namespace
        host = Namespace("crashed")
        host.resolver("127.0.0.1")
        print(host.name, flush=True)
        {end}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=30, check=False
    )
    name = done.stdout.strip()
    assert name.endswith("-crashed"), done.stderr
    assert (NETNS_DIR / name).exists() == (done.returncode == -signal.SIGKILL)
    lab.sweep()
    assert not (NETNS_DIR / name).exists()
    assert not Path("/etc/netns", name).exists()
    assert (NETNS_DIR / namespace.name).exists()  # that of a living run stays


def test_links_join_hosts_directly(make_namespace: Callable[[str], Namespace]) -> None:
    a, b = make_namespace("a"), make_namespace("b")
    assert link(a, b, "192.0.2.1/24", "192.0.2.2/24") == ("eth0", "eth0")
    assert link(a, b, ("198.51.100.1/24", "2001:db8::1/64"), ("198.51.100.2/24", "2001:db8::2/64")) == ("eth1", "eth1")
    for address in ("192.0.2.2", "198.51.100.2", "2001:db8::2"):
        assert pings(a, address) == 1


def test_a_free_port_is_none_that_the_kernel_gives_to_others() -> None:
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(lab.FIRST_PORT <= port < first for port in ports)
    with socket.create_server(("127.0.0.1", ports[0])), pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab, "_ports", itertools.count(ports[0] - lab.FIRST_PORT))
        assert free_port() == ports[1], "one that is taken is passed over"


def test_process_waits_for_its_port_and_ends() -> None:
    port = free_port()
    with Process(sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port), port=port) as server:
        assert lab.accepts("127.0.0.1", port)
        assert "Serving HTTP" in server.output() or server.output() == ""  # buffered until it ends
    assert not Path("/proc", str(server.pid), "exe").exists()
    assert not lab.accepts("127.0.0.1", port)


def test_process_waits_inside_a_namespace(namespace: Namespace) -> None:
    with Process(sys.executable, "-m", "http.server", "8080", port=8080, namespace=namespace):
        assert not lab.accepts("127.0.0.1", 8080)


def test_process_says_why_it_did_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"ended with status 3:\nno luck"):
        Process("sh", "-c", "echo no luck; exit 3", port=free_port())
    with pytest.raises(pytest.fail.Exception, match=r"was not ready within 0\.1 s"):
        Process("sleep", "60", port=free_port(), timeout=0.1)
    assert "--- sh, status 3:\nno luck" in capsys.readouterr().out


def test_process_that_does_not_obey_is_killed() -> None:
    stubborn = Process("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    wait_until(lambda: "up" in stubborn.output())
    assert stubborn.stop(grace=0.1) == -signal.SIGKILL
    assert stubborn.stop() == -signal.SIGKILL


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setitem(lab.DEBIAN_PACKAGES, "no-such-program", "no-such-package")
    with pytest.raises(outcome, match="no-such-program is not installed: apt-get install no-such-package"):
        lab.require_program("no-such-program")


def test_wait_until_is_bounded() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"not within 0\.05 s: the impossible"):
        wait_until(lambda: False, timeout=0.05, what="the impossible")


def test_ci_installs_every_program_that_tests_ask_for() -> None:
    script = Path(__file__).parents[2].joinpath(".ci", "packages").read_text()
    listed = {line.split()[0] for line in script.split("PACKAGES=(\n")[1].split("\n)")[0].splitlines()}
    assert set(lab.DEBIAN_PACKAGES.values()) - {"util-linux"} <= listed  # util-linux is essential: always there
