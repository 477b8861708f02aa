"""TLS as the probes use it: options, contexts, what a failed handshake means, and what a certificate says."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field, field_validator, model_validator

from prober.contract import FactSpec, Options
from prober.failures import Failure
from prober.model import Fact
from prober.net.names import check_host

TlsVersion: TypeAlias = Literal["1.0", "1.1", "1.2", "1.3"]

_VERSIONS: Final[dict[TlsVersion, ssl.TLSVersion]] = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}

# X509_V_ERR_* of OpenSSL's <openssl/x509_vfy.h>: numbers, because the texts differ between versions.
_VERIFY_CODES: Final[dict[int, Failure]] = {
    9: Failure.CERTIFICATE_NOT_YET_VALID,
    10: Failure.CERTIFICATE_EXPIRED,
    2: Failure.CERTIFICATE_UNKNOWN_ISSUER,  # unable to get issuer certificate
    18: Failure.CERTIFICATE_UNKNOWN_ISSUER,  # self-signed leaf
    19: Failure.CERTIFICATE_UNKNOWN_ISSUER,  # self-signed certificate in the chain
    20: Failure.CERTIFICATE_UNKNOWN_ISSUER,  # unable to get local issuer certificate
    21: Failure.CERTIFICATE_UNKNOWN_ISSUER,  # unable to verify the first certificate
    27: Failure.CERTIFICATE_UNKNOWN_ISSUER,  # root not marked as trusted
    62: Failure.CERTIFICATE_WRONG_HOST,
    64: Failure.CERTIFICATE_WRONG_HOST,  # the address is not among the certificate's
}

_ENCODING_DER: Final = 2  # _ssl.ENCODING_DER
_ORDINARY_SIZE_MAX: Final = 16_384  # octets of a certificate that is worth a place in our memory
_RECORD_SIZE_MAX: Final = 16_384  # RFC 8446 section 5.1

TLS_FACTS: Final = (
    FactSpec(
        "cert_earliest_expiry",
        "probe_ssl_earliest_cert_expiry",
        "When the first of the presented certificates expires, Unix time",
    ),
    FactSpec(
        "cert_leaf_expiry",
        "probe_ssl_leaf_cert_expiry_timestamp_seconds",
        "When the server's own certificate expires, Unix time",
    ),
    FactSpec("tls_version", "probe_tls_version_info", "TLS version of the connection", label="version"),
    FactSpec("tls_cipher", "probe_tls_cipher_info", "TLS cipher suite of the connection", label="cipher"),
)


def _unquoted(value: object) -> object:
    """In YAML, 1.2 without quotes is a number."""
    return str(value) if isinstance(value, float) else value


class TlsOptions(Options):
    """How to speak TLS to a target, and whom to believe."""

    verify: bool = Field(default=True, description="check the certificate's issuer, dates and name")
    server_name: str | None = Field(
        default=None, description="name to ask for (SNI) and to expect in the certificate; the host's own if absent"
    )
    ca_file: str | None = Field(
        default=None, description="PEM file of the certificates to trust instead of the system's", min_length=1
    )
    min_version: Annotated[TlsVersion, BeforeValidator(_unquoted, json_schema_input_type=TlsVersion | float)] = Field(
        default="1.2", description="oldest TLS version to accept; 1.0 and 1.1 also allow their weak ciphers"
    )

    @field_validator("server_name")
    @classmethod
    def _name_is_sound(cls, value: str | None) -> str | None:
        return None if value is None else check_host(value)

    @model_validator(mode="after")
    def _ca_file_is_used_and_loads(self) -> TlsOptions:
        if self.ca_file is not None:
            if not self.verify:
                raise ValueError("ca_file has no effect with verify: false; remove one of the two")
            try:
                ssl.create_default_context(cafile=self.ca_file)
            except OSError as error:
                raise ValueError(f"ca_file {self.ca_file} cannot be loaded: {_reason(error)}") from None
        return self


def _from_bool(value: object) -> object:
    if isinstance(value, bool):
        return TlsOptions() if value else None
    return value


TlsSetting = Annotated[TlsOptions | None, BeforeValidator(_from_bool, json_schema_input_type=bool | TlsOptions | None)]
"""A field that is `true`, `false`, or says how to speak TLS; None without TLS."""


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "it holds no certificates in PEM format"
    return error.strerror or str(error)


class LazyContext:
    """An SSLContext that is made at its first use, in a thread: reading the system's certificates takes 100 ms, and the
    event loop has others to serve meanwhile. Held by a thread-safe lock, not by the loop, so that any loop may use it.
    """

    def __init__(self, make: Callable[[], ssl.SSLContext]) -> None:
        self._make_context = make
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    async def get(self) -> ssl.SSLContext:
        """The context. Raises what making it raises, at each call anew."""
        if self._context is not None:
            return self._context
        return await asyncio.to_thread(self._make)

    def _make(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                self._context = self._make_context()
            return self._context


@lru_cache(maxsize=128)
def _lazy_context(options: TlsOptions, alpn: tuple[str, ...], _ca_file_changed: int) -> LazyContext:
    return LazyContext(lambda: make_context(options, alpn))


def make_context(options: TlsOptions, alpn: tuple[str, ...]) -> ssl.SSLContext:
    """A client context for `options`. Slow. Raises OSError when the file of certificates cannot be loaded."""
    if options.verify:
        context = ssl.create_default_context(cafile=options.ca_file)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are asked for on purpose
        context.minimum_version = _VERSIONS[options.min_version]
    if options.min_version in ("1.0", "1.1"):
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # OpenSSL 3 has no cipher for them otherwise
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


async def context_for(options: TlsOptions, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """The context for `options`: one for all checks that have the same, made anew when its `ca_file` changes on disk.

    Raises OSError when that file cannot be loaded.
    """
    changed = os.stat(options.ca_file).st_mtime_ns if options.ca_file else 0
    return await _lazy_context(options, alpn, changed).get()


class TlsSession:
    """The TLS of one connection, between two buffers: it never touches the socket, so that errors of the network and of
    TLS stay apart.
    """

    __slots__ = ("incoming", "inner", "outgoing")

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.inner = context.wrap_bio(self.incoming, self.outgoing, server_hostname=server_name or None)

    def shake_hands(self) -> bool:
        """Go on with the handshake; whether it is complete. Raises ssl.SSLError."""
        try:
            self.inner.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def encrypt(self, data: bytes) -> bytes:
        """What to send for `data`. Raises ssl.SSLError."""
        rest = memoryview(data)
        while rest:  # one record at a time
            rest = rest[self.inner.write(rest) :]
        return self.outgoing.read()

    def decrypt(self) -> bytes | None:
        """What has been decrypted, nothing at the end of the stream, None if more must be received first.

        Raises ssl.SSLError.
        """
        try:
            return self.inner.read(_RECORD_SIZE_MAX)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""  # many servers leave out the close_notify; the protocol above knows whether all was said

    def farewell(self) -> bytes:
        """A close_notify (RFC 8446 section 6.1)."""
        with suppress(ssl.SSLError):  # it goes on to wait for the peer's, which we do not
            self.inner.unwrap()
        return self.outgoing.read()


def failure_of_sslerror(error: ssl.SSLError) -> Failure:
    """What a failed handshake, or an error of an established TLS connection, stands for."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_CODES.get(error.verify_code, Failure.CERTIFICATE_INVALID)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Failure.CLOSED
    return Failure.TLS_HANDSHAKE  # an alert, no common version, something that is not TLS


def tls_facts(session: ssl.SSLObject) -> Iterator[tuple[str, Fact]]:
    """Facts of an established connection, see TLS_FACTS."""
    yield from certificate_facts(session)
    if version := session.version():
        yield "tls_version", {"TLSv1": "TLS 1.0"}.get(version, version.replace("TLSv", "TLS "))
    if cipher := session.cipher():
        yield "tls_cipher", cipher[0]


def certificate_facts(session: ssl.SSLObject) -> Iterator[tuple[str, Fact]]:
    """Those of TLS_FACTS that are about certificates. OpenSSL 3 has them also when it has just refused them."""
    expiries = [expiry for der in presented_chain(session) if (expiry := _expiry(der)) is not None]
    if expiries:
        yield "cert_leaf_expiry", expiries[0]
        yield "cert_earliest_expiry", min(expiries)


def presented_chain(session: Any) -> list[bytes]:
    """The certificates as the server sent them (DER), its own first."""
    if hasattr(session, "get_unverified_chain"):  # Python 3.13
        return list(session.get_unverified_chain())
    # The same before it was public.
    return [certificate.public_bytes(_ENCODING_DER) for certificate in session._sslobj.get_unverified_chain() or ()]


def verified_chain(session: Any) -> list[bytes]:
    """The certificates from the server's own to the trusted root (DER); none where nothing was verified."""
    if session.context.verify_mode is ssl.CERT_NONE:
        return []  # OpenSSL builds one all the same
    if hasattr(session, "get_verified_chain"):  # Python 3.13
        return list(session.get_verified_chain())
    return [certificate.public_bytes(_ENCODING_DER) for certificate in session._sslobj.get_verified_chain() or ()]


def _expiry(der: bytes) -> float | None:
    """The end of validity, Unix time in seconds; None for a certificate that cannot be read."""
    return _read_expiry(der) if len(der) <= _ORDINARY_SIZE_MAX else None


@lru_cache(maxsize=1024)  # the same few certificates are seen every minute
def _read_expiry(der: bytes) -> float | None:
    from cryptography import x509  # here: who only reads options needs none of it

    try:
        return x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()
    except ValueError:
        return None
