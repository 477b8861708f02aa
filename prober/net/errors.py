"""What an errno means in the closed vocabulary: one table for every kind of probe.

The same number says different things according to who reports it. ENETUNREACH raised at once by our own connect() or
send() is our routing table speaking; the same number delivered later to the socket is an ICMP message from the network
(Linux: icmp(7), ip(7) IP_RECVERR; RFC 792, RFC 4443).
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from prober.failures import Failure

# The host lacks something, whoever reports it and whenever.
_OURS: Final[dict[int, Failure]] = {
    errno.EPERM: Failure.PERMISSION_DENIED,  # also a packet filter's drop in this host's output chain
    errno.EMFILE: Failure.DESCRIPTORS_EXHAUSTED,
    errno.ENFILE: Failure.DESCRIPTORS_EXHAUSTED,
    errno.ENOBUFS: Failure.BUFFERS_EXHAUSTED,
    errno.ENOMEM: Failure.BUFFERS_EXHAUSTED,
    errno.EAGAIN: Failure.BUFFERS_EXHAUSTED,  # the send buffer is full, or all ephemeral ports are taken
    errno.EADDRNOTAVAIL: Failure.ADDRESS_UNAVAILABLE,
    errno.EADDRINUSE: Failure.ADDRESS_UNAVAILABLE,
    errno.EAFNOSUPPORT: Failure.FAMILY_UNAVAILABLE,
    errno.EPFNOSUPPORT: Failure.FAMILY_UNAVAILABLE,
    errno.EPROTONOSUPPORT: Failure.FAMILY_UNAVAILABLE,
    errno.ESOCKTNOSUPPORT: Failure.FAMILY_UNAVAILABLE,
    errno.ENETDOWN: Failure.NETWORK_UNREACHABLE,
    errno.ENODEV: Failure.NETWORK_UNREACHABLE,
}

# Only the other end, or the path to it, can cause these.
_THEIRS: Final[dict[int, Failure]] = {
    errno.ECONNREFUSED: Failure.REFUSED,
    errno.ECONNRESET: Failure.RESET,
    errno.ECONNABORTED: Failure.RESET,
    errno.EPIPE: Failure.RESET,
    errno.ETIMEDOUT: Failure.TIMEOUT,
    errno.EPROTO: Failure.PARAMETER_PROBLEM,
    errno.ENOPROTOOPT: Failure.UNREACHABLE,  # ICMP protocol unreachable
    errno.EHOSTDOWN: Failure.UNREACHABLE,  # ICMP host unknown
    errno.ENONET: Failure.UNREACHABLE,  # ICMP host isolated
}

# These depend on who reports them: (raised by our own call, reported by the network).
_EITHER: Final[dict[int, tuple[Failure, Failure]]] = {
    errno.ENETUNREACH: (Failure.NETWORK_UNREACHABLE, Failure.UNREACHABLE),
    errno.EHOSTUNREACH: (Failure.NETWORK_UNREACHABLE, Failure.UNREACHABLE),  # ours: a route of type unreachable
    errno.EACCES: (Failure.PERMISSION_DENIED, Failure.PROHIBITED),  # ours: also a route of type prohibit
    errno.EMSGSIZE: (Failure.MESSAGE_TOO_LONG, Failure.FRAGMENTATION_NEEDED),
    # connect() says EINVAL for a route of type blackhole, and for a source address that may not leave by the route.
    errno.EINVAL: (Failure.NETWORK_UNREACHABLE, Failure.INTERNAL_ERROR),
}


def failure_of_oserror(exc: OSError, *, local: bool) -> Failure:
    """The failure that `exc` stands for.

    `local`: raised synchronously by our own socket(), bind(), connect() or send(), so that it tells of this host. Not
    local: the outcome of a connect() under way (SO_ERROR), or an error of a socket in use. An errno that is in no table
    is INTERNAL_ERROR: better an unknown than a wrong verdict. TLS errors are OSErrors too and do not belong here.
    """
    if isinstance(exc, socket.gaierror):  # of an address literal: its zone (fe80::1%eth9) names no interface
        return Failure.NETWORK_UNREACHABLE
    number = exc.errno
    if number is None:
        return Failure.TIMEOUT if isinstance(exc, TimeoutError) else Failure.INTERNAL_ERROR
    if either := _EITHER.get(number):
        return either[0] if local else either[1]
    return _OURS.get(number) or _THEIRS.get(number) or Failure.INTERNAL_ERROR
