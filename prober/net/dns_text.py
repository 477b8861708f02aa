"""DNS types, classes, response codes and data as people write them. Errors are ValueErrors that say what to write."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

import dns.exception
import dns.name
import dns.rdata
from dns.rcode import Rcode
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

# Asked by name servers of each other, or answered with a stream of messages (RFC 6895, section 3.1).
_NO_QUESTION: Final = frozenset(
    {RdataType.NONE, RdataType.OPT, RdataType.AXFR, RdataType.IXFR, RdataType.TKEY, RdataType.TSIG}
)

_CLASSES: Final = {"IN": RdataClass.IN, "CH": RdataClass.CH, "HS": RdataClass.HS}


def parse_rdatatype(text: str) -> RdataType:
    """A type that can be asked for: `A`, `SOA`, `TYPE65280`."""
    try:
        rdtype = RdataType.from_text(text)
    except (dns.exception.DNSException, ValueError):
        raise ValueError(
            f'"{text[:80]}" is no DNS type; {_remedy(text, RdataType.__members__, "A, AAAA or SOA")}'
        ) from None
    if rdtype in _NO_QUESTION:
        raise ValueError(f"{rdtype.name} cannot be probed for; write a type like A, AAAA or SOA")
    return rdtype


def parse_rdataclass(text: str) -> RdataClass:
    """A class: `IN`, `CH`."""
    try:
        return _CLASSES[text.upper()]
    except KeyError:
        raise ValueError(f'"{text[:80]}" is no DNS class; {_remedy(text, _CLASSES, "IN or CH")}') from None


def parse_rcode(text: str) -> Rcode:
    """A response code by its name: `NOERROR`, `NXDOMAIN`."""
    try:
        return Rcode[text.upper()]
    except KeyError:
        remedy = _remedy(text, Rcode.__members__, "NOERROR or NXDOMAIN")
        raise ValueError(f'"{text[:80]}" is no DNS response code; {remedy}') from None


def parse_rdata(rdclass: RdataClass, rdtype: RdataType, text: str) -> dns.rdata.Rdata:
    """A record's data as it stands in a zone file; names need no final dot."""
    try:
        return dns.rdata.from_text(rdclass, rdtype, text, origin=dns.name.root, relativize=False)
    except (dns.exception.DNSException, ValueError) as error:
        reason = f" ({error})" if str(error) else ""
        raise ValueError(
            f'"{text[:80]}" is no data of a record of type {rdtype.name}{reason}; write it as in a zone file'
        ) from None


def _remedy(text: str, names: Iterable[str], examples: str) -> str:
    close = difflib.get_close_matches(text.upper(), names, n=1)
    return f"did you mean {close[0]}?" if close else f"write one like {examples}"
