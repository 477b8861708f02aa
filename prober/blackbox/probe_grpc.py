"""Modules of the prober `grpc`: gRPC's health check (grpc.health.v1.Health/Check) over HTTP/2.

The two messages have one field each, so that they are encoded by hand and no generated code is needed.
"""

from __future__ import annotations

import time
from typing import Final
from urllib.parse import unquote

from prober.blackbox.exposition import Family
from prober.blackbox.options import GrpcProbe
from prober.blackbox.session import Session, port_number, split_target
from prober.blackbox.tls import export_tls, start_tls
from prober.blackbox.yaml import octets
from prober.contract import ProbeFailure
from prober.failures import Failure, Operation
from prober.net.dial import Connection, dial
from prober.net.http2 import Http2Exchange
from prober.net.names import join_host_port

ANSWER_SIZE_MAX: Final = 65_536

_STATUSES: Final = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_DEADLINE_EXCEEDED: Final = 4
_UNKNOWN: Final = 2
_UNAVAILABLE: Final = 14
# What an HTTP status stands for where there is no grpc-status (gRPC: HTTP to gRPC Status Code Mapping).
_OF_HTTP: Final = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}


async def probe_grpc(options: GrpcProbe, session: Session) -> None:
    """Ask the target (`host:port`, also with `http://` in front) for the health of the module's service."""
    metrics, attempt = session.metrics, session.attempt
    durations = metrics.vector("probe_grpc_duration_seconds", "Duration of gRPC request by phase", ("phase",))
    durations.set(0.0, "resolve")
    ssl = metrics.gauge("probe_grpc_ssl", "Indicates if SSL was used for the connection")
    code = metrics.gauge("probe_grpc_status_code", "Response gRPC status code")
    health = metrics.vector("probe_grpc_healthcheck_response", "Response HealthCheck response", ("serving_status",))
    text = session.target
    for scheme in ("http://", "https://"):
        text = text.removeprefix(scheme)
    text = text.partition("/")[0]
    host, port_text = split_target(session, text, 443 if options.tls else 80)
    address = await session.choose(host, options)
    port = port_number(session, port_text)
    durations.set(attempt.phases["resolve"], "resolve")
    started = time.perf_counter()
    code.set(float(_DEADLINE_EXCEEDED))  # until something else is known
    try:
        session.permit(host, address, port)
        with await dial(attempt, address, port) as connection:
            if options.tls:
                await start_tls(session, connection, options.tls_config, host, ("h2",))
            await _check(options, session, connection, join_host_port(host, port), code, health)
            if options.tls:
                ssl.set(1.0)
                export_tls(metrics, connection, with_cipher=False, with_last_chain=False)
            if session.fault is not None:
                session.log.error("The service is not serving")
    except ProbeFailure as failure:
        if metrics.value("probe_grpc_status_code") == _DEADLINE_EXCEEDED and failure.failure is not Failure.TIMEOUT:
            code.set(float(_UNAVAILABLE))
        raise
    finally:
        durations.set(time.perf_counter() - started, "check")
        for status in _STATUSES.values():
            health.samples.setdefault((status,), 0.0)


async def _check(
    options: GrpcProbe, session: Session, connection: Connection, authority: str, code: Family, health: Family
) -> None:
    """One call. Raises ProbeFailure if it fails; a service that is not serving is found wrong."""
    attempt = session.attempt
    exchange = Http2Exchange(connection, attempt)
    head = [
        (":method", "POST"),
        (":scheme", "https" if options.tls else "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("user-agent", session.io.user_agent),
        ("te", "trailers"),
        ("grpc-timeout", f"{max(1, int(attempt.remaining_seconds() * 1000))}m"),
    ]
    head += [(name.lower(), value) for name, values in options.metadata.items() for value in values]
    await exchange.send(head, _request(octets(options.service)))
    await exchange.read_head()
    body = b""
    async for piece in exchange.pieces():
        body += piece
        if len(body) > ANSWER_SIZE_MAX:
            attempt.fail(Failure.MALFORMED, "the answer to a health check is never so large")
    attempt.operation = Operation.VALIDATE
    status = exchange.trailers.get("grpc-status", exchange.header("grpc-status") or "")
    number = int(status) if status.isdecimal() and len(status) < 4 else _OF_HTTP.get(exchange.status, _UNKNOWN)
    if status == "":
        code.set(float(number))
        attempt.fail(Failure.HTTP_STATUS, f"no gRPC: HTTP status {exchange.status}")
    code.set(float(number))
    if number:
        message = exchange.trailers.get("grpc-message", exchange.header("grpc-message") or "")
        attempt.fail(Failure.UNEXPECTED_REPLY, f"gRPC status {number}: {unquote(message)[:200]}")
    serving = _status_in(body)
    if serving is None:
        attempt.fail(Failure.MALFORMED, "the answer is no HealthCheckResponse")
    health.set(1.0, _STATUSES.get(serving, str(serving)))
    if serving != 1:
        session.found_wrong(Failure.UNEXPECTED_REPLY, f"the service is {_STATUSES.get(serving, serving)}")


def _request(service: bytes) -> bytes:
    """HealthCheckRequest{service: 1} with gRPC's five octets in front: not compressed, length."""
    message = b"\x0a" + _varint(len(service)) + service if service else b""
    return b"\x00" + len(message).to_bytes(4, "big") + message


def _varint(number: int) -> bytes:
    octets_ = bytearray()
    while number > 0x7F:
        octets_.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*octets_, number])


def _status_in(body: bytes) -> int | None:
    """The field `status` (number 1, a varint) of a HealthCheckResponse; other fields are passed over."""
    if len(body) < 5 or body[0] or int.from_bytes(body[1:5], "big") != len(body) - 5:
        return None
    at, status = 5, 0
    while at < len(body):
        key, at = _read_varint(body, at)
        if key is None:
            return None
        value, after = _read_varint(body, at)
        if value is None:
            return None
        if key == 0x08:
            status = value
        if key & 7 == 2:  # of a length
            after += value
        elif key & 7 != 0:
            return None
        at = after
    return status if at == len(body) else None


def _read_varint(data: bytes, at: int) -> tuple[int | None, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            return None, at
        octet = data[at]
        at += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
    return None, at
