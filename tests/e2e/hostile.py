"""Text that would do things to a terminal, and a certificate that holds it."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.certificates import DAY, NOW

HOSTILE: Final = (
    b"\x1b[31mhostile\x1b[0m\x1b]0;title\x07\x1b[2J\r\x08\x7f\x0b\x00\n"
    + "\x9b31m\u202egnp.exe\u2028\u200f\U000e0041".encode()
    + b"\xff\xfe\xc3"
)
"""ANSI colours, a title, a cleared screen, C1 controls, a bidirectional override, a line separator, tags, no UTF-8."""


def hostile_certificate() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A self-signed certificate, a CA, whose names hold the hostile text as far as ASN.1 lets them."""
    key = ec.generate_private_key(ec.SECP256R1())
    text = HOSTILE.decode("latin-1")[:36]
    name = x509.Name([x509.NameAttribute(kind, text) for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("\x1b[31mhostile.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key
