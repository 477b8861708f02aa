"""The HTTP client's options that Prometheus and its exporters share: credentials, proxies, TLS, redirects."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, RootModel, field_validator, model_validator

from prober.blackbox.tls_options import TlsConfig
from prober.blackbox.values import Flag, Secret, SecretText, Section, Text, refuse
from prober.config.problems import Code, quoted

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110 section 5.6.2
_BREAKS_LINES: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_RESERVED: Final = frozenset(
    [
        *("authorization", "host", "content-encoding", "content-length", "content-type", "user-agent", "connection"),
        *("keep-alive", "proxy-authenticate", "proxy-authorization", "www-authenticate", "accept-encoding"),
        *("x-prometheus-remote-write-version", "x-prometheus-remote-read-version"),
        *("x-prometheus-scrape-timeout-seconds", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"),
    ]
)
_CLIENT_CREDENTIALS: Final = "client_credentials"


def check_token(text: str, what: str) -> str:
    """`text` if it may stand for a method or a header's name."""
    if not _TOKEN.match(text):
        refuse(f"{quoted(text)} is no {what}; write letters, digits and dashes")
    return text


def header_value_is_sound(name: str, value: str) -> None:
    """Refuse a value that would break out of its header."""
    if _BREAKS_LINES.search(value):
        refuse(f"the value of {name[:60]} holds a control character; remove it")


def _proxy_url(text: str) -> str:
    if text and (urlsplit(text).scheme != "http" or not urlsplit(text).hostname):
        scheme = urlsplit(text).scheme
        message = f"proxies of the scheme {quoted(scheme)} are not supported; write http://host:port"
        refuse(message, Code.BLACKBOX_UNSUPPORTED)
    return text


ProxyUrl = Annotated[Text, AfterValidator(_proxy_url)]


class BasicAuth(Section):
    username: Text = ""
    username_file: Text = ""
    password: SecretText = Secret("")
    password_file: Text = ""

    @model_validator(mode="after")
    def _options_agree(self) -> BasicAuth:
        for text, file in (("username", "username_file"), ("password", "password_file")):
            if getattr(self, text) and getattr(self, file):
                refuse(f"at most one of basic_auth {text} & {file} must be configured; remove one")
        return self


class Authorization(Section):
    type: Text = "Bearer"
    credentials: SecretText = Secret("")
    credentials_file: Text = ""

    @field_validator("type")
    @classmethod
    def _type_is_sound(cls, value: str) -> str:
        value = value.strip() or "Bearer"
        if value.lower() == "basic":
            refuse('authorization type cannot be set to "basic"; use "basic_auth" instead')
        header_value_is_sound("authorization type", value)
        return value

    @model_validator(mode="after")
    def _options_agree(self) -> Authorization:
        if self.credentials and self.credentials_file:
            refuse("at most one of authorization credentials & credentials_file must be configured; remove one")
        return self


class ProxyOptions(Section):
    proxy_url: ProxyUrl = Field(default="", repr=False)
    no_proxy: Text = ""
    proxy_from_environment: Flag = False
    proxy_connect_header: dict[Text, tuple[SecretText, ...]] = Field(default={})

    @model_validator(mode="after")
    def _proxy_options_agree(self) -> ProxyOptions:
        if self.proxy_connect_header and not self.proxy_from_environment and not self.proxy_url:
            refuse("proxy_connect_header needs proxy_url or proxy_from_environment; add one of them")
        if self.proxy_from_environment and self.proxy_url:
            refuse("if proxy_from_environment is configured, proxy_url must not be configured; remove one")
        if self.proxy_from_environment and self.no_proxy:
            refuse("if proxy_from_environment is configured, no_proxy must not be configured; remove one")
        if not self.proxy_url and self.no_proxy:
            refuse("if no_proxy is configured, proxy_url must also be configured; add it")
        return self


class OAuth2(ProxyOptions):
    client_id: Text = ""
    client_secret: SecretText = Secret("")
    client_secret_file: Text = ""
    grant_type: Text = ""
    scopes: tuple[Text, ...] = ()
    token_url: Text = ""
    endpoint_params: dict[Text, Text] = Field(default={})
    tls_config: TlsConfig = TlsConfig()

    @field_validator("grant_type")
    @classmethod
    def _grant_is_supported(cls, value: str) -> str:
        if value not in ("", _CLIENT_CREDENTIALS):
            message = f"the grant {quoted(value)} is not supported; write {_CLIENT_CREDENTIALS}, or leave it out"
            refuse(message, Code.BLACKBOX_UNSUPPORTED)
        return value

    @model_validator(mode="after")
    def _options_agree(self) -> OAuth2:
        if not self.client_id:
            refuse('oauth2 client_id must be configured; add "client_id:"')
        if not self.token_url:
            refuse('oauth2 token_url must be configured; add "token_url:"')
        if self.client_secret and self.client_secret_file:
            refuse("at most one of oauth2 client_secret & client_secret_file must be configured; remove one")
        return self


class InjectedHeader(Section):
    values: tuple[Text, ...] = ()
    secrets: tuple[SecretText, ...] = ()
    files: tuple[Text, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _text_is_a_value(cls, data: Any) -> Any:
        return {"values": [data]} if isinstance(data, str) else data


class InjectedHeaders(RootModel[dict[Text, InjectedHeader]]):
    """Headers to add to each request, from values, secrets and files."""

    model_config = {"frozen": True}

    @field_validator("root")
    @classmethod
    def _headers_are_sound(cls, value: dict[str, InjectedHeader]) -> dict[str, InjectedHeader]:
        for name, header in value.items():
            check_token(name, "header name")
            for text in (*header.values, *header.secrets):
                header_value_is_sound(name, text)
        return value


def _none_reserved(headers: InjectedHeaders | None) -> InjectedHeaders | None:
    for name in headers.root if headers is not None else ():
        if name.lower() in _RESERVED:
            refuse(f"setting header {quoted(name)} here is not allowed; remove it")
    return headers


class HttpClientOptions(ProxyOptions):
    http_headers: Annotated[InjectedHeaders | None, AfterValidator(_none_reserved)] = None
    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    oauth2: OAuth2 | None = None
    bearer_token: SecretText = Secret("")
    bearer_token_file: Text = ""
    tls_config: TlsConfig = TlsConfig()
    follow_redirects: Flag = True
    enable_http2: Flag = True

    @model_validator(mode="after")
    def _credentials_agree(self) -> HttpClientOptions:
        bearer = bool(self.bearer_token or self.bearer_token_file)
        if self.bearer_token and self.bearer_token_file:
            refuse("at most one of bearer_token & bearer_token_file must be configured; remove one")
        if (self.basic_auth or self.oauth2) and bearer:
            refuse(
                "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured; remove others"
            )
        if self.authorization and bearer:
            refuse("authorization is not compatible with bearer_token & bearer_token_file; remove one")
        if sum(item is not None for item in (self.basic_auth, self.authorization, self.oauth2)) > 1:
            refuse("at most one of basic_auth, oauth2 & authorization must be configured; remove the rest")
        return self
