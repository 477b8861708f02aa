"""Options of the kind `dns`: the question, whom to ask, and what is expected of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Final, Literal, Self
from urllib.parse import unquote

import dns.rdata
from dns.rcode import Rcode
from dns.rdatatype import RdataType
from pydantic import Field, field_validator, model_validator

from prober.contract import Family, Options
from prober.duration import Duration
from prober.net.dns_message import Question
from prober.net.dns_text import parse_rcode, parse_rdata, parse_rdataclass, parse_rdatatype
from prober.net.names import check_address, check_families, check_host, is_address, split_host_port
from prober.net.tls import TlsOptions
from prober.regex import Regex

ADDRESS_VERSIONS: Final = {RdataType.A: 4, RdataType.AAAA: 6}
"""Record types that hold an address, and of which IP version it is."""


class DnsExpect(Options):
    """What the answer must be. Everything but `rcode` is about the answer section."""

    rcode: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        default=("NOERROR",), description="response codes of which one is expected"
    )
    prefix: tuple[str, ...] = Field(
        default=(), description="every A and AAAA answer must lie within one of these, and there must be one"
    )
    regex: Regex | None = Field(
        default=None,
        description="must match one answer in presentation format: owner, TTL, class, type and data between tabs",
    )
    answers: tuple[str, ...] | None = Field(
        default=None, description="exactly these data of the type asked for, in any order, as in a zone file"
    )
    min_answers: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=0, description="at least so many answers of the type asked for"
    )

    @field_validator("rcode")
    @classmethod
    def _rcodes_exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(parse_rcode(name).name for name in value)

    @field_validator("prefix")
    @classmethod
    def _prefixes_are_sound(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_check_prefix(text) for text in value)

    @cached_property
    def rcodes(self) -> frozenset[int]:
        return frozenset(Rcode[name] for name in self.rcode)

    @cached_property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(text) for text in self.prefix)


class DnsOptions(Options):
    """Options of a dns check."""

    query: str = Field(description="name to ask for", min_length=1, max_length=1000)
    server: str | None = Field(
        default=None, description="host, host:port or [address]:port to ask; the vantage's resolver if absent"
    )
    type: str = Field(default="A", description="record type to ask for")
    rdclass: str = Field(default="IN", alias="class", description="record class to ask for")
    transport: Literal["udp", "tcp", "tls"] = Field(default="udp", description="tls: DNS over TLS, port 853")
    recursion: bool = Field(default=True, description="ask for recursion; servers that do not offer it do not mind")
    family: Family = Field(default="any", description="address family when the server is a name")
    source: str | None = Field(default=None, description="source address, one of this host's")
    tls: TlsOptions | None = Field(default=None, description="how to speak TLS, with transport: tls")
    injection_window: Annotated[Duration, Field(ge=0, le=60)] = Field(
        default=1.0, description="how long to listen for a second, different answer over UDP; 0s switches it off"
    )
    expect: DnsExpect = Field(default=DnsExpect(), description="what the answer must be")

    @field_validator("query")
    @classmethod
    def _name_can_be_asked_for(cls, value: str) -> str:
        Question.make(value, RdataType.A)
        return value

    @field_validator("type")
    @classmethod
    def _type_exists(cls, value: str) -> str:
        return parse_rdatatype(value).name

    @field_validator("rdclass")
    @classmethod
    def _class_exists(cls, value: str) -> str:
        return parse_rdataclass(value).name

    @field_validator("source")
    @classmethod
    def _source_is_an_address(cls, value: str | None) -> str | None:
        return None if value is None else check_address(value)

    @field_validator("server")
    @classmethod
    def _server_is_sound(cls, value: str | None) -> str | None:
        if value is not None:
            _split_server(value, 0)
        return value

    @model_validator(mode="after")
    def _transport_allows_it(self) -> Self:
        if self.transport == "tls" and self.server is None:
            raise ValueError("transport: tls needs a server; resolv.conf names none that speaks TLS")
        if self.tls is not None and self.transport != "tls":
            raise ValueError("tls has no effect without transport: tls; add it, or remove tls")
        if self.transport != "udp" and self.injection_window and "injection_window" in self.model_fields_set:
            raise ValueError(f"injection_window has no effect with transport: {self.transport}; remove it")
        return self

    @model_validator(mode="after")
    def _families_agree(self) -> Self:
        if self.server is not None:
            check_families(self.host, self.family, self.source)
        return self

    @model_validator(mode="after")
    def _expectation_fits_the_type(self) -> Self:
        version = ADDRESS_VERSIONS.get(self.rdtype)
        if self.expect.prefix and self.rdtype is not RdataType.ANY:
            if version is None:
                raise ValueError(f"expect.prefix is about addresses; {self.type} answers have none, ask for A or AAAA")
            if all(network.version != version for network in self.expect.networks):
                raise ValueError(f"expect.prefix has no IPv{version} prefix, which {self.type} answers need")
        if self.expect.answers is not None and self.rdtype is RdataType.ANY:
            raise ValueError("expect.answers needs a type that says how to read them; write another type than ANY")
        _ = self.expected_rdata
        return self

    @cached_property
    def rdtype(self) -> RdataType:
        return parse_rdatatype(self.type)

    @cached_property
    def question(self) -> Question:
        """The query message, built once."""
        return Question.make(self.query, self.rdtype, parse_rdataclass(self.rdclass), recursion=self.recursion)

    @cached_property
    def expected_rdata(self) -> frozenset[dns.rdata.Rdata] | None:
        """The data of `expect.answers`: its spelling (case, final dots, zeros of an address) makes no difference."""
        if self.expect.answers is None:
            return None
        rdclass = parse_rdataclass(self.rdclass)
        return frozenset(parse_rdata(rdclass, self.rdtype, text) for text in self.expect.answers)

    @cached_property
    def endpoint(self) -> tuple[str, int]:
        """Host and port of the server; only where there is one."""
        return _split_server(self.server or "", 853 if self.transport == "tls" else 53)

    @cached_property
    def needs_no_resolving(self) -> bool:
        """Whether the server's address is known: written in the file, or that of the vantage's resolver."""
        return self.server is None or is_address(self.endpoint[0])

    @property
    def host(self) -> str:
        """The server that is probed, or the name that the vantage's resolver is asked for."""
        return self.query if self.server is None else self.endpoint[0]


def _check_prefix(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        pass
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'"{text[:80]}" is no IP prefix; write it like 175.45.176.0/22 or 2001:db8::/32') from None
    raise ValueError(f'"{text[:80]}" has bits set behind the prefix; write {network}')


def _split_server(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, `address` or `[address]:port`. Raises ValueError."""
    if is_address(text):
        return text, default_port
    if text.startswith("[") and text.endswith("]"):
        return check_address(text[1:-1]), default_port
    return split_host_port(text) if ":" in text else (check_host(text), default_port)


def from_url(url: str) -> Mapping[str, object] | None:
    """`dns://server[:port]/name?type=SOA` or `dns:name` (RFC 4501), for `prober probe`; `transport=tcp` works too."""
    if not url.startswith("dns:"):
        return None
    rest, _, parameters = url.removeprefix("dns:").partition("?")
    options: dict[str, object] = {}
    if rest.startswith("//"):
        server, _, rest = rest.removeprefix("//").partition("/")
        if server:
            options["server"] = server
    if rest:
        options["query"] = unquote(rest)
    for parameter in parameters.replace("&", ";").split(";"):
        key, _, value = parameter.partition("=")
        if key:
            options[key.lower()] = unquote(value)
    return options
