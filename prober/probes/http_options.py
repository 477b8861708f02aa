"""What an http check asks for and expects."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from prober.contract import Family, Options
from prober.net.names import check_address, check_families
from prober.net.tls import TlsOptions
from prober.net.url import HttpUrl, parse_url
from prober.regex import Regex

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110 section 5.6.2
_BREAKS_LINES: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_STATUS_CLASS: Final = re.compile(r"[1-5]xx\Z")
_SET_BY_US: Final = {
    "connection": "every probe has a connection of its own",
    "content-length": "it follows from the body",
    "transfer-encoding": "it follows from the body",
    "expect": "expectations of the answer go into `expect:` beside `headers:`",
    "upgrade": "the probe speaks HTTP/1.1 only",
}


class HttpExpect(Options):
    """What the answer must be."""

    status: Annotated[tuple[int | str, ...], Field(min_length=1)] = Field(
        default=("2xx",),
        description="statuses (200) and classes of them (2xx), of which one is expected; one that is a redirect is not "
        "followed",
    )
    headers: dict[str, Regex] = Field(default={}, description="header name: what one field of this name must match")
    body: Regex | None = Field(default=None, description="must be found in the body, which is read as UTF-8")
    body_not: Regex | None = Field(default=None, description="must not be found in the body")

    @field_validator("status")
    @classmethod
    def _statuses_exist(cls, value: tuple[int | str, ...]) -> tuple[int | str, ...]:
        for item in value:
            if isinstance(item, int) and not 100 <= item <= 999:
                raise ValueError(f"{item} is no HTTP status; write one from 100 to 999")
            if isinstance(item, str) and not _STATUS_CLASS.match(item):
                raise ValueError(
                    f'"{item[:20]}" is no class of statuses; write one like 2xx, or a number without quotes'
                )
        return value

    @field_validator("headers")
    @classmethod
    def _names_are_tokens(cls, value: dict[str, Regex]) -> dict[str, Regex]:
        for name in value:
            _check_header_name(name)
        return value

    def accepts(self, status: int) -> bool:
        """Whether `status` is an expected one."""
        return status in self.status or f"{status // 100}xx" in self.status


class HttpOptions(Options):
    """Options of an http check."""

    url: str = Field(description="what to fetch: http://... or https://...")
    method: str = Field(default="GET", description="request method", min_length=1, max_length=20)
    headers: dict[str, str] = Field(
        default={},
        description="request headers; they are not taken along to another server by a redirect",
        repr=False,  # they may hold credentials
    )
    body: str | None = Field(default=None, description="request body, sent as UTF-8", repr=False)
    compression: Literal["gzip", "deflate", "identity"] | None = Field(
        default=None, description="compression to ask for (Accept-Encoding)"
    )
    family: Family = Field(default="any", description="address family when the host is a name")
    address: str | None = Field(default=None, description="address to connect to instead of resolving the URL's host")
    source: str | None = Field(default=None, description="source address, one of this host's")
    tls: TlsOptions = Field(default=TlsOptions(), description="how to speak TLS, with https://")
    redirects: Annotated[int, Field(ge=0, le=20)] = Field(
        default=5, description="how many redirects to follow; 0: a redirect is a status like any other"
    )
    body_limit: Annotated[int, Field(ge=1, le=16 * 2**20)] = Field(
        default=2**20, description="octets of the (decompressed) body to read at most; what follows is not looked at"
    )
    expect: HttpExpect = Field(default=HttpExpect(), description="what the answer must be")

    @cached_property
    def target(self) -> HttpUrl:
        """The URL, taken apart."""
        return parse_url(self.url)

    @field_validator("url")
    @classmethod
    def _url_is_sound(cls, value: str) -> str:
        parse_url(value)
        return value

    @field_validator("method")
    @classmethod
    def _method_is_a_token(cls, value: str) -> str:
        if not _TOKEN.match(value) or value != value.upper():
            raise ValueError(f'"{value}" is no HTTP method; write one like GET, HEAD or POST')
        if value == "CONNECT":
            raise ValueError("CONNECT asks for a tunnel, which a probe cannot use; write another method")
        return value

    @field_validator("headers")
    @classmethod
    def _headers_are_sound(cls, value: dict[str, str]) -> dict[str, str]:
        seen: dict[str, str] = {}
        for name, text in value.items():
            _check_header_name(name)
            key = name.lower()
            if key in _SET_BY_US:
                raise ValueError(f"{name} cannot be set, {_SET_BY_US[key]}; remove it")
            if key in seen:
                raise ValueError(f"{name} and {seen[key]} are the same header; remove one")
            if _BREAKS_LINES.search(text):
                raise ValueError(f"the value of {name} holds a control character; remove it")
            seen[key] = name
        return value

    @field_validator("address", "source")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        return None if value is None else check_address(value)

    @model_validator(mode="after")
    def _options_agree(self) -> HttpOptions:
        check_families(self.address or self.target.host, self.family, self.source)
        if self.compression and any(name.lower() == "accept-encoding" for name in self.headers):
            raise ValueError("compression and the header Accept-Encoding say the same thing; remove one")
        if self.method == "HEAD" and (self.expect.body or self.expect.body_not):
            raise ValueError("an answer to HEAD has no body to match; use GET")
        return self


def _check_header_name(name: str) -> None:
    if not _TOKEN.match(name):
        raise ValueError(f'"{name[:60]}" is no header name; write letters, digits and dashes')
