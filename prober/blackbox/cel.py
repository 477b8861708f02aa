"""CEL expressions on JSON bodies, by Google's own implementation (the package cel-expr-python).

It checks types when the expression is read and bounds the iterations of an evaluation, as a body from a hostile host
calls for.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, Final

from cel_expr_python import cel

from prober.blackbox.values import refuse
from prober.config.document import Map, Seq
from prober.config.problems import quoted

_REASON_LENGTH_MAX: Final = 200


class CelError(Exception):
    """The body is no JSON, or the expression cannot be evaluated on it, or gives no boolean."""


@cache
def _environment() -> Any:
    return cel.NewEnv(variables={"body": cel.Type.DYN})


class CelProgram:
    """A compiled expression that compares, hashes and prints as its text. Raises ValueError for a bad one."""

    __slots__ = ("_compiled", "expression")

    def __init__(self, expression: str) -> None:
        try:
            self._compiled = _environment().compile(expression)
        except RuntimeError as error:
            raise ValueError(_place_and_reason(error)) from None
        self.expression = expression

    def matches(self, body: object) -> bool:
        """Whether the expression is true of a JSON document, as `json_body` reads it. Raises CelError."""
        try:
            result = self._compiled.eval(data={"body": body})
            value = result.value()
        except (RuntimeError, ValueError, TypeError) as error:
            raise CelError(_reason(error)) from None
        if not isinstance(value, bool):
            raise CelError(f"the result is {quoted(value)}, no boolean")
        return value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CelProgram) and other.expression == self.expression

    def __hash__(self) -> int:
        return hash(self.expression)

    def __str__(self) -> str:
        return self.expression

    def __repr__(self) -> str:
        return f"CelProgram({self.expression!r})"

    def __reduce__(self) -> tuple[type[CelProgram], tuple[str]]:
        return CelProgram, (self.expression,)


def json_body(octets: bytes) -> object:
    """A JSON document with all its numbers as doubles, as Go reads it. Raises CelError."""
    try:
        return json.loads(octets.decode("utf-8", "replace"), parse_int=float, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise CelError(f"the body is no JSON: {_reason(error)}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_PLACED: Final = re.compile(r"<input>:(\d+):(\d+): (.+?)( expecting | \(in container | \||$)")


def _place_and_reason(error: Exception) -> str:
    """Where an expression is wrong and how, without the grammar and the picture that the library adds."""
    text = " ".join(str(error).split())
    found = _PLACED.search(text)
    return f"column {found[2]}: {found[3]}" if found else text[:_REASON_LENGTH_MAX]


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:_REASON_LENGTH_MAX]


def cel_from_yaml(value: object) -> CelProgram:
    """A CEL expression out of a file."""
    if isinstance(value, CelProgram):
        return value
    if isinstance(value, Map | Seq) or value is None:
        refuse("must be a CEL expression; write it as a text in quotes")
    try:
        return CelProgram(str(value))
    except ValueError as error:
        refuse(f"could not compile the CEL expression ({error}); correct it: `body` is the parsed JSON")
