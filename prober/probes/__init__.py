"""The kinds of probe. A new kind is one file in this package and one line in this table."""

from __future__ import annotations

from typing import Final

from prober.contract import Kind
from prober.probes import dns, http, icmp, tcp

PROBES: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        icmp.KIND,
        dns.KIND,
        http.KIND,
        tcp.KIND,
    )
}
