"""Certificates of which only keys and signatures differ between runs, so that recordings can hold the rest."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
ROOT_END = datetime(2090, 1, 1, tzinfo=UTC)
MIDDLE_END = datetime(2080, 1, 1, tzinfo=UTC)
LEAF_END = datetime(2070, 1, 1, tzinfo=UTC)
PAST = datetime(2021, 1, 1, tzinfo=UTC)

# Commas, plus signs, quotes, several attributes of a kind: what RFC 2253 has rules for, and Go some of its own.
_ODD_SUBJECT = [
    (NameOID.COUNTRY_NAME, "KR"),
    (NameOID.ORGANIZATION_NAME, "Smith, Sons + Co"),
    (NameOID.ORGANIZATION_NAME, " Second "),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, 'The "Unit"'),
    (NameOID.LOCALITY_NAME, "서울"),
    (NameOID.STREET_ADDRESS, "1; Main <St>"),
    (NameOID.COMMON_NAME, "good.example"),
    (NameOID.SERIAL_NUMBER, "42"),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, "#1 = best \\ all"),
    (NameOID.EMAIL_ADDRESS, "noc@good.example"),
    (NameOID.DOMAIN_COMPONENT, "a,b"),
    (NameOID.TITLE, "Dr é"),
    (NameOID.STATE_OR_PROVINCE_NAME, "Seoul-si"),
    (NameOID.POSTAL_CODE, "04524"),
    (NameOID.GIVEN_NAME, "Plain"),
]


class _Authority:
    def __init__(self, name: str, serial: int, end: datetime, issuer: _Authority | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        by = issuer or self
        self.certificate = (
            x509.CertificateBuilder(by.name, self.name, self.key.public_key(), serial, BEGIN, end)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(by.key, hashes.SHA256())
        )

    def leaf(
        self,
        path: Path,
        serial: int,
        hosts: list[str],
        *,
        begin: datetime = BEGIN,
        end: datetime = LEAF_END,
        subject: list[tuple[x509.ObjectIdentifier, str]] | None = None,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
        alternatives: bool = True,
        bits: int = 0,
        chain: tuple[_Authority, ...] = (),
    ) -> None:
        """Write the chain and the key into one PEM file. `bits`: of an RSA key, which is an elliptic one otherwise."""
        name = x509.Name([x509.NameAttribute(oid, text) for oid, text in subject or [(NameOID.COMMON_NAME, hosts[0])]])
        key = rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())
        builder = x509.CertificateBuilder(self.name, name, key.public_key(), serial, begin, end).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if alternatives:
            builder = builder.add_extension(_alternatives(hosts), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        _write(path, key, [certificate, *(above.certificate for above in chain)])


def _self_signed(path: Path, name: str, serial: int, hosts: list[str]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    itself = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(itself, itself, key.public_key(), serial, BEGIN, LEAF_END)
    _write(path, key, [builder.add_extension(_alternatives(hosts), critical=False).sign(key, hashes.SHA256())])


def _write(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, chain: list[x509.Certificate]) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + b"".join(made.public_bytes(serialization.Encoding.PEM) for made in chain)
    path.write_bytes(pem)


def _alternatives(hosts: list[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_alternative(host) for host in hosts])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def make(directory: Path) -> None:
    """Write `ca.pem` (the trusted root) and one `<name>.pem`, key and chain, for each server."""
    root = _Authority("Lab Root", 0x01, ROOT_END)
    middle = _Authority("Lab Middle", 0x02, MIDDLE_END, root)
    (directory / "ca.pem").write_bytes(root.certificate.public_bytes(serialization.Encoding.PEM))
    here = ["good.example", "www.good.example", "127.0.0.1", "::1"]
    root.leaf(directory / "good.pem", 0x0A1B2C, here)
    root.leaf(directory / "client.pem", 0x33, ["client.example"], usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    root.leaf(directory / "no-server.pem", 0x16, here, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    root.leaf(directory / "name-only.pem", 0x17, here, alternatives=False)
    root.leaf(directory / "future.pem", 0x18, here, begin=LEAF_END, end=MIDDLE_END)
    root.leaf(directory / "wild.pem", 0x19, ["*.good.example"])
    root.leaf(directory / "weak.pem", 0x1A, here, bits=1024)
    root.leaf(directory / "expired.pem", 0x11, here, end=PAST)
    root.leaf(directory / "elsewhere.pem", 0x12, ["elsewhere.example"])
    root.leaf(directory / "odd.pem", 0xFEDCBA9876543210FEDCBA98, here, subject=_ODD_SUBJECT)
    middle.leaf(directory / "chain.pem", 0x13, here, chain=(middle,))
    middle.leaf(directory / "broken-chain.pem", 0x14, here)
    _self_signed(directory / "self-signed.pem", "itself", 0x15, here)
