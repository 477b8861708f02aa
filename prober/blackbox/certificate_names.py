"""Distinguished names as Go prints them (crypto/x509/pkix, in what blackbox_exporter 0.28 is built with).

Their text is a label's value, so it must be the same.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

_ESCAPED: Final = frozenset(',+"\\<>;')

_KNOWN: Final = (  # in the order in which Go puts them together; it prints them the other way round
    (NameOID.COUNTRY_NAME, "C"),
    (NameOID.STATE_OR_PROVINCE_NAME, "ST"),
    (NameOID.LOCALITY_NAME, "L"),
    (NameOID.STREET_ADDRESS, "STREET"),
    (NameOID.POSTAL_CODE, "POSTALCODE"),
    (NameOID.ORGANIZATION_NAME, "O"),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, "OU"),
    (NameOID.COMMON_NAME, "CN"),
    (NameOID.SERIAL_NUMBER, "SERIALNUMBER"),
)
_SINGLE: Final = frozenset({NameOID.COMMON_NAME, NameOID.SERIAL_NUMBER})  # of several, the last one counts


def go_name(name: x509.Name) -> str:
    """`CN=example.org,O=Example,C=KP`: known attributes in a fixed order, values of one kind joined by "+", unknown
    attributes behind them by their number.
    """
    known = {oid for oid, _ in _KNOWN}
    parts = [
        f"{attribute.oid.dotted_string}={_escape(_text(attribute))}" for attribute in name if attribute.oid not in known
    ]
    for oid, short in _KNOWN:
        values = [_text(attribute) for attribute in name.get_attributes_for_oid(oid)]
        if oid in _SINGLE:
            values = [value for value in values[-1:] if value]
        if values:
            parts.append("+".join(f"{short}={_escape(value)}" for value in values))
    return ",".join(reversed(parts))


def _text(attribute: x509.NameAttribute[str | bytes]) -> str:
    value = attribute.value
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _escape(value: str) -> str:
    """RFC 2253 section 2.4."""
    last = len(value) - 1
    return "".join(
        "\\" + c if c in _ESCAPED or (c == " " and at in (0, last)) or (c == "#" and at == 0) else c
        for at, c in enumerate(value)
    )
