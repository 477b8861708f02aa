"""Modules of the prober `dns`: one question to the target, and regular expressions on the records of its answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

from prober.blackbox.options import DnsProbe, RecordValidator
from prober.blackbox.record_text import record_text
from prober.blackbox.session import Session, port_number, split_target
from prober.blackbox.tls import start_tls
from prober.contract import Attempt
from prober.failures import Failure, Operation
from prober.net.dial import dial
from prober.net.dns_message import Question, Reply
from prober.net.query import UdpExchange, ask_over_stream

_PHASES: Final = ("resolve", "connect", "request")
_CLASSES: Final = {"IN": 1, "CS": 2, "CH": 3, "HS": 4, "NONE": 254, "ANY": 255}
_RECORDS_MAX: Final = 10_000


async def probe_dns(options: DnsProbe, session: Session) -> None:
    """Ask the target, a name server with or without a port, once."""
    metrics, attempt = session.metrics, session.attempt
    durations = metrics.vector("probe_dns_duration_seconds", "Duration of DNS request by phase", ("phase",))
    for phase in _PHASES:
        durations.set(0.0, phase)
    for section in ("answer", "authority", "additional"):
        metrics.gauge(f"probe_dns_{section}_rrs", f"Returns number of entries in the {section} resource record list")
    succeeded = metrics.gauge(
        "probe_dns_query_succeeded", "Displays whether or not the query was executed successfully"
    )
    try:
        reply = await _ask(options, session)
        succeeded.set(1.0)
        attempt.operation = Operation.VALIDATE
        _judge(options, session, reply)
    finally:
        for phase in _PHASES:
            durations.set(attempt.phases.get(phase, 0.0), phase)


async def _ask(options: DnsProbe, session: Session) -> Reply:
    attempt = session.attempt
    host, port_text = split_target(session, session.target, 853 if options.dns_over_tls else 53)
    try:
        question = Question.make(
            options.query_name or ".",
            dns.rdatatype.from_text(options.query_type),
            RdataClass.make(_CLASSES[options.query_class]),
            recursion=options.recursion_desired,
            edns=False,  # as the original asks: it shows in the number of additional records, and in what is truncated
        )
    except ValueError as error:
        session.bad_target(f"query_name: {error}")
    address = await session.choose(host, options)
    port = port_number(session, port_text)
    session.permit(host, address, port, "tcp" if options.transport_protocol == "tcp" else "udp")
    source = options.source_ip_address or None
    session.log.debug("Making DNS query", address=address, port=port, query=options.query_name, type=options.query_type)
    if options.transport_protocol != "tcp":
        with attempt.phase("connect", Operation.CONNECT):
            exchange = UdpExchange(question, address, port, source)
        with exchange, _timed(attempt, "request"):
            attempt.operation = Operation.SEND
            exchange.send()
            attempt.operation = Operation.RECEIVE
            return await exchange.reply(attempt.remaining_seconds(), silence_ends=False)
    with _timed(attempt, "connect"):
        connection = await dial(attempt, address, port, source=source)
    with connection:
        if options.dns_over_tls:
            # The original's phase `connect` is all that is not the exchange of messages.
            with _timed(attempt, "connect"):
                await start_tls(session, connection, options.tls_config, host)
        with _timed(attempt, "request"):
            return await ask_over_stream(connection, attempt, question)


@contextmanager
def _timed(attempt: Attempt, phase: str) -> Iterator[None]:
    """Time a phase, also where it fails: a silence has its length too."""
    before = attempt.phases.get(phase, 0.0)
    started = time.perf_counter()
    try:
        yield
    finally:
        attempt.phases[phase] = before + time.perf_counter() - started


def _judge(options: DnsProbe, session: Session, reply: Reply) -> None:
    """Export the answer's records and hold them against what the module wants. Raises ProbeFailure."""
    try:
        message = dns.message.from_wire(reply.wire, one_rr_per_rrset=True, ignore_trailing=True, continue_on_error=True)
    except (dns.exception.DNSException, ValueError) as error:
        session.attempt.fail(Failure.MALFORMED, f"the answer cannot be read: {error}")
    metrics = session.metrics
    sections = (("answer", message.answer), ("authority", message.authority), ("additional", message.additional))
    for name, rrsets in sections:
        # An OPT record is no entry to dnspython, and one to the original.
        count = len(rrsets) + (name == "additional" and message.opt is not None)
        metrics.gauge(f"probe_dns_{name}_rrs", f"Returns number of entries in the {name} resource record list", count)
    if options.query_type == "SOA":
        serials = [rrset[0].serial for rrset in message.answer if rrset.rdtype == RdataType.SOA]
        metrics.gauge(
            "probe_dns_serial", "Returns the serial number of the zone", float(serials[-1]) if serials else 0.0
        )
    rcode = dns.rcode.to_text(dns.rcode.Rcode(reply.rcode))
    session.log.debug("Got response", rcode=rcode, answers=len(message.answer), truncated=reply.truncated)
    if rcode not in (options.valid_rcodes or ("NOERROR",)):
        detail = f"{rcode}, wanted {' or '.join(options.valid_rcodes or ('NOERROR',))}"
        session.log.error("Rcode is not one of the valid rcodes", rcode=rcode)
        session.attempt.fail(Failure.DNS_RCODE, detail)
    validators = (options.validate_answer_rrs, options.validate_authority_rrs, options.validate_additional_rrs)
    for (name, rrsets), validator in zip(sections, validators, strict=True):
        reason = _invalid([record_text(rrset) for rrset in rrsets[:_RECORDS_MAX]], validator)
        if reason is not None:
            session.log.error(f"{name.capitalize()} RRs validation failed", reason=reason)
            session.attempt.fail(Failure.DNS_ANSWER, f"{name} records: {reason}")


def _invalid(records: list[str], validator: RecordValidator) -> str | None:
    """Why the records are not the wanted ones; None if they are."""
    if not records:
        for name in ("fail_if_not_matches_regexp", "fail_if_none_matches_regexp"):
            if getattr(validator, name):
                return f"{name} specified but no RRs returned"
    for record in records:
        for regex in validator.fail_if_matches_regexp:
            if regex.search(record):
                return f"at least one RR matched {regex}"
        for regex in validator.fail_if_not_matches_regexp:
            if not regex.search(record):
                return f"at least one RR did not match {regex}"
    every = validator.fail_if_all_match_regexp
    if every and not all(regex.search(record) for record in records for regex in every):
        return "not all RRs matched"  # as the original: whatever the option's name says
    some = validator.fail_if_none_matches_regexp
    if some and not any(regex.search(record) for record in records for regex in some):
        return "none of the RRs matched"
    return None
