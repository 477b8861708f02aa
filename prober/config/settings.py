"""The agent's settings. Every key is optional; the defaults are the ones of a polite agent on a single machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from prober.config.allow import parse_allow
from prober.config.document import Document
from prober.config.messages import validate
from prober.config.optout import OptOut, canonical_entry
from prober.config.parse import read_document
from prober.config.problems import Code, Problem, quoted, raise_if_any
from prober.config.types import FileModel, FilePath, Name, refuse
from prober.duration import Duration
from prober.net.names import check_host

SHIPPED: Final = Path(__file__).parent.parent / "shipped"
"""The targets that come with the agent: the repository's targets/, which the wheel carries as prober/shipped/."""

_LISTEN_REMEDY: Final = "write it like 127.0.0.1:9911, [::1]:9911, or :9911 for all addresses"
_URI: Final = re.compile(r"(mailto:[^@\s]+@[^@\s]+|https://[^\s/?#]+\S*)\Z")
_ALLOWED: Final = ["example.org", ".example.org", "198.51.100.0/24", "[2001:db8::/32]:443", "public"]
CONTACT_LENGTH_MAX: Final = 200
"""Octets: the contact travels in the payload of echo requests (RFC 9511, section 4)."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the agent serves HTTP. An empty host means all addresses; port 0 means any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(value: object) -> Listen:
    """`host:port` with an address, a name or nothing for the host. Raises ValueError (of pydantic's making)."""
    if not isinstance(value, str):
        refuse(Code.LISTEN, f"no address to listen on; {_LISTEN_REMEDY}")
    host, colon, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        refuse(Code.LISTEN, f"{quoted(value)} has no port between 0 and 65535; {_LISTEN_REMEDY}")
    try:
        is_ipv6 = isinstance(ip_address(host), IPv6Address)
    except ValueError:
        is_ipv6 = False
        if bracketed or (host and not _is_host_name(host)):
            refuse(Code.LISTEN, f"{quoted(value)} has no host that this could be; {_LISTEN_REMEDY}")
    if is_ipv6 != bracketed:
        refuse(Code.LISTEN, f"{quoted(value)}: brackets are for IPv6 addresses, and only for them; {_LISTEN_REMEDY}")
    return Listen(host, int(port))


def _is_host_name(host: str) -> bool:
    try:
        check_host(host)
    except ValueError:
        return False
    return True


def _contact(text: str) -> str:
    if not _URI.match(text) or not text.isascii() or len(text) > CONTACT_LENGTH_MAX:
        remedy = "write mailto:noc@example.org, or an https: address of a page about your probing"
        refuse(Code.CONTACT, f"no mailto: or https: URI of at most {CONTACT_LENGTH_MAX} ASCII characters; {remedy}")
    return text


def _opt_out(text: str) -> str:
    try:
        return canonical_entry(text)
    except ValueError as error:
        refuse(Code.OPT_OUT, f"{quoted(text)} {error}")


def _allow(text: str) -> str:
    try:
        parse_allow(text)
    except ValueError as error:
        refuse(Code.ALLOW, f"{quoted(text)} {error}")
    return text


class Vantage(FileModel):
    """Where the agent looks from, and its turn among several that watch the same targets."""

    name: Name = "local"
    """On every series and record. Never the host's name by itself: a container's changes with each start."""
    index: Annotated[int, Field(ge=0)] = 0
    """This vantage's number, from 0."""
    of: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many vantages there are: each probes index/of of an interval later than the first."""

    @model_validator(mode="after")
    def _index_is_below_of(self) -> Self:
        if self.index >= self.of:
            refuse(Code.VANTAGE, f"index {self.index} of {self.of}: the first index is 0; write 0 to {self.of - 1}")
        return self


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class Judgement(FileModel):
    """How sure the agent must be before it says that something is down."""

    false_outages_per_year: Annotated[float, Field(gt=0, le=1000)] = 0.01
    """How many outages a year each check may be wrongly given by chance."""
    confirm_interval: Annotated[Duration, Field(ge=0.05)] = 2.0
    """Time between two probes that confirm a failure."""
    blip: Duration = 60.0
    """What is not certain to have lasted so long is a blip, and no outage."""
    flap_window: Duration = 3600.0
    """Outages of one scope within this time are flapping."""
    onset_look_back: Annotated[Duration, Field(ge=60)] = 172_800.0
    """How far back loss and round trips are looked at, to tell a progressive onset from an abrupt one."""


class Limits(FileModel):
    """What the agent never exceeds."""

    packets_per_second: Annotated[float, Field(gt=0, le=1e6)] = 500.0
    """Packets a second over all targets."""
    per_prefix_per_second: Annotated[float, Field(gt=0, le=1e6)] = 2.0
    """Packets a second to one /24 (IPv4) or /48 (IPv6)."""
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """Probes that hold a descriptor at one time."""


class Web(FileModel):
    """How the agent serves HTTP."""

    config_file: FilePath | None = None
    """A web.yml in the format of Prometheus' exporter toolkit: TLS and basic authentication."""


class ProbeEndpoint(FileModel):
    """/probe, /config and /logs: blackbox_exporter's interface. It sends packets where its clients say."""

    enabled: bool = False
    """Whether it is served at all."""
    allow: tuple[
        Annotated[
            str, AfterValidator(_allow), WithJsonSchema({"type": "string", "minLength": 1, "examples": _ALLOWED})
        ],
        ...,
    ] = ()
    """What may be probed; nothing else may. Names, names with all below them (.example.org), prefixes, each with ports
    or without; `public` for all that is public. Private, loopback and other special ranges: by their prefix only."""
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Probes under way at one time, beside those of limits.concurrency."""
    queue: Annotated[int, Field(ge=0, le=10_000)] = 200
    """Requests that may wait for their turn; beyond that they are answered 503."""
    requests_per_second: Annotated[float, Field(gt=0, le=1e6)] = 200.0
    """Requests a second from all clients; beyond that they are answered 429."""
    requests_per_second_per_client: Annotated[float, Field(gt=0, le=1e6)] = 150.0
    """Requests a second from one address (of IPv6: one /64)."""


class Log(FileModel):
    """How the agent logs."""

    format: Literal["logfmt", "json"] = "logfmt"
    """logfmt, or json (one object a line)."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe messages to write."""


class Settings(FileModel):
    """The agent's settings."""

    vantage: Annotated[Vantage, BeforeValidator(_named, json_schema_input_type=Name | Vantage)] = Vantage()
    """The vantage's name, or its name, index and number of vantages."""
    listen: Annotated[
        Listen,
        PlainValidator(parse_listen),
        WithJsonSchema({"type": "string", "examples": ["127.0.0.1:9911", "[::1]:9911", ":9911"]}),
    ] = Listen("127.0.0.1", 9911)
    """Address and port to serve HTTP on; an empty host means all addresses."""
    data_dir: FilePath = Path("data")
    """Directory for what the agent keeps."""
    targets: Annotated[tuple[FilePath, ...], Field(min_length=1)] = (SHIPPED / "north-korea.yml",)
    """Targets files."""
    references: FilePath = SHIPPED / "references.yml"
    """The references file: control targets that this vantage must reach when it is online."""
    judgement: Judgement = Judgement()
    """How sure the agent must be."""
    retention: Annotated[Duration, Field(ge=86_400)] | None = None
    """Outages and gaps that ended longer ago are removed from the ledger; absent: kept for ever."""
    limits: Limits = Limits()
    """What the agent never exceeds."""
    contact: (
        Annotated[
            str,
            AfterValidator(_contact),
            WithJsonSchema({"type": "string", "pattern": "^(mailto:|https://)", "maxLength": CONTACT_LENGTH_MAX}),
        ]
        | None
    ) = None
    """A mailto: or https: URI where people who see the probes can ask about them."""
    web: Web = Web()
    """How the agent serves HTTP."""
    blackbox: FilePath | None = None
    """A blackbox.yml: modules for /probe and for checks of the kind `module`."""
    probe_endpoint: ProbeEndpoint = ProbeEndpoint()
    """/probe, /config and /logs."""
    opt_out: tuple[Annotated[str, AfterValidator(_opt_out)], ...] = ()
    """Prefixes, addresses and host names (with their subdomains) that are never probed."""
    log: Log = Log()
    """How the agent logs."""

    @property
    def opted_out(self) -> OptOut:
        """`opt_out` as something to ask."""
        return _opt_out_of(self.opt_out)


@lru_cache(maxsize=4)
def _opt_out_of(entries: tuple[str, ...]) -> OptOut:
    # Not a cached property: model_copy would hand the old list on beside the new entries.
    return OptOut(entries)


def allowing(endpoint: ProbeEndpoint, allow: Iterable[str]) -> ProbeEndpoint:
    """The endpoint, on, with these entries beside those that it has. Raises ConfigError."""
    problems = []
    for text in allow:
        try:
            parse_allow(text)
        except ValueError as error:
            problems.append(Problem("--allow", 0, "", f"{quoted(text)} {error}", Code.ALLOW))
    raise_if_any(problems)
    return endpoint.model_copy(update={"enabled": True, "allow": (*endpoint.allow, *allow)})


def load_settings(path: Path | None = None) -> Settings:
    """The settings in `path`; the defaults for None. Raises ConfigError.

    Paths in the file are relative to the file. A command's own arguments go on top by `model_copy(update={...})`.
    """
    if path is None:
        return Settings()
    document = read_document(path)
    problems: list[Problem] = list(document.problems)
    settings = validate_settings(document, problems)
    raise_if_any(problems)
    assert settings is not None
    return settings


def validate_settings(document: Document, problems: list[Problem]) -> Settings | None:
    """The settings that a document holds; None, with what is wrong added to `problems`, if it holds none."""
    directory = Path(document.file).parent
    return validate(Settings, document.root, document, (), problems, directory=directory)
