"""The types of values in a blackbox.yml: what a plain or quoted text means to the option that it is for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, NoReturn, TypeVar

import dns.rcode
import dns.rdataclass
import dns.rdatatype
from pydantic import BaseModel, ConfigDict, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from prober.blackbox.yaml import Plain
from prober.config.document import Map, Seq
from prober.config.problems import Code, quoted
from prober.regex import Regex

T = TypeVar("T")

SECRET_SHOWN: Final = "<secret>"

_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TIMEOUT_MAX_SECONDS: Final = 86_400.0
_SIZE_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMGTPE]?)i?B")
_INTEGER: Final = re.compile(r"[-+]?(0[xX][0-9a-fA-F_]+|0[oO]?[0-7_]+|0[bB][01_]+|[0-9][0-9_]*)\Z")
_TRUE: Final = frozenset(["true", "True", "TRUE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON"])
_FALSE: Final = frozenset(["false", "False", "FALSE", "n", "N", "no", "No", "NO", "off", "Off", "OFF"])


class Secret(str):
    """A text that nobody is shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return SECRET_SHOWN


class Section(BaseModel):
    """Base of the models of a blackbox.yml. A key without a value is an absent key, as in the original."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _absent_without_value(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data


def refuse(message: str, code: Code = Code.BLACKBOX_VALUE) -> NoReturn:
    """Raise the error that makes pydantic refuse a value; `message` (what is wrong; remedy) reaches the reader."""
    raise PydanticCustomError(code.value, "{message}", {"message": message})


def _scalar(value: object, wanted: str) -> str:
    if isinstance(value, Map | Seq):
        refuse(f"must be {wanted}, not {'a mapping' if isinstance(value, Map) else 'a list'}; write one value")
    return "" if value is None else str(value)


def _text(value: object) -> str:
    return str(_scalar(value, "text"))


def _secret(value: object) -> Secret:
    return Secret(_scalar(value, "text"))


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = _scalar(value, "true or false")
    known = text in _TRUE or text in _FALSE
    if known and isinstance(value, Plain):
        return text in _TRUE
    refuse(f"must be true or false, not {quoted(text)}; write one of these{', without quotes' if known else ''}")


def _int(value: object) -> int:
    if isinstance(value, int):
        return value
    text = _scalar(value, "a whole number")
    if not isinstance(value, Plain) or not _INTEGER.match(text):
        remedy = "write digits without quotes" if _INTEGER.match(text) else "write digits"
        refuse(f"must be a whole number, not {quoted(text)}; {remedy}")
    digits = text.replace("_", "")
    if re.match(r"[-+]?0[0-7]+\Z", digits):  # octal, as in YAML 1.1
        return int(digits, 8)
    return int(digits, 0)


def _duration(value: object) -> float:
    """Go's time.ParseDuration, without negative ones, which make no timeout."""
    text = _scalar(value, "a duration")
    at, seconds = 0, 0.0
    body = text.removeprefix("+")
    while match := _DURATION_PART.match(body, at):
        seconds += float(match[1]) * _UNITS[match[2]]
        at = match.end()
    if body != "0" and (not body or at != len(body)):
        refuse(f"{quoted(text)} is no duration; write it like 500ms, 5s or 1m30s")
    if seconds > _TIMEOUT_MAX_SECONDS:
        refuse(f"{quoted(text)} is more than a day; write a shorter one")
    return seconds


def _size(value: object) -> int:
    """Octets. All units are powers of 1024, `MB` like `MiB`; 0 means no limit."""
    text = _scalar(value, "a size")
    at, octets = 0, 0.0
    while match := _SIZE_PART.match(text, at):
        octets += float(match[1]) * 1024 ** " KMGTPE".index(match[2] or " ")
        at = match.end()
    if text != "0" and (not text or at != len(text)):
        refuse(f"{quoted(text)} is no size; write it like 64KB or 10MB")
    return int(octets)


def _regex(value: object) -> Regex | None:
    text = _scalar(value, "a regular expression")
    try:
        return Regex(text)
    except ValueError as error:
        refuse(str(error))


def _one_of(*words: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        text = _scalar(value, "text")
        if text not in words:
            refuse(f"{quoted(text)} is not valid; write {' or '.join(word for word in words if word)}")
        return text

    return check


def _rdatatype(value: object) -> str:
    text = _scalar(value, "text")
    try:
        known = text == text.upper() and dns.rdatatype.from_text(text)
    except (dns.rdatatype.UnknownRdatatype, ValueError):
        known = False
    if not known:
        refuse(f"query type {quoted(text)} is not valid; write one like A, AAAA, SOA or ANY, in capitals")
    return text


def _rdataclass(value: object) -> str:
    text = _scalar(value, "text")
    if text not in ("IN", "CS", "CH", "HS", "NONE", "ANY"):
        refuse(f"query class {quoted(text)} is not valid; write IN, CH, HS or ANY, in capitals")
    return text


def _rcode(value: object) -> str:
    text = _scalar(value, "text")
    try:
        known = text == text.upper() and dns.rcode.from_text(text) is not None
    except (dns.rcode.UnknownRcode, ValueError):
        known = False
    if not known:
        refuse(f"{quoted(text)} is no response code; write one like NOERROR, NXDOMAIN or SERVFAIL, in capitals")
    return text


def _schema(kind: str) -> WithJsonSchema:
    return WithJsonSchema({"type": kind})


Text = Annotated[str, PlainValidator(_text), _schema("string")]
SecretText = Annotated[Secret, PlainValidator(_secret), _schema("string")]
Flag = Annotated[bool, PlainValidator(_flag), _schema("boolean")]
Int = Annotated[int, PlainValidator(_int), _schema("integer")]
GoDuration = Annotated[float, PlainValidator(_duration), _schema("string")]
Size = Annotated[int, PlainValidator(_size), _schema("string")]
Pattern = Annotated[Regex, PlainValidator(_regex), _schema("string")]
IpProtocol = Annotated[str, PlainValidator(_one_of("ip4", "ip6", "")), _schema("string")]
TransportProtocol = Annotated[str, PlainValidator(_one_of("udp", "tcp", "")), _schema("string")]
Compression = Annotated[str, PlainValidator(_one_of("gzip", "br", "deflate", "identity", "")), _schema("string")]
TlsVersionName = Annotated[str, PlainValidator(_one_of("TLS10", "TLS11", "TLS12", "TLS13", "")), _schema("string")]
RdataTypeName = Annotated[str, PlainValidator(_rdatatype), _schema("string")]
RdataClassName = Annotated[str, PlainValidator(_rdataclass), _schema("string")]
RcodeName = Annotated[str, PlainValidator(_rcode), _schema("string")]
