"""DNS records as the original's library prints them: what regular expressions are written for.

dnspython prints most of them the same; the rest is here.
"""

from __future__ import annotations

from typing import Any, Final

import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdatatype import RdataType

_IN_CAPITALS: Final = frozenset({RdataType.DS, RdataType.CDS, RdataType.DLV, RdataType.SSHFP})


def record_text(rrset: dns.rrset.RRset) -> str:
    """One record: owner, TTL, class, type and data, between tabs."""
    rdata = rrset[0]
    if rrset.rdtype == RdataType.LOC:
        text = _location(rdata)
    else:
        text = rdata.to_text(chunksize=0)  # base64 in one piece
        if rrset.rdtype in _IN_CAPITALS:
            head, _, digest = text.rpartition(" ")
            text = f"{head} {digest.upper()}"
    rdclass = dns.rdataclass.to_text(rrset.rdclass)
    return f"{rrset.name}\t{rrset.ttl}\t{rdclass}\t{dns.rdatatype.to_text(rrset.rdtype)}\t{text}"


def _location(rdata: Any) -> str:
    """A LOC record (RFC 1876): two digits of degrees and minutes, no more decimals of metres than needed."""
    parts = []
    for (degrees, minutes, seconds, thousandths, sign), letters in ((rdata.latitude, "NS"), (rdata.longitude, "EW")):
        parts.append(f"{degrees:02d} {minutes:02d} {seconds}.{thousandths:03d} {letters[sign < 0]}")
    altitude = int(rdata.altitude)
    parts.append(f"{altitude // 100}m" if altitude % 100 == 0 else f"{altitude / 100:.2f}m")
    sizes = (rdata.size, rdata.horizontal_precision, rdata.vertical_precision)
    return " ".join([*parts, *(f"{_metres(int(centimetres))}m" for centimetres in sizes)])


def _metres(centimetres: int) -> str:
    return str(centimetres // 100) if centimetres >= 100 else f"0.{centimetres:02d}"
