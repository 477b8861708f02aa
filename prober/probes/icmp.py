"""The kind `icmp`: echo requests to a host, over IPv4 or IPv6."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import lru_cache, partial
from ipaddress import ip_address
from typing import Annotated, Final, Self

from pydantic import Field, field_validator, model_validator

from prober.contract import Attempt, Direct, Done, EchoReply, FactSpec, Family, Io, Kind, Options, ProbeFailure
from prober.duration import Duration
from prober.failures import Failure, Operation
from prober.model import Fact
from prober.net import icmp_wire as wire
from prober.net.names import address_of, check_address, check_families, check_host, is_address

_SEND: Final = Operation.SEND
_RECEIVE: Final = Operation.RECEIVE
LEAST_WAIT_SECONDS = 0.01  # what the last of several packets is given for its reply, at the least


class IcmpOptions(Options):
    """Options of an icmp check."""

    address: str = Field(description="host to ping: an address or a name", min_length=1, max_length=253)
    family: Family = Field(default="any", description="address family when the host is a name")
    payload_size: Annotated[int, Field(ge=wire.LEAST_PAYLOAD, le=wire.MOST_PAYLOAD)] = Field(
        default=wire.DEFAULT_PAYLOAD, description="octets behind the ICMP header; grows to hold contact URI and token"
    )
    ttl: Annotated[int, Field(ge=1, le=255)] | None = Field(default=None, description="TTL; else the system's")
    dont_fragment: bool = Field(default=False, description="set the don't-fragment flag")
    source: str | None = Field(default=None, description="source address, one of this host's")
    packets: Annotated[int, Field(ge=1, le=100)] = Field(default=1, description="echo requests per probe")
    packet_interval: Duration = Field(default=0.2, description="time between two packets of one probe")

    @field_validator("address")
    @classmethod
    def _address_is_a_host(cls, value: str) -> str:
        address = address_of(value)
        if value in ("0.0.0.0", "::", "255.255.255.255") or (address is not None and address.is_multicast):
            raise ValueError(f"{value} is no single host's address; write that of the host")
        return check_host(value)

    @field_validator("source")
    @classmethod
    def _source_is_an_address(cls, value: str | None) -> str | None:
        return None if value is None else check_address(value)

    @model_validator(mode="after")
    def _families_agree(self) -> Self:
        check_families(self.address, self.family, self.source)
        return self


async def probe(options: IcmpOptions, attempt: Attempt, io: Io) -> None:
    """Send the packets, wait for their replies. One reply is enough; the loss ratio tells the rest."""
    address = await io.locate(attempt, options.address, options.family)
    attempt.operation = Operation.SEND
    waiting: list[tuple[float, asyncio.Future[EchoReply]]] = []
    for number in range(options.packets):
        at_once = not number and is_address(options.address)
        if number:
            await asyncio.sleep(options.packet_interval)
        begun = time.perf_counter()
        coming = io.pinger.echo(
            address,
            # In milliseconds: the sockets keep a queue for each different timeout.
            timeout_seconds=attempt.timeout_seconds if at_once else round(attempt.remaining_seconds(), 3),
            payload_size=options.payload_size,
            hop_limit=options.ttl,
            dont_fragment=options.dont_fragment,
            source=options.source,
        )
        waiting.append((begun, coming))
    attempt.operation = Operation.RECEIVE
    replies = [await coming for _, coming in waiting]
    attempt.phases["setup"] = sum(reply.sent - begun for reply, (begun, _) in zip(replies, waiting, strict=True))
    record(attempt, replies)


def direct(options: IcmpOptions, io: Io) -> Direct | None:
    """The same for one packet to a literal address: nothing is waited for but its reply, which ends in time."""
    if options.packets != 1 or not is_address(options.address):
        return None
    address = str(ip_address(options.address))
    send = io.pinger.prepare(
        address,
        payload_size=options.payload_size,
        hop_limit=options.ttl,
        dont_fragment=options.dont_fragment,
        source=options.source,
    )

    def begin(attempt: Attempt, done: Done) -> None:  # nothing is left behind: the sockets are shared
        if not io.permit(address):
            io.heed_opt_out(attempt, address)
        attempt.address = address
        attempt.operation = _SEND
        send(attempt.timeout_seconds, partial(_ended, attempt, done))
        attempt.operation = _RECEIVE

    return begin


def _ended(attempt: Attempt, done: Done, reply: EchoReply | None) -> None:
    if reply is None:
        return  # the agent ends
    rtt = reply.rtt_seconds
    setup = reply.sent - attempt.started
    attempt.phases = phases = {"resolve": 0.0, "setup": setup}
    if rtt is None:
        done(ProbeFailure(reply.operation, reply.failure or Failure.TIMEOUT, reply.detail))
        return
    phases["rtt"] = rtt
    attempt.measured_seconds = setup + rtt
    if reply.hop_limit is not None:
        attempt.facts = _facts_of(reply.hop_limit)
    done(None)


@lru_cache(maxsize=256)
def _facts_of(hop_limit: int) -> dict[str, Fact]:
    """One for all checks whose replies say the same; to make one for each of them would take longer than to judge it.
    What has become a fact is not changed any more.
    """
    return {"reply_hop_limit": float(hop_limit)}


def record(attempt: Attempt, replies: list[EchoReply]) -> None:
    """Turn replies into facts. Raises ProbeFailure if none of the packets was answered."""
    times = [reply.rtt_seconds for reply in replies if reply.rtt_seconds is not None]
    if len(replies) > 1:
        attempt.facts["loss_ratio"] = 1 - len(times) / len(replies)
    if not times:
        # A router's or host's word tells more than a silence.
        telling = next((r for r in replies if r.failure is not Failure.TIMEOUT), replies[0])
        raise ProbeFailure(telling.operation, telling.failure or Failure.TIMEOUT, telling.detail)
    attempt.phases["rtt"] = sum(times) / len(times)
    hop_limit = next((r.hop_limit for r in replies if r.hop_limit is not None), None)
    if hop_limit is not None:
        attempt.facts["reply_hop_limit"] = float(hop_limit)
    if len(times) > 1:
        attempt.facts["rtt_min"], attempt.facts["rtt_max"] = min(times), max(times)


def from_url(url: str) -> Mapping[str, object] | None:
    """`icmp://host` or `icmp:host`, for `prober probe`."""
    if not url.startswith("icmp:"):
        return None
    return {"address": url.removeprefix("icmp:").removeprefix("//").strip("/").removeprefix("[").removesuffix("]")}


KIND = Kind(
    name="icmp",
    options=IcmpOptions,
    probe=probe,
    host=lambda options: str(options.address),
    phase_metric="probe_icmp_duration_seconds",
    phases=("resolve", "setup", "rtt"),
    facts=(
        FactSpec("reply_hop_limit", "probe_icmp_reply_hop_limit", "TTL or hop limit of the reply"),
        FactSpec("loss_ratio", "prober_icmp_loss_ratio", "Share of the packets of the last probe that went unanswered"),
        FactSpec("rtt_min", "prober_icmp_rtt_min_seconds", "Shortest round trip of the last probe's packets"),
        FactSpec("rtt_max", "prober_icmp_rtt_max_seconds", "Longest round trip of the last probe's packets"),
    ),
    packets=lambda options: int(options.packets),
    holds_descriptor=False,
    times_itself=lambda options: is_address(options.address),
    direct=direct,
    least_timeout=lambda options: (options.packets - 1) * options.packet_interval + LEAST_WAIT_SECONDS,
    from_url=from_url,
)
