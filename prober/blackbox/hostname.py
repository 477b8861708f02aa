"""Whether a certificate is for a name, by Go's rules: OpenSSL refuses `*.lan`, which private authorities issue."""

from __future__ import annotations

from ipaddress import ip_address

from cryptography import x509

from prober.net.names import is_address


def is_for(der: bytes, name: str) -> bool:
    """Whether `name`, a host or an address, is among the alternative names; the common name counts no more."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    if is_address(name):
        return ip_address(name) in names.get_values_for_type(x509.IPAddress)
    wanted = name.lower().removesuffix(".").split(".")
    return any(
        _matches(pattern.lower().removesuffix("."), wanted) for pattern in names.get_values_for_type(x509.DNSName)
    )


def _matches(pattern: str, wanted: list[str]) -> bool:
    """A wildcard stands for one whole label, the first one (RFC 6125 section 6.4.3)."""
    labels = pattern.split(".")
    if len(labels) != len(wanted) or not all(wanted):
        return False
    first = labels[0] == "*" and len(labels) > 1
    return labels[first:] == wanted[first:]
