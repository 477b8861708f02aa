"""The last answer of an http module: its metrics, and what is wanted of it."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from prober.blackbox.cel import CelError, CelProgram, json_body
from prober.blackbox.decode import Decoder, NotDecodable
from prober.blackbox.exposition import Metrics
from prober.blackbox.http_hop import Answer
from prober.blackbox.options import HeaderMatch, HttpProbe
from prober.blackbox.session import Session
from prober.blackbox.tls import export_tls
from prober.contract import Attempt, ProbeFailure
from prober.failures import Failure, Operation
from prober.net.dial import Connection
from prober.probes.http import unix_time

CONTENT_SIZE_MAX: Final = 64 * 2**20
"""Octets of a body that expressions are looked for in; one that is larger fails."""
DECODED_SIZE_MAX: Final = 2**30
"""Octets of a decompressed body that are counted; one that is larger fails."""
_BREATH: Final = 2**20  # octets between two turns of the event loop
_DATE_LENGTH_MAX: Final = 40


class AnswerMetrics:
    """The metrics of an http module; all are there from the start, but those of TLS, which an answer over TLS has."""

    def __init__(self, options: HttpProbe, metrics: Metrics) -> None:
        self.metrics = metrics
        self.durations = metrics.vector(
            "probe_http_duration_seconds", "Duration of http request by phase, summed over all redirects", ("phase",)
        )
        self._phases: tuple[str, ...] = ()
        self.content_length = metrics.gauge("probe_http_content_length", "Length of http content response")
        self.body_length = metrics.gauge("probe_http_uncompressed_body_length", "Length of uncompressed response body")
        self.redirects = metrics.gauge("probe_http_redirects", "The number of redirects")
        self.ssl = metrics.gauge("probe_http_ssl", "Indicates if SSL was used for the final redirect")
        self.status = metrics.gauge("probe_http_status_code", "Response HTTP status code")
        self.version = metrics.gauge("probe_http_version", "Returns the version of HTTP of the probe response")
        self.by_regex = metrics.gauge("probe_failed_due_to_regex", "Indicates if probe failed due to regex")
        if options.fail_if_body_json_matches_cel or options.fail_if_body_json_not_matches_cel:
            self.by_cel = metrics.gauge(
                "probe_failed_due_to_cel", "Indicates if probe failed due to CEL expression not matching"
            )

    def begin_resolve(self) -> None:
        """The phase `resolve` is exported from now on."""
        self._phases = ("resolve", *self._phases)

    def begin_request(self) -> None:
        """The other phases are exported from now on."""
        self._phases = (*self._phases, "connect", "tls", "processing", "transfer")

    def export_phases(self, attempt: Attempt) -> None:
        """Export what each phase took; those that were not reached took no time."""
        phases = self._phases
        if "resolve" in attempt.phases and "resolve" not in phases and phases:
            phases = ("resolve", *phases)  # of a redirect, where the target itself was left to a proxy
        if "resolve" in phases and "resolve" not in attempt.phases:  # it failed: that took its time too
            attempt.phases["resolve"] = self.metrics.value("probe_dns_lookup_time_seconds") or 0.0
        for phase in phases:
            self.durations.set(attempt.phases.get(phase, 0.0), phase)

    def export_head(self, answer: Answer, connection: Connection) -> None:
        """Export what the head of the last answer says."""
        self.status.set(float(answer.status))
        self.content_length.set(float(answer.content_length))
        self.version.set(answer.version)
        date = answer.header("Last-Modified") or ""
        modified = unix_time(date) if len(date) <= _DATE_LENGTH_MAX else None
        if modified is not None:
            self.metrics.gauge(
                "probe_http_last_modified_timestamp_seconds",
                "Returns the Last-Modified HTTP response header in unixtime",
                float(int(modified)),
            )
        if connection.tls is not None:
            self.ssl.set(1.0)
            export_tls(self.metrics, connection, with_cipher=True)


async def judge(
    options: HttpProbe,
    session: Session,
    metrics: AnswerMetrics,
    answer: Answer,
    connection: Connection,
    *,
    unread: bool,
) -> None:
    """Hold the answer against what the module wants. What is wrong goes to the session; everything is looked at and
    exported all the same, as far as the original does.
    """
    started = time.perf_counter()
    metrics.export_head(answer, connection)
    session.attempt.operation = Operation.VALIDATE
    if not _status_is_valid(answer.status, options):
        wanted = " or ".join(map(str, options.valid_status_codes)) or "2xx"
        session.found_wrong(Failure.HTTP_STATUS, f"Invalid HTTP response status code {answer.status}, wanted {wanted}")
    if session.fault is None and (options.fail_if_header_matches or options.fail_if_header_not_matches):
        reason = _headers_are_wrong(answer, options)
        metrics.by_regex.set(float(reason is not None))
        if reason is not None:
            session.found_wrong(Failure.HTTP_HEADER, reason)
    try:
        await _judge_body(options, session, metrics, answer, unread=unread)
    finally:  # also of a body that was cut off, or never looked at
        session.attempt.phases["transfer"] = time.perf_counter() - started
    _judge_protocol(options, session, answer, connection)


def _status_is_valid(status: int, options: HttpProbe) -> bool:
    return status in options.valid_status_codes if options.valid_status_codes else 200 <= status < 300


def _headers_are_wrong(answer: Answer, options: HttpProbe) -> str | None:
    """Why the headers are not the wanted ones; None if they are."""
    for wanted, spec in (
        *((False, spec) for spec in options.fail_if_header_matches),
        *((True, spec) for spec in options.fail_if_header_not_matches),
    ):
        values = answer.headers(spec.header)
        if not values:
            if not spec.allow_missing:
                return f"Missing required header {spec.header}"
        elif _any_matches(spec, values) != wanted:
            return f"Header {spec.header} {'did not match' if wanted else 'matched'} regular expression {spec.regexp}"
    return None


def _any_matches(spec: HeaderMatch, values: list[str]) -> bool:
    assert spec.regexp is not None
    return any(map(spec.regexp.search, values))


async def _judge_body(
    options: HttpProbe, session: Session, metrics: AnswerMetrics, answer: Answer, *, unread: bool
) -> None:
    regexes = bool(options.fail_if_body_matches_regexp or options.fail_if_body_not_matches_regexp)
    cel = bool(options.fail_if_body_json_matches_cel or options.fail_if_body_json_not_matches_cel)
    wanted = session.fault is None and (regexes or cel)
    before = session.fault
    content: bytes | None = None
    if unread:
        if wanted or (options.compression not in ("", "identity") and before is None):
            session.found_wrong(Failure.HTTP_REDIRECT, "a redirect that is not followed has no body to look at")
    else:
        content = await _read(options, session, metrics, answer, keep=wanted)
    if not wanted:
        return
    complete = content if session.fault is before else None  # what is not whole is not looked at
    session.attempt.operation = Operation.VALIDATE
    if regexes:
        reason = "the body cannot be read" if complete is None else _body_is_wrong(complete, options)
        metrics.by_regex.set(float(reason is not None))
        if reason is not None:
            session.found_wrong(Failure.HTTP_BODY, reason)
    if cel and (session.fault is before or not regexes):
        reason = "the body cannot be read" if complete is None else _cel_is_wrong(complete, options)
        metrics.by_cel.set(float(reason is not None))
        if reason is not None:
            session.found_wrong(Failure.HTTP_BODY, reason)


async def _read(options: HttpProbe, session: Session, metrics: AnswerMetrics, answer: Answer, *, keep: bool) -> bytes:
    """Read the body to its end, and decode it. What goes wrong is found wrong."""
    limit = options.body_size_limit
    content = bytearray()
    count = breath = 0
    compression = options.compression if options.compression != "identity" else ""
    decoder = Decoder(compression)
    session.attempt.operation = Operation.RECEIVE
    try:
        async for piece in answer.pieces():
            for part in decoder.feed(piece):
                count += len(part)
                if limit and count > limit:
                    count = limit
                    raise NotDecodable(f"the body is larger than body_size_limit ({limit} octets)")
                if keep:
                    content += part
                if len(content) > CONTENT_SIZE_MAX or count > DECODED_SIZE_MAX:
                    raise NotDecodable(f"the body is too large: {count} octets and more")
                if count - breath > _BREATH:
                    breath = count
                    await asyncio.sleep(0)
        decoder.finish()
    except NotDecodable as error:
        session.found_wrong(Failure.HTTP_BODY, f"Failed to read HTTP response body: {error}")
    except ProbeFailure as failure:
        session.found_wrong(failure.failure, f"Failed to read HTTP response body: {failure.detail}", failure.operation)
    finally:
        metrics.body_length.set(float(count))
    return bytes(content)


def _body_is_wrong(content: bytes, options: HttpProbe) -> str | None:
    for regex in options.fail_if_body_matches_regexp:
        if regex.find(content) is not None:
            return f"Body matched regular expression {regex}"
    for regex in options.fail_if_body_not_matches_regexp:
        if regex.find(content) is None:
            return f"Body did not match regular expression {regex}"
    return None


def _cel_is_wrong(content: bytes, options: HttpProbe) -> str | None:
    try:
        body = json_body(content)
        programs: tuple[tuple[bool, CelProgram | None], ...] = (
            (False, options.fail_if_body_json_matches_cel),
            (True, options.fail_if_body_json_not_matches_cel),
        )
        for wanted, program in programs:
            if program is not None and program.matches(body) != wanted:
                return f"Body {'did not match' if wanted else 'matched'} CEL expression {program}"
    except CelError as error:
        return f"CEL: {error}"
    return None


def _judge_protocol(options: HttpProbe, session: Session, answer: Answer, connection: Connection) -> None:
    spoken = f"HTTP/{answer.version:.1f}"
    if options.valid_http_versions and spoken not in options.valid_http_versions:
        session.found_wrong(Failure.UNEXPECTED_REPLY, f"Invalid HTTP version number {spoken}")
    if connection.tls is not None and options.fail_if_ssl:
        session.found_wrong(Failure.UNEXPECTED_REPLY, "Final request was over SSL")
    if connection.tls is None and options.fail_if_not_ssl and session.fault is None:
        session.found_wrong(Failure.UNEXPECTED_REPLY, "Final request was not over SSL")
