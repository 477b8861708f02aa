"""What every prober of a module works with: the target, a deadline, a log, metrics, and who permits destinations."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import NoReturn

from prober.blackbox.exposition import Family, Metrics
from prober.blackbox.guard import Destination, Guard, Transport
from prober.blackbox.log import ProbeLog
from prober.blackbox.options import IpOptions
from prober.contract import Attempt, Io, ProbeFailure
from prober.contract import Family as AddressFamily
from prober.failures import Failure, Operation, Side, side_of
from prober.net.names import check_host, is_address

_FAMILIES: dict[str, AddressFamily] = {"ip4": "ipv4", "ip6": "ipv6"}
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, IPv4 in IPv6's clothes
_FNV_OFFSET = 2_166_136_261
_FNV_PRIME = 16_777_619


@dataclass(slots=True)
class Session:
    """One probe under way."""

    target: str
    attempt: Attempt
    io: Io
    log: ProbeLog
    guard: Guard
    metrics: Metrics = field(default_factory=Metrics)
    refused: bool = False
    fault: ProbeFailure | None = None
    """The first thing that was wrong with an answer, while the rest of it is still read for its metrics."""

    def bad_target(self, reason: str) -> NoReturn:
        """The target is nothing that the module could probe."""
        self.attempt.fail(Failure.BAD_TARGET, reason, Operation.PREPARE)

    def found_wrong(self, failure: Failure, detail: str, operation: Operation = Operation.VALIDATE) -> None:
        """The answer is not the wanted one; go on reading."""
        self.log.error(detail)
        if self.fault is None:
            self.fault = ProbeFailure(operation, failure, detail)

    def permit(self, name: str, address: str, port: int, transport: Transport = "tcp") -> None:
        """Ask the guard and the opt-out list about a destination. Raises ProbeFailure if it is refused."""
        destination = Destination(name, address, port, transport)
        if transport != "unix":
            for host in (name, address):
                self.io.heed_opt_out(self.attempt, host)
        reason = self.guard(destination)
        if reason is not None:
            self.refused = True
            self.log.error("Destination refused", destination=destination, reason=reason)
            self.attempt.fail(Failure.NOT_ALLOWED, f"{destination}: {reason}", Operation.PREPARE)

    async def resolve(self, host: str, ip: IpOptions) -> str:
        """The address of a host as the module wants it: the preferred family's, the other's only if that is allowed.

        Raises ProbeFailure.
        """
        fallback = ip.ip_protocol_fallback
        preferred = ip.preferred_ip_protocol or "ip6"
        other = "ip4" if preferred == "ip6" else "ip6"
        if is_address(host):
            found = "ip6" if ":" in host else "ip4"
            if found != preferred and not fallback:
                self.attempt.fail(Failure.NO_ADDRESS, f"{host} is no {preferred} address", Operation.RESOLVE)
            return host
        try:
            host = check_host(host)
        except ValueError as error:
            self.bad_target(str(error))
        self.io.heed_opt_out(self.attempt, host)
        try:
            return await self.io.resolver.resolve(host, _FAMILIES[preferred])
        except ProbeFailure as failure:
            # Also of a name that does not exist: the other family's address may stand in the hosts file.
            if not fallback or side_of(failure.failure) is not Side.RESOLVER:
                raise
            try:
                return await self.io.resolver.resolve(host, _FAMILIES[other])
            except ProbeFailure as second:
                raise (failure if second.failure in (Failure.NO_ADDRESS, Failure.NXDOMAIN) else second) from None

    def register_lookup(self) -> tuple[Family, Family, Family]:
        """The metrics of a lookup: family of the address, time, hash."""
        return (
            self.metrics.gauge("probe_ip_protocol", "Specifies whether probe ip protocol is IP4 or IP6"),
            self.metrics.gauge(
                "probe_dns_lookup_time_seconds", "Returns the time taken for probe dns lookup in seconds"
            ),
            self.metrics.gauge(
                "probe_ip_addr_hash",
                "Specifies the hash of IP address. It's useful to detect if the IP address changes.",
            ),
        )

    async def choose(self, host: str, ip: IpOptions) -> str:
        """Resolve the target's host, timed and exported as every module does. Raises ProbeFailure."""
        protocol, lookup, hashed = self.register_lookup()
        attempt = self.attempt
        self.log.debug("Resolving target address", host=host, ip_protocol=ip.preferred_ip_protocol or "ip6")
        attempt.operation = Operation.RESOLVE
        began = time.perf_counter()
        try:
            address = await self.resolve(host, ip)
        except ProbeFailure as failure:
            self.log.error("Resolution with IP protocol failed", host=host, err=failure.detail or failure.failure)
            raise
        finally:  # a lookup that failed took its time too
            took = time.perf_counter() - began
            lookup.set(took)
        attempt.phases["resolve"] = took
        attempt.operation = Operation.PREPARE
        attempt.address = attempt.address or address
        protocol.set(6.0 if ":" in address and ip_address(address).packed[:12] != _MAPPED else 4.0)
        hashed.set(float(hash_of_address(address)))
        self.log.debug("Resolved target address", host=host, ip=address)
        return address


def hash_of_address(address: str) -> int:
    """FNV-1a, 32 bit, of the address's octets: those of IPv4 also where it is mapped into IPv6."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    digest = _FNV_OFFSET
    for octet in parsed.packed:
        digest = (digest ^ octet) * _FNV_PRIME & 0xFFFFFFFF
    return digest


def split_target(session: Session, text: str, default_port: int | None = None) -> tuple[str, str]:
    """Host, without brackets, and port of `host:port`; `default_port` where there is none. What the port means,
    `port_number` says once the host is resolved. Raises ProbeFailure for what has no port and must.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            session.bad_target(f'"{text[:100]}" has a "[" without a "]", or no port behind it')
        port = rest[1:]
        has_port = bool(rest)
    else:
        host, colon, port = text.rpartition(":")
        has_port = bool(colon) and ":" not in host
        if not has_port:
            host = text
    if not has_port:
        if default_port is None:
            session.bad_target(f'"{text[:100]}" has no port; write host:port, an IPv6 address as [address]:port')
        return host, str(default_port)
    return host, port


def port_number(session: Session, text: str) -> int:
    """A port, or the port of a service of /etc/services."""
    if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536:
        return int(text)
    try:
        return socket.getservbyname(text, "tcp")
    except (OSError, ValueError):
        session.bad_target(f'"{text[:40]}" is no port; write a number from 1 to 65535')
