"""The kind `ntp`: ask a time server for the time (SNTP, RFC 4330).

The example of CONTRIBUTING.md, "A new kind of probe": as prober/probes/ntp.py, with its line in PROBES, it is a kind
like the others, which tests/e2e/test_new_kind.py shows in a copy. It is not among the kinds of the agent.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Final

from pydantic import Field, field_validator

from prober.contract import Attempt, FactSpec, Family, Io, Kind, Options
from prober.failures import Failure, Operation
from prober.net.errors import failure_of_oserror
from prober.net.names import check_host

PORT: Final = 123
SIZE: Final = 48  # octets of a message without extensions
CLIENT: Final = 0x23  # version 4, mode 3
SERVER: Final = 4  # mode of an answer


class NtpOptions(Options):
    """Options of an ntp check."""

    server: str = Field(description="time server: an address or a name", min_length=1, max_length=253)
    port: int = Field(default=PORT, description="UDP port", ge=1, le=65535)
    family: Family = Field(default="any", description="address family when the server is a name")
    max_stratum: int = Field(default=15, description="the answer's stratum may be so high at most", ge=1, le=15)

    @field_validator("server")
    @classmethod
    def _server_is_a_host(cls, value: str) -> str:
        return check_host(value)


async def probe(options: NtpOptions, attempt: Attempt, io: Io) -> None:
    """One question, one answer that repeats its random transmit timestamp."""
    address = await io.locate(attempt, options.server, options.family)
    loop = asyncio.get_running_loop()
    token = os.urandom(8)
    attempt.operation = Operation.SEND
    try:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as error:
        attempt.fail(failure_of_oserror(error, local=True), str(error))
    with sock:
        sock.setblocking(False)
        try:
            sock.connect((address, options.port))
            sock.send(bytes([CLIENT]) + bytes(39) + token)
        except OSError as error:
            attempt.fail(failure_of_oserror(error, local=True), str(error))
        with attempt.phase("request", Operation.RECEIVE):
            while True:
                try:
                    reply = await loop.sock_recv(sock, 512)
                except OSError as error:
                    attempt.fail(failure_of_oserror(error, local=False), str(error))
                if len(reply) >= SIZE and reply[24:32] == token:
                    break  # whatever else arrives is no answer to this question
    attempt.operation = Operation.VALIDATE
    stratum = reply[1]
    attempt.facts["stratum"] = float(stratum)
    if reply[0] & 7 != SERVER or not 1 <= stratum <= options.max_stratum:
        attempt.fail(Failure.UNEXPECTED_REPLY, f"mode {reply[0] & 7}, stratum {stratum}")


def from_url(url: str) -> Mapping[str, object] | None:
    """`ntp://server`, for `prober probe`."""
    return {"server": url.removeprefix("ntp://").strip("/")} if url.startswith("ntp://") else None


KIND = Kind(
    name="ntp",
    options=NtpOptions,
    probe=probe,
    host=lambda options: str(options.server),
    phase_metric="prober_ntp_duration_seconds",
    phases=("resolve", "request"),
    facts=(FactSpec("stratum", "prober_ntp_stratum", "Stratum of the answer"),),
    packets=lambda _options: 1,
    holds_descriptor=True,
    from_url=from_url,
)
