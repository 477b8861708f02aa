"""Regular expressions for hostile input: RE2, which runs in time linear in the text and never backtracks.

Bodies and answers come from hosts that nobody here controls, so Python's `re`, which can be made to run for ever, is
not used on them. Syntax: https://github.com/google/re2/wiki/Syntax (no look-around, no back-references).
"""

from __future__ import annotations

from typing import Any, Final

import re2
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

REGEX_LENGTH_MAX: Final = 10_000
"""Characters. RE2 limits the memory of the compiled program by itself; this bounds the error message too."""

_REASON_LENGTH_MAX: Final = 80
_SYNTAX: Final = "the syntax is RE2's, without look-around and back-references"


def _quiet() -> re2.Options:
    options = re2.Options()
    options.log_errors = False  # RE2 would write to stderr past our log; the caller gets the reason as an exception
    return options


_OPTIONS: Final = _quiet()


class Regex:
    """A compiled RE2 expression that compares, hashes and prints as its pattern.

    As the type of a pydantic field it accepts a string. Raises ValueError, with RE2's reason, for a bad pattern.
    """

    __slots__ = ("_compiled", "pattern")

    def __init__(self, pattern: str) -> None:
        if len(pattern) > REGEX_LENGTH_MAX:
            message = f"the regular expression has {len(pattern)} characters; shorten it to {REGEX_LENGTH_MAX}"
            raise ValueError(message)
        try:
            self._compiled = re2.compile(pattern, _OPTIONS)
        except re2.error as error:
            message = f"not a valid regular expression ({_reason(error)}); correct it: {_SYNTAX}"
            raise ValueError(message) from None
        except UnicodeEncodeError:
            raise ValueError("not a valid regular expression (it holds a lone surrogate); remove that") from None
        self.pattern = pattern

    def search(self, text: str | bytes) -> bool:
        """Whether the expression matches anywhere in `text`. Bytes are read as UTF-8."""
        data = text.encode("utf-8", "replace") if isinstance(text, str) else text
        return self._compiled.search(data) is not None

    def find(self, data: bytes) -> Any:
        """The first match in `data`, an `re`-like match object of octets; None if there is none.

        Octets that are no UTF-8 are taken for U+FFFD, as Go's regexp does: RE2 would let nothing match them.
        """
        try:
            data.decode()
        except UnicodeDecodeError:
            data = data.decode("utf-8", "replace").encode()
        return self._compiled.search(data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Regex) and other.pattern == self.pattern

    def __hash__(self) -> int:
        return hash(self.pattern)

    def __str__(self) -> str:
        return self.pattern

    def __repr__(self) -> str:
        return f"Regex({self.pattern!r})"

    def __reduce__(self) -> tuple[type[Regex], tuple[str]]:
        return Regex, (self.pattern,)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _from_yaml, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "maxLength": REGEX_LENGTH_MAX, "description": "A regular expression (RE2 syntax)."}


def _reason(error: re2.error) -> str:
    """RE2's reason on one line; the library hands it over as bytes."""
    reason = error.args[0] if error.args else b""
    text = " ".join((reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)).split())
    return text if len(text) <= _REASON_LENGTH_MAX else text[:_REASON_LENGTH_MAX] + "..."  # it may quote the pattern


def _from_yaml(value: object) -> Regex:
    if isinstance(value, Regex):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("regex", "not a regular expression; write it as a string in quotes")
    try:
        return Regex(value)
    except ValueError as error:
        raise PydanticCustomError("regex", "{reason}", {"reason": str(error)}) from None
