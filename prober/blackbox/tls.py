"""TLS as a module's `tls_config` wants it, and what is exported of it."""

from __future__ import annotations

import os
import ssl
import tempfile
import warnings
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final

from cryptography import x509

from prober.blackbox.certificate_names import go_name
from prober.blackbox.exposition import Metrics
from prober.blackbox.hostname import is_for
from prober.blackbox.session import Session
from prober.blackbox.tls_options import TlsConfig
from prober.failures import Failure, Operation
from prober.net.dial import Connection
from prober.net.tls import LazyContext, presented_chain, verified_chain

_VERSIONS: Final = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_VERSION_NAMES: Final = {"TLSv1": "TLS 1.0", "TLSv1.1": "TLS 1.1", "TLSv1.2": "TLS 1.2", "TLSv1.3": "TLS 1.3"}
_CHAIN_LABELS: Final = ("fingerprint_sha256", "subject", "issuer", "subjectalternative", "serialnumber")
_NO_TIME: Final = -62_135_596_800.0
"""Go's zero time as Unix time: what the original exports where there is no verified chain."""
_CERTIFICATE_SIZE_MAX: Final = 65_536


async def start_tls(
    session: Session, connection: Connection, config: TlsConfig, server_name: str, alpn: tuple[str, ...] = ()
) -> None:
    """Make the TLS handshake on a connection, timing the phase `tls`. The configured server name goes first.

    Raises ProbeFailure.
    """
    attempt = session.attempt
    try:
        context = await _lazy_context(config, alpn, _stamps(config)).get()
    except (OSError, ValueError) as error:
        detail = f"tls_config cannot be used: {error}"
        session.log.error("Error creating TLS configuration", err=error)
        attempt.fail(Failure.INTERNAL_ERROR, detail, Operation.PREPARE)
    name = (config.server_name or server_name).removesuffix(".").partition("%")[0]
    with attempt.phase("tls", Operation.TLS):
        try:
            await connection.start_tls(context, name)
        except (ValueError, UnicodeError) as error:  # no name that could be asked for
            attempt.fail(Failure.BAD_TARGET, f'server name "{name[:100]}": {error}', Operation.PREPARE)
        presented = presented_chain(connection.tls)
        if not config.insecure_skip_verify and not (presented and is_for(presented[0], name)):
            attempt.fail(Failure.CERTIFICATE_WRONG_HOST, f'the certificate is not for "{name[:100]}"')
    session.log.debug("TLS handshake succeeded", server_name=name)


def _stamps(config: TlsConfig) -> tuple[int, ...]:
    """When the files were changed last: a context is made anew when one of them is."""
    files = (config.ca_file, config.cert_file, config.key_file)
    return tuple(os.stat(file).st_mtime_ns if file else 0 for file in files)


@lru_cache(maxsize=256)
def _lazy_context(config: TlsConfig, alpn: tuple[str, ...], _stamps: tuple[int, ...]) -> LazyContext:
    return LazyContext(lambda: make_context(config, alpn))


def make_context(config: TlsConfig, alpn: tuple[str, ...]) -> ssl.SSLContext:
    """A client context. Slow. Raises OSError or ValueError for certificates and keys that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # done by Go's rules, behind the handshake
    if config.insecure_skip_verify:
        context.verify_mode = ssl.CERT_NONE
    elif config.ca_file or config.ca:
        context.load_verify_locations(cafile=config.ca_file or None, cadata=config.ca or None)
    else:
        context.load_default_certs()
    if config.cert or config.cert_file:
        with _as_file(config.cert, config.cert_file) as cert, _as_file(config.key, config.key_file) as key:
            context.load_cert_chain(cert.name, key.name)
    oldest = config.min_version or "TLS12"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are asked for on purpose
        context.minimum_version = _VERSIONS[oldest]
        if config.max_version:
            context.maximum_version = _VERSIONS[config.max_version]
    # Level 2, which distributions set, refuses RSA keys of 1024 bits, which the original takes; OpenSSL 3 has no cipher
    # for TLS 1.1 and older above level 0.
    context.set_ciphers("DEFAULT:@SECLEVEL=0" if oldest < "TLS12" else "DEFAULT:@SECLEVEL=1")
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@dataclass(frozen=True, slots=True)
class _Named:
    """A file by its name, or a text in a temporary one: OpenSSL reads certificates for a client from files only."""

    name: str
    temporary: bool

    def __enter__(self) -> _Named:
        return self

    def __exit__(self, *_: object) -> None:
        if self.temporary:
            os.unlink(self.name)


def _as_file(text: str, file: str) -> _Named:
    if file:
        return _Named(file, False)
    descriptor, name = tempfile.mkstemp(prefix="prober-")  # readable by us alone
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    return _Named(name, True)


def export_tls(metrics: Metrics, connection: Connection, *, with_cipher: bool, with_last_chain: bool = True) -> None:
    """Export certificates and version of a connection that speaks TLS."""
    inner = connection.tls
    if inner is None:
        return
    presented = [_facts(der) for der in presented_chain(inner)]
    expiries = [facts.not_after for facts in presented if facts.not_after is not None]
    metrics.gauge(
        "probe_ssl_earliest_cert_expiry", "Returns last SSL chain expiry in unixtime", min(expiries, default=_NO_TIME)
    )
    version = metrics.vector("probe_tls_version_info", "Returns the TLS version used or NaN when unknown", ("version",))
    version.set(1.0, _VERSION_NAMES.get(inner.version() or "", "unknown"))
    if with_last_chain:
        verified = [expiry for der in verified_chain(inner) if (expiry := _facts(der).not_after) is not None]
        metrics.gauge(
            "probe_ssl_last_chain_expiry_timestamp_seconds",
            "Returns last SSL chain expiry in timestamp",
            min(verified, default=_NO_TIME),
        )
    if presented:
        chain = metrics.vector("probe_ssl_last_chain_info", "Contains SSL leaf certificate information", _CHAIN_LABELS)
        chain.set(1.0, *presented[0].labels)
    if with_cipher and (cipher := inner.cipher()):
        metrics.vector("probe_tls_cipher_info", "Returns the TLS cipher negotiated during handshake", ("cipher",)).set(
            1.0, cipher_name(cipher[0])
        )


@dataclass(frozen=True, slots=True)
class _CertificateFacts:
    not_after: float | None
    labels: tuple[str, ...]


def _facts(der: bytes) -> _CertificateFacts:
    return _read(der) if len(der) <= _CERTIFICATE_SIZE_MAX else _CertificateFacts(None, ("", "", "", "", ""))


@lru_cache(maxsize=1024)  # the same few certificates are seen every minute
def _read(der: bytes) -> _CertificateFacts:
    fingerprint = sha256(der).hexdigest()
    try:
        certificate = x509.load_der_x509_certificate(der)
        expiry = certificate.not_valid_after_utc.timestamp()
        subject, issuer = go_name(certificate.subject), go_name(certificate.issuer)
        serial = certificate.serial_number
    except ValueError:
        return _CertificateFacts(None, (fingerprint, "", "", "", ""))
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        alternatives = ",".join(names.get_values_for_type(x509.DNSName))
    except (x509.ExtensionNotFound, ValueError):
        alternatives = ""
    number = serial.to_bytes((serial.bit_length() + 7) // 8, "big").hex()
    return _CertificateFacts(expiry, (fingerprint, subject, issuer, alternatives, number))


def cipher_name(openssl: str) -> str:
    """A cipher suite's name in Go (that of IANA) for OpenSSL's of TLS 1.2 and older; TLS 1.3's are the same."""
    if openssl.startswith("TLS_"):
        return openssl
    exchange, bulk = "RSA", openssl
    for prefix in ("ECDHE-ECDSA-", "ECDHE-RSA-", "DHE-RSA-"):
        if openssl.startswith(prefix):
            exchange, bulk = prefix[:-1].replace("-", "_"), openssl.removeprefix(prefix)
    if "CHACHA20-POLY1305" in bulk:
        bulk = "CHACHA20_POLY1305_SHA256"
    elif bulk == "DES-CBC3-SHA":
        bulk = "3DES_EDE_CBC_SHA"
    else:
        bulk = bulk.replace("AES128", "AES_128").replace("AES256", "AES_256").replace("-", "_")
        if "GCM" not in bulk and "CCM" not in bulk and bulk.startswith("AES"):
            bulk = bulk.replace("_SHA", "_CBC_SHA", 1)
    return f"TLS_{exchange}_WITH_{bulk}"
