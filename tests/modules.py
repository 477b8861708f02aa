"""For tests of blackbox.yml modules: a module out of its text, one probe with it, and an HTTP/2 server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

from prober.blackbox.guard import Destination, Guard, permit_all
from prober.blackbox.log import ProbeLog
from prober.blackbox.modules import Module, read_modules
from prober.blackbox.probe import Result, probe
from prober.blackbox.yaml import BlackboxBuilder
from prober.config.parse import parse_document
from prober.config.problems import Problem
from prober.contract import Io
from prober.failures import Failure, Operation
from tests.fakes import NoPinger
from tests.leaks import assert_no_leaks
from tests.streams import USER_AGENT, Names, Script


def module_of(text: str) -> Module:
    """`{prober: http, ...}` as the module `m`."""
    document = parse_document("blackbox.yml", f"modules: {{m: {text}}}".encode(), BlackboxBuilder)
    problems: list[Problem] = []
    modules = read_modules(document, problems)
    assert not problems, problems
    assert modules is not None
    return modules["m"]


@dataclass
class Asked:
    """A guard that remembers what it was asked, and refuses some ports."""

    refused_ports: frozenset[int] = frozenset()
    destinations: list[Destination] = field(default_factory=list)

    def __call__(self, destination: Destination) -> str | None:
        self.destinations.append(destination)
        return "not for you" if destination.port in self.refused_ports else None


@dataclass(frozen=True)
class Asking:
    """One probe's result and log."""

    result: Result
    log: ProbeLog

    @property
    def failed(self) -> tuple[Operation | None, Failure | None] | None:
        return None if self.result.success else (self.result.operation, self.result.failure)

    def __getitem__(self, name: str) -> float | None:
        """The value of a metric without labels, or of `name{value}` of one with one label."""
        metric, _, label = name.partition("{")
        return self.result.metrics.value(metric, *([label.removesuffix("}")] if label else []))

    @property
    def text(self) -> str:
        return "\n".join(self.log.lines)


async def ask(
    text: str | Module,
    target: str,
    *,
    timeout: float = 5.0,
    names: Mapping[str, str] | None = None,
    guard: Guard = permit_all,
    permit: Callable[[str], bool] = lambda _host: True,
    leaks: bool = True,
) -> Asking:
    """One probe, after which nothing is left behind (looked at here, unless the server has something to leave)."""
    module = module_of(text) if isinstance(text, str) else text
    io = Io(Names(names or {}), NoPinger(), USER_AGENT, permit)
    log = ProbeLog(module.name, target)
    async with assert_no_leaks() if leaks else nullcontext():
        result = await probe(module, target, timeout_seconds=timeout, io=io, log=log, guard=guard)
    assert result.metrics.value("probe_success") == float(result.success)
    return Asking(result, log)


Answerer = Callable[[h2.connection.H2Connection, int, Mapping[str, str], bytes], None]


def http2(answer: Answerer) -> Script:
    """A script: an HTTP/2 server that has each whole request answered by `answer(connection, stream, head, body)`."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        heads: dict[int, Mapping[str, str]] = {}
        bodies: dict[int, bytes] = {}
        writer.write(connection.data_to_send())
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    heads[event.stream_id] = {str(name): str(value) for name, value in event.headers}
                elif isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    answer(connection, event.stream_id, heads[event.stream_id], bodies.get(event.stream_id, b""))
            writer.write(connection.data_to_send())
            await writer.drain()

    return script
