"""The kind `dns`: one question to a name server, over UDP, TCP or TLS, and what is expected of the answer.

No packet is sent twice: a lost one is a fact. Only a truncated answer is asked for again, over TCP. After a UDP answer
the probe listens on for a while: who forges answers on the path is faster than the true server and cannot stop its
answer, so that a second, different one gives the forger away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

from prober.contract import Attempt, Direct, Done, FactSpec, Io, Kind, ProbeFailure, literal
from prober.failures import Failure, Operation, Side, side_of
from prober.net.dial import TCP_FACTS, dial
from prober.net.dns_message import Record, Reply
from prober.net.names import family_for
from prober.net.query import TOGETHER_SECONDS, UdpExchange, ask_over_stream
from prober.net.resolver import as_resolvers, failure_of_rcode
from prober.net.tls import TLS_FACTS, TlsOptions
from prober.probes.dns_options import ADDRESS_VERSIONS, DnsOptions, from_url

MARGIN_SECONDS: Final = 0.05
"""How long before the attempt's end we end what has no end of its own: an answered probe must not become a timeout."""

_QUOTED_MAX: Final = 200  # characters of answers that a failure's detail repeats


def times_itself(options: DnsOptions) -> bool:
    """Whether nothing but the UDP exchange is waited for, which reads what the kernel has before it gives up."""
    return options.transport == "udp" and options.needs_no_resolving


async def probe(options: DnsOptions, attempt: Attempt, io: Io) -> None:
    """Ask once and compare the answer with what is expected."""
    attempt.facts["query_succeeded"] = 0.0
    if options.server is not None:
        host, port = options.endpoint
        address = await io.locate(attempt, host, family_for(options.family, options.source))
        await _ask_and_judge(options, attempt, address, port)
        return
    with attempt.phase("resolve", Operation.RESOLVE):
        address, port = io.resolver.server()
    attempt.address = address
    try:
        await _ask_and_judge(options, attempt, address, port)
    except ProbeFailure as failure:
        raise as_resolvers(failure) from failure


def direct(options: DnsOptions, io: Io) -> Direct | None:
    """The same over UDP from a literal address; only a truncated answer needs a task, to ask again over TCP."""
    host = options.host if options.server is not None else None
    address = None if host is None else literal(host)
    if address is None or not times_itself(options):
        return None
    asked, port = address, options.endpoint[1]

    def begin(attempt: Attempt, done: Done) -> Callable[[], None]:
        attempt.facts["query_succeeded"] = 0.0
        io.heed_opt_out(attempt, asked)
        attempt.address = asked
        attempt.phases["resolve"] = 0.0
        return _Directly(options, attempt, done, asked, port).give_up

    return begin


class _Directly:
    """A probe over UDP that is under way without a task."""

    __slots__ = ("_address", "_attempt", "_done", "_exchange", "_options", "_port", "_task")

    def __init__(self, options: DnsOptions, attempt: Attempt, done: Done, address: str, port: int) -> None:
        """Raises ProbeFailure (our own side)."""
        self._options = options
        self._attempt = attempt
        self._done = done
        self._address = address
        self._port = port
        self._task: asyncio.Task[None] | None = None
        self._exchange = _Exchange(options, attempt, address, port, self._answered)

    def give_up(self) -> None:
        self._exchange.close()
        if self._task is not None:
            self._task.cancel()

    def _answered(self, reply: Reply | None, error: Exception | None) -> None:
        if reply is not None and reply.truncated:
            self._task = asyncio.get_running_loop().create_task(self._ask_again())
            return
        if reply is not None:
            try:
                _judge(self._options, self._attempt, reply)
            except Exception as found:
                error = found
        self._done(error)

    async def _ask_again(self) -> None:
        failed: Exception | None = None
        try:
            reply = await _over_tcp_instead(self._options, self._attempt, self._address, self._port)
            _judge(self._options, self._attempt, reply)
        except Exception as error:
            failed = error
        self._done(failed)


async def _ask_and_judge(options: DnsOptions, attempt: Attempt, address: str, port: int) -> None:
    if options.transport != "udp":
        reply = await _over_stream(options, attempt, address, port)
    else:
        reply = await _over_udp(options, attempt, address, port)
        if reply.truncated:
            reply = await _over_tcp_instead(options, attempt, address, port)
    _judge(options, attempt, reply)


async def _over_udp(options: DnsOptions, attempt: Attempt, address: str, port: int) -> Reply:
    """The first answer, its facts recorded. Raises ProbeFailure: INJECTED if another one contradicts it."""
    answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def told(reply: Reply | None, error: Exception | None) -> None:
        if answered.done():
            return  # the runner's deadline was there first, in the same turn of the loop
        if reply is not None:
            answered.set_result(reply)
        elif error is not None:
            answered.set_exception(error)

    exchange = _Exchange(options, attempt, address, port, told)
    try:
        return await answered
    finally:
        exchange.close()


class _Exchange:
    """A question over UDP, under way: `told` gets its first answer, or why there is none or it cannot be trusted.

    Everything that is known of it is recorded in the attempt.
    """

    __slots__ = ("_attempt", "_listening_since", "_options", "_told", "_udp")

    def __init__(
        self,
        options: DnsOptions,
        attempt: Attempt,
        address: str,
        port: int,
        told: Callable[[Reply | None, Exception | None], None],
    ) -> None:
        """Send the question. Raises ProbeFailure (our own side)."""
        self._options = options
        self._attempt = attempt
        self._told = told
        self._listening_since = 0.0
        with attempt.phase("connect", Operation.CONNECT):
            self._udp = udp = UdpExchange(options.question, address, port, options.source)
        attempt.operation = Operation.SEND
        try:
            udp.send()
        except BaseException:
            self._record_strays()
            udp.close()
            raise
        attempt.operation = Operation.RECEIVE
        itself = times_itself(options)
        seconds = attempt.timeout_seconds if itself else attempt.remaining_seconds() - MARGIN_SECONDS
        udp.expect(seconds, self._first, silence_ends=itself)

    def close(self) -> None:
        """Leave nothing behind. Idempotent."""
        self._record_strays()
        self._udp.close()

    def _first(self) -> None:
        attempt = self._attempt
        try:
            reply = self._udp.first()
            attempt.phases["request"] = self._udp.request_seconds
            _record(self._options, attempt, reply)
            if not reply.truncated and (seconds := self._window()) > 0:
                self._listening_since = time.perf_counter()
                self._udp.listen(seconds, self._heard)
                return
        except Exception as error:
            self._end(None, error)
        else:
            self._end(reply, None)

    def _window(self) -> float:
        """How many seconds to listen for a second answer. If the timeout cuts it short, then to the next beat, so that
        those who listen can stop together.
        """
        window = self._options.injection_window
        left = self._attempt.remaining_seconds() - MARGIN_SECONDS
        return window if window <= left else left - left % TOGETHER_SECONDS

    def _heard(self) -> None:
        try:
            self._attempt.listened_seconds += time.perf_counter() - self._listening_since
            reply, second = self._udp.first(), self._udp.second
            if second is not None:
                detail = f"first {_summary(reply)}, then {_summary(second)}"
                self._attempt.fail(Failure.INJECTED, detail, Operation.VALIDATE)
        except Exception as error:
            self._end(None, error)
        else:
            self._end(reply, None)

    def _end(self, reply: Reply | None, error: Exception | None) -> None:
        self.close()
        told, self._told = self._told, _nobody
        told(reply, error)

    def _record_strays(self) -> None:
        self._attempt.facts["ignored_replies"] = float(self._udp.ignored)
        self._attempt.facts["duplicate_replies"] = float(self._udp.duplicates)


def _nobody(_reply: Reply | None, _error: Exception | None) -> None:
    """Whoever was told refers to the exchange; without this only the garbage collector would part them."""


async def _over_tcp_instead(options: DnsOptions, attempt: Attempt, address: str, port: int) -> Reply:
    """Ask again because the answer did not fit (RFC 7766). What fails now is that it cannot be had whole."""
    try:
        return await _over_stream(options, attempt, address, port)
    except ProbeFailure as failure:
        if side_of(failure.failure) is not Side.TARGET:
            raise
        detail = f"over UDP truncated, over TCP {failure.failure}: {failure.detail}"
        raise ProbeFailure(failure.operation, Failure.TRUNCATED, detail) from failure


async def _over_stream(options: DnsOptions, attempt: Attempt, address: str, port: int) -> Reply:
    # The runner ends what does not time itself, with the target's timeout; silence of our own resolver is not that.
    own_end = times_itself(options) or options.server is None
    limit = max(0.01, attempt.remaining_seconds() - MARGIN_SECONDS) if own_end else None
    tls = (options.tls or TlsOptions()) if options.transport == "tls" else None
    try:
        async with asyncio.timeout(limit):
            connection = await dial(
                attempt, address, port, source=options.source, tls=tls, server_name=options.host if tls else ""
            )
            with connection:
                started = time.perf_counter()
                reply = await ask_over_stream(connection, attempt, options.question)
    except TimeoutError:
        attempt.fail(Failure.TIMEOUT, f"no answer over {'TLS' if tls else 'TCP'}")
    attempt.phases["request"] = attempt.phases.get("request", 0.0) + time.perf_counter() - started
    _record(options, attempt, reply)
    return reply


def _record(options: DnsOptions, attempt: Attempt, reply: Reply) -> None:
    facts = attempt.facts
    facts["query_succeeded"] = 1.0
    facts["rcode"] = reply.rcode_text
    if reply.truncated:
        facts["truncated"] = 1.0  # stays, when the whole answer comes over TCP
        return
    facts.setdefault("truncated", 0.0)
    facts["answer_rrs"] = float(reply.answer_count)
    facts["authority_rrs"] = float(reply.authority_count)
    facts["additional_rrs"] = float(reply.additional_count)
    if options.rdtype is RdataType.SOA:
        for record in reply.answers:
            if record.rdtype == RdataType.SOA:
                facts["serial"] = float(record.rdata.serial)  # type: ignore[attr-defined]


def _judge(options: DnsOptions, attempt: Attempt, reply: Reply) -> None:
    """Raise ProbeFailure if the answer is not the expected one."""
    attempt.operation = Operation.VALIDATE
    expect = options.expect
    if reply.rcode not in expect.rcodes:
        failure = failure_of_rcode(reply.rcode) if options.server is None else None
        attempt.fail(failure or Failure.DNS_RCODE, f"{reply.rcode_text}, expected {' or '.join(expect.rcode)}")
    if expect.networks:
        addresses = [ip_address(r.rdata.address) for r in reply.answers if _has_address(r)]  # type: ignore[attr-defined]
        outside = [a for a in addresses if not any(a in network for network in expect.networks)]
        if outside or not addresses:
            found = ", ".join(map(str, outside)) or "no address"
            attempt.fail(Failure.DNS_ANSWER, f"{found[:_QUOTED_MAX]}, expected within {', '.join(expect.prefix)}")
    if expect.regex is not None and not any(expect.regex.search(record.text()) for record in reply.answers):
        attempt.fail(Failure.DNS_ANSWER, f"{_summary(reply)}: no answer matches {expect.regex}")
    rdata = [r.rdata for r in reply.answers if r.rdtype == options.rdtype or options.rdtype is RdataType.ANY]
    if len(rdata) < expect.min_answers:
        attempt.fail(Failure.DNS_ANSWER, f"{len(rdata)} answers of type {options.type}, expected {expect.min_answers}")
    if options.expected_rdata is not None and options.expected_rdata != frozenset(rdata):
        attempt.fail(Failure.DNS_ANSWER, f"{_summary(reply)}, expected {', '.join(expect.answers or ()) or 'none'}")


def _has_address(record: Record) -> bool:
    return record.rdtype in ADDRESS_VERSIONS and record.rdclass == RdataClass.IN


def _summary(reply: Reply) -> str:
    """The answer in a few words, for the log."""
    answers = ", ".join(sorted(f"{RdataType.make(r.rdtype).name} {r.rdata.to_text()}" for r in reply.answers))
    return f"{reply.rcode_text} {answers[:_QUOTED_MAX] or '(empty)'}"


KIND = Kind(
    name="dns",
    options=DnsOptions,
    probe=probe,
    host=lambda options: str(options.host),
    phase_metric="probe_dns_duration_seconds",
    phases=("resolve", "connect", "tls", "request"),
    facts=(
        FactSpec("query_succeeded", "probe_dns_query_succeeded", "Whether an answer came, whatever it says"),
        FactSpec("answer_rrs", "probe_dns_answer_rrs", "Records in the answer section"),
        FactSpec("authority_rrs", "probe_dns_authority_rrs", "Records in the authority section"),
        FactSpec("additional_rrs", "probe_dns_additional_rrs", "Records in the additional section, EDNS included"),
        FactSpec("serial", "probe_dns_serial", "Serial number of the zone (type SOA only)"),
        FactSpec("rcode", "prober_dns_rcode_info", "Response code of the answer", label="rcode"),
        FactSpec("truncated", "prober_dns_truncated", "Whether the answer over UDP was truncated and TCP had to help"),
        FactSpec("duplicate_replies", "prober_dns_duplicate_replies", "Answers that repeated the first, last probe"),
        FactSpec("ignored_replies", "prober_dns_ignored_replies", "Packets that were no answer (forged?), last probe"),
        *TCP_FACTS,
        *TLS_FACTS,
    ),
    packets=lambda options: 1,
    holds_descriptor=True,
    times_itself=times_itself,
    direct=direct,
    from_url=from_url,
)
