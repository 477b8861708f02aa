"""Modules of the prober `icmp`: one echo request over the agent's shared sockets, timed by the kernel."""

from __future__ import annotations

import time
from ipaddress import ip_address

from prober.blackbox.options import IcmpProbe
from prober.blackbox.session import Session
from prober.contract import ProbeFailure
from prober.failures import Failure, Operation
from prober.net import icmp_wire as wire

_PHASES = ("resolve", "setup", "rtt")
_WITHOUT_SOCKET = frozenset(
    {
        Failure.ADDRESS_UNAVAILABLE,
        Failure.PERMISSION_DENIED,
        Failure.FAMILY_UNAVAILABLE,
        Failure.DESCRIPTORS_EXHAUSTED,
    }
)
"""Failures before there is a socket to send with: then the phase `setup` has not been gone through."""


async def probe_icmp(options: IcmpProbe, session: Session) -> None:
    """Ping the target once."""
    attempt = session.attempt
    durations = session.metrics.vector("probe_icmp_duration_seconds", "Duration of icmp request by phase", ("phase",))
    for phase in _PHASES:
        durations.set(0.0, phase)
    try:
        address = await session.choose(session.target, options)
        parsed = ip_address(address)
        if parsed.is_multicast or parsed.is_unspecified or address == "255.255.255.255":
            session.bad_target(f"{address} is no single host's address")
        session.permit(session.target, address, 0, "icmp")
        attempt.operation = Operation.SEND
        started = time.perf_counter()
        try:
            waiting = session.io.pinger.echo(
                address,
                timeout_seconds=round(attempt.remaining_seconds(), 3),
                # Ours carry a token that proves the reply, and whom to ask: they grow to hold them.
                payload_size=_payload_size(options.payload_size),
                hop_limit=options.ttl or None,
                dont_fragment=options.dont_fragment and ":" not in address,
                source=options.source_ip_address or None,
            )
        except ProbeFailure as failure:
            if failure.failure not in _WITHOUT_SOCKET:
                attempt.phases["setup"] = time.perf_counter() - started
            raise
        attempt.phases["setup"] = time.perf_counter() - started  # until the reply tells when the request was sent
        session.log.debug("Waiting for reply packets", address=address)
        attempt.operation = Operation.RECEIVE
        reply = await waiting
        attempt.phases["setup"] = reply.sent - started
        if reply.rtt_seconds is None:
            session.log.error("No reply", failure=reply.failure, detail=reply.detail)
            raise ProbeFailure(reply.operation, reply.failure or Failure.TIMEOUT, reply.detail)
        attempt.phases["rtt"] = reply.rtt_seconds
        if reply.hop_limit is not None:
            session.metrics.gauge(
                "probe_icmp_reply_hop_limit", "Replied packet hop limit (TTL for ipv4)", float(reply.hop_limit)
            )
        session.log.debug("Found matching reply packet", rtt_seconds=reply.rtt_seconds)
    finally:
        for phase in _PHASES:
            durations.set(attempt.phases.get(phase, 0.0), phase)


def _payload_size(wanted: int) -> int:
    return min(max(wanted or wire.DEFAULT_PAYLOAD, wire.LEAST_PAYLOAD), wire.MOST_PAYLOAD)
