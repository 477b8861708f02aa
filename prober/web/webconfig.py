"""web.yml: TLS and basic auth for the HTTP face, in the format of the Prometheus exporter toolkit.

The format: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. What of it cannot be
had here is refused by name, never ignored: a setting for security that does nothing is worse than none. Paths are
relative to the file. The certificates are loaded when the file is read, so that a file that reads well also serves.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal, NoReturn, TypeAlias

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_core import PydanticCustomError

from prober.config.document import Document
from prober.config.messages import validate
from prober.config.parse import read_document
from prober.config.problems import Code, ConfigError, KeyPath, Problem, quoted, raise_if_any
from prober.config.types import FileModel, FilePath

BCRYPT_COST_MAX: Final = 16
"""Each step doubles the time; 16 takes some seconds for one login."""

_BCRYPT: Final = re.compile(r"\$2[aby]\$([0-3][0-9])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")

CIPHER_SUITES: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}
"""The format's (IANA's) names of cipher suites up to TLS 1.2 -> OpenSSL's."""

TLS13_SUITES: Final = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
"""These cannot be chosen among, here and in the toolkit alike: naming one is allowed and changes nothing."""

VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}

CLIENT_AUTH: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


class WebCode(StrEnum):
    """The kinds of problem that are special to web.yml."""

    NOT_SUPPORTED = "web_not_supported"
    MISSING_FILE_KEY = "web_missing_file_key"
    NOT_LOADED = "web_not_loaded"
    CLIENT_AUTH = "web_client_auth"
    CIPHER_SUITE = "web_cipher_suite"
    VERSION_ORDER = "web_version_order"
    HEADER = "web_header"
    USER = "web_user"


def refuse(code: WebCode, message: str) -> NoReturn:
    """Raise the error that makes pydantic refuse a value; `message` reaches the reader as it is."""
    raise PydanticCustomError(code.value, "{message}", {"message": message})


def _not_supported(remedy: str) -> BeforeValidator:
    def check(_value: object) -> NoReturn:
        refuse(WebCode.NOT_SUPPORTED, f"not supported; {remedy}")

    return BeforeValidator(check)


def _client_auth(value: str) -> str:
    if value in ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert"):
        refuse(WebCode.NOT_SUPPORTED, "asks for a certificate and verifies none; write RequireAndVerifyClientCert")
    if value not in CLIENT_AUTH:
        refuse(WebCode.CLIENT_AUTH, f"{quoted(value)} is not a policy; write one of {', '.join(CLIENT_AUTH)}")
    return value


def _cipher_suite(value: str) -> str:
    if value not in CIPHER_SUITES and value not in TLS13_SUITES:
        refuse(WebCode.CIPHER_SUITE, f"{quoted(value)} is not supported; known: {', '.join(CIPHER_SUITES)}")
    return value


def _header_value(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        refuse(WebCode.HEADER, "has characters that may not stand in a header; write printable ASCII")
    return value


def _bcrypt_hash(value: SecretStr) -> SecretStr:
    match = _BCRYPT.fullmatch(value.get_secret_value())
    if match is None:
        refuse(WebCode.USER, "not a bcrypt hash ($2y$10$...); make one with: htpasswd -nBC 10 \"\" | tr -d ':\\n'")
    if not 4 <= int(match[1]) <= BCRYPT_COST_MAX:
        refuse(WebCode.USER, f"its bcrypt cost is {int(match[1])}; make a hash with a cost of 4 to {BCRYPT_COST_MAX}")
    return value


_Version: TypeAlias = Literal["TLS12", "TLS13"]
_HeaderValue: TypeAlias = Annotated[str, AfterValidator(_header_value)]


class _Tls(FileModel):
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    client_auth_type: Annotated[str, AfterValidator(_client_auth)] = "NoClientCert"
    client_ca_file: FilePath | None = None
    min_version: _Version = "TLS12"
    max_version: _Version = "TLS13"
    cipher_suites: tuple[Annotated[str, AfterValidator(_cipher_suite)], ...] = ()
    prefer_server_cipher_suites: bool = True
    cert: Annotated[object, _not_supported("put the certificate in a file and name it in cert_file")] = None
    key: Annotated[object, _not_supported("put the key in a file and name it in key_file")] = None
    client_ca: Annotated[object, _not_supported("put the certificates in a file and name it in client_ca_file")] = None
    client_allowed_sans: Annotated[
        object, _not_supported("let client_ca_file hold a CA that signs only who may come in")
    ] = None
    curve_preferences: Annotated[object, _not_supported("OpenSSL's own order is used; remove the key")] = None


_HEADER_NAMES: Final = {
    "content_security_policy": "Content-Security-Policy",
    "x_frame_options": "X-Frame-Options",
    "x_content_type_options": "X-Content-Type-Options",
    "x_xss_protection": "X-XSS-Protection",
    "strict_transport_security": "Strict-Transport-Security",
}


class _Headers(FileModel):
    model_config = ConfigDict(alias_generator=lambda name: _HEADER_NAMES[name])

    content_security_policy: _HeaderValue | None = None
    x_frame_options: Literal["deny", "sameorigin", ""] | None = None
    x_content_type_options: Literal["nosniff", ""] | None = None
    x_xss_protection: _HeaderValue | None = None
    strict_transport_security: _HeaderValue | None = None


def _no_http2(value: bool) -> bool:
    if value:
        refuse(WebCode.NOT_SUPPORTED, "HTTP/2 is not spoken here, HTTP/1.1 is; remove the key")
    return value


class _Http(FileModel):
    http2: Annotated[bool, AfterValidator(_no_http2)] = False
    headers: _Headers = _Headers()


class _File(FileModel):
    tls_server_config: _Tls | None = None
    http_server_config: _Http = _Http()
    basic_auth_users: dict[str, Annotated[SecretStr, AfterValidator(_bcrypt_hash)]] = Field(default_factory=dict)
    rate_limit: Annotated[object, _not_supported("requests are bounded by number and time already; remove the key")] = (
        None
    )


@dataclass(frozen=True, slots=True)
class WebConfig:
    """How the HTTP face is protected. The default is plain HTTP for everybody who can reach it.

    `users`: name -> bcrypt hash; empty: nobody has to log in. `headers`: what answers carry; "" takes one of ours away.
    """

    tls: ssl.SSLContext | None = None
    users: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


def read_web_config(file: Path) -> WebConfig:
    """Read web.yml and load the certificates that it names. An empty file asks for nothing. Raises ConfigError."""
    try:
        document = read_document(file)
    except ConfigError as error:
        if {problem.code for problem in error.problems} == {Code.EMPTY}:
            return WebConfig()
        raise
    problems = list(document.problems)
    parsed = validate(_File, document.root, document, (), problems, directory=file.parent)
    section = document.root.get("tls_server_config")
    # What is wrong elsewhere in the file does not hide what is wrong with the certificates.
    tls = (
        validate(_Tls, section, document, ("tls_server_config",), [], directory=file.parent)
        if section is not None
        else None
    )
    context = None if tls is None else _Loader(document, problems).context(tls)
    raise_if_any(problems)
    assert parsed is not None
    users = {name.encode(): value.get_secret_value().encode() for name, value in parsed.basic_auth_users.items()}
    headers = parsed.http_server_config.headers.model_dump(by_alias=True, exclude_none=True)
    return WebConfig(context, users, headers)


class _Loader:
    """Turns `tls_server_config` into a TLS context, or into problems."""

    def __init__(self, document: Document, problems: list[Problem]) -> None:
        self._document = document
        self._problems = problems

    def context(self, tls: _Tls) -> ssl.SSLContext:
        """The context; worth nothing when there are problems."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        self._versions(context, tls)
        self._ciphers(context, tls)
        self._certificate(context, tls)
        self._clients(context, tls)
        return context

    def _versions(self, context: ssl.SSLContext, tls: _Tls) -> None:
        if tls.min_version > tls.max_version:
            self._refuse("min_version", WebCode.VERSION_ORDER, "is above max_version; exchange the two")
            return
        context.minimum_version = VERSIONS[tls.min_version]
        context.maximum_version = VERSIONS[tls.max_version]

    def _ciphers(self, context: ssl.SSLContext, tls: _Tls) -> None:
        if tls.prefer_server_cipher_suites:
            context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        else:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        if not tls.cipher_suites:
            return
        chosen = [CIPHER_SUITES[name] for name in tls.cipher_suites if name in CIPHER_SUITES]
        if chosen:
            context.set_ciphers(":".join(chosen))
        elif tls.min_version == "TLS12":
            message = "has no suite for TLS 1.2; add one, or write min_version: TLS13"
            self._refuse("cipher_suites", WebCode.CIPHER_SUITE, message)

    def _certificate(self, context: ssl.SSLContext, tls: _Tls) -> None:
        certificate, key = tls.cert_file, tls.key_file
        for name, path in (("cert_file", certificate), ("key_file", key)):
            if path is None:
                self._refuse(name, WebCode.MISSING_FILE_KEY, f"missing; add {name}: and the path of a PEM file")
        if certificate is None or key is None:
            return
        readable = [self._readable("cert_file", certificate), self._readable("key_file", key)]
        if not all(readable):
            return
        try:
            context.load_cert_chain(certificate, key, password=_no_passphrase)
        except _EncryptedKeyError:
            self._refuse("key_file", WebCode.NOT_LOADED, "the key has a passphrase; write it to a file without one")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                message = "the key is not that of the certificate in cert_file; name the two that belong together"
                self._refuse("key_file", WebCode.NOT_LOADED, message)
            elif _holds_certificate(certificate):  # OpenSSL does not say which of the two it was
                self._refuse("key_file", WebCode.NOT_LOADED, "holds no private key in PEM form; name a file with one")
            else:
                self._refuse("cert_file", WebCode.NOT_LOADED, "holds no certificate in PEM form; name a file with one")

    def _clients(self, context: ssl.SSLContext, tls: _Tls) -> None:
        policy = CLIENT_AUTH[tls.client_auth_type]
        authorities = tls.client_ca_file
        if policy == ssl.CERT_NONE:
            if authorities is not None:
                message = "has no effect with client_auth_type NoClientCert; write RequireAndVerifyClientCert there"
                self._refuse("client_ca_file", WebCode.CLIENT_AUTH, message)
            return
        context.verify_mode = policy
        if authorities is None:
            message = "needs a CA to verify clients by; add client_ca_file:"
            self._refuse("client_auth_type", WebCode.CLIENT_AUTH, message)
        elif self._readable("client_ca_file", authorities):
            try:
                context.load_verify_locations(authorities)
            except ssl.SSLError:
                message = "holds no certificate in PEM form; name a file with CA certificates"
                self._refuse("client_ca_file", WebCode.NOT_LOADED, message)

    def _readable(self, key: str, path: Path) -> bool:
        try:
            with path.open("rb") as stream:
                stream.read(1)
        except OSError as error:
            message = f"cannot be read: {error.strerror or error}; check the path and who may read it"
            self._refuse(key, WebCode.NOT_LOADED, message)
            return False
        return True

    def _refuse(self, key: str, code: WebCode, message: str) -> None:
        path: KeyPath = ("tls_server_config", key)
        self._problems.append(self._document.problem(path, code, message))


class _EncryptedKeyError(Exception):
    pass


def _no_passphrase() -> str:
    """OpenSSL would else ask for it on the terminal, and an agent would hang."""
    raise _EncryptedKeyError


def _holds_certificate(path: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except (ssl.SSLError, OSError):
        return False
    return True
