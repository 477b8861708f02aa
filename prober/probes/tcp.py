"""The kind `tcp`: a connection, TLS if wanted, and what is said over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Final

from pydantic import Field, field_validator, model_validator

from prober.contract import Attempt, Direct, Done, Family, Io, Kind, Options, literal
from prober.failures import Failure, Operation
from prober.net.dial import TCP_FACTS, Connection, Dialling, dial
from prober.net.names import check_address, check_families, family_for, split_host_port
from prober.net.tls import TLS_FACTS, TlsSetting
from prober.regex import Regex

RECEIVED_MAX: Final = 65_536  # octets of one reply
_READS_MAX: Final = 2_048  # of one reply: each is searched anew, and a server may send it octet by octet
_QUOTED_MAX: Final = 80  # octets of a reply that a log line repeats


class TcpOptions(Options):
    """Options of a tcp check."""

    address: str = Field(description="host:port; an IPv6 address as [address]:port", max_length=300)
    family: Family = Field(default="any", description="address family when the host is a name")
    source: str | None = Field(default=None, description="source address, one of this host's")
    tls: TlsSetting = Field(default=None, description="true, or how to speak TLS")
    banner: Regex | None = Field(default=None, description="what the server must say first, before anything is sent")
    send: str | None = Field(default=None, description="text to send, as UTF-8", min_length=1, repr=False)
    expect: Regex | None = Field(default=None, description="what the server must say (then), within 64 KiB")

    @cached_property
    def endpoint(self) -> tuple[str, int]:
        """Host (without brackets) and port."""
        return split_host_port(self.address)

    @field_validator("address")
    @classmethod
    def _address_has_host_and_port(cls, value: str) -> str:
        split_host_port(value)
        return value

    @field_validator("source")
    @classmethod
    def _source_is_an_address(cls, value: str | None) -> str | None:
        return None if value is None else check_address(value)

    @model_validator(mode="after")
    def _families_agree(self) -> TcpOptions:
        check_families(self.endpoint[0], self.family, self.source)
        return self


async def probe(options: TcpOptions, attempt: Attempt, io: Io) -> None:
    """Connect, shake hands, say and hear what is wanted."""
    host, port = options.endpoint
    address = await io.locate(attempt, host, family_for(options.family, options.source))
    with await dial(attempt, address, port, source=options.source, tls=options.tls, server_name=host) as connection:
        if options.banner or options.send or options.expect:
            with attempt.phase("exchange", Operation.RECEIVE):
                await _exchange(options, attempt, connection)


def direct(options: TcpOptions, io: Io) -> Direct | None:
    """The same for a mere connection to a literal address: nothing is waited for but the answer to the SYN."""
    host, port = options.endpoint
    address = literal(host)
    if address is None or options.tls or options.banner or options.send or options.expect:
        return None
    chosen = address

    def begin(attempt: Attempt, done: Done) -> Callable[[], None]:
        if not io.permit(chosen):
            io.heed_opt_out(attempt, chosen)
        attempt.address = chosen
        attempt.phases["resolve"] = 0.0
        dialling = Dialling(attempt, done, chosen, port, options.source)
        dialling.begin()
        return dialling.give_up

    return begin


async def _exchange(options: TcpOptions, attempt: Attempt, connection: Connection) -> None:
    if options.banner is not None:
        await _hear(options.banner, "banner", attempt, connection)
    if options.send is not None:
        attempt.operation = Operation.SEND
        await connection.send(options.send.encode())
    if options.expect is not None:
        await _hear(options.expect, "expect", attempt, connection)


async def _hear(wanted: Regex, option: str, attempt: Attempt, connection: Connection) -> None:
    """Receive until `wanted` is found in what has come so far."""
    attempt.operation = Operation.RECEIVE
    received = b""
    for _ in range(_READS_MAX):
        data = await connection.receive()
        received += data
        if wanted.search(received):
            return
        if not data and not received:
            attempt.fail(Failure.CLOSED, f"closed without a word, {option} expected")
        if not data or len(received) >= RECEIVED_MAX:
            break
    attempt.fail(
        Failure.UNEXPECTED_REPLY,
        f"{option} not found in {len(received)} octets, which begin {received[:_QUOTED_MAX]!r}",
        Operation.VALIDATE,
    )


def from_url(url: str) -> Mapping[str, object] | None:
    """`tcp://host:port` and `tls://host:port`, for `prober probe`."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("tcp", "tls"):
        return None
    return {"address": rest.removesuffix("/"), "tls": scheme == "tls"}


KIND = Kind(
    name="tcp",
    options=TcpOptions,
    probe=probe,
    host=lambda options: str(options.endpoint[0]),
    phase_metric="probe_tcp_duration_seconds",
    phases=("resolve", "connect", "tls", "exchange"),
    facts=(*TCP_FACTS, *TLS_FACTS),
    packets=lambda _options: 1,
    holds_descriptor=True,
    direct=direct,
    from_url=from_url,
)
