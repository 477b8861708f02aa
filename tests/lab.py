"""What tests need of the machine: programs, free ports, server processes, and hosts of their own (network namespaces).

A test never touches an address outside loopback and the namespaces it made. Everything made here is removed when the
test ends, when pytest ends, and (after a kill -9) when the next run starts: a namespace's name carries the pid of its
maker. Servers (nsd, nginx, unbound) are in `tests.servers`.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from ipaddress import ip_interface
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import pytest

DEBIAN_PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "nsd": "nsd",
    "nginx": "nginx-light",
    "unbound": "unbound",
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "fping": "fping",
    "prometheus-blackbox-exporter": "prometheus-blackbox-exporter",
    "libfaketime": "libfaketime",
    "ps": "procps",
    "curl": "curl",
    "chromium": "chromium",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "nsenter": "util-linux",
}
"""Program -> the package that has it. `.ci/packages` installs them; a test holds the two lists together."""

NETNS_DIR = Path("/run/netns")
_NAME = re.compile(r"prober-(\d+)-\d+-[a-z0-9-]+")
_CLONE_NEWNET = 0x40000000  # <linux/sched.h>
_libc = ctypes.CDLL(None, use_errno=True)
_serial = itertools.count()
FIRST_PORT = 10_000
_ports = itertools.count(os.getpid() * 997)  # processes that start together have neighbouring pids
# Neighbour discovery (RFC 4861) is IPv6's ARP. A rule that dropped it too would turn a black hole into "no such host".
_SPARE_NEIGHBOURS = (
    "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept"
)


def in_ci() -> bool:
    """True where nothing may be skipped."""
    return os.environ.get("CI") == "true"


def missing(what: str, remedy: str) -> NoReturn:
    """End the test: skipped by name on a laptop, failed in CI, where every part has to be there."""
    reason = f"{what}: {remedy}"
    if in_ci():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def require_program(name: str) -> str:
    """The path of a program (of `libfaketime`: of the library to preload). Skips or fails if it is not installed."""
    if name == "libfaketime":
        found = next((str(p) for p in sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
    else:  # a laptop's PATH often has no sbin
        found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin")
    return found or missing(f"{name} is not installed", f"apt-get install {DEBIAN_PACKAGES.get(name, name)}")


@cache
def _may_make_namespaces() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False).returncode == 0


def require_root() -> None:
    """Skips or fails where network namespaces cannot be made."""
    if not _may_make_namespaces():
        missing("network namespaces cannot be made", "run the tests as root (CAP_SYS_ADMIN, CAP_NET_ADMIN)")


def free_port(address: str = "127.0.0.1") -> int:
    """A port that was free for both TCP and UDP a moment ago, and that nobody is likely to take in the next one.

    It is below the ports that the kernel gives to clients and to servers that ask for any, and those that another
    process of pytest-xdist's goes through begin elsewhere.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(50):
        port = FIRST_PORT + next(_ports) % (_kernels_ports() - FIRST_PORT)
        with (
            socket.socket(family, socket.SOCK_STREAM) as tcp,
            socket.socket(family, socket.SOCK_DGRAM) as udp,
            contextlib.suppress(OSError),
        ):
            tcp.bind((address, port))
            udp.bind((address, port))
            return port
    raise RuntimeError("no port is free for both TCP and UDP")


@cache
def _kernels_ports() -> int:
    """Where the ports begin that the kernel chooses from (ip_local_port_range of ip(7))."""
    return max(int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]), FIRST_PORT + 1000)


def wait_until(predicate: Callable[[], bool], timeout: float = 30.0, what: str = "") -> None:
    """Poll every 10 ms until `predicate()` holds. Fails the test after `timeout` seconds. Not for async code."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() >= deadline:
            pytest.fail(f"not within {timeout:g} s: {what or getattr(predicate, '__name__', predicate)}", pytrace=True)
        time.sleep(0.01)


def accepts(address: str, port: int) -> bool:
    """Whether something accepts TCP connections there, seen from the current thread's network namespace."""
    try:
        with socket.create_connection((address, port), timeout=1.0):
            return True
    except OSError:
        return False


class Process:
    """A program that a test started: waited for, ended by its pid, its output shown when the test fails.

    `port`: ready once that TCP port of `address` accepts connections. `ready`: or once this holds.
    """

    def __init__(
        self,
        *command: str,
        address: str = "127.0.0.1",
        port: int | None = None,
        ready: Callable[[], bool] | None = None,
        namespace: Namespace | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.name = Path(command[0]).name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._shown = False
        # The server goes down with pytest, even if that is killed.
        command = (require_program("setpriv"), "--pdeathsig", "TERM", *command)
        self.popen = subprocess.Popen(
            namespace.command(*command) if namespace else command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=None if env is None else {**os.environ, **env},
            cwd=cwd,
            start_new_session=True,
        )
        if port is not None:
            where = port

            def ready() -> bool:
                with namespace.entered() if namespace else contextlib.nullcontext():
                    return accepts(address, where)

        try:
            if ready is not None:
                self._await(ready, timeout)
        except BaseException:
            self.stop()
            raise

    def _await(self, ready: Callable[[], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not ready():
            if self.popen.poll() is not None:
                pytest.fail(f"{self.name} ended with status {self.popen.returncode}:\n{self.output()}")
            if time.monotonic() >= deadline:
                pytest.fail(f"{self.name} was not ready within {timeout:g} s:\n{self.output()}")
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def output(self) -> str:
        """Everything it wrote so far, stdout and stderr as they came."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for it to end by itself; its exit status (-N: ended by signal N)."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.name} still runs after {timeout:g} s:\n{self.output()}")

    def stop(self, grace: float = 15.0) -> int:
        """SIGTERM, then SIGKILL after `grace` seconds. Idempotent. pytest shows the output if the test failed."""
        if self.popen.poll() is None:
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(grace)
        with contextlib.suppress(ProcessLookupError):  # itself if it did not obey, and what it left in its session
            os.killpg(self.popen.pid, signal.SIGKILL)
        status = self.popen.wait()
        if not self._shown:
            self._shown = True
            sys.stdout.write(f"--- {self.name}, status {status}:\n{self.output()[-8000:]}\n")
            self._log.close()
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


def _ip(*arguments: str) -> None:
    done = subprocess.run([require_program("ip"), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Namespace:
    """A host of the test's own: a network namespace with its loopback up and nothing else, until `link` joins two.

    `loopback=False`: not even that, as `unshare --net` leaves it.
    """

    def __init__(self, label: str = "host", *, loopback: bool = True) -> None:
        require_root()
        self.name = f"prober-{os.getpid()}-{next(_serial)}-{label}"
        self._interfaces = itertools.count()
        self._running: list[subprocess.Popen[str]] = []
        _ip("netns", "add", self.name)
        atexit.register(self.close)
        if loopback:
            _ip("-n", self.name, "link", "set", "lo", "up")
        # While a link-local address is tentative the first neighbour solicitation is lost, and IPv6 needs a second.
        self.sysctl("net.ipv6.conf.default.accept_dad", 0)
        self.sysctl("net.ipv6.conf.default.dad_transmits", 0)

    def command(self, *command: str) -> list[str]:
        """`command`, as it is run inside. The pid stays that of the command."""
        return [require_program("ip"), "netns", "exec", self.name, *command]

    def run(self, *command: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run inside and wait (30 s at most). Raises RuntimeError with stderr if it fails and `check` is set."""
        done = subprocess.run(
            self.command(*command), input=stdin, capture_output=True, text=True, timeout=90, check=False
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: {done.stderr.strip()}")
        return done

    def popen(self, *command: str, stdout: int | None = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start inside, stdin empty, stderr with stdout. Ended by `close` if it still runs then."""
        started = subprocess.Popen(
            self.command(*command), stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.STDOUT, text=True
        )
        self._running.append(started)
        return started

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The current thread is inside: sockets it opens are this host's. Nests.

        Only this thread moves, and threads that it starts meanwhile (an executor's: they stay inside). A socket keeps
        the namespace it was opened in, wherever it is used.
        """
        with open("/proc/thread-self/ns/net") as outside, open(NETNS_DIR / self.name) as inside:
            _setns(inside.fileno())
            try:
                yield
            finally:
                _setns(outside.fileno())

    def sysctl(self, key: str, value: object) -> None:
        """Set one of the `net.*` settings, which are this host's own."""
        with self.entered():  # /proc/sys/net shows the namespace of the thread that opens it
            Path("/proc/sys", key.replace(".", "/")).write_text(f"{value}\n")

    def allow_unprivileged_icmp(self, allowed: bool = True) -> None:
        """The kernel's default forbids it: `1 0` is the empty range of groups (icmp(7))."""
        self.sysctl("net.ipv4.ping_group_range", "0 2147483647" if allowed else "1 0")

    def forward(self) -> None:
        """Make it a router."""
        self.sysctl("net.ipv4.ip_forward", 1)
        self.sysctl("net.ipv6.conf.all.forwarding", 1)

    def address(self, interface: str, address: str) -> None:
        """Give it an address such as `192.0.2.1/24` at once: without duplicate address detection (RFC 4862)."""
        nodad = ["nodad"] if ip_interface(address).version == 6 else []
        _ip("-n", self.name, "address", "add", address, "dev", interface, *nodad)

    def route(self, destination: str, *how: str) -> None:
        """`route("default", "via", "192.0.2.254")`, `route("blackhole", "198.51.100.0/24")`. IPv6 by its look."""
        family = ["-6"] if any(":" in word for word in (destination, *how)) else []
        _ip("-n", self.name, *family, "route", "add", destination, *how)

    def resolver(self, *addresses: str) -> None:
        """The resolvers that programs started inside find in /etc/resolv.conf (ip-netns(8))."""
        directory = Path("/etc/netns", self.name)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "resolv.conf").write_text("".join(f"nameserver {a}\n" for a in addresses))

    def nft(self, rule: str, chain: str = "input") -> None:
        """Append a rule to a chain (input, forward, output). `meta l4proto { icmp, ipv6-icmp } drop`"""
        self.run(
            require_program("nft"),
            "-f",
            "-",
            stdin=f"add table inet lab\n"
            f"add chain inet lab {chain} {{ type filter hook {chain} priority 0; policy accept; }}\n"
            f"add rule inet lab {chain} {rule}\n",
        )

    def drop(self, match: str = "", chain: str = "input") -> None:
        """A black hole for what matches (`tcp dport 80`); for everything but neighbour discovery if empty."""
        if not match:
            self.nft(_SPARE_NEIGHBOURS, chain)
        self.nft(f"{match} drop", chain)

    def reject(self, match: str = "", how: str = "with icmpx type host-unreachable", chain: str = "input") -> None:
        """Answer what matches with an ICMP error or (`how="with tcp reset"`) a reset."""
        if not match:
            self.nft(_SPARE_NEIGHBOURS, chain)
        self.nft(f"{match} reject {how}", chain)

    def lose(self, percent: int, match: str = "", chain: str = "input") -> None:
        """Drop this share of what matches, at random (netem is not in every kernel)."""
        if not match:
            self.nft(_SPARE_NEIGHBOURS, chain)
        self.nft(f"{match} numgen random mod 100 < {percent} drop", chain)

    def clear_rules(self) -> None:
        """Back to a network that lets everything through."""
        self.run(require_program("nft"), "-f", "-", stdin="add table inet lab\ndelete table inet lab\n")

    def close(self) -> None:
        """End what runs inside and remove the namespace. Idempotent."""
        atexit.unregister(self.close)
        for started in self._running:
            if started.poll() is None:
                started.kill()
            with started:  # closes its pipe and waits
                pass
        self._running.clear()
        _remove(self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def _remove(name: str) -> None:
    if not (NETNS_DIR / name).exists():
        return
    found = subprocess.run([require_program("ip"), "netns", "pids", name], capture_output=True, text=True, check=False)
    for pid in {int(word) for word in found.stdout.split()} - {os.getpid()}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _ip("netns", "delete", name)
    shutil.rmtree(Path("/etc/netns", name), ignore_errors=True)


def sweep() -> None:
    """Remove the namespaces of runs that are dead."""
    for path in NETNS_DIR.glob("prober-*"):
        named = _NAME.fullmatch(path.name)
        if named and not Path("/proc", named[1]).exists():
            with contextlib.suppress(RuntimeError):  # another run sweeps at the same moment
                _remove(path.name)


def link(
    a: Namespace, b: Namespace, addresses_a: str | Sequence[str], addresses_b: str | Sequence[str]
) -> tuple[str, str]:
    """A cable (veth pair) between two hosts, both ends up and addressed. Returns the two interface names."""
    ends = f"eth{next(a._interfaces)}", f"eth{next(b._interfaces)}"
    _ip("-n", a.name, "link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", b.name)
    for host, end in zip((a, b), ends, strict=True):
        _ip("-n", host.name, "link", "set", end, "up")
    for host, end, addresses in ((a, ends[0], addresses_a), (b, ends[1], addresses_b)):
        for address in [addresses] if isinstance(addresses, str) else addresses:
            host.address(end, address)
    return ends


class Routed:
    """Three hosts in a row: `client` - `router` - `server`, both protocols (RFC 5737, RFC 3849 addresses)."""

    client_address, client_address6 = "192.0.2.1", "2001:db8:1::1"
    server_address, server_address6 = "198.51.100.1", "2001:db8:2::1"

    def __init__(self, make: Callable[[str], Namespace]) -> None:
        self.client, self.router, self.server = make("client"), make("router"), make("server")
        self.router.forward()
        gates = ("192.0.2.254/24", "2001:db8:1::fe/64"), ("198.51.100.254/24", "2001:db8:2::fe/64")
        link(self.client, self.router, (f"{self.client_address}/24", f"{self.client_address6}/64"), gates[0])
        link(self.server, self.router, (f"{self.server_address}/24", f"{self.server_address6}/64"), gates[1])
        for host, gate in ((self.client, gates[0]), (self.server, gates[1])):
            for address in gate:
                host.route("default", "via", str(ip_interface(address).ip))
