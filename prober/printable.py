"""Text from outside made harmless where it is shown: in a terminal, a log, a label, a message, a cell of CSV.

The one place for it. What is not printable (`str.isprintable`: C0 and C1 controls, line and paragraph separators,
bidirectional overrides and other format characters, tags, lone surrogates, what is unassigned) is written as JSON
writes it, so that it is seen and can neither steer a terminal, turn a line around nor forge one. What is printable,
also outside ASCII, stays as it is. Markup is another matter: HTML and Markdown are escaped where they are made.
"""

from __future__ import annotations

from typing import Final

_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"


def printable(text: str, length_max: int | None = None) -> str:
    """`text` with all that is not printable as `\\n`, `\\r`, `\\t` or `\\uXXXX` (two of these beyond the BMP).

    At most `length_max` characters, the last of them an ellipsis where something was cut.
    """
    head = text if length_max is None else text[: length_max + 1]  # of 10 MB the rest need not be looked at
    shown = head if head.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in head)
    return shown if length_max is None or len(shown) <= length_max else shown[: length_max - 1] + ELLIPSIS


def _escape(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if code > 0xFFFF:  # as JSON writes it: a surrogate pair
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"
