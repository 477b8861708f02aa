"""The kind `http`: one request over a connection of its own, redirects followed, and what is expected of the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from prober.contract import Attempt, Direct, Done, FactSpec, Io, Kind, literal
from prober.failures import Failure, Operation
from prober.net.dial import TCP_FACTS, dial
from prober.net.drive import Drive, in_task
from prober.net.names import family_for
from prober.net.tls import TLS_FACTS, TlsOptions
from prober.net.url import HttpUrl
from prober.probes.http_options import HttpExpect, HttpOptions

if TYPE_CHECKING:
    from prober.net.http_client import Request, Response


_ALPN: Final = ("http/1.1",)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# What may be told to a server that the check's author did not name. Everything else may be a credential.
_HEADERS_FOR_ANYBODY: Final = frozenset({"user-agent", "accept", "accept-encoding", "accept-language"})
_DATE_LENGTH_MAX: Final = 40
_QUOTED_MAX: Final = 80  # characters of the answer that a log line repeats


async def probe(options: HttpOptions, attempt: Attempt, io: Io) -> None:
    """Ask, follow redirects, compare the last answer with what is expected."""
    await _pursue(_first(options, io), options, attempt, io)


def direct(options: HttpOptions, io: Io) -> Direct | None:
    """The same where the first request goes to a literal address, without TLS. What else needs a task will have one."""
    if options.target.secure or literal(options.address or options.target.host) is None:
        return None
    always = _first(options, io) if options.body is None else None  # bodies may be large, and are not kept twice

    def begin(attempt: Attempt, done: Done) -> Callable[[], None]:
        first = always or _first(options, io)
        return Drive(_pursue(first, options, attempt, io), attempt, done, io.meter).begin()

    return begin


def _first(options: HttpOptions, io: Io) -> Request:
    # Here and below: who only reads the options of http checks is spared aiohttp. The agent has it, to serve with.
    from prober.net.http_client import Request

    headers = _headers(options, options.target, io.user_agent)
    return Request(options.method, options.target, headers, None if options.body is None else options.body.encode())


async def _pursue(request: Request, options: HttpOptions, attempt: Attempt, io: Io) -> None:
    for followed in range(options.redirects + 1):
        attempt.facts["redirects"] = float(followed)
        following = await _ask(request, options, attempt, io)
        if following is None:
            return
        request = following
    attempt.fail(Failure.HTTP_REDIRECT, f"more than {options.redirects} redirects", Operation.VALIDATE)


async def _ask(request: Request, options: HttpOptions, attempt: Attempt, io: Io) -> Request | None:
    """Make one request; the one to make next if the answer is a redirect. Otherwise the answer is the expected one."""
    from prober.net.http_client import Response

    url = request.url
    of_check = url.host == options.target.host  # else somewhere a redirect led to
    host = options.address if options.address is not None and of_check else url.host
    if host != url.host:
        io.heed_opt_out(attempt, url.host)  # also where another address is to be connected to
    if url.secure or literal(host) is None:
        attempt.operation = Operation.PREPARE  # until it goes on; behind a redirect no longer what was done last
        await in_task(attempt)
    address = await io.locate(attempt, host, family_for(options.family, options.source))
    connection = await dial(
        attempt,
        address,
        url.port,
        source=options.source,
        tls=_tls(options.tls, of_check) if url.secure else None,
        server_name=url.host,
        alpn=_ALPN,
    )
    with connection:
        attempt.operation = Operation.SEND
        await connection.send(request.wire)
        response = Response(connection, attempt, request.method)
        with attempt.phase("processing", Operation.RECEIVE):
            await response.read_head()
        _record_head(attempt, url, response)
        following = _redirected(request, response, options, attempt, io.user_agent)
        if following is not None:
            return following
        with attempt.phase("transfer", Operation.RECEIVE):
            body = await response.read_body(options.body_limit)
    content = body.content()
    attempt.facts["body_length"] = float(len(content))
    attempt.facts["body_truncated"] = float(body.truncated)
    attempt.operation = Operation.VALIDATE
    _validate(options.expect, response, content, attempt)
    return None


def _tls(options: TlsOptions, of_check: bool) -> TlsOptions:
    """A name that was given for the check's host says nothing about another's certificate."""
    return options if of_check or options.server_name is None else options.model_copy(update={"server_name": None})


def _headers(options: HttpOptions, url: HttpUrl, user_agent: str) -> dict[str, str]:
    """What to send to `url`: our own, overridden by what the check's options say."""
    headers = {"host": ("Host", url.authority), "user-agent": ("User-Agent", user_agent), "accept": ("Accept", "*/*")}
    if options.compression is not None:
        headers["accept-encoding"] = ("Accept-Encoding", options.compression)
    same_origin = url.origin == options.target.origin
    for name, value in options.headers.items():
        if same_origin or name.lower() in _HEADERS_FOR_ANYBODY:
            headers[name.lower()] = (name, value)
    return dict(headers.values())


def _redirected(
    request: Request, response: Response, options: HttpOptions, attempt: Attempt, user_agent: str
) -> Request | None:
    """The request that a redirect asks for (RFC 9110 section 15.4), None if the answer is none that we follow."""
    if response.status not in _REDIRECTS or not options.redirects or options.expect.accepts(response.status):
        return None
    attempt.operation = Operation.VALIDATE
    location = response.header("Location")
    if location is None:
        attempt.fail(Failure.HTTP_REDIRECT, f"status {response.status} without a Location")
    try:
        url = request.url.join(location)
    except ValueError as error:
        attempt.fail(Failure.HTTP_REDIRECT, f"Location: {error}")
    method, body = request.method, request.body
    if (response.status == 303 and method != "HEAD") or (response.status in (301, 302) and method == "POST"):
        method, body = "GET", None
    if body is not None and url.origin != request.url.origin:
        attempt.fail(Failure.HTTP_REDIRECT, f"it would take the request's body to {url.origin}")
    return replace(request, method=method, url=url, headers=_headers(options, url, user_agent), body=body)


def _record_head(attempt: Attempt, url: HttpUrl, response: Response) -> None:
    facts = attempt.facts
    facts["status_code"] = float(response.status)
    facts["ssl"] = float(url.secure)
    facts["version"] = response.version
    length = response.header("Content-Length")
    if length is not None and length.isdecimal():
        facts["content_length"] = float(length)
    date = response.header("Last-Modified") or ""
    modified = unix_time(date) if len(date) <= _DATE_LENGTH_MAX else None
    if modified is not None:
        facts["last_modified"] = modified


@lru_cache(maxsize=1024)  # the same few dates are seen every minute
def unix_time(date: str) -> float | None:
    """Seconds since 1970 of an HTTP date, None if it is none (RFC 9110 section 5.6.7)."""
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _validate(expect: HttpExpect, response: Response, content: bytes, attempt: Attempt) -> None:
    if not expect.accepts(response.status):
        attempt.fail(Failure.HTTP_STATUS, f"status {response.status}")
    for name, wanted in expect.headers.items():
        values = response.headers(name)
        if not any(map(wanted.search, values)):
            what = repr(", ".join(values)[:_QUOTED_MAX]) if values else "no such header"
            attempt.fail(Failure.HTTP_HEADER, f"{name} does not match: {what}")
    if expect.body is not None and not expect.body.search(content):
        begin = f", which begin {content[:_QUOTED_MAX]!r}" if content else ""
        attempt.fail(Failure.HTTP_BODY, f"body not found in the {len(content)} octets read{begin}")
    if expect.body_not is not None and expect.body_not.search(content):
        attempt.fail(Failure.HTTP_BODY, f"body_not found in the {len(content)} octets read")


def from_url(url: str) -> Mapping[str, object] | None:
    """`http://...` and `https://...`, for `prober probe`."""
    return {"url": url} if url.lower().startswith(("http://", "https://")) else None


KIND = Kind(
    name="http",
    options=HttpOptions,
    probe=probe,
    host=lambda options: str(options.address or options.target.host),
    phase_metric="probe_http_duration_seconds",
    phases=("resolve", "connect", "tls", "processing", "transfer"),
    facts=(
        FactSpec("status_code", "probe_http_status_code", "HTTP status of the last answer"),
        FactSpec("redirects", "probe_http_redirects", "How many redirects were followed"),
        FactSpec("ssl", "probe_http_ssl", "Whether the last answer came over TLS"),
        FactSpec("version", "probe_http_version", "HTTP version of the last answer"),
        FactSpec("content_length", "probe_http_content_length", "Length of the body as its header says, octets"),
        FactSpec(
            "body_length",
            "probe_http_uncompressed_body_length",
            "Length of the body as it was read, decompressed, octets",
        ),
        FactSpec("body_truncated", "probe_http_body_truncated", "Whether the body was longer than is read of it"),
        FactSpec(
            "last_modified", "probe_http_last_modified_timestamp_seconds", "When the page was changed last, Unix time"
        ),
        *TCP_FACTS,
        *TLS_FACTS,
    ),
    packets=lambda _options: 1,
    holds_descriptor=True,
    direct=direct,
    from_url=from_url,
)
