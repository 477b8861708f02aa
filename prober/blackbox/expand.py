"""`${1}`, `$1` and `${name}` in what is sent and in labels: Go's Regexp.Expand."""

from __future__ import annotations

import re
from typing import Any, Final

_REFERENCE: Final = re.compile(rb"\$(?:(\$)|\{([0-9A-Za-z_]+)\}|([0-9A-Za-z_]+))")


def expand(template: bytes, match: Any) -> bytes:
    """The template with what the groups of the match hold; a group that is not there, or did not match, is empty."""

    def value(reference: re.Match[bytes]) -> bytes:
        if reference[1]:
            return b"$"
        name = (reference[2] or reference[3]).decode()
        if name.isdigit():
            number = int(name)
            return (match.group(number) or b"") if number <= len(match.groups()) else b""
        names = match.re.groupindex
        return (match.group(names[name]) or b"") if name in names else b""

    return _REFERENCE.sub(value, template)
