"""The closed vocabulary of what can go wrong: an operation that failed, and how.

Raw error text belongs in the log; everything that is counted, exported or judged uses these words. The idea of a closed
vocabulary with the operation beside it is OONI's (spec df-007-errors).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Operation(StrEnum):
    """What the probe was doing when it failed."""

    PREPARE = "prepare"  # opening sockets, binding a source address, building the message
    RESOLVE = "resolve"  # turning a name into an address with the vantage's resolver
    CONNECT = "connect"
    TLS = "tls"
    SEND = "send"
    RECEIVE = "receive"
    VALIDATE = "validate"  # an answer came and it is not the one that was expected


class Side(StrEnum):
    """Whose trouble a failure is, as far as the failure alone can tell."""

    OURS = "ours"  # this vantage: says nothing about the target
    RESOLVER = "resolver"  # the vantage's resolver or the target's name servers: only the judge can tell
    TARGET = "target"  # the target or the path to it


class Failure(StrEnum):
    """How it failed. `FAILURES` says whose trouble each one is and what it means."""

    # our own side
    NETWORK_UNREACHABLE = "network_unreachable"
    PERMISSION_DENIED = "permission_denied"
    ADDRESS_UNAVAILABLE = "address_unavailable"
    FAMILY_UNAVAILABLE = "family_unavailable"
    DESCRIPTORS_EXHAUSTED = "descriptors_exhausted"
    BUFFERS_EXHAUSTED = "buffers_exhausted"
    MESSAGE_TOO_LONG = "message_too_long"
    LOOP_STALLED = "loop_stalled"
    RESOLVER_UNREACHABLE = "resolver_unreachable"
    OPTED_OUT = "opted_out"
    NOT_ALLOWED = "not_allowed"
    BAD_TARGET = "bad_target"
    INTERNAL_ERROR = "internal_error"
    # the vantage's resolver, or the name servers behind it
    RESOLVER_TIMEOUT = "resolver_timeout"
    RESOLVER_SERVFAIL = "resolver_servfail"
    RESOLVER_REFUSED = "resolver_refused"
    RESOLVER_MALFORMED = "resolver_malformed"
    NXDOMAIN = "nxdomain"
    NO_ADDRESS = "no_address"
    # the target, or the path to it
    TIMEOUT = "timeout"
    REFUSED = "refused"
    RESET = "reset"
    CLOSED = "closed"
    UNREACHABLE = "unreachable"
    PROHIBITED = "prohibited"
    TTL_EXCEEDED = "ttl_exceeded"
    FRAGMENTATION_NEEDED = "fragmentation_needed"
    PARAMETER_PROBLEM = "parameter_problem"
    TLS_HANDSHAKE = "tls_handshake"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid"
    CERTIFICATE_WRONG_HOST = "certificate_wrong_host"
    CERTIFICATE_UNKNOWN_ISSUER = "certificate_unknown_issuer"
    CERTIFICATE_INVALID = "certificate_invalid"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    INJECTED = "injected"
    DNS_RCODE = "dns_rcode"
    DNS_ANSWER = "dns_answer"
    HTTP_STATUS = "http_status"
    HTTP_HEADER = "http_header"
    HTTP_BODY = "http_body"
    HTTP_REDIRECT = "http_redirect"
    UNEXPECTED_REPLY = "unexpected_reply"


FAILURES: Final[dict[Failure, tuple[Side, str]]] = {
    Failure.NETWORK_UNREACHABLE: (Side.OURS, "this vantage has no route to the address"),
    Failure.PERMISSION_DENIED: (Side.OURS, "this host does not let us open the socket or send the packet"),
    Failure.ADDRESS_UNAVAILABLE: (Side.OURS, "the source address is not on this host"),
    Failure.FAMILY_UNAVAILABLE: (Side.OURS, "this host has no support for the address family"),
    Failure.DESCRIPTORS_EXHAUSTED: (Side.OURS, "this process or host is out of file descriptors"),
    Failure.BUFFERS_EXHAUSTED: (Side.OURS, "this host ran out of socket buffers; replies may have been dropped here"),
    Failure.MESSAGE_TOO_LONG: (Side.OURS, "the packet does not fit the interface of this host"),
    Failure.LOOP_STALLED: (Side.OURS, "the agent itself stood still for too long to tell"),
    Failure.RESOLVER_UNREACHABLE: (Side.OURS, "nothing listens at the vantage's resolver, or none is configured"),
    Failure.OPTED_OUT: (Side.OURS, "the address is on the opt-out list: no packet was sent"),
    Failure.NOT_ALLOWED: (Side.OURS, "what may be probed through /probe does not include it: no packet was sent"),
    Failure.BAD_TARGET: (Side.OURS, "the module cannot probe such a target: it is no host, URL or path"),
    Failure.INTERNAL_ERROR: (Side.OURS, "a defect of the agent; the log has the cause"),
    Failure.RESOLVER_TIMEOUT: (Side.RESOLVER, "the vantage's resolver did not answer in time"),
    Failure.RESOLVER_SERVFAIL: (Side.RESOLVER, "the vantage's resolver answered SERVFAIL"),
    Failure.RESOLVER_REFUSED: (Side.RESOLVER, "the vantage's resolver refused the question"),
    Failure.RESOLVER_MALFORMED: (Side.RESOLVER, "the vantage's resolver answered something that is not DNS"),
    Failure.NXDOMAIN: (Side.RESOLVER, "the name does not exist"),
    Failure.NO_ADDRESS: (Side.RESOLVER, "the name exists and has no address of the wanted family"),
    Failure.TIMEOUT: (Side.TARGET, "no answer in time"),
    Failure.REFUSED: (Side.TARGET, "the host is there and refuses (TCP reset, or ICMP port unreachable)"),
    Failure.RESET: (Side.TARGET, "the connection was reset in use"),
    Failure.CLOSED: (Side.TARGET, "the connection was closed before the answer was complete"),
    Failure.UNREACHABLE: (Side.TARGET, "a router or host reported the destination unreachable"),
    Failure.PROHIBITED: (Side.TARGET, "a router or host reported the traffic administratively prohibited"),
    Failure.TTL_EXCEEDED: (Side.TARGET, "a router reported that the TTL ran out"),
    Failure.FRAGMENTATION_NEEDED: (Side.TARGET, "a router reported the packet too big to pass unfragmented"),
    Failure.PARAMETER_PROBLEM: (Side.TARGET, "a router or host could not understand the packet's header"),
    Failure.TLS_HANDSHAKE: (Side.TARGET, "the TLS handshake failed"),
    Failure.CERTIFICATE_EXPIRED: (Side.TARGET, "the certificate has expired"),
    Failure.CERTIFICATE_NOT_YET_VALID: (Side.TARGET, "the certificate is not valid yet"),
    Failure.CERTIFICATE_WRONG_HOST: (Side.TARGET, "the certificate is for another name"),
    Failure.CERTIFICATE_UNKNOWN_ISSUER: (Side.TARGET, "the certificate's issuer is not trusted here"),
    Failure.CERTIFICATE_INVALID: (Side.TARGET, "the certificate does not verify for another reason"),
    Failure.MALFORMED: (Side.TARGET, "the answer is not well-formed in its protocol"),
    Failure.TRUNCATED: (Side.TARGET, "the DNS answer was truncated and could not be had whole"),
    Failure.INJECTED: (Side.TARGET, "two different answers to one DNS query: somebody on the path injects"),
    Failure.DNS_RCODE: (Side.TARGET, "the DNS response code is not an expected one"),
    Failure.DNS_ANSWER: (Side.TARGET, "the DNS answer is not the expected one"),
    Failure.HTTP_STATUS: (Side.TARGET, "the HTTP status is not an expected one"),
    Failure.HTTP_HEADER: (Side.TARGET, "an HTTP header is not as expected"),
    Failure.HTTP_BODY: (Side.TARGET, "the HTTP body is not as expected"),
    Failure.HTTP_REDIRECT: (Side.TARGET, "too many redirects, or one that leads nowhere"),
    Failure.UNEXPECTED_REPLY: (Side.TARGET, "the reply is not the expected one"),
}


def side_of(failure: Failure) -> Side:
    """Whose trouble `failure` is, as far as it alone can tell."""
    return FAILURES[failure][0]
