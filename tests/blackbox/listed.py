"""The differences that remain, as docs/blackbox.md lists them: which cases show them, and in which metrics.

A case that is named here must differ from the recorded 0.28 in exactly these metrics; any other case must not differ at
all. So the list can neither hide a difference nor outlive it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_SIZES: Final = frozenset({"probe_http_content_length", "probe_http_uncompressed_body_length"})
_PHASES: Final = frozenset({"probe_http_duration_seconds"})
_ADDRESS: Final = frozenset({"probe_ip_addr_hash", "probe_ip_protocol"})
_SUCCESS: Final = frozenset({"probe_success"})
_ANSWER: Final = _SIZES | _PHASES | _SUCCESS | {"probe_http_status_code", "probe_http_version"}
_TLS: Final = frozenset(
    {
        "probe_ssl_earliest_cert_expiry",
        "probe_ssl_last_chain_expiry_timestamp_seconds",
        "probe_ssl_last_chain_info",
        "probe_tls_version_info",
    }
)
_HTTPS: Final = _ANSWER | _TLS | {"probe_http_ssl", "probe_tls_cipher_info"}
_DNS_ANSWER: Final = _SUCCESS | {"probe_dns_query_succeeded"}
_GRPC: Final = _SUCCESS | {"probe_grpc_healthcheck_response"}
_CA: Final = "http_custom_ca_example https://"
_HERE: Final = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class Listed:
    """`name` is how docs/blackbox.md calls it; `cases` differ, each in exactly `metrics`."""

    name: str
    metrics: frozenset[str]
    cases: tuple[str, ...]


LISTED: Final = (
    Listed("user-agent", _SIZES, (f"http_2xx {_HERE}/agent",)),
    Listed("cipher", frozenset({"probe_tls_cipher_info"}), (f"{_CA}good.example:8452/",)),
    Listed(
        "bad-target",
        _PHASES | _ADDRESS | {"probe_dns_lookup_time_seconds"},
        (
            "http_2xx http://",
            "http_2xx http:///ok",
            "http_2xx //127.0.0.1:8080/ok",
            "http_2xx http://127.0.0.1:99999/ok",
        ),
    ),
    Listed(
        "icmp-address",
        frozenset({"probe_duration_seconds", "probe_icmp_duration_seconds"}),
        ("icmp_impatient 0.0.0.0", "icmp_impatient 224.0.0.1"),
    ),
    Listed("scheme-case", _HTTPS | _ADDRESS, ("http_custom_ca_example HTTPS://good.example:8443/",)),
    Listed("idn", _ANSWER | _ADDRESS, ("http_2xx http://münchen.example:8080/host",)),
    Listed(
        "percent-encoding",
        _SIZES,
        (f"http_2xx {_HERE}/target?조선=a|b", f"http_2xx {_HERE}/to-space", f"http_2xx {_HERE}/to-latin"),
    ),
    Listed("unread-files", _ANSWER, (f"http_ca_missing {_HERE}/ok",)),
    Listed("unread-files", _PHASES, ("http_ca_missing https://good.example:8443/",)),
    Listed("body-file-length", _SIZES, (f"http_post_body_file {_HERE}/echo",)),
    Listed(
        "body-bound",
        _SIZES - {"probe_http_content_length"} | _SUCCESS | {"probe_failed_due_to_regex"},
        (f"http_body {_HERE}/flood",),
    ),
    Listed("cel-after-regex", _SUCCESS | {"probe_failed_due_to_cel"}, (f"cel_after_regex {_HERE}/json",)),
    Listed(
        "icmp-errors",
        frozenset({"probe_duration_seconds"}),
        (
            "icmp_ttl_1 198.51.100.1",
            "icmp_ttl_1 2001:db8:2::1",
            "icmp_impatient 203.0.113.9",
            "icmp_impatient 198.51.100.9",
        ),
    ),
    Listed(
        "dns-forged",
        _DNS_ANSWER,
        ("dns_other_question 127.0.0.1:5302", "dns_query 127.0.0.1:5302", "dns_lies 127.0.0.1:5302"),
    ),
    Listed("grpc-fallback", _GRPC | _ADDRESS | {"probe_grpc_duration_seconds"}, ("grpc_bare 127.0.0.1:9001",)),
    Listed(
        "grpc-ipv6",
        _GRPC | {"probe_duration_seconds", "probe_grpc_status_code"},
        ("grpc [::1]:9001", "grpc_bare [::1]:9001"),
    ),
)


@dataclass(frozen=True)
class Changed:
    """What the original itself changed between 0.23 and 0.28, where prober is as 0.28 is."""

    name: str
    cases: str
    """A regular expression for the names of the cases."""
    metrics: frozenset[str]


CHANGED: Final = (
    Changed("tcp-regex-metric", "(tcp|tls_connect).*", frozenset({"probe_failed_due_to_regex"})),
    Changed("tcp-hostname", "tls_connect .* hostname=elsewhere.example", _TLS | _SUCCESS),
    Changed("grpc-tls-metrics", "grpc.*", frozenset({"probe_ssl_earliest_cert_expiry"})),
    Changed("subject-text", ".*:8449/?", frozenset({"probe_ssl_last_chain_info"})),
    Changed("redirect-content-type", "http_post_2xx .*/see-other|http_headers .*/to-echo", _SIZES),
    Changed("redirect-credentials", "http_(basic|bearer) .*/to-echo", _SIZES),
)


def changed(case: str) -> set[str]:
    """The metrics of this case in which 0.23 may differ from 0.28."""
    return {metric for change in CHANGED if re.fullmatch(change.cases, case) for metric in change.metrics}


def listed(case: str) -> set[str]:
    """The metrics of this case in which ours differ from the original's."""
    return {metric for difference in LISTED if case in difference.cases for metric in difference.metrics}
