"""What to look at next when a probe has failed: one hint for each failure, for `prober probe`. Hints, no verdicts."""

from __future__ import annotations

from typing import Final

from prober.failures import Failure

HINTS: Final[dict[Failure, str]] = {
    Failure.NETWORK_UNREACHABLE: "look at this host's routes: ip route get ADDRESS",
    Failure.PERMISSION_DENIED: "for pings: sysctl net.ipv4.ping_group_range, or CAP_NET_RAW; else a local firewall",
    Failure.ADDRESS_UNAVAILABLE: "compare the check's source address with: ip address",
    Failure.FAMILY_UNAVAILABLE: "this host lacks IPv6 (or IPv4): choose the other with ip_version",
    Failure.DESCRIPTORS_EXHAUSTED: "raise the limit (ulimit -n), or lower limits.concurrency",
    Failure.BUFFERS_EXHAUSTED: "raise net.core.rmem_max, or lower limits.packets_per_second",
    Failure.MESSAGE_TOO_LONG: "make the packet smaller than the interface's MTU: ip link",
    Failure.LOOP_STALLED: "this machine is short of CPU; probe again when it is not",
    Failure.RESOLVER_UNREACHABLE: "look at /etc/resolv.conf, and whether that server runs",
    Failure.OPTED_OUT: "somebody asked not to be probed; the opt_out list of the settings names it",
    Failure.NOT_ALLOWED: "add it to probe_endpoint.allow, if it is yours to probe",
    Failure.BAD_TARGET: "compare the target with what the module's prober takes",
    Failure.INTERNAL_ERROR: "please report it, with the log of: prober probe ... --json",
    Failure.RESOLVER_TIMEOUT: "try another name: if that works, the name servers of this one are slow or gone",
    Failure.RESOLVER_SERVFAIL: "the name servers behind it may be down or their DNSSEC broken; ask them directly: dns://",
    Failure.RESOLVER_REFUSED: "this resolver does not serve us: look at /etc/resolv.conf",
    Failure.RESOLVER_MALFORMED: "something between here and the resolver answers in its place",
    Failure.NXDOMAIN: "check the spelling; if it is right, ask the zone's own name servers: dns://SERVER/NAME",
    Failure.NO_ADDRESS: "ask for the other family: ip_version 4 or 6",
    Failure.TIMEOUT: "try from another network, and other kinds: icmp, tcp, http; a firewall may drop just this one",
    Failure.REFUSED: "the host is up: is the service running, on this port and address?",
    Failure.RESET: "a firewall on the path or the service itself cut it; try without TLS, or another port",
    Failure.CLOSED: "the service hung up: its own log may say why; is this the right protocol for the port?",
    Failure.UNREACHABLE: "a router on the way knows no route on: mtr ADDRESS shows how far packets get",
    Failure.PROHIBITED: "a filter on the way says no; try from another network",
    Failure.TTL_EXCEEDED: "packets go round in a circle, or the ttl of the check is too small: mtr ADDRESS",
    Failure.FRAGMENTATION_NEEDED: "send less than the path takes, or allow fragments",
    Failure.PARAMETER_PROBLEM: "something on the way rewrites packets: compare from another network",
    Failure.TLS_HANDSHAKE: "does the port speak TLS, and a version of it that is still allowed?",
    Failure.CERTIFICATE_EXPIRED: "whoever runs it must renew it; check this host's clock too: date -u",
    Failure.CERTIFICATE_NOT_YET_VALID: "check this host's clock: date -u",
    Failure.CERTIFICATE_WRONG_HOST: "compare the names in the certificate with the one that was asked for",
    Failure.CERTIFICATE_UNKNOWN_ISSUER: "a private CA, a missing intermediate, or somebody in the middle",
    Failure.CERTIFICATE_INVALID: "look at the chain: openssl s_client -showcerts -connect HOST:PORT",
    Failure.MALFORMED: "is this the right protocol for the port? Something on the path may answer in its place",
    Failure.TRUNCATED: "ask over TCP: transport: tcp",
    Failure.INJECTED: "compare both answers with what another network sees",
    Failure.DNS_RCODE: "ask another server of the zone, and compare: dns://SERVER/NAME?type=SOA",
    Failure.DNS_ANSWER: "compare with expect: in the targets file; is the record new, or the answer forged?",
    Failure.HTTP_STATUS: "the server is up and answers this; see its body, or allow the status in expect:",
    Failure.HTTP_HEADER: "compare the headers with expect: in the targets file",
    Failure.HTTP_BODY: "the page has changed, or it is another one (an error, a block page): open it and look",
    Failure.HTTP_REDIRECT: "follow it by hand, step by step, with --json",
    Failure.UNEXPECTED_REPLY: "compare what came with what the check expects",
}
