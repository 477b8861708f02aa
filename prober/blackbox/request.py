"""What a request to /probe says: the original's rules, and what no honest request holds."""

from __future__ import annotations

import json
import math
import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from prober.blackbox.modules import Module
from prober.blackbox.policy import INVALID_HOSTNAME, INVALID_TARGET, Refusal
from prober.net.names import check_host

SCRAPE_SECONDS: Final = 120.0
"""For who does not say how long it waits, as in the original; and the most that a module without a timeout is given."""
ANSWER_SECONDS: Final = 0.5
"""Of the scrape's timeout, left for the answer to get there."""
TARGET_LENGTH_MAX: Final = 2048
_NUMBER: Final = re.compile(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?\Z")


def host_of(module: Module, target: str) -> str | None:
    """The host that a target names, without brackets and zone; None for what is no host (a unix socket, nonsense).

    It is asked for the budgets and before a name is resolved; what is connected to, the guard sees for itself.
    """
    if module.prober == "unix":
        return None
    if module.prober == "icmp":
        return target
    is_url = module.prober in ("http", "websocket") and "://" in target
    try:
        return urlsplit(target if is_url else f"//{target}").hostname
    except ValueError:
        return None


def patience_of(header: str | None) -> float:
    """How long the client waits, in seconds. Raises ValueError."""
    if not header:
        return SCRAPE_SECONDS
    try:
        seconds = float(header) if _NUMBER.match(header) else math.nan
    except ValueError:  # a number of many points
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError(f"parsing {json.dumps(header[:40])}: invalid syntax")
    return seconds or SCRAPE_SECONDS


def timeout_of(patience: float, module_seconds: float) -> float:
    """How long the probe may take: the original's rule."""
    most = patience - ANSWER_SECONDS
    if 0 < module_seconds < most or most < 0:
        return module_seconds
    return min(most, SCRAPE_SECONDS - ANSWER_SECONDS) if not module_seconds else most


def malformed(target: str, hostname: str) -> Refusal | None:
    """What is wrong with the texts themselves: whoever sends line breaks wants to write headers of their own."""
    if len(target) > TARGET_LENGTH_MAX:
        return Refusal(INVALID_TARGET, f"the target has more than {TARGET_LENGTH_MAX} characters")
    if _has_controls(target):
        return Refusal(INVALID_TARGET, "the target holds a control character")
    if not hostname:
        return None
    if _has_controls(hostname):
        return Refusal(INVALID_HOSTNAME, "the hostname holds a control character")
    host, colon, port = hostname.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and len(port) <= 5):
        host = hostname
    try:
        check_host(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    except ValueError:
        return Refusal(INVALID_HOSTNAME, "the hostname is no host name, with or without a port")
    return None


def _has_controls(text: str) -> bool:
    return any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or c in "\u2028\u2029" for c in text)


def without_password(target: str) -> str:
    """A target as it is shown: the credentials of a URL hidden."""
    if "@" not in target:
        return target
    prefix = "" if "://" in target else "//"
    try:
        parts = urlsplit(prefix + target)
    except ValueError:
        return "<secret>@" + target.rpartition("@")[2]
    if "@" not in parts.netloc:
        return target
    hidden = urlunsplit(parts._replace(netloc=f"<secret>@{parts.netloc.rpartition('@')[2]}"))
    return hidden.removeprefix(prefix)
