"""Modules of the prober `websocket`: the upgrade (RFC 6455 section 4), then messages that are expected and sent."""

from __future__ import annotations

import base64
import os
from hashlib import sha1
from typing import Final

from prober.blackbox.credentials import Fields, authorization, injected
from prober.blackbox.expand import expand
from prober.blackbox.http_hop import Hop, encode, open_hop
from prober.blackbox.options import Message, WebsocketProbe
from prober.blackbox.session import Session
from prober.blackbox.websocket_frames import Messages, text_frame
from prober.blackbox.yaml import octets
from prober.failures import Failure, Operation
from prober.net.dial import Connection
from prober.net.http_client import Response
from prober.net.url import HttpUrl, parse_url

_KEY_SUFFIX: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_SCHEMES: Final = {"ws://": "http://", "wss://": "https://"}


async def probe_websocket(options: WebsocketProbe, session: Session) -> None:
    """Open a websocket to the target, a `ws://` or `wss://` URL, and talk."""
    metrics, attempt = session.metrics, session.attempt
    upgraded = metrics.gauge(
        "probe_websocket_connection_upgraded", "Indicates if the websocket connection was successfully upgraded"
    )
    status = metrics.gauge("probe_websocket_status_code", "Response HTTP status code")
    by_regex = metrics.gauge("probe_websocket_failed_due_to_regex", "Indicates if probe failed due to regex")
    durations = metrics.vector("probe_websocket_duration_seconds", "Duration of websocket request by phase", ("phase",))
    try:
        url = _parse_target(session)
        address = await session.choose(url.host, options)
        connection, response = await _upgrade(options, session, url, address)
        with connection:
            status.set(float(response.status))
            if response.status != 101:
                attempt.fail(Failure.HTTP_STATUS, f"status {response.status} instead of 101", Operation.VALIDATE)
            upgraded.set(1.0)
            if options.query_response:
                by_regex.set(1.0)
                with attempt.phase("transfer", Operation.RECEIVE):
                    await _converse(options.query_response, session, connection, response.rest())
                by_regex.set(0.0)
    finally:
        phases = dict(attempt.phases)
        if "tls" in phases:  # the original counts it as processing
            phases["processing"] = phases.get("processing", 0.0) + phases.pop("tls")
        for phase, seconds in phases.items():
            durations.set(seconds, phase)


def _parse_target(session: Session) -> HttpUrl:
    text = session.target
    for scheme, as_http in _SCHEMES.items():
        if text.lower().startswith(scheme):
            try:
                return parse_url(as_http + text[len(scheme) :])
            except ValueError as error:
                session.bad_target(str(error))
    session.bad_target(f'"{text[:100]}" is no ws:// or wss:// URL')


async def _upgrade(
    options: WebsocketProbe, session: Session, url: HttpUrl, address: str
) -> tuple[Connection, Response]:
    """Connect and ask for the upgrade. The caller closes the connection. Raises ProbeFailure."""
    client = options.http_config
    fields: Fields = []
    credentials = await authorization(client, session)
    if credentials:
        fields.append(("Authorization", credentials))
    for headers in (client.http_headers, options.headers):
        open_ones, secret_ones = await injected(headers, session)
        fields += open_ones + secret_ones
    host = next((value for name, value in fields if name.lower() == "host"), url.authority)
    fields = [(name, value) for name, value in fields if name.lower() != "host"]
    if not any(name.lower() == "user-agent" for name, _ in fields):
        fields.append(("User-Agent", session.io.user_agent))
    key = base64.b64encode(os.urandom(16)).decode()
    own = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Key", key)]
    own.append(("Sec-WebSocket-Version", "13"))
    hop = Hop("GET", url, host, address, fields, None, client.tls_config, url.host)
    connection, proxy = await open_hop(hop, client, session, ("http/1.1",))
    try:
        attempt = session.attempt
        with attempt.phase("processing", Operation.SEND):
            target = url.target if proxy is None or url.secure else f"http://{url.authority}{url.target}"
            if proxy is not None and not url.secure and proxy.authorization:
                own.append(("Proxy-Authorization", proxy.authorization))
            await connection.send(encode("GET", target, [("Host", host), *own, *fields], None))
            attempt.operation = Operation.RECEIVE
            response = Response(connection, attempt, "GET")
            await response.read_head()
        if response.status == 101:
            accepted = base64.b64encode(sha1((key + _KEY_SUFFIX).encode(), usedforsecurity=False).digest()).decode()
            if response.header("Sec-WebSocket-Accept") != accepted:
                attempt.fail(Failure.MALFORMED, "the server's Sec-WebSocket-Accept does not answer our key")
    except BaseException:
        connection.close()
        raise
    return connection, response


async def _converse(steps: tuple[Message, ...], session: Session, connection: Connection, received: bytes) -> None:
    messages = Messages(connection, session.attempt, received)
    for step in steps:
        send = octets(step.send)
        if step.expect is not None:
            session.attempt.operation = Operation.RECEIVE
            message = await messages.next()
            match = step.expect.find(message)
            if match is None:
                session.log.error("Regexp did not match", regexp=step.expect, message=message)
                session.attempt.fail(
                    Failure.UNEXPECTED_REPLY, f"the message does not match {step.expect}", Operation.VALIDATE
                )
            session.log.debug("Regexp matched", regexp=step.expect, message=message)
            send = expand(send, match)
        if send:
            session.attempt.operation = Operation.SEND
            await connection.send(text_frame(send))
