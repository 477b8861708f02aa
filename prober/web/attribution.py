"""/.well-known/probing.txt: whoever sees our probes can look up what they are and whom to ask (RFC 9511)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

VALID: Final = timedelta(days=30)
"""How long a copy may be trusted. RFC 9116, section 2.5.5, recommends less than a year."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """`contact` and `canonical` are URIs; the description is one line."""

    contact: str
    description: str
    canonical: str | None = None
    languages: str = "en"


def probing_text(attribution: Attribution, utc: float) -> str:
    """The probe description file as of the Unix time `utc` (RFC 9511, section 2.2, with the format of RFC 9116).

    It expires at the end of a day, so that all that is served on one day is the same.
    """
    today = datetime.fromtimestamp(utc, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    lines = {
        "Canonical": attribution.canonical,
        "Contact": attribution.contact,
        "Expires": (today + VALID).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Preferred-Languages": attribution.languages,
        "Description": " ".join(attribution.description.split()),
    }
    return "".join(f"{name}: {value}\n" for name, value in lines.items() if value)
