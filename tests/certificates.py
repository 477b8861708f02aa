"""TLS servers and certificates for tests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.streams import at

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def serve_one(context: ssl.SSLContext, listener: socket.socket) -> str:
    """Greet one client and hear it out, in a thread; OpenSSL by itself sends the alerts that asyncio would swallow.

    Returns how it ended.
    """
    listener.settimeout(5)
    accepted, _ = listener.accept()
    accepted.settimeout(5)
    try:
        with context.wrap_socket(accepted, server_side=True, suppress_ragged_eofs=False) as sock:
            sock.sendall(b"hello")
            return "farewell" if sock.recv(1) == b"" else "more"
    except ssl.SSLEOFError:
        return "end"
    except ssl.SSLError as error:
        return error.reason
    except OSError as error:
        return type(error).__name__
    finally:
        accepted.close()


@contextlib.asynccontextmanager
async def tls_server(context: ssl.SSLContext, host: str, ended: list[str] | None = None) -> AsyncIterator[str]:
    """A TLS server for one connection; yields its `host:port`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        served = asyncio.create_task(asyncio.to_thread(serve_one, context, listener))
        yield at(listener)
        how = await served
        if ended is not None:
            ended.append(how)


def self_made(*usages: x509.ObjectIdentifier) -> ssl.SSLContext:
    """A server with a self-signed certificate for 127.0.0.1, restricted to some usages."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "self")])
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(alternative, critical=False)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    return loaded([certificate], key)


def loaded(chain: Sequence[x509.Certificate], key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)
    with trustme.Blob(pem).tempfile() as path:
        context.load_cert_chain(path)
    return context
