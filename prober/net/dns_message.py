"""DNS messages, pure: a question as it is sent, and what comes back matched to it and read. RFC 1035, RFC 6891.

A probe needs the response code, the counts and the answer section, so only the answer section's records are decoded (by
dnspython); the rest is walked to see that it is well-formed. That is several times cheaper than a whole
`dns.message.Message`, and a probe is nothing but this.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

UDP_PAYLOAD_SIZE: Final = 1232
"""Octets of an answer that we take over UDP (EDNS): what fits an IPv6 packet of the least MTU unfragmented."""

_HEADER: Final = struct.Struct("!HHHHHH")
_RECORD: Final = struct.Struct("!HHIH")  # type, class, TTL, length of the data
_QR_OPCODE: Final = 0xF800
_QR: Final = 0x8000
_TC: Final = int(dns.flags.TC)
# A server that does not understand the question, or does not want to, may leave it out of its answer (RFC 1035, 4.1.1).
_WITHOUT_QUESTION: Final = frozenset({dns.rcode.FORMERR, dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED})
_ADDRESS_SIZES: Final[dict[int, int]] = {RdataType.A: 4, RdataType.AAAA: 16}
_QUESTION_AT: Final = _HEADER.size
_POINTER_TO_QUESTION: Final = b"\xc0\x0c"


# dnspython imports the reader of a type when it first sees one, and remembers by class and type what it found. An AAAA
# record of class ANY would make it remember that there is none, for IN too, until the process ends. So all are imported
# now, not in the midst of a probe, and records of a class that nobody asked for are not read (`_read_record`).
dns.rdata.load_all_types()  # type: ignore[no-untyped-call]


class Malformed(ValueError):
    """A message that has the id of our question and is not well-formed DNS."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, with the message built once: only its id changes from query to query."""

    name: dns.name.Name
    rdtype: RdataType
    rdclass: RdataClass
    _message: bytes  # behind the id
    _asked: bytes  # the question's name in lower case, for comparison
    _kind: bytes  # the question's type and class

    @classmethod
    def make(
        cls,
        name: str | dns.name.Name,
        rdtype: RdataType,
        rdclass: RdataClass = RdataClass.IN,
        *,
        recursion: bool = True,
        edns: bool = True,
    ) -> Question:
        """`edns`: say that we take answers beyond 512 octets (RFC 6891).

        Raises ValueError, with the reason, for a name that cannot be asked for.
        """
        try:
            absolute = dns.name.from_text(name) if isinstance(name, str) else name
            flags = dns.flags.RD if recursion else dns.flags.Flag(0)
            query = dns.message.make_query(
                absolute, rdtype, rdclass, use_edns=0 if edns else False, payload=UDP_PAYLOAD_SIZE, flags=flags, id=0
            )
            wire = query.to_wire()
        except (dns.exception.DNSException, UnicodeError) as error:
            raise ValueError(f'"{str(name)[:80]}" is no domain name: {error}') from None
        behind_name = _skip_name(wire, _QUESTION_AT)
        kind = wire[behind_name : behind_name + 4]
        return cls(absolute, rdtype, rdclass, wire[2:], wire[_QUESTION_AT:behind_name].lower(), kind)

    def wire(self, ident: bytes) -> bytes:
        """The query message with this id (two octets)."""
        return ident + self._message

    def is_repeated_in(self, wire: bytes) -> bool:
        """Whether the first question in `wire` is this one; names are compared without regard to case."""
        behind_name = _QUESTION_AT + len(self._asked)
        # Lower-casing leaves the length octets alone: they are below 64, letters are not.
        return (
            wire[_QUESTION_AT:behind_name].lower() == self._asked and wire[behind_name : behind_name + 4] == self._kind
        )


class Record(NamedTuple):
    """A resource record of an answer section."""

    name: dns.name.Name
    rdtype: int
    rdclass: int
    ttl: int
    rdata: dns.rdata.Rdata

    def text(self) -> str:
        """In presentation format with tabs, as dig prints it: owner, TTL, class, type, data."""
        rdtype = dns.rdatatype.to_text(RdataType.make(self.rdtype))
        rdclass = dns.rdataclass.to_text(RdataClass.make(self.rdclass))
        return f"{self.name}\t{self.ttl}\t{rdclass}\t{rdtype}\t{self.rdata.to_text()}"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to our question. `truncated`: the rest of it was not read (`answers` is empty)."""

    rcode: int
    truncated: bool
    answer_count: int
    authority_count: int
    additional_count: int
    answers: tuple[Record, ...]
    wire: bytes = field(default=b"", repr=False, compare=False)  # the whole message as it came

    @property
    def rcode_text(self) -> str:
        return _rcode_text(self.rcode)

    def differs_from(self, other: Reply) -> bool:
        """Whether response code or answers differ, whatever the order and the TTLs."""
        return self.rcode != other.rcode or _essence(self) != _essence(other)


@lru_cache(maxsize=64)
def _rcode_text(rcode: int) -> str:
    return dns.rcode.to_text(dns.rcode.Rcode(rcode))


@lru_cache(maxsize=16_384)  # the same addresses are answered again and again
def _address(rdclass: RdataClass, rdtype: RdataType, data: bytes) -> dns.rdata.Rdata:
    return dns.rdata.from_wire(rdclass, rdtype, data, 0, len(data))


def _essence(reply: Reply) -> frozenset[tuple[dns.name.Name, int, int, dns.rdata.Rdata]]:
    return frozenset((r.name, r.rdtype, r.rdclass, r.rdata) for r in reply.answers)


def read_reply(question: Question, ident: bytes, wire: bytes) -> Reply | None:
    """Read the answer to `question`, sent with `ident`; None for a message that is no answer to it.

    Raises Malformed for a message with our id that is not DNS.
    """
    if wire[:2] != ident:
        return None
    if len(wire) < _HEADER.size:
        raise Malformed(f"{len(wire)} octets are no DNS message")
    _id, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(wire)
    repeated = questions == 1 and question.is_repeated_in(wire)
    left_out = questions == 0 and flags & 0x000F in _WITHOUT_QUESTION
    if flags & _QR_OPCODE != _QR or not (repeated or left_out):
        _walk(question, wire, questions, answers, authorities, additionals)
        return None
    if flags & _TC:
        return Reply(flags & 0x000F, True, answers, authorities, additionals, (), wire)
    extended, records = _walk(question, wire, questions, answers, authorities, additionals)
    return Reply(flags & 0x000F | extended, False, answers, authorities, additionals, records, wire)


def _walk(
    question: Question, wire: bytes, questions: int, answers: int, authorities: int, additionals: int
) -> tuple[int, tuple[Record, ...]]:
    """The response code's upper bits (RFC 6891, section 6.1.3) and the answer section's records. Raises Malformed."""
    try:
        at = _QUESTION_AT
        for _ in range(questions):
            at = _skip_name(wire, at) + 4
        records = []
        for _ in range(answers):
            record, at = _read_record(question, wire, at)
            records.append(record)
        extended = 0
        for _ in range(authorities + additionals):
            at = _skip_name(wire, at)
            rdtype, _class, ttl, length = _RECORD.unpack_from(wire, at)
            at += _RECORD.size + length
            if rdtype == dns.rdatatype.OPT:
                extended = ttl >> 24 << 4
        if at > len(wire):
            raise Malformed("a record goes beyond the end of the message")
    except (dns.exception.DNSException, IndexError, struct.error, ValueError) as error:
        raise Malformed(str(error) or type(error).__name__) from error
    return extended, tuple(records)


def _read_record(question: Question, wire: bytes, at: int) -> tuple[Record, int]:
    if wire[at : at + 2] == _POINTER_TO_QUESTION:  # nearly always
        name = question.name
        at += 2
    else:
        name, used = dns.name.from_wire(wire, at)
        at += used
    rdtype, rdclass, ttl, length = _RECORD.unpack_from(wire, at)
    at += _RECORD.size
    if at + length > len(wire):
        raise Malformed("a record goes beyond the end of the message")
    if rdclass == question.rdclass:
        # dnspython wants members of its enums, and making them costs as much as reading an address.
        asked = rdtype == question.rdtype
        if asked and length == _ADDRESS_SIZES.get(rdtype):
            rdata = _address(rdclass=question.rdclass, rdtype=question.rdtype, data=wire[at : at + length])
            return Record(name, rdtype, rdclass, ttl, rdata), at + length
        rdata = dns.rdata.from_wire(question.rdclass, question.rdtype if asked else rdtype, wire, at, length)
    else:
        rdata = dns.rdata.GenericRdata(rdclass, rdtype, wire[at : at + length])
    return Record(name, rdtype, rdclass, ttl, rdata), at + length


def _skip_name(wire: bytes, at: int) -> int:
    """Where the name that starts at `at` ends. Raises IndexError or Malformed."""
    while True:
        length = wire[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2
        if length > 63:
            raise Malformed("a label of an unknown kind")
        at += length + 1
