"""The options of modules, as in blackbox_exporter's CONFIGURATION.md: names, defaults and what is refused."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, PlainValidator, WithJsonSchema, field_validator, model_validator

from prober.blackbox.cel import CelProgram, cel_from_yaml
from prober.blackbox.http_client_options import HttpClientOptions, InjectedHeaders, check_token, header_value_is_sound
from prober.blackbox.tls_options import TlsConfig
from prober.blackbox.values import (
    Compression,
    Flag,
    GoDuration,
    Int,
    IpProtocol,
    Pattern,
    RcodeName,
    RdataClassName,
    RdataTypeName,
    Section,
    Size,
    Text,
    TransportProtocol,
    refuse,
)
from prober.config.problems import Code
from prober.net.icmp_wire import MOST_PAYLOAD
from prober.net.names import check_address

ProberName: TypeAlias = Literal["http", "tcp", "dns", "icmp", "grpc", "unix", "websocket"]

Cel = Annotated[CelProgram, PlainValidator(cel_from_yaml), WithJsonSchema({"type": "string"})]


class IpOptions(Section):
    """Which address of a name is probed. Empty means ip6."""

    preferred_ip_protocol: IpProtocol = ""
    ip_protocol_fallback: Flag = True


class SourceOptions(IpOptions):
    source_ip_address: Text = ""

    @field_validator("source_ip_address")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return check_address(value) if value else value


class IcmpProbe(SourceOptions):
    payload_size: Int = 0
    dont_fragment: Flag = False
    ttl: Int = 64

    @field_validator("ttl")
    @classmethod
    def _ttl_in_range(cls, value: int) -> int:
        if value < 0:
            refuse("ttl cannot be negative; write 1 to 255")
        if value > 255:
            refuse("ttl cannot exceed 255; write 1 to 255")
        return value

    @field_validator("payload_size")
    @classmethod
    def _payload_fits(cls, value: int) -> int:
        if not 0 <= value <= MOST_PAYLOAD:
            refuse(f"a payload of {value} octets cannot be sent; write 0 to {MOST_PAYLOAD}")
        return value


class RecordValidator(Section):
    fail_if_matches_regexp: tuple[Pattern, ...] = ()
    fail_if_all_match_regexp: tuple[Pattern, ...] = ()
    fail_if_not_matches_regexp: tuple[Pattern, ...] = ()
    fail_if_none_matches_regexp: tuple[Pattern, ...] = ()


class DnsProbe(SourceOptions):
    transport_protocol: TransportProtocol = ""
    dns_over_tls: Flag = False
    tls_config: TlsConfig = TlsConfig()
    query_name: Text = ""
    query_type: RdataTypeName = "ANY"
    query_class: RdataClassName = "IN"
    recursion_desired: Flag = True
    valid_rcodes: tuple[RcodeName, ...] = ()
    validate_answer_rrs: RecordValidator = RecordValidator()
    validate_authority_rrs: RecordValidator = RecordValidator()
    validate_additional_rrs: RecordValidator = RecordValidator()

    @model_validator(mode="after")
    def _options_agree(self) -> DnsProbe:
        if not self.query_name:
            refuse('query name must be set for a DNS module; add "query_name:"')
        if self.dns_over_tls and self.transport_protocol != "tcp":
            refuse("dns_over_tls works over TCP only; add transport_protocol: tcp")
        return self


class Label(Section):
    name: Text = ""
    value: Text = ""


class QueryResponse(Section):
    """One step of a conversation."""

    expect: Pattern | None = None
    expect_bytes: Text = ""
    labels: tuple[Label, ...] | None = None
    send: Text = ""
    starttls: Flag = False

    @model_validator(mode="after")
    def _one_expectation(self) -> QueryResponse:
        if self.expect is not None and self.expect_bytes:
            refuse("expect and expect_bytes are mutually exclusive; remove one")
        names = [label.name for label in self.labels or ()]
        for name in names:
            if not name.isidentifier() or not name.isascii() or names.count(name) > 1:
                refuse(f'"{name[:60]}" is no label name, or there twice; write a letter, then letters, digits and "_"')
        return self


class StreamProbe(Section):
    query_response: tuple[QueryResponse, ...] = ()
    tls: Flag = False
    tls_config: TlsConfig = TlsConfig()


class TcpProbe(SourceOptions, StreamProbe):
    pass


class UnixProbe(StreamProbe):
    pass


class GrpcProbe(IpOptions):
    service: Text = ""
    tls: Flag = False
    tls_config: TlsConfig = TlsConfig()
    metadata: dict[Text, tuple[Text, ...]] = Field(default={})


class HeaderMatch(Section):
    header: Text = ""
    regexp: Pattern | None = None
    allow_missing: Flag = False

    @model_validator(mode="after")
    def _is_complete(self) -> HeaderMatch:
        if not self.header:
            refuse('header name must be set for HTTP header matchers; add "header:"')
        if self.regexp is None or not self.regexp.pattern:
            refuse('regexp must be set for HTTP header matchers; add "regexp:"')
        return self


class Message(Section):
    """One step of a conversation over a websocket: a message that is expected, one that is sent."""

    expect: Pattern | None = None
    expect_bytes: Text = ""
    labels: tuple[Label, ...] | None = None
    send: Text = ""
    starttls: Flag = False

    @model_validator(mode="after")
    def _means_something(self) -> Message:
        for name in ("expect_bytes", "labels", "starttls"):
            if getattr(self, name):
                refuse(f"{name} means nothing in a websocket; leave it out", Code.BLACKBOX_UNSUPPORTED)
        return self


class WebsocketProbe(IpOptions):
    http_config: HttpClientOptions = HttpClientOptions()
    headers: InjectedHeaders = InjectedHeaders({})
    query_response: tuple[Message, ...] = ()


class HttpProbe(HttpClientOptions, IpOptions):
    valid_status_codes: tuple[Int, ...] = ()
    valid_http_versions: tuple[Text, ...] = ()
    skip_resolve_phase_with_proxy: Flag = False
    no_follow_redirects: Flag | None = Field(default=None, exclude=True)
    fail_if_ssl: Flag = False
    fail_if_not_ssl: Flag = False
    method: Text = ""
    headers: dict[Text, Text] = Field(default={})
    fail_if_body_matches_regexp: tuple[Pattern, ...] = ()
    fail_if_body_not_matches_regexp: tuple[Pattern, ...] = ()
    fail_if_body_json_matches_cel: Cel | None = None
    fail_if_body_json_not_matches_cel: Cel | None = None
    fail_if_header_matches: tuple[HeaderMatch, ...] = ()
    fail_if_header_not_matches: tuple[HeaderMatch, ...] = ()
    body: Text = ""
    body_file: Text = ""
    compression: Compression = ""
    body_size_limit: Size = 0
    enable_http3: Flag = False

    @property
    def follows(self) -> bool:
        """Whether redirects are followed; the old option wins, as in the original."""
        return self.follow_redirects if self.no_follow_redirects is None else not self.no_follow_redirects

    @field_validator("enable_http3")
    @classmethod
    def _no_http3(cls, value: bool) -> bool:
        if value:
            refuse("HTTP/3 (QUIC) is not supported; leave enable_http3 out", Code.BLACKBOX_UNSUPPORTED)
        return value

    @field_validator("method")
    @classmethod
    def _method_is_a_token(cls, value: str) -> str:
        return check_token(value, "method") if value else value

    @field_validator("headers")
    @classmethod
    def _headers_are_sound(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            check_token(name, "header name")
            header_value_is_sound(name, text)
        return value

    @model_validator(mode="after")
    def _http_options_agree(self) -> HttpProbe:
        if self.body and self.body_file:
            refuse("setting body and body_file both is not allowed; remove one")
        for name, value in self.headers.items():
            if name.lower() == "accept-encoding" and not accepts_encoding(self.compression, value):
                refuse(f'invalid configuration "{name}: {value}", "compression: {self.compression}"; make them agree')
        if "HTTP/3.0" in self.valid_http_versions:
            refuse("HTTP/3.0 is not supported; leave it out of valid_http_versions", Code.BLACKBOX_UNSUPPORTED)
        return self


def accepts_encoding(compression: str, accepted: str) -> bool:
    """Whether an Accept-Encoding header allows the encoding that is to be decoded (RFC 9110 section 12.5.3)."""
    if not compression or not accepted:
        return True
    qualities = []
    for part in accepted.split(","):
        encoding, _, parameter = part.rpartition(";") if ";" in part else (part, "", "q=1")
        try:
            quality = round(float(parameter.strip().removeprefix("q=")), 3)
        except ValueError:
            quality = 0.0
        qualities.append((encoding.strip(), quality))
    qualities.sort(key=lambda item: -item[1])
    return next((quality > 0 for encoding, quality in qualities if encoding in (compression, "*")), False)


class ModuleEntry(Section):
    """One module as it is written."""

    prober: Text = ""
    timeout: GoDuration = 0.0
    http: HttpProbe = HttpProbe()
    tcp: TcpProbe = TcpProbe()
    icmp: IcmpProbe = IcmpProbe()
    dns: DnsProbe | None = None
    grpc: GrpcProbe = GrpcProbe()
    unix: UnixProbe = UnixProbe()
    websocket: WebsocketProbe = WebsocketProbe()

    @field_validator("prober")
    @classmethod
    def _prober_is_known(cls, value: str) -> str:
        if value not in PROBER_OPTIONS:
            refuse(f"prober {value[:60]!r} is not valid; write one of {', '.join(PROBER_OPTIONS)}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _prober_is_named(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("prober"):
            refuse(f'no prober; add "prober:" with one of {", ".join(PROBER_OPTIONS)}')
        return data

    @property
    def options(self) -> Section:
        """The options of the module's own prober."""
        if self.prober == "dns" and self.dns is None:
            return DnsProbe.model_construct()  # as the original: without any option, the root is asked for
        section: Section = getattr(self, self.prober)
        return section


class BlackboxFile(Section):
    modules: dict[Text, ModuleEntry] = Field(default={})


PROBER_OPTIONS: Final[dict[str, type[Section]]] = {
    "http": HttpProbe,
    "tcp": TcpProbe,
    "dns": DnsProbe,
    "icmp": IcmpProbe,
    "grpc": GrpcProbe,
    "unix": UnixProbe,
    "websocket": WebsocketProbe,
}
